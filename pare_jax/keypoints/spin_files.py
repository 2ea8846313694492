"""Reads keypoints from SPIN's .npz files, which PARE, VIBE and others also use.

Arrays over people: `imgname`, `part` (n, 24, 3), perhaps `openpose` (n, 25, 3) and `S` (n, 24, 4),
metres in the camera's axes; each ends with a confidence. Other counts of points occur. Centre and
scale, a square wider than the person, are not read.

Source: https://github.com/nkolot/SPIN, datasets/preprocess.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz
from pare_jax.keypoints.people_collector import PeopleCollector
from pare_jax.keypoints.sets import OPENPOSE25, SPIN24, KeypointSet

_ARRAYS = ("part", "openpose")
_WORLD = "S"
_NAMES = "imgname"


def read_spin(people: PeopleCollector) -> None:
    """Add the people of a file: their `part`, or `openpose` where no point of that is known.

    Args:
        people: where they are added; with the path of the file.

    Raises:
        UserError: the file cannot be read, has no keypoints, or arrays of other shapes.
    """
    path = people.path
    arrays = read_npz(path, names=(_NAMES, _WORLD, *_ARRAYS), objects=True)
    if _NAMES not in arrays:
        raise UserError(f'{path} has no array "imgname": give a file of SPIN\'s form')
    names = [_text(name) for name in np.asarray(arrays[_NAMES]).reshape(-1).tolist()]
    found = {
        name: _numbers(path, name, arrays[name], len(names), 3)
        for name in _ARRAYS
        if name in arrays
    }
    chosen = _fitting(found, people.named)
    if not chosen:
        raise UserError(f'{path} has no keypoints: give a file with the array "part" or "openpose"')
    world = None
    if _WORLD in arrays and "part" in chosen:
        world = _numbers(path, _WORLD, arrays[_WORLD], len(names), 4)
        if world.shape[1] != chosen["part"].shape[1]:
            world = None  # joints of another set
    for number, name in enumerate(names):
        own = next((one for one in chosen if _any_known(chosen[one][number])), next(iter(chosen)))
        rows, where = chosen[own][number], f"{own} of person {number}"
        given = OPENPOSE25 if own == "openpose" else _spin_of(rows.shape[0])
        in_3d = None
        if world is not None and own == "part":
            in_3d = _about_hips(world[number], people.set_of(len(rows), where, given))
        people.add(name, where, rows.copy(), given, in_3d)


def _fitting(found: dict[str, np.ndarray], named: KeypointSet | None) -> dict[str, np.ndarray]:
    """Return the arrays that have the named set's number of points, else all."""
    if named is None:
        return found
    return {own: rows for own, rows in found.items() if rows.shape[1] == len(named.points)} or found


def _spin_of(count: int) -> KeypointSet | None:
    return SPIN24 if count == len(SPIN24.points) else None


def _any_known(rows: Float[np.ndarray, "k 3"]) -> bool:
    return bool((rows[:, 2] > 0).any())


def _about_hips(
    rows: Float[np.ndarray, "k 4"], own: KeypointSet
) -> Float[np.ndarray, "k 3"] | None:
    """Return 3D points about the middle of the hips, NaN where unknown; None without hips."""
    points = np.where(rows[:, 3:] > 0, rows[:, :3], np.nan)
    hips = [own.points.index(f"{side}_hip") for side in ("left", "right")]
    middle = points[hips].mean(0)
    return points - middle if np.isfinite(middle).all() else None


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _numbers(path: Path, name: str, values: Any, people: int, numbers: int) -> np.ndarray:
    """Return an array (people, points, numbers) in float64."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: the array {name} must hold numbers") from None
    if found.ndim != 3 or found.shape[0] != people or found.shape[2] != numbers:
        raise UserError(
            f"{path}: the array {name} has the shape {found.shape}; it must be ({people}, points, "
            f"{numbers}), one row for each of imgname"
        )
    return found
