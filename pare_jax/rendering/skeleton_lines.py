"""Draws skeletons as lines: the person's left is blue, the right orange, the middle white."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

from pare_jax.rendering.text import INK, Colour, Picture
from pare_jax.skeleton import JOINT_NAMES, PARENTS

# For colour-blind readers too (Okabe and Ito's palette, lightened to show on photographs).
LEFT: Colour = (70, 170, 255)
RIGHT: Colour = (255, 140, 30)
MIDDLE: Colour = (245, 245, 245)
# OpenCV draws at 1 / 2**_SHIFT of a pixel.
_SHIFT = 4


def joint_colour(joint: int) -> Colour:
    """Return the colour of a joint and of the bone from its parent."""
    name = JOINT_NAMES[joint]
    if name.startswith("left_"):
        return LEFT
    return RIGHT if name.startswith("right_") else MIDDLE


def draw_skeleton(
    picture: Picture,
    joints_2d: Float[np.ndarray, "24 2"],
    visible: Bool[np.ndarray, "24"] | None = None,
    width: float | None = None,
) -> Picture:
    """Draw bones and joints over a picture.

    Args:
        picture: (height, width, 3) uint8.
        joints_2d: continuous pixels (x, y); joints that are not finite are skipped.
        visible: hidden joints are drawn as rings; None: all joints are visible.
        width: of the bones, pixels; None: a sixtieth of the person's size.

    Returns:
        The picture with the skeleton in it.
    """
    picture = np.ascontiguousarray(picture).copy()
    joints = np.asarray(joints_2d, np.float64)
    known = np.all(np.isfinite(joints) & (np.abs(joints) < 1e5), axis=-1)
    if not known.any():
        return picture
    if width is None:
        width = float(np.ptp(joints[known], 0).max()) / 60.0
    line = max(1, round(width))
    # OpenCV's integers are pixel centres.
    fixed = np.round((np.where(known[:, None], joints, 0.0) - 0.5) * 2**_SHIFT).astype(int)
    for extra, own_colour in ((2, False), (0, True)):  # a dark outline first
        for joint, parent in enumerate(PARENTS):
            if parent < 0 or not (known[joint] and known[parent]):
                continue
            colour = joint_colour(joint) if own_colour else INK
            ends = tuple(map(int, fixed[parent])), tuple(map(int, fixed[joint]))
            cv2.line(picture, *ends, colour, line + extra, cv2.LINE_AA, _SHIFT)
    radius = round((line * 1.2 + 0.5) * 2**_SHIFT)
    for joint in map(int, np.flatnonzero(known)):
        centre = tuple(map(int, fixed[joint]))
        hidden = visible is not None and not visible[joint]
        colour = joint_colour(joint)
        cv2.circle(picture, centre, radius + 2**_SHIFT, INK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA, _SHIFT)
        if hidden:
            cv2.circle(picture, centre, round(radius * 0.6), INK, -1, cv2.LINE_AA, _SHIFT)
    return picture
