"""The keypoints of stored examples, in units of the network's square."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.example import CROP_MARGIN
from data_pipelines.transforms import stored_side
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES
from pare_jax.skeleton import JOINT_NAMES

# Datasets that were prepared before body points were stored have SMPL's joints, which came from
# keypoints of these names. MPII's upper neck became SMPL's neck.
_RENAMED = {"neck": "upper_neck"}
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "neck")
JOINT_TO_POINT = tuple(
    (joint, POINT_NAMES.index(_RENAMED.get(name, name)))
    for joint, name in enumerate(JOINT_NAMES)
    if name.rpartition("_")[2] in _LIMBS
)
_HEAD_TOP = POINT_NAMES.index("head_top")


def points_of(example: Mapping[str, Any]) -> Float[np.ndarray, "points 3"]:
    """Return a person's body points, x and y in stored-crop pixels and confidence.

    An example without body points gives those of its joints and of the top of the head.

    Args:
        example: with the fields of `example.STORED_FIELDS`.
    """
    points = np.zeros((NUM_BODY_POINTS, 3), np.float32)
    points[:, :2], points[:, 2] = example["points_2d"], example["points_2d_weight"]
    if not points[:, 2].any():
        joints, known = map(list, zip(*JOINT_TO_POINT, strict=True))
        points[known, :2] = example["joints_2d"][joints]
        points[known, 2] = example["joints_2d_weight"][joints]
        points[_HEAD_TOP] = (*example["head_top"], example["head_top_weight"])
    points[~np.isfinite(points).all(-1) | (points[:, 2] <= 0)] = 0
    return points


def square_of(example: Mapping[str, Any]) -> tuple[Float[np.ndarray, "2"], float]:
    """Return centre and side of the network's square, stored-crop pixels.

    Args:
        example: as of `points_of`.
    """
    side = stored_side(example["image"])
    return np.full(2, side / 2.0), side / CROP_MARGIN


def moved_camera(
    camera: Float[np.ndarray, "*b 3"],
    old: tuple[Float[np.ndarray, "*b 2"], Float[np.ndarray, "*b"]],
    new: tuple[Float[np.ndarray, "*b 2"], Float[np.ndarray, "*b"]],
) -> Float[np.ndarray, "*b 3"]:
    """Return the crop cameras of other squares in which people look the same.

    Args:
        camera: crop cameras (s, tx, ty).
        old: centres and sides of their squares, pixels.
        new: centres and sides of the other squares, pixels.
    """
    scale = camera[..., :1]
    shift = 2.0 * (old[0] - new[0]) / (np.asarray(old[1])[..., None] * scale)
    zoom = (np.asarray(old[1]) / np.asarray(new[1]))[..., None]
    return np.concatenate([scale * zoom, camera[..., 1:] + shift], -1).astype(np.float32)
