"""Draws the keypoints that a network sees on a plain ground, where it sees no photograph."""

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.keypoints.sets import POINT_NAMES
from pare_jax.rendering.skeleton_lines import LEFT, MIDDLE, RIGHT
from pare_jax.rendering.text import Colour, Picture

_GROUND: Colour = (96, 100, 108)
_LIMBS = (
    *("shoulder-elbow", "elbow-wrist", "wrist-index", "hip-knee", "knee-ankle", "ankle-heel"),
    *("heel-foot_index", "heel-big_toe", "shoulder-hip"),
)
# Pairs of body points that lines connect where both are known.
_LINES = tuple(
    tuple(POINT_NAMES.index(f"{side}_{end}") for end in limb.split("-"))
    for side in ("left", "right")
    for limb in _LIMBS
) + tuple(
    (POINT_NAMES.index(f"left_{name}"), POINT_NAMES.index(f"right_{name}"))
    for name in ("shoulder", "hip")
)
# OpenCV draws at 1 / 2**_SHIFT of a pixel.
_SHIFT = 4


def keypoint_picture(points: Float[np.ndarray, "points 5"], side: int = 224) -> Picture:
    """Draw a network's input: known body points, paler the less sure they are, and limbs.

    Args:
        points: x, y in crop units, confidence, 0 if unknown; further columns are not read.
        side: of the picture, pixels.

    Returns:
        The picture. Points outside the person's square are cut off.
    """
    picture = np.full((side, side, 3), _GROUND, np.uint8)
    pixels = (np.asarray(points[:, :2], np.float64) + 1.0) * (side / 2)
    # OpenCV's integers are pixel centres.
    fixed = np.round((np.clip(pixels, -4 * side, 5 * side) - 0.5) * 2**_SHIFT).astype(int)
    known = (points[:, 2] > 0) & np.isfinite(points[:, :2]).all(1)
    line = max(1, round(side / 110))
    for start, end in _LINES:
        if known[start] and known[end]:
            colour = _colour(POINT_NAMES[start], POINT_NAMES[end], min(points[[start, end], 2]))
            ends = tuple(map(int, fixed[start])), tuple(map(int, fixed[end]))
            cv2.line(picture, *ends, colour, line, cv2.LINE_AA, _SHIFT)
    radius = round(1.3 * line * 2**_SHIFT)
    for point in np.flatnonzero(known):
        colour = _colour(POINT_NAMES[point], POINT_NAMES[point], points[point, 2])
        cv2.circle(picture, tuple(map(int, fixed[point])), radius, colour, -1, cv2.LINE_AA, _SHIFT)
    return picture


def _colour(start: str, end: str, confidence: float) -> Colour:
    """Return a side's colour, mixed with the ground's for points of low confidence."""
    sides = {name.partition("_")[0] for name in (start, end)}
    full = {"left": LEFT, "right": RIGHT}.get(sides.pop() if len(sides) == 1 else "", MIDDLE)
    share = 0.25 + 0.75 * float(np.clip(confidence, 0, 1))
    mixed = share * np.array(full) + (1 - share) * np.array(_GROUND)
    red, green, blue = map(int, mixed.round())
    return red, green, blue
