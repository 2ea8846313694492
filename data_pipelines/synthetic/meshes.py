"""The free body's meshes, made ready for drawing: shaped, posed and coloured without JAX."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pare_jax.body.io import load_body_data
from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.rasterizer import face_labels
from pare_jax.skeleton import NUM_JOINTS, PARENTS, joint_index

_MARGIN = 0.025  # metres a joint may lie deeper than its radius and still count as seen


@dataclasses.dataclass(frozen=True)
class PosedMesh:
    """A person's surface in the camera frame.

    Attributes:
        vertices: metres, camera frame; its columns are contiguous.
        normals: unit length up to the skinning's blend; its columns are contiguous.
        joints: metres, camera frame.
        turns: global rotation of each joint's part.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    normals: Float[np.ndarray, "vertices 3"]
    joints: Float[np.ndarray, "24 3"]
    turns: Float[np.ndarray, "24 3 3"]


@dataclasses.dataclass(frozen=True)
class BodyMesh:
    """A mesh of the free body with what a painter wants to know of each vertex and face.

    Attributes:
        template: mean shape in the T-pose, metres.
        shape_basis: how the shape coefficients move it: x of all vertices, then y, then z.
        normals: of the template, a column a vertex.
        weights: skinning weights, a column a vertex.
        faces: vertex numbers.
        part_of_face: the joint each face moves with.
        region_of_face: index into `regions`.
        region_of_vertex: index into `regions`.
        regions: names of the surface's regions.
        joint_template: mean joints.
        joint_basis: how the shape coefficients move the joints.
        radii: how far the surface may lie before a joint that is seen, metres.
        eyes: centres of the left and right eye on the template.
        girth_basis: how the shape coefficients widen the trunk, as a share of its width.
    """

    template: Float[np.ndarray, "vertices 3"]
    shape_basis: Float[np.ndarray, "3vertices 10"]
    normals: Float[np.ndarray, "3 vertices"]
    weights: Float[np.ndarray, "24 vertices"]
    faces: Int[np.ndarray, "faces 3"]
    part_of_face: UInt8[np.ndarray, " faces"]
    region_of_face: UInt8[np.ndarray, " faces"]
    region_of_vertex: UInt8[np.ndarray, " vertices"]
    regions: tuple[str, ...]
    joint_template: Float[np.ndarray, "24 3"]
    joint_basis: Float[np.ndarray, "72 10"]
    radii: Float[np.ndarray, "24"]
    eyes: Float[np.ndarray, "2 3"]
    girth_basis: Float[np.ndarray, "10"]

    def rest_joints(self, betas: Float[np.ndarray, "10"]) -> Float[np.ndarray, "24 3"]:
        """Return the joints of a shape in the T-pose."""
        return self.joint_template + (self.joint_basis @ betas).reshape(NUM_JOINTS, 3)

    def girth(self, betas: Float[np.ndarray, "10"]) -> float:
        """Return how wide the trunk of a shape is, over the mean body's trunk."""
        return float(1.0 + self.girth_basis @ betas)

    def among(self, names: Sequence[str]) -> Bool[np.ndarray, " regions"]:
        """Return for every region whether it is one of `names`; index it with region numbers."""
        return np.array([region in names for region in self.regions])

    def pose(
        self,
        betas: Float[np.ndarray, "10"],
        rotations: Float[np.ndarray, "24 3 3"],
        translation: Float[np.ndarray, "3"],
        thickness: Float[np.ndarray, " vertices"],
    ) -> PosedMesh:
        """Shape, dress and pose the body by linear blend skinning.

        Args:
            betas: shape coefficients.
            rotations: relative to the parent, the root's into the camera frame.
            translation: where the pelvis goes, metres in the camera frame.
            thickness: how far clothes and hair stand off the skin, metres.

        Returns:
            The surface and the joints.
        """
        shaped = (self.shape_basis @ betas.astype(np.float32)).reshape(3, -1)
        shaped += self.template.T
        shaped += thickness * self.normals
        rest = self.rest_joints(betas)
        turns, joints = forward_kinematics(rest, rotations)
        joints += translation - joints[0]
        transforms = np.empty((4, 3, NUM_JOINTS), np.float32)  # columns of the 3x4 matrices
        transforms[:3] = turns.transpose(2, 1, 0)
        transforms[3] = (joints - np.einsum("jab,jb->ja", turns, rest)).T
        blended = (transforms.reshape(12, NUM_JOINTS) @ self.weights).reshape(4, 3, -1)
        return PosedMesh(
            vertices=(_turn(blended, shaped) + blended[3]).T,
            normals=_turn(blended, self.normals).T,
            joints=joints,
            turns=turns,
        )


