"""Prepares a part of a release for the input benchmark and times it.

Without the real releases, the benchmark makes small ones in their layouts.
"""

import contextlib
import dataclasses
import os
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import made_up_releases
import numpy as np

from data_pipelines import prepare
from data_pipelines.preparing import preparation
from data_pipelines.releases.release import RawDataset, UnitResult
from pare_jax.errors import UserError

CORES = len(os.sched_getaffinity(0))
# Photographs and people of the whole of 3DPW, as docs/data.md has them.
PW3D_PHOTOGRAPHS, PW3D_PEOPLE = 51_000, 74_600
# With fewer people a batch would repeat some.
_LEAST_PEOPLE = 64


@dataclasses.dataclass(frozen=True)
class Part:
    """Some units of a release's training split, evenly spread; see `release.RawDataset`."""

    dataset: RawDataset
    num_units: int
    splits: tuple[str, ...] = ("train",)

    @property
    def name(self) -> str:
        """The release's name."""
        return self.dataset.name

    def check(self) -> list[str]:
        """Return no problems; preparing fails on a part that cannot be read."""
        return []

    def units(self, split: str) -> Sequence[Any]:
        """See `release.RawDataset.units`."""
        units = self.dataset.units(split)
        chosen = np.linspace(0, len(units) - 1, min(self.num_units, len(units))).round()
        return [units[int(number)] for number in np.unique(chosen)]

    def read(self, unit: Any) -> UnitResult:
        """See `release.RawDataset.read`."""
        return self.dataset.read(unit)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared part of a release, with sizes and times.

    Attributes:
        name: "pw3d" or "mpii".
        source: the release's folder.
        path: the prepared dataset.
        photographs: number of photographs read.
        people: number of examples.
        photograph_bytes: mean size of a photograph's file.
        crop_bytes: mean size of a stored crop.
        read_seconds: processor time to read photographs into examples.
        write_seconds: processor time to save examples and write shards.
    """

    name: str
    source: Path
    path: Path
    photographs: int
    people: int
    photograph_bytes: float
    crop_bytes: float
    read_seconds: float
    write_seconds: float


def cpu_seconds() -> float:
    """Return the processor time of this process and its ended children, seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def make_releases(folder: Path, photographs: int, quality: int) -> dict[str, Path]:
    """Make a release of each dataset with this number of JPEG photographs; return their folders."""
    start = time.perf_counter()
    made = {"pw3d": folder / "3DPW", "mpii": folder / "MPII"}
    made_up_releases.write_pw3d(made["pw3d"], photographs, quality, CORES)
    made_up_releases.write_mpii(made["mpii"], photographs, quality, CORES)
    print(f"drew {2 * photographs} photographs in {time.perf_counter() - start:.0f} s")
    return made


def prepare_part(
    name: str, source: Path, bodies: Sequence[str], photographs: int, root: Path
) -> Prepared:
    """Prepare a part of a release on one core, and time it.

    Args:
        name: "pw3d" or "mpii".
        source: the release's folder.
        bodies: paths of gendered bodies for 3DPW's part labels; may be empty.
        photographs: approximate number to read.
        root: folder for the prepared dataset.

    Returns:
        The prepared part.

    Raises:
        UserError: the folder is not that release, or it holds too few people.
    """
    cv2.setNumThreads(1)
    dataset = prepare.open_raw(name, source, bodies if name == "pw3d" else ())
    unit_size = len(_photographs(name, dataset.units("train")[0], source))
    part = Part(dataset, max(1, round(photographs / unit_size)))
    units = part.units("train")
    files = [file for unit in units for file in _photographs(name, unit, source)]
    with _timed() as reading:
        examples = [example for unit in units for example in part.read(unit).examples]
    if len(examples) < _LEAST_PEOPLE:
        raise UserError(
            f"{source} gave {len(examples)} people in {len(files)} photographs; use more"
        )
    with _timed() as whole:
        path = preparation.prepare(part, root, workers=1, max_skipped=1.0)
    return Prepared(
        name=name,
        source=source,
        path=path,
        photographs=len(files),
        people=len(examples),
        photograph_bytes=float(np.mean([file.stat().st_size for file in files if file.exists()])),
        crop_bytes=float(np.mean([len(example["image"]) for example in examples])),
        read_seconds=reading[0],
        write_seconds=max(0.0, whole[0] - reading[0]),
    )


def photograph_of(name: str, source: Path, example: dict[str, Any]) -> Path:
    """Return the photograph of a prepared example."""
    from data_pipelines.releases import mpii, pw3d

    if name == "pw3d":
        picture = pw3d.picture_name(int(example["frame"]))
        return source / "imageFiles" / example["sequence"] / picture
    return source / mpii.IMAGES / example["sequence"]


def _photographs(name: str, unit: Any, source: Path) -> list[Path]:
    from data_pipelines.releases import mpii, pw3d

    if name == "pw3d":
        folder = source / "imageFiles" / unit.sequence
        return [folder / pw3d.picture_name(frame) for frame in range(unit.start, unit.stop)]
    # Photographs without people are not read.
    return [source / mpii.IMAGES / photo.name for photo in unit.photographs if photo.people]


@contextlib.contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that gets the processor time of the block at its end."""
    seconds: list[float] = []
    start = cpu_seconds()
    yield seconds
    seconds.append(cpu_seconds() - start)
