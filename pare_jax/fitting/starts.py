"""Starts of a fit: dictionary poses whose points look most like the keypoints.

Each pose is seen from all around. A similarity in the picture aligns it with the keypoints, so its
crop camera and its roll come with it.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.fitting.energy import Pose, Problem
from pare_jax.geometry import axis_angle_to_matrix
from pare_jax.skeleton import NUM_BETAS, joint_index

TURNS = 24
# Candidates kept for each turn.
_PER_TURN = 4
# Standard deviations: of a keypoint about the nearest pose of the dictionary, crop units; of roll.
_MATCH_SIGMA, _ROLL_SIGMA = 0.1, 0.5
# Starts nearer to each other, metres a joint, count as the same.
_SAME = 0.15
_COMPARED = tuple(
    joint_index(f"{side}_{name}")
    for side in ("left", "right")
    for name in ("elbow", "wrist", "knee", "ankle", "shoulder")
)
# From y up and facing +z to the camera frame.
_FLIP = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
_EXACT = jax.lax.Precision.HIGHEST


@functools.partial(jax.jit, static_argnames="count")
def find_starts(problem: Problem, count: int) -> Pose:
    """Return the best starts of each person, (batch, count, ...), best first.

    Args:
        problem: what is fitted to.
        count: number of starts.
    """
    poses = problem.prior.poses
    placed, joints = problem.body.place(poses, jnp.zeros((len(poses), NUM_BETAS)))
    angles = jnp.arange(TURNS) * (2 * math.pi / TURNS)
    score = functools.partial(_best_of_turn, problem.points, problem.shares, placed)
    found = jax.lax.map(score, angles)
    # (turns, batch, kept) -> (batch, turns * kept)
    cost, pose, scale, roll, shift = (
        x.swapaxes(0, 1).reshape(len(problem.points), -1, *x.shape[3:]) for x in found
    )
    angle = jnp.broadcast_to(jnp.repeat(angles, _PER_TURN), cost.shape)
    views = _views(angle, roll)
    compared = joints[:, np.array(_COMPARED)] - joints[:, :1]
    limbs = jnp.einsum("bcij,bckj->bcki", views, compared[pose])
    chosen = _diverse(cost, limbs, count)
    pose, views, scale, shift = (
        jnp.take_along_axis(x, chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2)), 1)
        for x in (pose, views, scale, shift)
    )
    rotations = poses[pose]
    root = jnp.matmul(views, rotations[:, :, 0], precision=_EXACT)
    camera = jnp.concatenate([scale[..., None], shift / scale[..., None]], -1)
    betas = jnp.zeros((*pose.shape, NUM_BETAS))
    return Pose(rotations.at[:, :, 0].set(root), betas, camera)


def _best_of_turn(points: Array, shares: Array, placed: Array, angle: Array):
    """Align all poses, turned by an angle, with each person's keypoints; return the best."""
    # Complex numbers would be slow in products.
    dx = jnp.cos(angle) * placed[..., 0] + jnp.sin(angle) * placed[..., 2]
    dy = -placed[..., 1]
    total = shares.sum(-1, keepdims=True) + 1e-9
    x, y = points[..., 0], points[..., 1]
    mean_x = (shares * x).sum(-1, keepdims=True) / total
    mean_y = (shares * y).sum(-1, keepdims=True) / total
    x, y = x - mean_x, y - mean_y
    spread = (shares * (x * x + y * y)).sum(-1, keepdims=True)
    own_x, own_y = shares @ dx.T / total, shares @ dy.T / total
    own = shares @ (dx * dx + dy * dy).T - total * (own_x**2 + own_y**2)
    own = jnp.maximum(own, 1e-6)
    real = (shares * x) @ dx.T + (shares * y) @ dy.T
    imaginary = (shares * y) @ dx.T - (shares * x) @ dy.T
    size = jnp.sqrt(real**2 + imaginary**2) + 1e-9
    cost = 0.5 * (spread - size**2 / own) / _MATCH_SIGMA**2
    cost += (1 - real / size) / _ROLL_SIGMA**2
    lowest, pose = jax.lax.top_k(-cost, _PER_TURN)
    take = functools.partial(jnp.take_along_axis, indices=pose, axis=1)
    real, imaginary, size, own = take(real), take(imaginary), take(size), take(own)
    cosine, sine, scale = real / size, imaginary / size, size / own
    own_x, own_y = take(own_x), take(own_y)
    shift_x = mean_x - scale * (cosine * own_x - sine * own_y)
    shift_y = mean_y - scale * (sine * own_x + cosine * own_y)
    shift = jnp.stack([shift_x, shift_y], -1)
    return -lowest, pose, scale, jnp.arctan2(sine, cosine), shift


def _views(turn: Array, roll: Array) -> Float[Array, "*batch 3 3"]:
    """Return rotations from the dictionary's frame into the camera's."""
    zero = jnp.zeros_like(turn)
    about_y = axis_angle_to_matrix(jnp.stack([zero, turn, zero], -1))
    about_z = axis_angle_to_matrix(jnp.stack([zero, zero, roll], -1))
    return jnp.matmul(about_z, jnp.matmul(_FLIP, about_y, precision=_EXACT), precision=_EXACT)


def _diverse(cost: Array, limbs: Array, count: int) -> Array:
    """Choose the cheapest candidates that differ from those chosen before."""
    chosen = []
    for _ in range(count):
        best = jnp.argmin(cost, -1)
        chosen.append(best)
        centre = jnp.take_along_axis(limbs, best[:, None, None, None], 1)
        apart = jnp.sqrt(((limbs - centre) ** 2).sum(-1)).mean(-1)
        cost = jnp.where(apart < _SAME, cost + 1e6, cost)
    return jnp.stack(chosen, 1)
