"""Reads label files of arrays with one row a person (SPIN's and BEDLAM's .npz) and checks them.

What is wrong with a file is an error in one line. What is wrong with a person is a reason to skip
that person. Arrays of Python objects are read, but nothing in them is run.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from data_pipelines.releases.labelled_people import LabelFile, LabelledPerson
from data_pipelines.releases.release import Skipped
from pare_jax.crop import SPIN_UNIT
from pare_jax.errors import UserError, be, counted
from pare_jax.io.archives import read_npz

# A point further away, in pixels, is a mistake: no picture is so large.
_FURTHEST = 1e6
_GENDERS = {
    **dict.fromkeys(("m", "male"), "male"),
    **dict.fromkeys(("f", "female"), "female"),
    **dict.fromkeys(("n", "neutral", "none", ""), "neutral"),
}


class LabelArrays:
    """The arrays of a file, one row a person.

    Attributes:
        path: the file.
        photographs: the photograph of each person, as the file names it; "": no name, or no text.
    """

    def __init__(self, path: Path, names: Collection[str]):
        """Read arrays of a file.

        Args:
            path: an .npz file with `imgname`.
            names: the other arrays to read, if the file has them.

        Raises:
            RefusedPickle: an array of objects asks for more than plain data.
            UserError: the file is missing, damaged, of another kind, or has no people.
        """
        self.path = path
        self._arrays: Mapping[str, Any] = read_npz(
            path, names=("imgname", *names), objects=True, advice="get it from its source again"
        )
        if "imgname" not in self._arrays:
            raise UserError(f'{path} has no array "imgname": give a label file with photographs')
        listed = np.asarray(self._arrays["imgname"]).reshape(-1).tolist()
        self.photographs = [(_text(name) or "").strip() for name in listed]
        if not self.photographs:
            raise UserError(f"{path} has nobody: its array imgname is empty")

    def __len__(self) -> int:
        return len(self.photographs)

    def what(self, row: int) -> str:
        """Return the name of a person in messages."""
        return f"person {row} of {self.path.name}"

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def numbers(self, name: str, *shape: int | None) -> Float[np.ndarray, "people ..."]:
        """Return an array in float64.

        Args:
            name: of the array, which the file must have.
            shape: of a person's row; None: any size.

        Raises:
            UserError: the array is missing, is no array of numbers or has another shape.
        """
        if name not in self._arrays:
            raise UserError(f'{self.path} has no array "{name}": give a file with all its arrays')
        try:
            found = np.asarray(self._arrays[name], np.float64)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{self.path}: the array {name} must hold numbers") from None
        wanted = (len(self), *shape)
        if found.ndim > len(wanted) and not shape:
            found = found.reshape(len(found), -1)
            found = found[:, 0] if found.shape[1] == 1 else found
        same = found.ndim == len(wanted) and all(
            size in (None, own) for size, own in zip(wanted, found.shape, strict=True)
        )
        if not same:
            sizes = ", ".join("any" if size is None else str(size) for size in wanted)
            raise UserError(
                f"{self.path}: the array {name} has the shape {found.shape}; it must be ({sizes}), "
                "one row for each of imgname"
            )
        return found

    def squares(self) -> tuple[Float[np.ndarray, "people 2"], Float[np.ndarray, " people"]]:
        """Return centre and side of each person's square, in pixels.

        Raises:
            UserError: `center` or `scale` is missing or has another shape.
        """
        return self.numbers("center", 2), self.numbers("scale") * SPIN_UNIT

    def genders(self) -> list[str | None]:
        """Return each person's gender; "neutral" without the array, None for an unknown word.

        Raises:
            UserError: the array has another length.
        """
        if "gender" not in self._arrays:
            return ["neutral"] * len(self)
        listed = np.asarray(self._arrays["gender"]).reshape(-1).tolist()
        if len(listed) != len(self):
            raise UserError(
                f"{self.path}: the array gender has {len(listed)} rows; it must have {len(self)}, "
                "one for each of imgname"
            )
        return [_GENDERS.get((_text(gender) or "?").strip().lower()) for gender in listed]


def collect(
    arrays: LabelArrays,
    mistake: Callable[[int], str],
    content: Callable[[int], bytes],
    person: Callable[[int], LabelledPerson],
    notes: list[str],
) -> LabelFile:
    """Return the people of a file without mistakes; the others are skipped.

    Args:
        arrays: the file.
        mistake: returns what is wrong with the labels of a row, or "".
        content: returns the labels of a row, to find people who are listed twice.
        person: returns the person of a row without a mistake.
        notes: about the file.
    """
    result = LabelFile(notes=notes)
    seen: set[bytes] = set()
    for row, photograph in enumerate(arrays.photographs):
        wrong = "" if photograph else "name of the photograph is no text"
        wrong = wrong or mistake(row)
        own = photograph.encode("utf-8", "surrogatepass") + content(row)
        wrong = wrong or ("listed twice" if own in seen else "")
        if wrong:
            result.skipped.append(Skipped(arrays.what(row), wrong))
        else:
            seen.add(own)
            result.people.append(person(row))
    return result


def square_mistake(centre: Float[np.ndarray, "2"], side: float) -> str:
    """Return what is wrong with a person's square, or ""."""
    if not (np.isfinite(centre).all() and np.isfinite(side)):
        return "centre or scale is not finite"
    return "scale is not above 0" if side <= 0 else ""


def clean_points(
    arrays: LabelArrays, name: str, rows: Float[np.ndarray, "people k 3"], notes: list[str]
) -> Float[np.ndarray, "people k 3"]:
    """Return points with confidences from 0 to 1, and zeros for those that are unknown.

    Args:
        arrays: the file.
        name: of the array.
        rows: x, y in pixels and confidence. Those not finite or far outside become unknown.
        notes: gets their number.
    """
    near = (np.abs(rows[..., :2]) < _FURTHEST).all(-1)  # false for NaN
    given = rows[..., 2] > 0
    broken = int((given & ~near).sum())
    if broken:
        notes.append(
            f"{counted(broken, 'point')} of {name} of {arrays.path.name} {be(broken)} not finite "
            "or far outside: taken as unknown"
        )
    rows = np.where((given & near)[..., None], rows, 0.0)
    rows[..., 2] = np.minimum(rows[..., 2], 1.0)
    return rows


def rotations_of(vectors: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "joints 3 3"]:
    """Return the rotations of axis-angle vectors, in float32."""
    return Rotation.from_rotvec(vectors).as_matrix().astype(np.float32)


def _text(name: Any) -> str | None:
    if isinstance(name, bytes):
        return name.decode("utf-8", "replace")
    return name if isinstance(name, str) else None
