"""Draws people's keypoints: over a photograph, or on a plain ground as a network sees them."""

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.keypoints.sets import POINT_NAMES
from pare_jax.rendering.skeleton_lines import LEFT, MIDDLE, RIGHT
from pare_jax.rendering.text import INK, Colour, Picture

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
    _draw(picture, pixels, points[:, 2], max(1, round(side / 110)), _GROUND)
    return picture


def draw_keypoints(picture: Picture, points: Float[np.ndarray, "points 3"]) -> Picture:
    """Draw a person's known body points over a picture, paler the less sure they are, and limbs.

    Args:
        picture: (height, width, 3) uint8.
        points: x, y in its pixels, confidence, 0 if unknown.

    Returns:
        The picture with the keypoints in it.
    """
    picture = np.ascontiguousarray(picture).copy()
    pixels = np.asarray(points[:, :2], np.float64)
    known = points[:, 2] > 0
    if known.any():
        size = float(np.ptp(pixels[known], 0).max())
        line = max(1, round(min(size, max(picture.shape)) / 110))
        _draw(picture, pixels, points[:, 2], line + 2, INK, plain=True)
        _draw(picture, pixels, points[:, 2], line, _GROUND)
    return picture


def _draw(
    picture: Picture,
    pixels: Float[np.ndarray, "points 2"],
    confidence: Float[np.ndarray, " points"],
    line: int,
    ground: Colour,
    plain: bool = False,
) -> None:
    """Draw limbs and points into a picture, in the colours of the sides unless `plain`."""
    side = max(picture.shape[:2])
    known = (confidence > 0) & np.isfinite(pixels).all(1)
    pixels = np.where(known[:, None], pixels, 0.0)
    # OpenCV's integers are pixel centres.
    fixed = np.round((np.clip(pixels, -4 * side, 5 * side) - 0.5) * 2**_SHIFT).astype(int)

    def colour(start: int, end: int) -> Colour:
        if plain:
            return ground
        share = min(confidence[start], confidence[end])
        return _colour(POINT_NAMES[start], POINT_NAMES[end], share, ground)

    for start, end in _LINES:
        if known[start] and known[end]:
            ends = tuple(map(int, fixed[start])), tuple(map(int, fixed[end]))
            cv2.line(picture, *ends, colour(start, end), line, cv2.LINE_AA, _SHIFT)
    radius = round(1.3 * line * 2**_SHIFT)
    for point in map(int, np.flatnonzero(known)):
        centre = tuple(map(int, fixed[point]))
        cv2.circle(picture, centre, radius, colour(point, point), -1, cv2.LINE_AA, _SHIFT)


def _colour(start: str, end: str, confidence: float, ground: Colour) -> Colour:
    """Return a side's colour, mixed with the ground's for points of low confidence."""
    sides = {name.partition("_")[0] for name in (start, end)}
    full = {"left": LEFT, "right": RIGHT}.get(sides.pop() if len(sides) == 1 else "", MIDDLE)
    share = 0.25 + 0.75 * float(np.clip(confidence, 0, 1))
    mixed = share * np.array(full) + (1 - share) * np.array(ground)
    red, green, blue = map(int, mixed.round())
    return red, green, blue
