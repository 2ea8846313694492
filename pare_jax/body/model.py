"""The body model in JAX, in stages: load -> with_shape -> with_pose -> mesh.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model", 2015. Each stage is a frozen dataclass:
to get joints without a mesh, stop earlier. Every function is differentiable in every argument,
also at the identity pose, and takes any leading batch axes.

Inside, the vertices are the last axis. Every product is then a plain matrix product with long
rows, which is fast on CPUs, GPUs and TPUs.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pare_jax.body.io import NUM_POSE_FEATURES, BodyData, load_body_data
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# GPUs and TPUs by default multiply float32 with fewer bits, too few for millimetres.
_dot = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
# A CPU skins at most so many vertices of a batch at once; of more, it skins chunks of so many.
_CACHED_VERTICES, _CHUNK_VERTICES = 256 * 6890, 64 * 6890


class BodyOutput(NamedTuple):
    """A posed body, metres."""

    vertices: Float[Array, "*batch V 3"]
    joints: Float[Array, "*batch 24 3"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("template", "blend_basis", "skin", "joint_template", "joint_basis", "faces"),
    meta_fields=("parents", "head_top", "name"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class BodyModel:
    """A body model; a pytree to pass to jitted functions as an argument, as parameters are.

    Attributes:
        template: mean shape, vertices last.
        blend_basis: for x, y and z, the displacement of the vertices for each of the 10 shape
            coefficients and, with pose correctives, for each of the 207 numbers of vec(R[1:] - I).
        skin: skinning weights, transposed.
        joint_template: joints of the mean shape.
        joint_basis: displacement of the joints for each shape coefficient.
        faces: triangles, counter-clockwise seen from outside.
        parents: parent of each joint, -1 for the root.
        head_top: the vertex at the top of the head.
        name: the file's name.
    """

    template: Float[Array, "3 V"]
    blend_basis: tuple[Float[Array, "coefficients V"], ...]
    skin: Float[Array, "24 V"]
    joint_template: Float[Array, "24 3"]
    joint_basis: Float[Array, "10 72"]
    faces: Int[Array, "F 3"]
    parents: tuple[int, ...]
    head_top: int
    name: str

    @property
    def weights(self) -> Float[Array, "V 24"]:
        """Skinning weights, one row a vertex."""
        return self.skin.T

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return self.template.shape[-1]

    def with_shape(self, betas: Float[Array, "*batch 10"]) -> "ShapedBody":
        """Return the shaped body; nothing is computed for the mesh.

        Args:
            betas: shape coefficients.
        """
        betas = jnp.asarray(betas, jnp.float32)
        if betas.shape[-1:] != (NUM_BETAS,):
            raise ValueError(f"betas must be (..., {NUM_BETAS}), got {betas.shape}")
        moved = _dot(betas, self.joint_basis).reshape(*betas.shape[:-1], NUM_JOINTS, 3)
        return ShapedBody(self, betas, self.joint_template + moved)

    def __call__(
        self,
        betas: Float[Array, "*batch 10"],
        rotations: Float[Array, "*batch 24 3 3"],
        translation: Float[Array, "*batch 3"] | None = None,
    ) -> BodyOutput:
        """Shape, pose and skin the body.

        Args:
            betas: shape coefficients.
            rotations: each joint's rotation relative to its parent, root first. The root's is from
                the body's frame into the output's, for instance the camera's.
            translation: added to vertices and joints, metres.

        Returns:
            Vertices and joints in the output's frame.
        """
        return BodyOutput(*_pose_body(self, betas, rotations, translation, with_mesh=True))

    def joints(
        self,
        betas: Float[Array, "*batch 10"],
        rotations: Float[Array, "*batch 24 3 3"],
        translation: Float[Array, "*batch 3"] | None = None,
    ) -> Float[Array, "*batch 24 3"]:
        """Shape and pose the joints without the mesh; arguments as of `__call__`."""
        return _pose_body(self, betas, rotations, translation, with_mesh=False)[0]

    def points(
        self,
        indices: Sequence[int],
        betas: Float[Array, "*batch 10"],
        rotations: Float[Array, "*batch 24 3 3"],
        translation: Float[Array, "*batch 3"] | None = None,
    ) -> Float[Array, "*batch points 3"]:
        """Shape, pose and skin some vertices; the others cost nothing.

        Args:
            indices: of the vertices.
            betas: as of `__call__`.
            rotations: as of `__call__`.
            translation: as of `__call__`.

        Returns:
            These vertices of the mesh that `__call__` returns.
        """
        return self.only(indices)(betas, rotations, translation).vertices

    def only(self, indices: Sequence[int]) -> "BodyModel":
        """Return the body with these vertices only; with [], joints alone."""
        chosen = np.array(indices, int)
        return dataclasses.replace(
            self,
            template=self.template[:, chosen],
            blend_basis=tuple(basis[:, chosen] for basis in self.blend_basis),
            skin=self.skin[:, chosen],
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("body", "betas", "rest_joints"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, eq=False)
class ShapedBody:
    """A body of one shape in the rest pose.

    Attributes:
        body: the model.
        betas: shape coefficients.
        rest_joints: joints in the rest pose, metres.
    """

    body: BodyModel
    betas: Float[Array, "*batch 10"]
    rest_joints: Float[Array, "*batch 24 3"]

    def with_pose(self, rotations: Float[Array, "*batch 24 3 3"]) -> "PosedBody":
        """Pose the skeleton by forward kinematics.

        Args:
            rotations: each joint's rotation relative to its parent, root first. Its batch axes
                broadcast against the shape's.
        """
        rotations = jnp.asarray(rotations, jnp.float32)
        if rotations.shape[-3:] != (NUM_JOINTS, 3, 3):
            raise ValueError(f"rotations must be (..., {NUM_JOINTS}, 3, 3), got {rotations.shape}")
        batch = jnp.broadcast_shapes(rotations.shape[:-3], self.betas.shape[:-1])
        rotations = jnp.broadcast_to(rotations, (*batch, NUM_JOINTS, 3, 3))
        rest = jnp.broadcast_to(self.rest_joints, (*batch, NUM_JOINTS, 3))
        turned, joints = _forward_kinematics(self.body.parents, rotations, rest)
        return PosedBody(self, rotations, turned, joints)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("shaped", "rotations", "global_rotations", "joints"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True, eq=False)
class PosedBody:
    """A body of one shape in one pose, without its mesh.

    Attributes:
        shaped: the body in the rest pose.
        rotations: each joint's rotation relative to its parent.
        global_rotations: each joint's rotation into the output's frame.
        joints: joints in the output's frame, metres.
    """

    shaped: ShapedBody
    rotations: Float[Array, "*batch 24 3 3"]
    global_rotations: Float[Array, "*batch 24 3 3"]
    joints: Float[Array, "*batch 24 3"]

    @property
    def transforms(self) -> Float[Array, "*batch 24 3 4"]:
        """[R | t] that moves each joint's skin from the rest pose to this pose."""
        moved = _rotate(self.global_rotations, self.shaped.rest_joints)
        return jnp.concatenate([self.global_rotations, (self.joints - moved)[..., None]], -1)

    def points(self, indices: Sequence[int]) -> Float[Array, "*batch points 3"]:
        """Skin some vertices: those of `mesh` with these indices."""
        return self._skinned(self.shaped.body.only(indices))

    def mesh(self) -> Float[Array, "*batch V 3"]:
        """Skin the body; returns the vertices in the output's frame, metres."""
        return self._skinned(self.shaped.body)

    def _skinned(self, body: BodyModel) -> Float[Array, "*batch V 3"]:
        batch = self.rotations.shape[:-3]
        coefficients = jnp.broadcast_to(self.shaped.betas, (*batch, NUM_BETAS))
        if body.blend_basis[0].shape[0] > NUM_BETAS:
            features = self.rotations[..., 1:, :, :] - jnp.eye(3)
            features = features.reshape(*batch, NUM_POSE_FEATURES)
            coefficients = jnp.concatenate([coefficients, features], -1)
        # The batch axes become one. Its length is explicit because -1 fails for an empty batch.
        rows = math.prod(batch)
        coefficients = coefficients.reshape(rows, coefficients.shape[-1])
        transforms = self.transforms.reshape(rows, NUM_JOINTS, 3, 4)
        skin = _skin
        # `rows` is no int where a program is exported for any batch. Rows on several devices stay
        # there: chunks would gather them.
        is_known = isinstance(rows, int) and jax.device_count() == 1
        if is_known and rows * body.num_vertices > _CACHED_VERTICES:
            skin = functools.partial(jax.lax.platform_dependent, cpu=_skin_in_chunks, default=_skin)
        vertices = skin(body, coefficients, transforms)
        return vertices.reshape(*batch, body.num_vertices, 3)


