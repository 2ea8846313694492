"""Stored splits: examples and names by index, and errors that name their cause."""

import errno
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_pipelines.preparing import preparation
from data_pipelines.reading import storage
from data_pipelines.reading.damaged_examples import DamagedExampleError
from pare_jax.errors import UserError
from pare_jax.evaluation.sequences import UNKNOWN_NAME
from tests.data_pipelines.made_up_dataset import MadeUp, expected, same

SIZES = {"train": 4, "test": 1}


@pytest.fixture(scope="module", name="prepared")
def prepared_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    return preparation.prepare(MadeUp(folder, SIZES), tmp_path_factory.mktemp("data"), workers=1)


@pytest.fixture(name="copy")
def copy_fixture(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / storage.VERSION)


@pytest.fixture(name="records")
def records_fixture(make_record):
    features = storage.stored_features()
    return [features.serialize_example(features.encode_example(make_record(i))) for i in range(3)]


def shard_of(path):
    return path / "made_up-train.array_record-00000-of-00001"


def truncate(path):
    shard_of(path).write_bytes(shard_of(path).read_bytes()[:70_000])


def overwrite(path):
    content = bytearray(shard_of(path).read_bytes())
    content[1000:60_000] = os.urandom(59_000)
    shard_of(path).write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, overwrite, lambda path: shard_of(path).unlink()])
def test_a_damaged_shard_is_named_with_the_way_out(copy, damage):
    damage(copy)
    split = storage.open_split(copy, "train")
    for read in (lambda: split[0], split.names):
        with pytest.raises(UserError, match=re.escape(str(shard_of(copy)))) as caught:
            read()
        assert "remove the directory" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"no message", b""])
def test_a_damaged_record_is_named(records, damage, tmp_path):
    split = storage.StoredSplit(tmp_path, "train", [records[0], damage])
    assert split[0]["frame"] == 0
    with pytest.raises(DamagedExampleError, match="example 1 of train"):
        split[1]
    names = split.names()
    assert names.samples[1] == UNKNOWN_NAME
    assert {name: list(rows) for name, rows in names.rows.items()} == {"made_up": [0]}


class Refusing:
    """Records that cannot be read."""

    def __init__(self, error):
        self._error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self._error


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, PermissionError, OSError])
def test_what_is_no_damage_is_not_called_damage(error, tmp_path):
    split = storage.StoredSplit(tmp_path, "train", Refusing(error("other")))
    for read in (lambda: split[0], split.names):
        with pytest.raises(error, match="other"):
            read()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.EIO])
def test_errors_of_the_system_are_named_and_blame_no_dataset(number, tmp_path):
    """array_record raises RuntimeError for them as it does for damage."""
    error = RuntimeError(f"open() failed: {os.strerror(number)}; opening somewhere")
    split = storage.StoredSplit(tmp_path, "train", Refusing(error), [(tmp_path / "shard", 1)])
    with pytest.raises(UserError, match=os.strerror(number)) as caught:
        split[0]
    assert str(tmp_path / "shard") in str(caught.value)
    assert "remove" not in str(caught.value)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"null", b"\xff\xfe"])
def test_damaged_descriptions_are_named(copy, name, content):
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(copy))) as caught:
        storage.open_split(copy, "train")
    assert "remove the directory" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shards_of_another_format_are_named(copy):
    """Only array_record can be read by index."""
    path = copy / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=re.escape(str(copy))):
        storage.open_split(copy, "train")


def test_a_description_that_cannot_be_read_is_not_called_damaged(copy):
    (copy / "features.json").unlink()
    (copy / "features.json").mkdir()
    with pytest.raises(UserError, match=os.strerror(errno.EISDIR)) as caught:
        storage.open_split(copy, "train")
    assert "remove" not in str(caught.value)


def test_names_are_read_without_the_rest_of_the_examples(records, tmp_path):
    import tensorflow as tf

    example = tf.train.Example.FromString(records[1])
    example.features.feature["betas"].float_list.value.append(1.0)
    split = storage.StoredSplit(tmp_path, "train", [records[0], example.SerializeToString()])
    with pytest.raises(UserError, match="betas"):
        split[1]
    assert split.names().samples == [("made_up", 0, 0), ("made_up", 0, 1)]


def test_part_labels_can_be_left_out(records, tmp_path):
    split = storage.StoredSplit(tmp_path, "train", records)
    without = split.without_part_labels()
    assert len(without) == 3
    assert same(without[0], {**split[0], "part_labels": b"", "parts_weight": np.float32(0)})
    assert split[0]["part_labels"]


def test_threads_may_start_reading_together(prepared):
    wanted = expected("train", SIZES)
    for _ in range(5):
        split = storage.open_split(prepared, "train")
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(split.__getitem__, range(12)))
        assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_shard_that_cannot_be_read_has_no_fingerprint(copy):
    split = storage.open_split(copy, "train")
    before = split.fingerprint()
    shard = shard_of(copy)
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        split.fingerprint()
    shard.write_bytes(content)
    assert split.fingerprint() == before
