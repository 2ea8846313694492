"""The free body's meshes, made ready for drawing: shaped, posed and coloured without JAX."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int, UInt8

from pare_jax.body.io import load_body_data
from pare_jax.rendering.rasterizer import vertex_normals
from pare_jax.skeleton import NUM_JOINTS, PARENTS, joint_index

_MARGIN = 0.025  # metres a joint may lie deeper than its radius and still count as seen


@dataclasses.dataclass(frozen=True)
class PosedMesh:
    """A person's surface in the camera frame.

    Attributes:
        vertices: metres, camera frame.
        normals: unit length up to the skinning's blend.
        joints: metres, camera frame.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    normals: Float[np.ndarray, "vertices 3"]
    joints: Float[np.ndarray, "24 3"]


@dataclasses.dataclass(frozen=True)
class BodyMesh:
    """A mesh of the free body with what a painter wants to know of each vertex and face.

    Attributes:
        template: mean shape in the T-pose, metres.
        shape_basis: how the shape coefficients move it, a column a coefficient.
        normals: of the template.
        weights: skinning weights.
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
    shape_basis: Float[np.ndarray, "vertices3 10"]
    normals: Float[np.ndarray, "vertices 3"]
    weights: Float[np.ndarray, "vertices 24"]
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
        shaped = (self.shape_basis @ betas.astype(np.float32)).reshape(-1, 3)
        shaped += self.template
        shaped += thickness[:, None] * self.normals
        rest = self.rest_joints(betas)
        turns, joints = forward_kinematics(rest, rotations)
        joints += translation - joints[0]
        transforms = np.empty((NUM_JOINTS, 12), np.float32)
        transforms[:, :9] = turns.reshape(NUM_JOINTS, 9)
        transforms[:, 9:] = joints - np.einsum("jab,jb->ja", turns, rest)
        blended = self.weights @ transforms
        return PosedMesh(
            vertices=_apply(blended, shaped) + blended[:, 9:],
            normals=_apply(blended, self.normals),
            joints=joints,
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
    turns = np.empty((NUM_JOINTS, 3, 3))
    joints = np.empty((NUM_JOINTS, 3))
    turns[0], joints[0] = rotations[0], rest_joints[0]
    for joint in range(1, NUM_JOINTS):
        parent = PARENTS[joint]
        turns[joint] = turns[parent] @ rotations[joint]
        bone = rest_joints[joint] - rest_joints[parent]
        joints[joint] = joints[parent] + turns[parent] @ bone
    return turns, joints


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
        shape_basis=np.ascontiguousarray(shape_basis, dtype=np.float32).reshape(-1, 10),
        normals=vertex_normals(template, faces).astype(np.float32),
        weights=np.ascontiguousarray(weights, dtype=np.float32),
        faces=faces.astype(np.int32),
        part_of_face=_majority(np.asarray(extras[f"{prefix}part_of_vertex"]), faces),
        region_of_face=_majority(region, faces),
        region_of_vertex=region,
        regions=regions,
        joint_template=data.joint_template,
        joint_basis=data.joint_basis.reshape(-1, 10),
        radii=_radii(data.template, data.weights.argmax(1), data.joint_template),
        eyes=eyes.astype(np.float32),
        girth_basis=_girth_basis(data.template, data.shape_basis, data.weights.argmax(1)),
    )


def _apply(blended: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Multiply each point by the 3x3 matrix in its row of `blended`."""
    result = blended[:, 0:9:3] * points[:, :1]
    result += blended[:, 1:9:3] * points[:, 1:2]
    result += blended[:, 2:9:3] * points[:, 2:]
    return result


def _majority(label: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The label most of a face's corners have, the first corner's when all differ."""
    a, b, c = label[faces].T
    return np.where(b == c, b, a).astype(np.uint8)


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

    Looks at the vertices of the joint's own part and its parent's in a slice through the joint,
    perpendicular to the limb: x for arms in the T-pose, y elsewhere (z, the foot's axis, for toes).
    """
    radii = np.empty(NUM_JOINTS)
    for joint, parent in enumerate(PARENTS):
        offset = vertices - joints[joint]
        arm = joint >= joint_index("left_collar") and joint != joint_index("head")
        toe = joint in (joint_index("left_foot"), joint_index("right_foot"))
        along = 0 if arm else 2 if toe else 1
        near = (np.abs(offset[:, along]) < 0.02) & np.isin(part, (joint, max(parent, 0)))
        across = np.delete(offset, along, axis=1)[near]
        radii[joint] = np.linalg.norm(across, axis=1).max() + _MARGIN
    return radii
