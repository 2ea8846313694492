"""Fingerprints of files and code, and labels of which nothing is known."""

import ast
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS, unknown_labels
from data_pipelines.preparing import origin
from data_pipelines.preparing.origin import fingerprint
from tests.data_pipelines.conftest import make_record

ROOT = Path(__file__).parents[3]
# What datasets import that decides over no example's bytes: errors and their words, what tells
# datasets apart, what runs the work, and reading or drawing other datasets.
OTHER_CODE = {
    "data_pipelines/preparing/origin.py",
    "data_pipelines/preparing/processes.py",
    "data_pipelines/preparing/progress.py",
    "data_pipelines/reading/storage.py",
    "data_pipelines/reading/stored_example.py",
    "data_pipelines/synthetic/settings.py",
    "pare_jax/errors.py",
    "pare_jax/io/progress.py",
    "pare_jax/evaluation/sequences.py",
}


def imported(path):
    """Yield the files of this project that a module imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        found = ROOT / (name.replace(".", "/") + ".py")
        if found.is_file():
            yield found


@pytest.mark.parametrize("dataset", ["pw3d", "mpii"])
def test_the_code_a_dataset_is_made_by_is_all_named(dataset):
    folder = ROOT / "data_pipelines"
    todo, reached = [folder / f"{dataset}.py", folder / "preparation.py"], set()
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += imported(path)
    own = set(folder.glob(f"{dataset}*.py"))
    code = {str(path.relative_to(ROOT)) for path in reached - own}
    assert code - set(origin._CODE) - OTHER_CODE == set()
    assert "data_pipelines/reading/jpeg.py" in code
    assert all((ROOT / name).is_file() for name in (*origin._CODE, *OTHER_CODE))


@dataclasses.dataclass
class Unit:
    name: str
    places: np.ndarray
    stamps: tuple


@dataclasses.dataclass
class Renamed:
    title: str
    positions: list
    stamps: list

    @property
    def name(self):
        return self.title


def parts_of(unit):
    class Release:
        name, splits = "made_up", ("train",)

    return origin.origin_of(Release(), {"train": [unit]}).parts["train"]


def test_a_part_is_told_by_what_it_holds_and_not_by_the_code_that_holds_it():
    places = np.array([[1.5, np.nan], [0.1, 3.0]])
    unit = Unit("a", places, ((3, 4), None))
    assert parts_of(unit) == parts_of(Renamed("a", places.tolist(), [[3, 4], None]))
    assert parts_of(unit) == parts_of(
        Unit("a", np.asfortranarray(places), ((np.int64(3), 4), None))
    )
    # Known for ever: a part whose digest changes is read anew.
    assert parts_of(unit) == {"a": "3f7a7a32029aaeb3"}
    for other in (
        Unit("a", places + 1e-12, ((3, 4), None)),
        Unit("a", places, ((3, 5), None)),
        Unit("a", places, ((3, 4),)),
    ):
        assert parts_of(unit) != parts_of(other)
    with pytest.raises(TypeError, match="plain data, not by a PosixPath"):
        parts_of([Path("somewhere")])


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
