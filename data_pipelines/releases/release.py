"""The interface of a release: its units of work, and how one is read into examples.

Each release is one class with the methods of `RawDataset`. `preparing/preparation.py` does the
rest: processes, progress, resuming, the report of skipped people, and the shards.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pare_jax.errors import UserError

# Module and class of each release; they are imported on use.
RELEASED = {
    "bedlam": ("data_pipelines.releases.bedlam", "Bedlam"),
    "coco": ("data_pipelines.releases.coco_keypoints", "Coco"),
    "eft": ("data_pipelines.releases.eft", "Eft"),
    "folder": ("data_pipelines.releases.folder", "Folder"),
    "mpii": ("data_pipelines.releases.mpii", "Mpii"),
    "pw3d": ("data_pipelines.releases.pw3d", "Pw3d"),
    "spin": ("data_pipelines.releases.spin", "Spin"),
}
# Datasets that have no other name; the others can be prepared with --name.
FIXED_NAMES = ("mpii", "pw3d")
# Side of a stored crop in pixels: CROP_MARGIN times the network's 224, and a reserve.
STORED_SIDE = 384


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A person, frame or file that gave no example.

    Attributes:
        what: its name, for instance "downtown_walking_00 frame 12 person 1".
        reason: short, and the same for all of a kind ("picture missing"), for counting.
        broken: True for a faulty file, False for people whom the dataset's protocol excludes.
    """

    what: str
    reason: str
    broken: bool = True


@dataclasses.dataclass
class UnitResult:
    """The result of reading one unit.

    Attributes:
        examples: fields of `example.STORED_FIELDS`, in the dataset's order.
        skipped: people, frames and files without an example.
    """

    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def existing_folder(source: str | Path) -> Path:
    """Return the absolute path of a release's folder; raises UserError if it is no folder."""
    path = Path(source)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise UserError(f"the folder {path} {what}; name the folder with the unpacked release")
    return path.resolve()


class RawDataset(Protocol):
    """A release on disk. Worker processes get pickled instances, so keep them small.

    Attributes:
        name: the dataset's name, such as "pw3d" or "mpii".
        splits: names of its splits.
    """

    @property
    def name(self) -> str: ...
    @property
    def splits(self) -> Sequence[str]: ...

    def check(self) -> list[str]:
        """Return what is missing or broken, one line each, before hours are spent on reading.

        Raises:
            UserError: the folder is not this dataset; the message names the expected files.
        """
        ...

    def units(self, split: str) -> Sequence[Any]:
        """Return the split's units of work in a fixed order: small, picklable, seconds each.

        Units are plain data: numbers, strings, arrays, and lists, tuples, mappings and dataclasses
        of these. A changed unit is read again, so it holds fingerprints of its files
        (`origin.fingerprint`). It holds paths relative to the release's folder, which may move.
        Messages use its `name`, if it has one.
        """
        ...

    def read(self, unit: Any) -> UnitResult:
        """Read one unit. The same unit gives the same bytes; only a bug raises."""
        ...


@runtime_checkable
class HasSettings(Protocol):
    """A raw dataset whose examples depend on more than its files."""

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that change the examples, by the flag that sets them.

        Values are JSON data; a file is identified by its contents, not by its path.
        """
        ...


@runtime_checkable
class SaysMore(Protocol):
    """A raw dataset with notes for the user and files beside the shards."""

    def notes(self) -> list[str]:
        """Return notes for the user about the data to be prepared, one line each."""
        ...

    def side_files(self) -> Mapping[str, Any]:
        """Return the JSON files to write beside the shards: names and contents."""
        ...
