"""Reads label files of arrays with one row a person (SPIN's and BEDLAM's .npz) and checks them.

What is wrong with a file is an error in one line. What is wrong with a person is a reason to skip
that person. Arrays of Python objects are read, but nothing in them is run.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz

# SPIN's `scale` is the side of the person's square over this number of pixels.
SPIN_UNIT = 200.0
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
        self._arrays: Mapping[str, Any] = read_npz(path, names=("imgname", *names), objects=True)
        if "imgname" not in self._arrays:
            raise UserError(f'{path} has no array "imgname": give a label file with photographs')
        listed = np.asarray(self._arrays["imgname"]).reshape(-1).tolist()
        self.photographs = [(_text(name) or "").strip() for name in listed]
        if not self.photographs:
            raise UserError(f"{path} has nobody: its array imgname is empty")

    def __len__(self) -> int:
        return len(self.photographs)

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


def square_mistake(centre: Float[np.ndarray, "2"], side: float) -> str:
    """Return what is wrong with a person's square, or ""."""
    if not (np.isfinite(centre).all() and np.isfinite(side)):
        return "centre or scale is not finite"
    return "scale is not above 0" if side <= 0 else ""


def clean_points(rows: Float[np.ndarray, "... k 3"]) -> Float[np.ndarray, "... k 3"]:
    """Return points with confidences from 0 to 1, and zeros for those that are unknown.

    Args:
        rows: x, y in pixels and confidence. Those not finite or far outside become unknown.
    """
    near = (np.abs(rows[..., :2]) < _FURTHEST).all(-1)  # false for NaN
    known = near & (rows[..., 2] > 0)
    rows = np.where(known[..., None], rows, 0.0)
    rows[..., 2] = np.minimum(rows[..., 2], 1.0)
    return rows


def broken_points(rows: Float[np.ndarray, "... k 3"]) -> int:
    """Return how many points have a confidence, but no place that is finite and near."""
    near = (np.abs(rows[..., :2]) < _FURTHEST).all(-1)
    return int(((rows[..., 2] > 0) & ~near).sum())


def rotations_of(vectors: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "joints 3 3"]:
    """Return the rotations of axis-angle vectors."""
    return Rotation.from_rotvec(vectors).as_matrix()


def _text(name: Any) -> str | None:
    if isinstance(name, bytes):
        return name.decode("utf-8", "replace")
    return name if isinstance(name, str) else None
