"""The base of readers of label files, whose people are joined to photographs by name.

A reader of a format is a class in a module of its own. It names its format and implements
`_read_labels`, which returns a `LabelFile`: the people with their labels in the photograph's
pixels. Everything else is here and in `labelled_people`: photographs, splits, units of work, crops.

Labels count the pixels as stored, unless the reader sets `upright`.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.preparing.origin import fingerprint
from data_pipelines.releases.labelled_people import (
    LabelFile,
    LabelledPerson,
    cut_people,
    fault_of,
)
from data_pipelines.releases.named_photographs import Picture, find_photographs, open_photograph
from data_pipelines.releases.release import Skipped, UnitResult
from data_pipelines.releases.stored_crop import BrokenPhotographError, seems_whole
from pare_jax.errors import UserError, be, counted
from pare_jax.keypoints.sets import find_set

# Share of the groups in "validation".
HELD_OUT = 0.1
SPLITS = ("train", "validation")
_PHOTOGRAPHS_PER_UNIT = 32


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledPhotograph:
    """A photograph and its people.

    Attributes:
        name: in the label file.
        path: relative to the folder of photographs; None if it was not found.
        problem: why it was not found.
        people: with labels.
    """

    name: str
    path: str | None
    problem: str
    people: tuple[LabelledPerson, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledUnit:
    """Some photographs, with stamps that change with their files."""

    photographs: tuple[LabelledPhotograph, ...]
    stamps: tuple[tuple[int, int] | None, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def name(self) -> str:
        """The unit's name in messages."""
        if not self.photographs:
            return "skipped people"
        return f"{self.photographs[0].name} and {len(self.photographs) - 1} more"


