"""`KeypointFile`: the people of a file by photograph; checks the numbers of such files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError, be, counted
from pare_jax.io.exif import swaps_sides, upright_box
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import SETS, KeypointSet, find_set

# End of the messages about a set that the file does not give.
ASK = "give --keypoint_set=NAME"
# A point further away, in pixels, is a mistake: no picture is so large.
_FURTHEST = 1e6


@dataclasses.dataclass(frozen=True)
class KeypointFile:
    """The people of a file.

    Attributes:
        path: of the file or folder.
        people: of each photograph, by the photograph's name in the file: a path, a name without
            suffix, or a number as text. A photograph that the file lists without people has an
            empty list.
        sizes: width and height, pixels, of the photographs whose size the file has.
        notes: a line for each kind of people or points that were skipped.
    """

    path: Path
    people: dict[str, list[Keypoints]]
    sizes: dict[str, tuple[float, float]]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of people."""
        return sum(map(len, self.people.values()))

    def people_of(
        self, name: str, photo: Path, size: tuple[int, int], orientation: int = 1
    ) -> tuple[list[Keypoints], list[str]]:
        """Return the people of a photograph in its pixels, and a note on those outside of it.

        Args:
            name: of the photograph in the file.
            photo: its path, for messages.
            size: its width and height when upright, pixels. If the file has keypoints of a larger
                or smaller copy, they are scaled.
            orientation: its EXIF orientation. If the file has keypoints of the pixels as stored,
                on their side, they are turned.

        Raises:
            UserError: the file has the keypoints of a picture of another shape, or all people are
                outside the photograph.
        """
        people = self.people[name]
        given = self.sizes.get(name, size)
        if swaps_sides(orientation) and not _is_copy(given, size):
            people = [_upright(one, orientation, given) for one in people]
            given = given[1], given[0]
        if not _is_copy(given, size):
            width, height = self.sizes[name]
            raise UserError(
                f"{self.path} has keypoints of {name} for {width:g} x {height:g} pixels, but "
                f"{photo} has {size[0]} x {size[1]}: give keypoints of this picture"
            )
        people = [_scaled(one, np.divide(size, given)) for one in people]
        inside = [one for one in people if _is_inside(one, size)]
        outside = counted(len(people) - len(inside), "person")
        where = f"{outside} of {name} in {self.path} outside the {size[0]} x {size[1]} pixels"
        if people and not inside:
            raise UserError(f"{where} of {photo}: give keypoints of this picture")
        return inside, [f"note: {where}: skipped"] if len(inside) < len(people) else []