def _skin(
    body: BodyModel, coefficients: Float[Array, "rows C"], transforms: Float[Array, "rows 24 3 4"]
) -> Float[Array, "rows V 3"]:
    """Skin a body for rows of its coefficients and of its joints' transforms."""
    rows = coefficients.shape[0]
    by_column = transforms.transpose(3, 0, 2, 1)
    # One product for each coordinate and each column of the blended transforms. With slices of
    # one large product the gradient would pad and add large arrays.
    posed = [
        template + _dot(coefficients, basis)
        for template, basis in zip(body.template, body.blend_basis, strict=True)
    ]
    columns = [_dot(part.reshape(3 * rows, NUM_JOINTS), body.skin) for part in by_column]
    columns = [column.reshape(rows, 3, body.num_vertices) for column in columns]
    moved = sum((columns[k] * posed[k][:, None] for k in range(3)), start=columns[3])
    return moved.swapaxes(1, 2)


def _skin_in_chunks(body: BodyModel, coefficients: Array, transforms: Array) -> Array:
    """Do as `_skin`, a part of the rows at a time: it stays in a CPU's cache.

    The gradient computes each part again instead of storing it, which is as fast here and takes
    half the memory.
    """

    chunk = max(_CHUNK_VERTICES // body.num_vertices, 1)
    whole = len(coefficients) // chunk * chunk
    of_rows = coefficients, transforms
    # Not `jax.lax.map(batch_size=)`: the gradient of its vmap is ten times as slow.
    chunks = jax.tree.map(lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), of_rows)
    skin = jax.checkpoint(functools.partial(_skin, body))
    vertices = jax.lax.map(lambda rows: skin(*rows), chunks).reshape(whole, -1, 3)
    if whole == len(coefficients):
        return vertices
    return jnp.concatenate([vertices, skin(*(x[whole:] for x in of_rows))])


