"""The command for releases: checks, refusals, and 3DPW from its folder to batches."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines import prepare, transforms
from data_pipelines.preparing import preparation
from data_pipelines.reading import input_pipeline, storage
from data_pipelines.reading.sample_order import Shuffle, sample_uniforms
from data_pipelines.releases.release import STORED_SIDE
from pare_jax.body.io import FREE_BODY
from pare_jax.io.progress import with_progress
from pare_jax.skeleton import MIRROR
from tests.data_pipelines.releases import small_pw3d

HERE = Path(__file__).parent


@pytest.fixture(scope="module", name="raw")
def raw_fixture(tmp_path_factory):
    return small_pw3d.make_folder(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module", name="prepared")
def prepared_fixture(raw, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    assert prepare.main(flags_for(raw, root)) == 0
    return root


def flags_for(raw, root, *more):
    return ["--dataset=pw3d", f"--source={raw}", f"--output={root}", "--workers=1", *more]


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_release_gives_the_same_bytes_in_any_folder(raw, prepared, tmp_path, capsys):
    for name, copy in (("data", shutil.copy), ("again", shutil.copy2)):
        moved = tmp_path / name / "elsewhere"
        shutil.copytree(raw, moved, copy_function=copy)
        assert prepare.main(flags_for(moved, tmp_path / name / "out")) == 0
        assert files_of(tmp_path / name / "out") == files_of(prepared)
        # A prepared dataset equals the release in any folder.
        capsys.readouterr()
        assert prepare.main(flags_for(moved, prepared)) == 0
        out = capsys.readouterr()
        assert out.out.strip() == str(prepared / "pw3d" / storage.VERSION)
        assert not out.err
    origin = (prepared / "pw3d" / storage.VERSION / "preparation.json").read_text()
    assert str(raw.parent) not in origin


def test_a_run_resumes_after_the_release_was_moved(raw, tmp_path, capsys):
    damaged = shutil.copytree(raw, tmp_path / "raw")
    (damaged / "imageFiles" / "train_walk_00" / "image_00002.jpg").unlink()
    assert prepare.main(flags_for(damaged, tmp_path / "data")) == 2
    shutil.copytree(damaged, tmp_path / "mounted", copy_function=shutil.copy)
    shutil.rmtree(damaged)
    capsys.readouterr()
    assert prepare.main(flags_for(tmp_path / "mounted", tmp_path / "data", "--max-skipped=1")) == 0
    assert "3 of 3 parts" in capsys.readouterr().err


def test_another_release_over_a_finished_dataset_is_refused(raw, prepared, tmp_path, capsys):
    before = files_of(prepared)
    other = shutil.copytree(raw, tmp_path / "raw")
    picture = other / "imageFiles" / "test_walk_00" / "image_00001.jpg"
    picture.write_bytes(picture.read_bytes()[:-5000] + bytes(5000))
    assert prepare.main(flags_for(other, prepared)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "test: 1 of 1" in line
    assert "test_walk_00" in line
    assert "--output" in line
    for name in ("SMPL_MALE.npz", "SMPL_FEMALE.npz"):
        shutil.copy(FREE_BODY, tmp_path / name)
    assert prepare.main(flags_for(raw, prepared, f"--body={tmp_path}")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--body" in line
    assert "female" in line
    assert files_of(prepared) == before


def test_3dpw_opens_with_its_side_files(prepared):
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
    order = Shuffle(8, seed=0).indices(np.arange(8))
    placement = transforms.random_placement(sample_uniforms(0, 0, 8), augment)
    to_crop = transforms.crop_affine(placement, np.full(8, STORED_SIDE), 64)
    to_stored = transforms.invert_affine(to_crop)
    for row, index in enumerate(order):
        stored = split[int(index)]
        to_photo = stored["crop_to_photo"]
        wanted = transforms.apply_affine(to_photo, stored["joints_2d"])
        in_crop = (batch["joints_2d"][row] + 1) * 32
        found = transforms.apply_affine(to_photo, transforms.apply_affine(to_stored[row], in_crop))
        if placement.mirror[row]:
            found = found[list(MIRROR)]
        np.testing.assert_allclose(found, wanted, atol=0.02)
    assert 0 < placement.mirror.sum() < 8


def test_check_reports_and_prepares_nothing(raw, tmp_path, capsys):
    flags = ["--dataset=pw3d", f"--output={tmp_path / 'data'}", "--check"]
    assert prepare.main([*flags, f"--source={raw}"]) == 0
    out = capsys.readouterr()
    assert "no problems" in out.out
    assert "SMPL" in out.err
    damaged = small_pw3d.make_folder(tmp_path / "raw")
    (damaged / "imageFiles" / "train_walk_00" / "image_00002.jpg").unlink()
    assert prepare.main([*flags, f"--source={damaged}"]) == 2
    assert "image_00002.jpg" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_check_looks_at_the_output_too(raw, prepared, tmp_path, capsys, monkeypatch):
    other = shutil.copytree(raw, tmp_path / "raw")
    picture = other / "imageFiles" / "test_walk_00" / "image_00001.jpg"
    picture.write_bytes(picture.read_bytes()[:-9] + b"1234567" + picture.read_bytes()[-2:])
    (tmp_path / "file").write_text("")

    def checked(source, output):
        status = prepare.main(flags_for(source, output, "--check"))
        output = capsys.readouterr()
        assert output.out.endswith("1 problem\n" if status else "no problems\n")
        return status, output.err.splitlines()[-1]

    assert checked(raw, prepared)[0] == 0
    status, line = checked(other, prepared)
    assert status == 2
    assert "test: 1 of 1" in line
    assert "test_walk_00" in line
    status, line = checked(raw, tmp_path / "file" / "data")
    assert status == 2
    assert f"Not a directory ({tmp_path / 'file'})" in line
    assert "--output" in line
    access = preparation.os.access
    monkeypatch.setattr(
        preparation.os, "access", lambda path, mode: path != tmp_path and access(path, mode)
    )
    status, line = checked(raw, tmp_path / "new" / "data")
    assert status == 2
    assert f"Permission denied ({tmp_path})" in line
    assert "--output" in line
    assert "free some space" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "raw"]


def test_several_bodies_of_a_gender_are_listed(raw, tmp_path, capsys):
    for name in ("SMPL_MALE.npz", "basicModel_m_lbs.npz", "SMPL_FEMALE.npz"):
        shutil.copy(FREE_BODY, tmp_path / name)
    flags = flags_for(raw, tmp_path / "out", "--check", f"--body={tmp_path}")
    assert prepare.main([*flags, f"--body={tmp_path / 'SMPL_MALE.npz'}"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.index(str(tmp_path / "SMPL_MALE.npz")) < line.index(
        str(tmp_path / "basicModel_m_lbs.npz")
    )
    assert "2 male" in line


@pytest.mark.parametrize("flag", ["--output=", "--source=", "--body="])
def test_an_empty_path_is_not_the_current_folder(raw, tmp_path, capsys, flag):
    assert prepare.main([*flags_for(raw, tmp_path / "out"), flag]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flag[:-1] in line


def test_a_damaged_body_is_named_without_advice_to_use_the_free_body(raw, tmp_path, capsys):
    (tmp_path / "SMPL_MALE.npz").write_text("junk")
    assert prepare.main(flags_for(raw, tmp_path / "out", f"--body={tmp_path}")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "SMPL_MALE.npz" in line
    assert "free body" not in line


def test_too_much_damage_names_the_flag(tmp_path, capsys):
    damaged = small_pw3d.make_folder(tmp_path / "raw")
    (damaged / "imageFiles" / "train_walk_00" / "image_00002.jpg").unlink()
    flags = ["--dataset=pw3d", f"--source={damaged}", f"--output={tmp_path}", "--workers=1"]
    assert prepare.main(flags) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("prepare: 2 of 16")
    assert "train_walk_00" in last
    assert "--max-skipped=0.14" in last
    assert prepare.main([*flags, "--max-skipped=0.14"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "pw3d" / storage.VERSION)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dataset=pw3d"], "--source"),
        (["--dataset=pw3d", "--source=/nowhere"], "/nowhere"),
        (["--dataset=mpii", "--source=/nowhere"], "/nowhere"),
        (["--dataset=mpii", f"--source={__file__}"], __file__),
        (["--dataset=pw3d", f"--source={HERE}"], f"{HERE} is not 3DPW"),
        (["--dataset=mpii", f"--source={HERE}"], f"{HERE} is not the MPII Human Pose release"),
        (["--dataset=pw3d", "--source=/nowhere", "--max-skipped=2"], "--max-skipped=2"),
        (["--dataset=pw3d", "--source=/nowhere", "--workers=0"], "--workers=0"),
        (["--dataset=pw3d", "--source=/nowhere", "--set=seed=1"], "--set"),
        (["--dataset=pw3d", "--source=/nowhere", "--body=/nobody"], "/nobody"),
        (["--dataset=synthetic", "--check"], "--check"),
        (["--dataset=synthetic", "--source=x"], "--source"),
        (["--dataset=h36m"], "h36m"),
    ],
)
def test_bad_flags_get_one_line(flags, named, tmp_path, capsys):
    assert prepare.main([*flags, f"--output={tmp_path / 'data'}"]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("count", "unit", "counted"), [(1, "person", "1 person"), (2, "person", "2 people")]
)
def test_progress_counts_people(capsys, count, unit, counted):
    assert list(with_progress(range(count), count, "reading pw3d", unit)) == list(range(count))
    assert capsys.readouterr().err.startswith(f"reading pw3d: {counted}")
