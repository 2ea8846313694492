"""The seam between a release as it unpacks and the shards made of it.

A dataset is one file that says, as `RawDataset` asks, what its pieces of work are and how one is
read into stored examples. `data_pipelines/preparation.py` does the rest: processes, progress,
going on after an interruption, the report of what was left out, and the shards.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

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
        """Return the split's pieces of work in a fixed order: small, picklable, seconds each."""
        ...

    def read(self, unit: Any) -> UnitResult:
        """Read one piece. The same piece gives the same bytes; nothing but a bug raises."""
        ...
