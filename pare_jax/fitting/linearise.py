"""Body points with their analytic Jacobian in joint turns and shape coefficients.

A turn of a joint about an axis moves every point of its subtree by cross(axis, point - joint). So
the Jacobian is a few products of arrays that forward kinematics has anyway, and costs far less than
automatic differentiation. Inside, the batch is the last axis, as in body/model.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.keypoints.body_points import PointBody
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, PARENTS

_EXACT = jax.lax.Precision.HIGHEST


def _subtrees() -> np.ndarray:
    """Return a table: 1 where the column's joint is the row's joint or below it."""
    table = np.eye(NUM_JOINTS, dtype=np.float32)
    for joint in range(NUM_JOINTS - 1, 0, -1):
        table[PARENTS[joint]] += table[joint]
    return table


_SUBTREES = _subtrees()


class Linearised(NamedTuple):
    """Points of bodies, relative to the root joint, and what their derivatives are made of.

    Attributes:
        points: metres, relative to the root joint.
        root: the root joint before any translation, metres.
        levers: for each point and each unknown joint, the vector c with which a turn by d of the
            joint, in its own frame, moves the point by (axes @ d) x c.
        axes: global rotations of the unknown joints; columns are the axes of their turns.
        shapes: derivative of the points in the shape coefficients.
        root_shapes: derivative of the root in them.
    """

    points: Float[Array, "points 3 batch"]
    root: Float[Array, "3 batch"]
    levers: Float[Array, "points turns 3 batch"]
    axes: Float[Array, "turns 3 3 batch"]
    shapes: Float[Array, "points 3 10 batch"] | None
    root_shapes: Float[Array, "3 10"]


def linearise(
    body: PointBody,
    rotations: Float[Array, "batch 24 3 3"],
    betas: Float[Array, "batch 10"],
    joints: tuple[int, ...],
    with_shape: bool,
) -> Linearised:
    """Place body points and compute their derivatives.

    Args:
        body: the points' body.
        rotations: relative to the parents; the root's into the output's frame.
        betas: shape coefficients.
        joints: the joints that turn.
        with_shape: whether derivatives in the shape coefficients are computed.
    """
    skeleton = body.skeleton
    joint_basis = skeleton.joint_basis.reshape(NUM_BETAS, NUM_JOINTS, 3)
    shape = betas.T
    rest_joints = skeleton.joint_template[..., None] + _mix(joint_basis, shape)
    rest = body.template[..., None] + _mix(body.basis, shape)
    posed = skeleton.with_shape(betas).with_pose(rotations)
    turns = posed.global_rotations.transpose(1, 2, 3, 0)
    places = posed.joints.transpose(1, 2, 0)
    # Every point as each joint alone would move it, times its weight.
    offsets = rest[:, None] - rest_joints[None]
    moved = _turned(turns[None], offsets) + places[None]
    shares = body.weights[:, :, None, None] * moved
    below = jnp.einsum("kj,pjib->pkib", _SUBTREES[list(joints)], shares, precision=_EXACT)
    sums = jnp.einsum("kj,pj->pk", _SUBTREES[list(joints)], body.weights, precision=_EXACT)
    chosen = np.array(joints)
    levers = below - sums[:, :, None, None] * places[None, chosen]
    shapes = None
    if with_shape:
        shapes = _shape_derivative(body, turns, joint_basis)
    return Linearised(
        points=shares.sum(1) - places[:1],
        root=places[0],
        levers=levers,
        axes=turns[chosen],
        shapes=shapes,
        root_shapes=joint_basis[:, 0].T,
    )


def _mix(basis: Array, shape: Array) -> Array:
    return jnp.einsum("kpi,kb->pib", basis, shape, precision=_EXACT)


def _turned(turns: Array, vectors: Array) -> Array:
    """Turn vectors (..., 3, batch) by rotations (..., 3, 3, batch)."""
    parts = [turns[..., :, k, :] * vectors[..., k, None, :] for k in range(3)]
    return parts[0] + parts[1] + parts[2]


def _shape_derivative(body: PointBody, turns: Array, joint_basis: Array) -> Array:
    """Return the derivative (points, 3, 10, batch) of the points relative to the root."""
    parents = np.array([0, *PARENTS[1:]])
    moves = joint_basis.transpose(1, 2, 0)
    bones = moves - moves[parents]
    by_bone = jnp.einsum("jilb,jlk->jikb", turns[parents], bones, precision=_EXACT)
    of_joints = jnp.einsum("aj,aikb->jikb", _SUBTREES[1:], by_bone[1:], precision=_EXACT)
    own = jnp.einsum("jilb,jlk->jikb", turns, moves, precision=_EXACT)
    blended = jnp.einsum("pj,jilb->pilb", body.weights, turns, precision=_EXACT)
    points = jnp.einsum("pilb,kpl->pikb", blended, body.basis, precision=_EXACT)
    return points + jnp.einsum("pj,jikb->pikb", body.weights, of_joints - own, precision=_EXACT)