class LabelledPhotographs:
    """People of a label file in photographs; see `release.RawDataset`.

    Attributes:
        kind: name of the format, and of the dataset unless the user names it.
        upright: labels count the pixels of the upright photograph, not those as stored.
        wanted: what the source is, for messages.
        flags: parameters of the class that `prepare` offers as flags.
    """

    kind = ""
    upright = False
    wanted = "a label file or its folder"
    flags: Sequence[str] = ("images", "name", "held_out")
    splits: Sequence[str] = SPLITS

    def __init__(
        self,
        source: str | Path,
        images: str | Path | None = None,
        name: str | None = None,
        held_out: float = HELD_OUT,
        keypoint_set: str | None = None,
    ):
        """Check that file and folder exist; nothing is read yet.

        Args:
            source: the label file, or a folder that the format defines.
            images: the folder of photographs; None: `source`.
            name: of the dataset; None: `kind`.
            held_out: share of the groups in "validation", unless the release gives splits.
            keypoint_set: name of the set of the points, for formats whose files may not give it.

        Raises:
            UserError: a file or folder is missing, the share is not from 0 to 1, or there is no
                such set.
        """
        self.name = name or self.kind
        self.source = Path(source).resolve()
        self.held_out = held_out
        self.keypoint_set = keypoint_set
        if keypoint_set is not None:
            find_set(keypoint_set)
        if not self.source.exists():
            raise UserError(f"--source={source} does not exist: name {self.wanted}")
        if images is None and not self.source.is_dir():
            raise UserError(
                f"--source={source} is a file: name the folder of photographs, --images"
            )
        self.images = self.source if images is None else Path(images).resolve()
        if not self.images.is_dir():
            raise UserError(f"--images={images} is no folder; name the folder of the photographs")
        if not 0 <= held_out <= 1:
            raise UserError(f"--held-out={held_out:g}: give a share from 0 to 1")

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes need only the labels in their units.
        return {key: value for key, value in self.__dict__.items() if key != "labels"}

    @property
    def label_file(self) -> Path:
        """The label file, or the folder of such files, for messages."""
        return self.source

    def _read_labels(self) -> LabelFile:
        """Return the people of the label file.

        Raises:
            UserError: the file cannot be read or has another form.
        """
        raise NotImplementedError

    def _open(
        self, photograph: LabelledPhotograph, path: Path
    ) -> tuple[Picture, Sequence[LabelledPerson]]:
        """Open a photograph; return it and its people. Raises BrokenPhotographError."""
        return open_photograph(path, self.upright), photograph.people

    @functools.cached_property
    def labels(self) -> LabelFile:
        """The content of the label file, read once; people with wrong numbers are skipped."""
        found = self._read_labels()
        faults = [fault_of(person) for person in found.people]
        pairs = list(zip(found.people, faults, strict=True))
        people = [person for person, fault in pairs if not fault]
        skipped = [
            Skipped(f"{person.photograph} {person.what}", fault) for person, fault in pairs if fault
        ]
        return LabelFile(people, found.skipped + skipped, found.notes)

    def notes(self) -> list[str]:
        """See `release.SaysMore`."""
        return list(self.labels.notes)

    def side_files(self) -> Mapping[str, Any]:
        """See `release.SaysMore`."""
        return {}

    def settings(self) -> dict[str, Any]:
        """See `release.HasSettings`."""
        chosen = {} if self.keypoint_set is None else {"keypoint-set": self.keypoint_set}
        return {"held-out": self.held_out} | chosen

    def check(self) -> list[str]:
        """Return missing or broken photographs and broken labels, one line each.

        See `RawDataset.check`.
        """
        photographs = self.photographs()
        lines = []
        for problem in sorted({photo.problem for photo in photographs if photo.path is None}):
            names = [photo.name for photo in photographs if photo.problem == problem]
            lines.append(
                f"{problem}: {len(names)} of {counted(len(photographs), 'photograph')}, the first "
                f"{names[0]}; they are looked for in {self.images}"
            )
        paths = [photo.path for photo in photographs if photo.path is not None]
        jpegs = [path for path in paths if path.lower().endswith((".jpg", ".jpeg"))]
        broken = [path for path in jpegs if not seems_whole(self.images / path)]
        if broken:
            lines.append(
                f"{len(broken)} of {counted(len(paths), 'photograph')} {be(len(broken))} broken or "
                f"cut short in {self.images}, the first {broken[0]}"
            )
        mistaken: dict[str, list[str]] = {}
        for item in self.labels.skipped:
            if item.broken:
                mistaken.setdefault(item.reason, []).append(item.what)
        return lines + [
            f"{self.label_file}: {reason}: {len(people)} of the people, the first {people[0]}"
            for reason, people in mistaken.items()
        ]

    def units(self, split: str) -> Sequence[Any]:
        """Return the split's photographs, 32 per unit; see `RawDataset.units`."""
        if split not in self.splits:
            raise UserError(f"{self.name} has no split {split!r}; use {', '.join(self.splits)}")
        chosen = [photo for photo in self.photographs() if self.split_of(photo) == split]
        units = [self._unit(piece) for piece in self._pieces(chosen)]
        if split == self.splits[0] and self.labels.skipped:
            units.append(LabelledUnit((), (), tuple(self.labels.skipped)))
        return units

    def _pieces(
        self, photographs: Sequence[LabelledPhotograph]
    ) -> list[Sequence[LabelledPhotograph]]:
        """Divide photographs into pieces of work."""
        starts = range(0, len(photographs), _PHOTOGRAPHS_PER_UNIT)
        return [photographs[start : start + _PHOTOGRAPHS_PER_UNIT] for start in starts]

    def _unit(self, photographs: Sequence[LabelledPhotograph]) -> LabelledUnit:
        paths = [one.path for one in photographs]
        stamps = (None if path is None else fingerprint(self.images / path) for path in paths)
        return LabelledUnit(tuple(photographs), tuple(stamps))

    def split_of(self, photograph: LabelledPhotograph) -> str:
        """Return the split of a photograph: the release's own, or by a hash of the group."""
        first = photograph.people[0] if photograph.people else None
        if first is not None and first.split is not None:
            return first.split
        group = (first.group if first else "") or photograph.name
        return SPLITS[is_held_out(group, self.held_out)]

    def read(self, unit: LabelledUnit) -> UnitResult:
        """Make the examples of some photographs; see `RawDataset.read`."""
        result = UnitResult(skipped=list(unit.skipped))
        for photograph in unit.photographs:
            for found in self._read_photograph(photograph):
                if isinstance(found, Skipped):
                    result.skipped.append(found)
                else:
                    result.examples.append(found)
        return result

    def photographs(self) -> list[LabelledPhotograph]:
        """Return the photographs that have people, in the order of the label file.

        Raises:
            UserError: none of the photographs is in the folder.
        """
        people: dict[str, list[LabelledPerson]] = {}
        for person in self.labels.people:
            people.setdefault(person.photograph, []).append(person)
        found = find_photographs(self.images, list(people))
        if people and not found.paths:
            raise UserError(
                f"none of the {counted(len(people), 'photograph')} of {self.label_file} is in "
                f"{self.images}, the first is {next(iter(people))}: name the folder that has them"
            )
        return [
            LabelledPhotograph(name, found.paths.get(name), found.problems.get(name, ""), (*own,))
            for name, own in people.items()
        ]

    def _read_photograph(self, photograph: LabelledPhotograph) -> list[dict[str, Any] | Skipped]:
        """Return an example or a `Skipped` per person; decodes the photograph once."""
        try:
            if photograph.path is None:
                raise BrokenPhotographError(photograph.problem)
            picture, people = self._open(photograph, self.images / photograph.path)
            return cut_people(photograph.path, people, picture)
        except BrokenPhotographError as error:
            return [
                Skipped(f"{photograph.name} {person.what}", str(error))
                for person in photograph.people
            ]


def is_held_out(group: str, share: float) -> bool:
    """Return whether a group belongs to "validation", by a hash of its name."""
    return rank_of(group) < share


def rank_of(group: str) -> float:
    """Return a number from 0 to 1, without 1, by a hash of a group's name."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
