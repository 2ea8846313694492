"""Fingerprints of files, and labels of which nothing is known."""

import shutil

import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS, unknown_labels
from data_pipelines.origin import fingerprint
from tests.data_pipelines.conftest import make_record


@pytest.fixture(name="path")
def path_fixture(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    return path


def test_a_copy_is_the_same_file(path, tmp_path):
    (tmp_path / "there").mkdir()
    shutil.copy(path, tmp_path / "there" / "other")
    for whole in (False, True):
        assert fingerprint(path, whole) == fingerprint(tmp_path / "there" / "other", whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:50_000],
        lambda content: content[:50_000] + bytes(50_000),
        lambda content: b"x" + content[1:],
        lambda content: b"",
    ],
)
def test_a_damaged_file_is_another(path, damage):
    before = [fingerprint(path, whole) for whole in (False, True)]
    path.write_bytes(damage(path.read_bytes()))
    assert all(fingerprint(path, whole) != before[whole] for whole in (False, True))


def test_one_number_of_an_annotation_is_seen(path):
    before = fingerprint(path, whole=True)
    content = bytearray(path.read_bytes())
    content[30_000] ^= 1
    path.write_bytes(content)
    assert fingerprint(path, whole=True) != before


def test_a_file_that_is_not_there_has_none(tmp_path):
    assert fingerprint(tmp_path / "nothing") is fingerprint(tmp_path, whole=True) is None


def test_unknown_labels_have_every_field_and_no_weight():
    record, like = unknown_labels(), make_record()
    assert record.keys() == STORED_FIELDS.keys()
    for name, field in STORED_FIELDS.items():
        assert type(record[name]) is type(like[name]), name
        if field.dtype not in ("bytes", "str"):
            assert record[name].shape == field.shape
            assert record[name].dtype == field.dtype
        if name.endswith("weight"):
            assert not np.any(record[name])
    np.testing.assert_array_equal(record["rotations"], np.tile(np.eye(3), (24, 1, 1)))
