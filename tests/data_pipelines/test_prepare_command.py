"""The command line for released datasets: checks, refusals, and 3DPW from folder to batches."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines import input_pipeline, prepare, storage
from tests.data_pipelines import small_pw3d


@pytest.fixture(scope="module", name="raw")
def raw_fixture(tmp_path_factory):
    return small_pw3d.make_folder(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module", name="prepared")
def prepared_fixture(raw, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    flags = ["--dataset=pw3d", f"--source={raw}", f"--output={root}", "--workers=1"]
    assert prepare.main(flags) == 0
    return root


def test_3dpw_opens_with_what_is_beside_it(prepared):
    path = storage.find_dataset(prepared, "pw3d")
    counts = {"train": 8, "validation": 4, "test": 4}
    for split, count in counts.items():
        assert len(storage.open_split(path, split)) == count
    sequences = json.loads((path / "sequences.json").read_text())
    assert sequences["train"] == {
        "train_walk_00": {
            "people": 2,
            "frames": 4,
            "image_size": [640, 360],
            "genders": ["male", "female"],
        }
    }
    skipped = json.loads((path / "skipped.json").read_text())
    assert skipped["test"] == {"kept": 4, "skipped": []}


def test_batches_place_joints_where_the_photograph_has_them(prepared, raw):
    split = storage.open_split(storage.find_dataset(prepared, "pw3d"), "train")
    augment = SimpleNamespace(scale=0.2, rotation=30.0, flip=0.5)
    batches = input_pipeline.train_batches(
        [(split, 1.0)], batch_size=8, image_size=64, seed=0, augment=augment
    )
    batch = next(batches)
    mirrored = 0
    for row in range(8):
        stored = split[int(batch["index"][row])]
        affine = stored["crop_to_photo"]
        wanted = stored["joints_2d"] @ affine[:, :2].T + affine[:, 2]
        affine = batch["crop_to_photo"][row]
        found = (batch["joints_2d"][row] + 1) * 32 @ affine[:, :2].T + affine[:, 2]
        if np.linalg.det(affine[:, :2]) < 0:
            mirrored += 1
            found = found[list(input_pipeline.transforms.MIRROR)]
        np.testing.assert_allclose(found, wanted, atol=0.02)
    assert 0 < mirrored < 8


def test_check_tells_without_preparing(raw, tmp_path, capsys):
    flags = ["--dataset=pw3d", f"--output={tmp_path / 'data'}", "--check"]
    assert prepare.main([*flags, f"--source={raw}"]) == 0
    out = capsys.readouterr()
    assert "nothing missing" in out.out
    assert "no male and no female SMPL" in out.err
    damaged = small_pw3d.make_folder(tmp_path / "raw")
    (damaged / "imageFiles" / "train_walk_00" / "image_00002.jpg").unlink()
    assert prepare.main([*flags, f"--source={damaged}"]) == 2
    assert "1 of 4 pictures missing, image_00002.jpg first" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_too_much_damage_names_the_flag(tmp_path, capsys):
    damaged = small_pw3d.make_folder(tmp_path / "raw")
    (damaged / "imageFiles" / "train_walk_00" / "image_00002.jpg").unlink()
    flags = ["--dataset=pw3d", f"--source={damaged}", f"--output={tmp_path}", "--workers=1"]
    assert prepare.main(flags) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("prepare: 2 of 16 people of pw3d are broken, the first is train_walk_00")
    assert "--max-skipped=0.14" in last
    assert prepare.main([*flags, "--max-skipped=0.14"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "pw3d" / storage.VERSION)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=pw3d"], "name it by --source"),
        (["--dataset=pw3d", "--source=/nowhere"], "/nowhere is not 3DPW: looked for"),
        (["--dataset=pw3d", "--source=/nowhere", "--max-skipped=2"], "between 0 and 1"),
        (["--dataset=pw3d", "--source=/nowhere", "--set=seed=1"], "--set means nothing for"),
        (["--dataset=pw3d", "--source=/nowhere", "--body=/nobody"], "no body model at /nobody"),
        (["--dataset=synthetic", "--check"], "--check means nothing for --dataset=synthetic"),
        (["--dataset=synthetic", "--source=x"], "--source means nothing for"),
        (["--dataset=h36m"], "invalid choice"),
    ],
)
def test_bad_flags_get_one_line(flags, message, tmp_path, capsys):
    assert prepare.main([*flags, f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