def forward_kinematics(
    rest_joints: Float[np.ndarray, "24 3"], rotations: Float[np.ndarray, "24 3 3"]
) -> tuple[Float[np.ndarray, "24 3 3"], Float[np.ndarray, "24 3"]]:
    """Return the global rotations and the joints, with the root where the rest pose has it.

    Args:
        rest_joints: joints in the T-pose.
        rotations: relative to the parent.

    Returns:
        Rotations into the root's frame's surroundings, and joint positions there.
    """
    turns = np.array(rotations, np.float64)
    joints = rest_joints - rest_joints[_PARENTS]
    joints[0] = rest_joints[0]
    for level, parents in _LEVELS:
        joints[level] = joints[parents] + np.einsum("jab,jb->ja", turns[parents], joints[level])
        turns[level] = turns[parents] @ turns[level]
    return turns, joints


def _tree_levels() -> list[tuple[np.ndarray, np.ndarray]]:
    """Joints at the same distance from the root, and their parents."""
    depth = [0]
    for parent in PARENTS[1:]:
        depth.append(depth[parent] + 1)
    levels = (np.flatnonzero(np.equal(depth, d)) for d in range(1, max(depth) + 1))
    return [(level, np.array(PARENTS)[level]) for level in levels]


_LEVELS = _tree_levels()
_PARENTS = np.maximum(PARENTS, 0)


@functools.cache
def load_mesh(kind: str) -> BodyMesh:
    """Load the free body's "full" or "coarse" mesh; the same object at every call."""
    data = load_body_data()
    extras = data.extras
    prefix = "" if kind == "full" else "coarse_"
    template = data.template if kind == "full" else extras["coarse_template"]
    shape_basis = data.shape_basis if kind == "full" else extras["coarse_shape_basis"]
    weights = data.weights if kind == "full" else extras["coarse_weights"]
    faces = np.ascontiguousarray(data.faces if kind == "full" else extras["coarse_faces"])
    template = np.ascontiguousarray(template, dtype=np.float32)
    regions = tuple(str(name) for name in extras["region_names"])
    region = np.asarray(extras[f"{prefix}region_of_vertex"])
    full_region = np.asarray(extras["region_of_vertex"])
    is_eye = full_region == regions.index("eyes")
    eyes = np.stack(
        [data.template[is_eye & (s * data.template[:, 0] > 0)].mean(0) for s in (1, -1)]
    )
    return BodyMesh(
        template=template,
        shape_basis=np.ascontiguousarray(shape_basis.transpose(1, 0, 2), np.float32).reshape(
            -1, 10
        ),
        normals=np.ascontiguousarray(vertex_normals(template, faces).T, dtype=np.float32),
        weights=np.ascontiguousarray(weights.T, dtype=np.float32),
        faces=faces.astype(np.int32),
        part_of_face=face_labels(np.asarray(extras[f"{prefix}part_of_vertex"]), faces),
        region_of_face=face_labels(region, faces),
        region_of_vertex=region,
        regions=regions,
        joint_template=data.joint_template,
        joint_basis=data.joint_basis.reshape(-1, 10),
        radii=_radii(data.template, data.weights.argmax(1), data.joint_template),
        eyes=eyes.astype(np.float32),
        girth_basis=_girth_basis(data.template, data.shape_basis, data.weights.argmax(1)),
    )


def _turn(blended: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Multiply each column of `points` by its own 3x3 matrix, whose columns `blended` holds."""
    result = blended[0] * points[0]
    result += blended[1] * points[1]
    result += blended[2] * points[2]
    return result


def _girth_basis(template: np.ndarray, basis: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Relative growth of the trunk's mean distance from its axis with each coefficient."""
    trunk = np.isin(part, [joint_index(name) for name in ("pelvis", "spine1", "spine2")])
    middle = np.array([0.0, 0.0, template[trunk, 2].mean()])
    outward = (template[trunk] - middle) * [1, 0, 1]
    distance = np.linalg.norm(outward, axis=1)
    growth = np.einsum("vi,vik->vk", outward / distance[:, None], basis[trunk].astype(np.float64))
    return growth.mean(0) / distance.mean()


def _radii(vertices: np.ndarray, part: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """How deep each joint lies: the surface's largest distance across the limb, plus a margin.

    Looks at the vertices of the joint's own part and its parent's, on the joint's own side of the
    body, in a slice through the joint perpendicular to the limb: to x for arms in the T-pose, to z
    for toes, to y elsewhere.
    """
    radii = np.empty(NUM_JOINTS)
    for joint, parent in enumerate(PARENTS):
        offset = vertices - joints[joint]
        toe = joint in (joint_index("left_foot"), joint_index("right_foot"))
        along = 0 if joint >= joint_index("left_shoulder") else 2 if toe else 1
        near = (np.abs(offset[:, along]) < 0.02) & np.isin(part, (joint, max(parent, 0)))
        if abs(joints[joint, 0]) > 0.03:
            near &= vertices[:, 0] * joints[joint, 0] > 0
        across = np.delete(offset, along, axis=1)[near]
        radii[joint] = np.linalg.norm(across, axis=1).max() + _MARGIN
    return radii
