"""Digests of code and pieces of work, fingerprints of files, and empty examples."""

import ast
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS, unknown_labels
from data_pipelines.preparing import origin
from data_pipelines.preparing.origin import fingerprint
from data_pipelines.releases.release import RELEASED
from tests.data_pipelines.conftest import make_record

ROOT = Path(__file__).parents[3]
# Code that datasets import but that does not change the bytes of examples.
OTHER_CODE = {
    "data_pipelines/preparing/origin.py",
    "data_pipelines/preparing/processes.py",
    "data_pipelines/reading/damaged_examples.py",
    "data_pipelines/reading/storage.py",
    "data_pipelines/reading/stored_example.py",
    "data_pipelines/synthetic/settings.py",
    "pare_jax/errors.py",
    "pare_jax/io/exif.py",
    "pare_jax/io/file_kinds.py",
    "pare_jax/io/files.py",
    "pare_jax/io/pixel_modes.py",
    "pare_jax/io/progress.py",
    "pare_jax/io/threads.py",
    "pare_jax/evaluation/sequences.py",
    "pare_jax/keypoints/sets.py",
    # They read label files: what they read is in the pieces of work.
    "data_pipelines/releases/coco_keypoints.py",
    "data_pipelines/releases/label_arrays.py",
    "data_pipelines/releases/sequence_names.py",
    *(
        f"pare_jax/keypoints/{name}.py"
        for name in (
            *("coco_files", "keypoint_files", "keypoints", "mpii_files", "openpose_files"),
            *("people_collector", "point_names", "spin_files"),
        )
    ),
    # Clips and BlazePose, whose network is named in the settings.
    *(f"pare_jax/io/{name}.py" for name in ("decoding", "media")),
    *(
        f"pare_jax/keypoints/{name}.py"
        for name in (
            *("blazepose", "blazepose_decoding", "blazepose_files", "litert", "overlap"),
            "squares",
        )
    ),
}


def imported(path):
    """Yield the files of this project that a module imports, also inside functions."""
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


@pytest.mark.parametrize("dataset", RELEASED)
def test_the_digest_covers_all_code_of_a_dataset(dataset):
    folder = ROOT / "data_pipelines" / "releases"
    module = RELEASED[dataset][0].rpartition(".")[2]
    todo = [folder / f"{module}.py", ROOT / "data_pipelines" / "preparing" / "preparation.py"]
    reached = set()
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += imported(path)
    own = set(folder.glob(f"{module}*.py"))
    code = {str(path.relative_to(ROOT)) for path in reached - own}
    assert code - set(origin._CODE) - OTHER_CODE == set()
    assert "data_pipelines/reading/jpeg.py" in code
    assert all((ROOT / name).is_file() for name in (*origin._CODE, *OTHER_CODE))


MODULE = """import os
from somewhere import (
    thing,
)

SIDE = 384  # pixels


class Crop:
    def area(self, zoom):
        return zoom * SIDE**2 + len(f"{thing:>3}")
"""
REWORDED = '''"""Says what it is for."""

from elsewhere import thing

if TYPE_CHECKING:
    from typing import Any

# In pixels.
SIDE = (384)

class Crop:
    """A crop."""

    def area(self, zoom):
        """Return it."""
        import os
        return zoom*SIDE ** 2 + len(f"{thing:>3}")
'''


def code_of(folder, **modules):
    folder.mkdir(parents=True)
    paths = [folder / f"{name}.py" for name in modules]
    for path, text in zip(paths, modules.values(), strict=True):
        path.write_text(text)
    return origin.code_digest(paths)


def test_words_formatting_imports_and_moves_keep_the_digest_of_code(tmp_path):
    digest = code_of(tmp_path / "a", crop=MODULE, other="LIMIT = 3\n")
    assert digest == code_of(tmp_path / "b", crop=REWORDED, other="LIMIT = 3\n")
    assert digest == code_of(tmp_path / "c" / "package", another="LIMIT = 3\n", renamed=MODULE)
    # Must not depend on the version of Python.
    assert digest == "1ba1ec41092e781e"


@pytest.mark.parametrize(
    "change", [("384", "385"), (">3", ">4"), ("zoom *", "zoom +"), ("Crop", "Square")]
)
def test_a_change_of_what_code_does_changes_its_digest(tmp_path, change):
    assert code_of(tmp_path / "a", crop=MODULE) != code_of(
        tmp_path / "b", crop=MODULE.replace(*change)
    )


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


def test_the_digest_of_a_part_depends_on_its_values_alone():
    places = np.array([[1.5, np.nan], [0.1, 3.0]])
    unit = Unit("a", places, ((3, 4), None))
    assert parts_of(unit) == parts_of(Renamed("a", places.tolist(), [[3, 4], None]))
    assert parts_of(unit) == parts_of(
        Unit("a", np.asfortranarray(places), ((np.int64(3), 4), None))
    )
    # Must never change: a part with another digest is read again.
    assert parts_of(unit) == {"a": "3f7a7a32029aaeb3"}
    for other in (
        Unit("a", places + 1e-12, ((3, 4), None)),
        Unit("a", places, ((3, 5), None)),
        Unit("a", places, ((3, 4),)),
    ):
        assert parts_of(unit) != parts_of(other)
    with pytest.raises(TypeError, match="PosixPath"):
        parts_of([Path("somewhere")])


@pytest.fixture(name="path")
def path_fixture(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    return path


def test_a_copy_has_the_same_fingerprint(path, tmp_path):
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
def test_a_damaged_file_has_another_fingerprint(path, damage):
    before = [fingerprint(path, whole) for whole in (False, True)]
    path.write_bytes(damage(path.read_bytes()))
    assert all(fingerprint(path, whole) != before[whole] for whole in (False, True))


def test_one_changed_byte_changes_the_whole_fingerprint(path):
    before = fingerprint(path, whole=True)
    content = bytearray(path.read_bytes())
    content[30_000] ^= 1
    path.write_bytes(content)
    assert fingerprint(path, whole=True) != before


def test_a_missing_file_has_no_fingerprint(tmp_path):
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