class PeopleCollector:
    """Collects the people of one file, checks their numbers, and counts what is skipped."""

    def __init__(self, path: Path, set_name: str | None):
        """Start with nobody.

        Args:
            path: of the file, for messages.
            set_name: the set that the user names; None: given by the file's form.

        Raises:
            UserError: there is no such set.
        """
        self.path = path
        self.named = None if set_name is None else find_set(set_name)
        self._people: dict[str, list[Keypoints]] = {}
        self._sizes: dict[str, tuple[float, float]] = {}
        self._unknown = self._broken = 0
        self._notes: list[str] = []

    def note(self, line: str) -> None:
        """Keep a line about the file for the user."""
        self._notes.append(f"note: {self.path}: {line}")

    def photograph(self, name: str, size: tuple[float, float] | None = None) -> None:
        """List a photograph, which may have nobody."""
        self._people.setdefault(name, [])
        if size is not None:
            self._sizes[name] = size

    def add(
        self,
        photograph: str,
        where: str,
        rows: Float[np.ndarray, "k 3"],
        given: KeypointSet | None = None,
        world: Float[np.ndarray, "k 3"] | None = None,
        box: Float[np.ndarray, "4"] | None = None,
        score: float | None = None,
    ) -> None:
        """Add a person, or count one without a known point.

        Args:
            photograph: its name.
            where: the person's place in the file, for messages.
            rows: x, y in pixels and confidence, as the file has them.
            given: the set that the file's form gives; None: guess it by the number of points.
            world: as in `Keypoints`.
            box: as in `Keypoints`.
            score: as in `Keypoints`.

        Raises:
            UserError: the set is not given and cannot be guessed, or has another number of points.
        """
        self.photograph(photograph)
        if not len(rows):
            self._unknown += 1
            return
        own = self.set_of(len(rows), where, given)
        points, confidence = rows[:, :2], np.nan_to_num(rows[:, 2], nan=0.0)
        near = np.abs(points) < _FURTHEST  # false for NaN
        broken = (confidence > 0) & ~near.all(1)
        self._broken += int(broken.sum())
        known = (confidence > 0) & ~broken
        if not known.any():
            self._unknown += 1
            return
        confidence = np.where(known, np.clip(confidence, 0.0, 1.0), 0.0)
        points = np.where(known[:, None], points, 0.0)
        keypoints = Keypoints(own, points, confidence, world, box, score)
        self._people[photograph].append(keypoints.in_named_set())

    def set_of(self, count: int, where: str, given: KeypointSet | None = None) -> KeypointSet:
        """Return the set of a person with this number of points; see `add`."""
        own = self.named or given or self._guess(count, where)
        if len(own.points) != count:
            raise UserError(
                f"{self.path}: {where} has {count} points, but {own.name} has {len(own.points)}; "
                f"give --keypoint_set as one of {', '.join(SETS)}"
            )
        return own

    def _guess(self, count: int, where: str) -> KeypointSet:
        fits = [one for one in SETS.values() if len(one.points) == count]
        if len(fits) == 1:
            return fits[0]
        if fits:
            names = " or ".join(one.name for one in fits)
            raise UserError(f"{self.path}: {where} has {count} points, those of {names}: {ASK}")
        raise UserError(
            f"{self.path}: {where} has {count} points, as no set has; the sets are "
            f"{', '.join(SETS)}"
        )

    def result(self) -> KeypointFile:
        """Return the people.

        Raises:
            UserError: people were added, and none has a known point.
        """
        notes = list(self._notes)
        if self._broken:
            points = counted(self._broken, "point")
            notes.append(
                f"note: {points} of {self.path} {be(self._broken)} not finite or far outside: "
                "taken as unknown"
            )
        if self._unknown:
            people = counted(self._unknown, "person")
            notes.append(f"note: {people} of {self.path} without a known point: skipped")
            if not any(self._people.values()):
                raise UserError(
                    f"{self.path} has {people}, but no point is known: give keypoints in pixels, "
                    "with confidences above 0"
                )
        return KeypointFile(self.path, self._people, self._sizes, tuple(notes))


def rows_of(
    path: Path, where: str, values: Any, numbers: int = 3
) -> Float[np.ndarray, "k numbers"]:
    """Return a list of numbers, flat or nested, as one row a point.

    Args:
        path: of the file, for messages.
        where: the list's place in the file, for messages.
        values: as read.
        numbers: of each point.

    Raises:
        UserError: not numbers, or their count is no multiple of `numbers`.
    """
    try:
        if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
            raise ValueError
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: {where} must be a list of numbers") from None
    if not found.size or found.size % numbers or (found.ndim > 1 and found.shape[-1] != numbers):
        raise UserError(f"{path}: {where} has {found.size} numbers; give {numbers} for each point")
    return found.reshape(-1, numbers)


def _is_copy(given: tuple[float, float], size: tuple[float, float]) -> bool:
    """Return whether one size is a multiple of the other, but for rounding to whole pixels."""
    ratio = size[0] * given[1] / (size[1] * given[0])
    return abs(ratio - 1) * min(*size, *given) <= 1


def _upright(one: Keypoints, orientation: int, size: tuple[float, float]) -> Keypoints:
    """Return keypoints in the pixels of the upright picture; `size` is that of the stored one."""
    points = [upright_box(np.tile(point, 2), orientation, size)[:2] for point in one.points]
    box = None if one.box is None else upright_box(one.box, orientation, size)
    return dataclasses.replace(one, points=np.array(points), box=box)


def _scaled(one: Keypoints, scale: Float[np.ndarray, "2"]) -> Keypoints:
    box = None if one.box is None else one.box * np.tile(scale, 2)
    return dataclasses.replace(one, points=one.points * scale, box=box)


def _is_inside(one: Keypoints, size: tuple[int, int]) -> bool:
    """Return whether at least one known point is in a picture."""
    known = one.points[one.confidence > 0]
    return bool(((known >= 0) & (known <= size)).all(1).any())
