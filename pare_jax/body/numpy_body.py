"""The body model in NumPy, for data pipelines, which do not import JAX.

A single body is fast: arrays are transposed once, so that a mesh is two matrix products. Functions
take any leading batch axes and compute in the dtype of `betas`.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pare_jax.body.io import BodyData
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS


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


def _kinematics(data: BodyData, betas, rotations):
    """Return the T-pose's joints, posed joints and global rotations."""
    joint_template, joint_basis = _joint_arrays(data, betas.dtype)
    rest = (joint_template + betas @ joint_basis).reshape(*betas.shape[:-1], NUM_JOINTS, 3)
    posed = np.array(rest)
    turned = np.array(rotations, betas.dtype)
    for joint, parent in enumerate(data.parents[1:], start=1):
        bone = rest[..., joint, :] - rest[..., parent, :]
        posed[..., joint, :] = posed[..., parent, :] + _rotate(turned[..., parent, :, :], bone)
        turned[..., joint, :, :] = turned[..., parent, :, :] @ turned[..., joint, :, :]
    return rest, posed, turned


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
    return _kinematics(data, betas, rotations)[1]


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
        [R | t] that moves each joint's skin from the T-pose to this pose, and the joints, metres.
    """
    rest, posed, turned = _kinematics(data, betas, rotations)
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
    skin = _skin(data, betas.dtype, coarse)
    transforms, posed = skin_transforms(data, betas, rotations)
    batch = betas.shape[:-1]
    shaped = skin.template + betas @ skin.shape_basis
    if skin.pose_basis is not None:
        relative = np.asarray(rotations, betas.dtype)[..., 1:, :, :] - np.eye(3, dtype=betas.dtype)
        shaped = shaped + relative.reshape(*batch, -1) @ skin.pose_basis
    shaped = shaped.reshape(*batch, 1, 3, -1)
    blended = np.swapaxes(transforms.reshape(*batch, NUM_JOINTS, 12), -1, -2) @ skin.weights
    blended = blended.reshape(*batch, 3, 4, -1)
    vertices = (blended[..., :3, :] * shaped).sum(-2) + blended[..., 3, :]
    return np.swapaxes(vertices, -1, -2), posed
