"""Random body models in SMPL's format, and SMPL's formulas as a reference."""

import numpy as np

from pare_jax.skeleton import PARENTS


def random_body_fields(seed: int = 0, vertices: int = 60, shapes: int = 10) -> dict:
    """Return random arrays with the names and shapes of SMPL's files."""
    rng = np.random.default_rng(seed)
    weights = rng.random((vertices, 24)) ** 6
    weights[weights < np.sort(weights, axis=1)[:, [-4]]] = 0
    regressor = rng.random((24, vertices)) * (rng.random((24, vertices)) < 0.2) + 1e-3
    return {
        "v_template": rng.normal(0, 0.5, (vertices, 3)),
        "shapedirs": rng.normal(0, 0.02, (vertices, 3, shapes)),
        "posedirs": rng.normal(0, 0.005, (vertices, 3, 207)),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "f": rng.integers(0, vertices, (40, 3)).astype(np.uint32),
        "kintree_table": np.array([[p % 2**32 for p in PARENTS], range(24)], np.uint32),
    }


def random_pose(rng: np.random.Generator, *batch: int, angle: float = 0.8):
    """Return betas (*batch, 10), axis-angles (*batch, 24, 3) and their rotations, float64."""
    axis_angle = rng.normal(0, angle, (*batch, 24, 3))
    return rng.normal(0, 1.5, (*batch, 10)), axis_angle, rotations_of(axis_angle)


def rotations_of(axis_angle: np.ndarray) -> np.ndarray:
    """Convert axis-angles to rotations by Rodrigues' formula, float64."""
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)[..., None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    unit = cross / np.where(angle > 0, angle, 1)
    return np.eye(3) + np.sin(angle) * unit + (1 - np.cos(angle)) * unit @ unit


def reference_body(fields: dict, betas: np.ndarray, rotations: np.ndarray):
    """Pose one body by SMPL's formulas in float64, with 4x4 matrices and loops.

    Returns:
        vertices (V, 3) and joints (24, 3).
    """
    shaped = fields["v_template"] + fields["shapedirs"][:, :, :10] @ betas
    rest = fields["J_regressor"] @ shaped
    features = (rotations[1:] - np.eye(3)).ravel()
    posed = shaped + fields["posedirs"] @ features
    chain = []
    for joint, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if parent >= 0 else 0)
        chain.append(chain[parent] @ local if parent >= 0 else local)
    vertices = np.zeros_like(posed)
    for joint, transform in enumerate(chain):
        offset = np.concatenate([posed - rest[joint], np.ones((len(posed), 1))], axis=1)
        vertices += fields["weights"][:, [joint]] * (offset @ transform.T)[:, :3]
    return vertices, np.stack([transform[:3, 3] for transform in chain])
