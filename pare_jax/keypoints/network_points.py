"""The input of a network on keypoints: body points in units of the person's square."""

import numpy as np
from jaxtyping import Float

from pare_jax.keypoints.keypoints import SQUARE_SCALE, Keypoints, extent
from pare_jax.keypoints.sets import NUM_BODY_POINTS

# x, y, confidence, depth, whether the depth is known.
NUM_CHANNELS = 5


def square_around(points: Float[np.ndarray, "points 3"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Return centre and side of the square around a person's known points, pixels.

    Args:
        points: x, y and confidence.

    Raises:
        UserError: fewer than two points are known.
    """
    box = extent(points)
    side = SQUARE_SCALE * float((box[2:] - box[:2]).max())
    return (box[:2] + box[2:]) / 2.0, max(side, 1.0)


def in_square(
    points: Float[np.ndarray, "points 3"], centre: Float[np.ndarray, "2"], side: float
) -> Float[np.ndarray, "points 3"]:
    """Return x and y in units of a square, [-1, 1] over it, beside the confidences.

    Args:
        points: x, y in pixels and confidence.
        centre: of the square, pixels.
        side: of the square, pixels.
    """
    known = points[:, 2:] > 0
    units = (points[:, :2] - centre) / (side / 2.0)
    return np.concatenate([np.where(known, units, 0.0), points[:, 2:]], axis=1).astype(np.float32)


def network_points(
    keypoints: Keypoints,
) -> tuple[Float[np.ndarray, "points 5"], Float[np.ndarray, "2"], float]:
    """Return a network's input for one person, and centre and side of the person's square.

    Args:
        keypoints: in pixels of the photograph.

    Returns:
        x, y in units of the square, confidence, depth about the middle of the hips in metres, and
        1 where the depth is known; a row of zeros for an unknown point.

    Raises:
        UserError: fewer than two points are known.
    """
    points = keypoints.body_points()
    centre, side = square_around(points)
    depth = keypoints.body_world()[:, 2]
    deep = np.isfinite(depth) & (points[:, 2] > 0)
    rows = np.zeros((NUM_BODY_POINTS, NUM_CHANNELS), np.float32)
    rows[:, :3] = in_square(points, centre, side)
    rows[:, 3] = np.where(deep, depth, 0.0)
    rows[:, 4] = deep
    return rows, centre, side
