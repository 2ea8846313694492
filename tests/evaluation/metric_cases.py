"""Pairs of predicted and true people that careless metrics get wrong."""

import numpy as np
from scipy.spatial.transform import Rotation


def random_rotations(rng, *shape):
    matrices = Rotation.random(int(np.prod(shape)), random_state=rng).as_matrix()
    return matrices.reshape(*shape, 3, 3).astype(np.float32)


def degenerate(rng, kind, joints=24, count=1000):
    """Make pairs of point clouds that single precision or a careless formula gets wrong."""
    shape = (count, joints, 3)
    pred = rng.normal(size=shape) * (0.3, 0.6, 0.2)
    true = pred + 0.05 * rng.normal(size=shape)
    size = 10.0 ** rng.uniform(-8, -2, size=(count, 1, 1))
    line = rng.normal(size=(count, joints, 1)) * rng.normal(size=(count, 1, 3))
    if kind == "unrelated":
        true = rng.normal(size=shape)
    elif kind == "mirrored":
        pred = true * (-1.0, 1.0, 1.0) + 0.01 * rng.normal(size=shape)
    elif kind == "isotropic and mirrored":
        pred = rng.normal(size=shape)
        true = -pred + 0.01 * rng.normal(size=shape)
    elif kind == "nearly collinear prediction":
        pred = line + size * rng.normal(size=shape)
    elif kind == "nearly collinear truth":
        true = line + size * rng.normal(size=shape)
    elif kind == "collinear prediction":
        pred = line
    elif kind == "collinear truth":
        true = line
    elif kind == "both collinear":
        pred, true = line, rng.normal(size=(count, 1, 1)) * line[::-1]
    elif kind == "joints in two places":
        pred[:, 1:] = pred[:, 1:2]
    elif kind == "nearly flat prediction":
        pred[..., 2] *= size[..., 0]
    elif kind == "tiny prediction":
        pred = pred * size**2
    elif kind == "tiny prediction far away":
        pred = pred * size + (1.0, 2.0, 50.0)
    elif kind == "prediction in one place":
        pred = np.full(shape, (0.1, 0.2, 30.3))
    elif kind == "zero prediction":
        pred = np.zeros(shape)
    elif kind == "truth in one place":
        true = np.full(shape, (0.1, 0.2, 30.3))
    elif kind == "equal":
        pred = true
    return pred.astype(np.float32), true.astype(np.float32)


KINDS = (
    "noisy",
    "unrelated",
    "mirrored",
    "isotropic and mirrored",
    "collinear prediction",
    "collinear truth",
    "both collinear",
    "joints in two places",
    "nearly collinear prediction",
    "nearly collinear truth",
    "nearly flat prediction",
    "tiny prediction",
    "tiny prediction far away",
    "prediction in one place",
    "zero prediction",
    "truth in one place",
    "equal",
)
WITHOUT_ONE_BEST_TURN = (
    "collinear prediction",
    "collinear truth",
    "both collinear",
    "joints in two places",
    "nearly collinear prediction",
    "nearly collinear truth",
    "tiny prediction far away",  # rounded to float32, some of these are lines
)
