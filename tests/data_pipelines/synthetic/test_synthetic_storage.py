"""Synthetic people on disk: written once, read in any order, errors reported in one line."""

import dataclasses
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_pipelines import prepare as command
from data_pipelines.example import Field
from data_pipelines.reading import storage
from data_pipelines.synthetic import builder
from data_pipelines.synthetic.generate import generate_example
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.errors import UserError

SETTINGS = SyntheticSettings(train=40, validation=0, test=6, test_occluded=5, image_size=48)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, builder.prepare(SETTINGS, root, workers=1)


def test_stored_examples_equal_generated_ones(prepared):
    _, path = prepared
    for name, size in (("train", 40), ("test", 6), ("test_occluded", 5)):
        split = storage.open_split(path, name)
        assert len(split) == size
        for index in (size - 1, 0, 3):
            stored, made = split[index], generate_example(SETTINGS, name, index)
            assert stored.keys() == made.keys()
            for field, value in made.items():
                np.testing.assert_array_equal(stored[field], value, err_msg=field)
            assert isinstance(stored["sequence"], str)


def test_examples_are_read_from_many_threads(prepared):
    split = storage.open_split(prepared[1], "train")
    order = np.random.default_rng(0).integers(0, 40, 200)
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda index: split[int(index)]["sequence"], order))
    assert names == [f"synthetic/train/{index:06d}" for index in order]
    with pytest.raises(IndexError):
        split[40]


def test_preparing_again_does_nothing(prepared, monkeypatch):
    root, path = prepared

    def fail(*_args, **_kwargs):
        raise AssertionError("the dataset exists")

    monkeypatch.setattr(builder, "generate_examples", fail)
    assert builder.prepare(SETTINGS, root) == path
    assert storage.find_dataset(root, "synthetic") == path
    assert storage.synthetic_path(SETTINGS, root) == path


def test_interrupted_preparation_leaves_no_dataset(tmp_path, monkeypatch):
    def interrupted(settings, split, workers):
        yield generate_example(settings, split, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(builder, "generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        builder.prepare(SETTINGS, tmp_path, workers=1)
    path = storage.synthetic_path(SETTINGS, tmp_path)
    assert not storage.is_prepared(path)
    # The next run removes the rest of a killed one.
    (path.parent / f"incomplete.ABC_{storage.VERSION}").mkdir()
    monkeypatch.undo()
    assert storage.is_prepared(builder.prepare(SETTINGS, tmp_path, workers=1))
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", storage.VERSION]


def test_missing_and_ambiguous_datasets_are_named(prepared, tmp_path):
    root, path = prepared
    with pytest.raises(UserError, match="--dataset=pw3d"):
        storage.find_dataset(root, "pw3d")
    with pytest.raises(UserError, match=r"'trian'.*train"):
        storage.open_split(path, "trian")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        storage.open_split(tmp_path, "train")
    for name in ("a", "b"):
        shutil.copytree(path, tmp_path / "synthetic" / name / storage.VERSION)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "synthetic"))):
        storage.find_dataset(tmp_path, "synthetic")
    assert storage.find_dataset(tmp_path, "synthetic/b").parent.name == "b"


def test_a_dataset_without_a_new_field_must_be_prepared_again(prepared, monkeypatch):
    path = prepared[1]
    monkeypatch.setitem(storage.STORED_FIELDS, "new", Field((), "float32", "added later"))
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}.*\bnew\b.*prepare"):
        storage.open_split(path, "train")


def test_the_current_version_is_found_beside_an_old_one(prepared, tmp_path):
    for version in ("1.0.0", storage.VERSION):
        shutil.copytree(prepared[1], tmp_path / "synthetic" / "a" / version)
    assert storage.find_dataset(tmp_path, "synthetic").name == storage.VERSION


def test_damaged_files_are_named(prepared, tmp_path):
    copy = tmp_path / storage.VERSION
    shutil.copytree(prepared[1], copy)
    (shard,) = copy.glob("*train.array_record*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{re.escape(str(copy))}.*prepare"):
        storage.open_split(copy, "train")[0]
    (copy / "features.json").write_text("{")
    with pytest.raises(UserError, match=re.escape(str(copy))):
        storage.open_split(copy, "test")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "file"))):
        builder.prepare(SETTINGS, tmp_path / "file")


def test_a_full_disk_is_named_and_leaves_no_dataset(tmp_path, monkeypatch):
    def full(self, **_):
        raise RuntimeError("Failed to finalize: write() failed: No space left on device; at byte 7")

    monkeypatch.setattr(builder.SyntheticPeople, "download_and_prepare", full)
    with pytest.raises(UserError, match="No space left on device"):
        builder.prepare(SETTINGS, tmp_path)
    assert not storage.is_prepared(storage.synthetic_path(SETTINGS, tmp_path))


def test_command_prepares_and_prints_the_path(prepared, capsys):
    root, path = prepared
    sizes = [f"--set={f}={getattr(SETTINGS, f)}" for f in ("train", "validation", "test")]
    flags = ["--dataset=synthetic", f"--output={root}", *sizes]
    assert command.main([*flags, "--set=test_occluded=5", "--set=image_size=48"]) == 0
    assert capsys.readouterr().out.strip() == str(path)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--set=trian=5"], "'train'"),
        (["--set=train"], "NAME=VALUE"),
        (["--set=train=many"], "many"),
        (["--set=clutter=2"], "'clutter'"),
        (["--workers=0"], "--workers=0"),
        (["--config=nowhere.py"], "nowhere.py"),
        (["--config=configs/common.py"], "configs/common.py"),
        (["--config=README.md"], "README.md"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_flags_get_one_line(flags, name, tmp_path, capsys):
    assert command.main(["--dataset=synthetic", f"--output={tmp_path}", *flags]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1


def test_settings_come_from_config_files_and_flags():
    settings = command.read_settings("configs/quickstart.py", ["seed=7", "clutter=0.25"])
    assert dataclasses.asdict(settings) | {"seed": 7, "clutter": 0.25} == dataclasses.asdict(
        settings
    )
