"""Checks of people's boxes, and the square crop around a box.

Pixels are continuous with the origin at the photograph's top-left corner.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError

# A box more than this many times the photograph's size is a mistake: it shows no person.
_LARGEST_BOX = 20.0


def check_box(box: Sequence[float] | np.ndarray, height: int, width: int) -> Float[np.ndarray, "4"]:
    """Return a box as float64 after checking that it can hold a person.

    Args:
        box: x0, y0, x1, y1 in pixels of the photograph; it may reach beyond the photograph.
        height: of the photograph.
        width: of the photograph.

    Raises:
        UserError: not four finite numbers, corners swapped, less than a pixel wide or high, many
            times larger than the photograph, or outside of it.
    """
    try:
        corners = np.asarray(box, np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.shape != (4,):
        raise UserError(f"box {_short(box)} is not four numbers; give x0,y0,x1,y1")
    name = "box " + ",".join(f"{value:g}" for value in corners)
    if not np.isfinite(corners).all():
        raise UserError(f"{name} has a number that is not finite; give x0,y0,x1,y1 in pixels")
    x0, y0, x1, y1 = corners
    if x1 < x0 or y1 < y0:
        raise UserError(f"{name} has its corners swapped: x0,y0 is top left, x1,y1 bottom right")
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise UserError(f"{name} is less than a pixel wide or high; give boxes in pixels")
    if max(x1 - x0, y1 - y0) > _LARGEST_BOX * max(width, height):
        raise UserError(
            f"{name} is more than {_LARGEST_BOX:.0f} times as large as the photograph of "
            f"{width} x {height} pixels; give boxes in its pixels"
        )
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise UserError(
            f"{name} is outside the photograph of {width} x {height} pixels; give boxes in its "
            "pixels"
        )
    return corners


def crop_of_box(box: Float[np.ndarray, "4"], scale: float) -> tuple[Float[np.ndarray, "2"], float]:
    """Return the centre and side of the crop for a tight box.

    Args:
        box: x0, y0, x1, y1 in pixels of the photograph.
        scale: the crop's side over the longer side of the box.
    """
    centre = (box[:2] + box[2:]) / 2.0
    return centre, scale * float((box[2:] - box[:2]).max())


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
