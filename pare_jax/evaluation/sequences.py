"""Names of a split's samples (sequence, person, frame), and mean errors of each sequence."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Reasons for which the 3DPW challenge skips a person and frame.
CAMERA_NOT_TRUSTED, NOT_DETECTED = "camera pose not valid", "person not detected"
BY_PROTOCOL = (CAMERA_NOT_TRUSTED, NOT_DETECTED)


class SampleName(NamedTuple):
    """Origin of a sample; people and frames count from 0 within their sequence."""

    sequence: str
    person: int
    frame: int


# Of a sample that cannot be read.
UNKNOWN_NAME = SampleName("", -1, -1)


class Extent(NamedTuple):
    """Number of people and frames in a sequence, including those without a sample."""

    people: int
    frames: int


@dataclasses.dataclass(frozen=True)
class SplitNames:
    """The names of a split's samples.

    Attributes:
        samples: in the split's order; `UNKNOWN_NAME` for those that cannot be read.
        extents: by sequence, where the dataset has them.
        left_out: by sequence, the number of people and frames without a sample by reason, where
            the dataset has it.
    """

    samples: Sequence[SampleName]
    extents: Mapping[str, Extent] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The samples of each sequence, by name in alphabetical order, without unknown ones."""
        found: dict[str, list[int]] = {}
        for row, sample in enumerate(self.samples):
            if sample == UNKNOWN_NAME:
                continue
            found.setdefault(sample.sequence, []).append(row)
        return {name: np.array(found[name]) for name in sorted(found)}

    @functools.cached_property
    def has_sequences(self) -> bool:
        """True if samples follow each other in time, False if they are single photographs."""
        known = [sample for sample in self.samples if sample != UNKNOWN_NAME]
        frames = {(sample.sequence, sample.frame) for sample in known}
        return len(frames) > len(self.rows)


def by_sequence(values: Mapping[str, np.ndarray], names: SplitNames) -> dict[str, dict[str, Any]]:
    """Average errors over each sequence.

    Args:
        values: by metric name, one number per sample, NaN where it was not measured.
        names: of the same samples.

    Returns:
        By sequence, `count` (the samples with a finite MPJPE) and the mean of each metric, None
        where no sample has it. Empty for single photographs and for fewer than two sequences.
    """
    if not names.has_sequences or len(names.rows) < 2:
        return {}
    out = {}
    for name, rows in names.rows.items():
        counted = {"count": int(np.isfinite(values["mpjpe"][rows]).sum())}
        out[name] = counted | {metric: mean(value[rows]) for metric, value in values.items()}
    return out


def mean(values: np.ndarray) -> float | None:
    """Return the mean of the finite values; None if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
