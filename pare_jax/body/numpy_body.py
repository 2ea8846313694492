"""The body model in NumPy, for data pipelines, which do not import JAX.

A single body is fast: arrays are transposed once, so that a mesh is two matrix products. Functions
take any leading batch axes and compute in the dtype of `betas`.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pare_jax.body.io import BodyData
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, PARENTS


class _Skin(NamedTuple):
    """A mesh with the vertices last, flattened for matrix products."""

    template: np.ndarray  # (3 V,)
    shape_basis: np.ndarray  # (10, 3 V)
    pose_basis: np.ndarray | None  # (207, 3 V)
    weights: np.ndarray  # (24, V)


@functools.lru_cache(maxsize=8)
def _skin(data: BodyData, dtype: np.dtype, coarse: bool) -> _Skin:
    prefix = "coarse_" if coarse else ""
    source = data.extras if coarse else vars(data)
    template, basis = source[f"{prefix}template"], source[f"{prefix}shape_basis"]
    poses = None
    if data.has_pose_basis and not coarse:
        poses = data.pose_basis.transpose(2, 1, 0).reshape(-1, template.size).astype(dtype)
    return _Skin(
        np.ascontiguousarray(template.T, dtype).reshape(-1),
        np.ascontiguousarray(basis.transpose(2, 1, 0), dtype).reshape(NUM_BETAS, -1),
        poses,
        np.ascontiguousarray(source[f"{prefix}weights"].T, dtype),
    )


@functools.lru_cache(maxsize=8)
def _joint_arrays(data: BodyData, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    basis = data.joint_basis.reshape(-1, NUM_BETAS).T
    return data.joint_template.reshape(-1).astype(dtype), np.ascontiguousarray(basis, dtype)


def rest_joints(
    data: BodyData, betas: Float[np.ndarray, "*batch 10"]
) -> Float[np.ndarray, "*batch 24 3"]:
    """Return the joints of a shape in the rest pose, metres."""
    joint_template, joint_basis = _joint_arrays(data, betas.dtype)
    return (joint_template + betas @ joint_basis).reshape(*betas.shape[:-1], NUM_JOINTS, 3)


def forward_kinematics(
    rest: Float[np.ndarray, "*batch 24 3"],
    rotations: Float[np.ndarray, "*batch 24 3 3"],
    parents: tuple[int, ...] = PARENTS,
) -> tuple[Float[np.ndarray, "*batch 24 3 3"], Float[np.ndarray, "*batch 24 3"]]:
    """Pose joints; the root stays where the rest pose has it.

    Args:
        rest: joints in the rest pose, metres.
        rotations: each joint's rotation relative to its parent, root first.
        parents: parent of each joint, -1 for the root.

    Returns:
        Global rotations and the joints in metres, in the frame that the root's rotation maps into.
    """
    turned = np.array(rotations, rest.dtype)
    for level, above in _tree_levels(parents):
        turned[..., level, :, :] = turned[..., above, :, :] @ turned[..., level, :, :]
    above = np.maximum(parents, 0)
    bones = _rotate(turned[..., above, :, :], rest - rest[..., above, :])
    chains = _chains(parents, np.dtype(rest.dtype))
    return turned, rest[..., :1, :] + chains @ bones  # one product: a single body is fast


@functools.cache
def _chains(parents: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return a matrix that sums the bones from the root to each joint."""
    chains = np.eye(len(parents), dtype=dtype)
    for joint, parent in enumerate(parents[1:], start=1):
        chains[joint] += chains[parent]
    return chains


