"""The seam between a release as it unpacks and the shards made of it.

A dataset is one file that says, as `RawDataset` asks, what its pieces of work are and how one is
read into stored examples. `preparing/preparation.py` does the rest: processes, progress,
going on after an interruption, the report of what was left out, and the shards.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pare_jax.errors import UserError

# The releases that can be read: module and class, imported when one is asked for.
RELEASED = {
    "mpii": ("data_pipelines.releases.mpii", "Mpii"),
    "pw3d": ("data_pipelines.releases.pw3d", "Pw3d"),
}
# Side of a stored crop in pixels: CROP_MARGIN times the network's 224, and some to spare.
STORED_SIDE = 384


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A person, frame or file that gave no example.

    Attributes:
        what: names it, for instance "downtown_walking_00 frame 12 person 1".
        reason: short and the same for all of a kind ("image missing"), so that they can be counted.
        broken: whether something is wrong with the file; False for what the dataset's own protocol
            leaves out.
    """

    what: str
    reason: str
    broken: bool = True


@dataclasses.dataclass
class UnitResult:
    """What one piece of work gave.

    Attributes:
        examples: fields of `example.STORED_FIELDS`, in the dataset's order.
        skipped: what gave none.
    """

    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def existing_folder(source: str | Path) -> Path:
    """Return the absolute path of a release's folder; raises UserError where there is none."""
    path = Path(source)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise UserError(f"the folder {path} {what}: name the one the release was unpacked into")
    return path.resolve()


class RawDataset(Protocol):
    """A release on disk. Instances travel to worker processes, so they are small and picklable.

    Attributes:
        name: "pw3d", "mpii".
        splits: names of its splits.
    """

    @property
    def name(self) -> str: ...
    @property
    def splits(self) -> Sequence[str]: ...

    def check(self) -> list[str]:
        """Return what is missing or wrong before hours are spent, a line each; empty if nothing.

        Raises:
            UserError: the folder is not this dataset at all; says what was looked for.
        """
        ...

    def units(self, split: str) -> Sequence[Any]:
        """Return the split's pieces of work in a fixed order: small, picklable, seconds each.

        They are of plain data: numbers, text, arrays, and lists, tuples, mappings and dataclasses
        of these. A piece that changes is read anew, so it holds what tells its files from others
        (`origin.fingerprint`), and names them within the release, wherever that lies. Where it has
        a `name`, messages use it.
        """
        ...

    def read(self, unit: Any) -> UnitResult:
        """Read one piece. The same piece gives the same bytes; nothing but a bug raises."""
        ...


@runtime_checkable
class HasSettings(Protocol):
    """A raw dataset whose examples depend on more than its files."""

    def settings(self) -> Mapping[str, Any]:
        """Return what decides over the examples beside the files, by the flag that sets it.

        Values are what JSON holds; files are told by their contents, not by where they lie.
        """
        ...


@runtime_checkable
class SaysMore(Protocol):
    """A raw dataset with more to say than its examples hold."""

    def notes(self) -> list[str]:
        """Return, a line each, what the user should know of what will be prepared."""
        ...

    def side_files(self) -> Mapping[str, Any]:
        """Return what to write beside the shards as JSON: file names and their contents."""
        ...