# Jitted so that a call outside of jitted functions is one program too.
@functools.partial(jax.jit, static_argnames="with_mesh", inline=True)
def _pose_body(body, betas, rotations, translation, with_mesh: bool) -> tuple[Array, ...]:
    """Return (vertices, joints), or (joints,) without the mesh."""
    posed = body.with_shape(betas).with_pose(rotations)
    points = (posed.mesh(), posed.joints) if with_mesh else (posed.joints,)
    if translation is None:
        return points
    offset = jnp.asarray(translation, jnp.float32)[..., None, :]
    return tuple(p + offset for p in points)


def _rotate(
    rotations: Float[Array, "*batch 3 3"], vectors: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 3"]:
    return (rotations * vectors[..., None, :]).sum(-1)


def _compose(
    first: Float[Array, "joints 3 4 batch"], second: Float[Array, "joints 3 4 batch"]
) -> Float[Array, "joints 3 4 batch"]:
    """Return the rigid transforms that apply `second`, then `first`."""
    # Not a matrix product: compilers turn many small ones into slow library calls.
    product = sum(first[:, :, k, None] * second[:, None, k] for k in range(3))
    return product + first * jnp.array([0.0, 0, 0, 1])[:, None]


def _forward_kinematics(
    parents: tuple[int, ...],
    rotations: Float[Array, "*batch 24 3 3"],
    rest: Float[Array, "*batch 24 3"],
) -> tuple[Float[Array, "*batch 24 3 3"], Float[Array, "*batch 24 3"]]:
    """Return global rotations and positions.

    Pointer jumping: in each round every joint's transform is composed with that of the nearest
    ancestor it does not include yet. SMPL's nine levels then take four rounds. The batch is the
    last axis, so that indexing ancestors copies long rows.
    """
    batch, rows = rest.shape[:-2], math.prod(rest.shape[:-2])
    turns = rotations.reshape(rows, NUM_JOINTS, 3, 3).transpose(1, 2, 3, 0)
    places = rest.reshape(rows, NUM_JOINTS, 3).transpose(1, 2, 0)
    ancestors = np.array(parents)
    bones = jnp.concatenate([places[:1], places[1:] - places[ancestors[1:]]])
    transforms = jnp.concatenate([turns, bones[:, :, None]], axis=2)
    while (ancestors >= 0).any():
        # SMPL orders joints by depth: those without further ancestors come first.
        done = int((ancestors < 0).sum())
        joined = _compose(transforms[ancestors[done:]], transforms[done:])
        transforms = jnp.concatenate([transforms[:done], joined])
        ancestors = np.where(ancestors >= 0, ancestors[ancestors], -1)
    transforms = transforms.transpose(3, 0, 1, 2).reshape(*batch, NUM_JOINTS, 3, 4)
    return transforms[..., :3], transforms[..., 3]


def body_from_data(data: BodyData) -> BodyModel:
    """Return a body's arrays as a `BodyModel`."""
    basis = [data.shape_basis.transpose(1, 2, 0)]
    if data.has_pose_basis:
        assert data.pose_basis.shape[-1] == NUM_POSE_FEATURES
        basis.append(data.pose_basis.transpose(1, 2, 0))
    return BodyModel(
        template=jnp.asarray(data.template.T),
        blend_basis=tuple(jnp.asarray(rows) for rows in np.concatenate(basis, axis=1)),
        skin=jnp.asarray(data.weights.T),
        joint_template=jnp.asarray(data.joint_template, jnp.float32),
        joint_basis=jnp.asarray(data.joint_basis.reshape(-1, NUM_BETAS).T, jnp.float32),
        faces=jnp.asarray(data.faces),
        parents=data.parents,
        head_top=data.head_top,
        name=data.name,
    )


def load_body_model(path: str | Path | None = None) -> BodyModel:
    """Load a body model.

    Args:
        path: a `.npz` or `.pkl` file in SMPL's format; by default the free body of this package.

    Raises:
        UserError: the file is missing, broken or not a body.
    """
    return body_from_data(load_body_data(path))