@functools.cache
def _tree_levels(parents: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the joints at each distance from the root, with their parents."""
    depth = [0]
    for parent in parents[1:]:
        depth.append(depth[parent] + 1)
    levels = (np.flatnonzero(np.equal(depth, d)) for d in range(1, max(depth) + 1))
    return [(level, np.array(parents)[level]) for level in levels]


def _rotate(rotations: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (rotations @ vectors[..., None])[..., 0]


def joints_of(
    data: BodyData,
    betas: Float[np.ndarray, "*batch 10"],
    rotations: Float[np.ndarray, "*batch 24 3 3"],
) -> Float[np.ndarray, "*batch 24 3"]:
    """Pose the joints without the mesh.

    Args:
        data: the body.
        betas: shape coefficients.
        rotations: each joint's rotation relative to its parent, root first.

    Returns:
        Joints in metres, in the frame that the root's rotation maps into.
    """
    return forward_kinematics(rest_joints(data, betas), rotations, data.parents)[1]


def skin_transforms(
    data: BodyData,
    betas: Float[np.ndarray, "*batch 10"],
    rotations: Float[np.ndarray, "*batch 24 3 3"],
) -> tuple[Float[np.ndarray, "*batch 24 3 4"], Float[np.ndarray, "*batch 24 3"]]:
    """Pose the joints, and return each one's transform of the skin.

    Args:
        data: the body.
        betas: shape coefficients.
        rotations: each joint's rotation relative to its parent, root first.

    Returns:
        [R | t] that moves each joint's skin from the rest pose to this pose; the joints, metres.
    """
    rest = rest_joints(data, betas)
    turned, posed = forward_kinematics(rest, rotations, data.parents)
    shift = posed - _rotate(turned, rest)
    return np.concatenate([turned, shift[..., None]], -1), posed


def vertices_and_joints(
    data: BodyData,
    betas: Float[np.ndarray, "*batch 10"],
    rotations: Float[np.ndarray, "*batch 24 3 3"],
    coarse: bool = False,
) -> tuple[Float[np.ndarray, "*batch V 3"], Float[np.ndarray, "*batch 24 3"]]:
    """Pose the mesh and the joints (Loper et al., SMPL, 2015).

    Args:
        data: the body.
        betas: shape coefficients.
        rotations: each joint's rotation relative to its parent, root first.
        coarse: use the free body's coarse mesh (`extras["coarse_faces"]`); same joints.

    Returns:
        Vertices and joints in metres. The vertices are a transposed view of (3, V) memory.
    """
    transforms, posed = skin_transforms(data, betas, rotations)
    blended = blend_transforms(data, transforms, coarse)
    vertices = skin_points(blended, rest_vertices(data, betas, rotations, coarse))
    return np.swapaxes(vertices, -1, -2), posed


def rest_vertices(
    data: BodyData,
    betas: Float[np.ndarray, "*batch 10"],
    rotations: Float[np.ndarray, "*batch 24 3 3"],
    coarse: bool = False,
) -> Float[np.ndarray, "*batch 3 V"]:
    """Return the vertices before skinning: shaped, with the pose's correctives, metres."""
    skin = _skin(data, betas.dtype, coarse)
    shaped = skin.template + betas @ skin.shape_basis
    if skin.pose_basis is not None:
        relative = np.asarray(rotations, betas.dtype)[..., 1:, :, :] - np.eye(3, dtype=betas.dtype)
        shaped += relative.reshape(*betas.shape[:-1], -1) @ skin.pose_basis
    return shaped.reshape(*betas.shape[:-1], 3, -1)


def blend_transforms(
    data: BodyData, transforms: Float[np.ndarray, "*batch 24 3 4"], coarse: bool = False
) -> Float[np.ndarray, "*batch 3 4 V"]:
    """Return each vertex's mean of the joints' [R | t], weighted by its skinning weights."""
    columns = np.swapaxes(transforms.reshape(*transforms.shape[:-2], 12), -1, -2)
    blended = columns @ _skin(data, transforms.dtype, coarse).weights
    return blended.reshape(*transforms.shape[:-3], 3, 4, -1)


def skin_points(
    blended: Float[np.ndarray, "*batch 3 4 V"], points: Float[np.ndarray, "*batch 3 V"]
) -> Float[np.ndarray, "*batch 3 V"]:
    """Move points of the rest pose's skin by what `blend_transforms` returned."""
    return skin_directions(blended, points) + blended[..., 3, :]


def skin_directions(
    blended: Float[np.ndarray, "*batch 3 4 V"], directions: Float[np.ndarray, "*batch 3 V"]
) -> Float[np.ndarray, "*batch 3 V"]:
    """Turn directions at the rest pose's skin, such as normals, as `skin_points` moves points."""
    turned = blended[..., 0, :] * directions[..., None, 0, :]
    turned += blended[..., 1, :] * directions[..., None, 1, :]
    turned += blended[..., 2, :] * directions[..., None, 2, :]
    return turned
