"""A pool of random poses, from which training on bodies alone draws its batches."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from data_pipelines.synthetic.actions import ACTIONS
from data_pipelines.synthetic.exercises import EXERCISES
from data_pipelines.synthetic.gestures import GESTURING
from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.poses import sample_poses
from data_pipelines.synthetic.postures import POSTURES
from data_pipelines.synthetic.sports import SPORTS
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# All actions with their weights: more of them than drawn people have, for real photographs.
POOL_ACTIONS = {**ACTIONS, **GESTURING, **POSTURES, **SPORTS, **EXERCISES}

_CHUNK = 1000  # poses with one random stream
_STREAM = 83  # keeps the pool's random numbers apart from other uses of the same seed


@dataclasses.dataclass(frozen=True)
class PosePool:
    """Poses without self-collision.

    Attributes:
        rotations: relative to the parent, in a frame with y up and the person facing +z. The root's
            rotation holds the body's lean, but no turn about the upright axis.
    """

    rotations: Float32[np.ndarray, "count 24 3 3"]


def draw_pose_pool(seed: int, count: int, everyday: float = 0.85) -> PosePool:
    """Draw poses of the mean body.

    Args:
        seed: start of the random numbers. A larger pool of a seed starts with the smaller one.
        count: number of poses.
        everyday: share of POOL_ACTIONS; the others are angles from the range of motion.

    Returns:
        The pool.
    """
    mesh = load_mesh("coarse")
    betas = np.zeros(NUM_BETAS)
    rest_joints, girth = mesh.rest_joints(betas), mesh.girth(betas)
    rotations = np.empty((count, NUM_JOINTS, 3, 3), np.float32)
    for start in range(0, count, _CHUNK):
        rng = np.random.default_rng([seed, _STREAM, start // _CHUNK])
        # The last chunk is drawn whole, so that its poses do not depend on `count`.
        drawn = sample_poses(rng, _CHUNK, everyday, rest_joints, girth, POOL_ACTIONS)
        rotations[start : start + _CHUNK] = drawn[: count - start]
    return PosePool(rotations)
