"""The free body's meshes for drawing: shapes, dresses and poses them without JAX."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pare_jax.body import numpy_body
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.rasterizer import face_labels
from pare_jax.skeleton import NUM_JOINTS, PARENTS, joint_index

_MARGIN = 0.025  # metres a joint may lie deeper than its radius and still count as visible


@dataclasses.dataclass(frozen=True)
class PosedMesh:
    """A person's surface in the camera frame.

    Attributes:
        vertices: metres, camera frame; its columns are contiguous.
        normals: unit length up to the skinning's blend; its columns are contiguous.
        joints: metres, camera frame.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    normals: Float[np.ndarray, "vertices 3"]
    joints: Float[np.ndarray, "24 3"]


@dataclasses.dataclass(frozen=True)
class BodyMesh:
    """A mesh of the free body, with the labels of its vertices and faces that drawing needs.

    Attributes:
        data: the free body.
        coarse: whether this is the body's coarse mesh.
        template: mean shape in the rest pose, metres.
        normals: of the template, a column a vertex.
        faces: vertex numbers.
        part_of_face: the joint each face moves with.
        region_of_face: index into `regions`.
        region_of_vertex: index into `regions`.
        regions: names of the surface's regions.
        radii: how far in front of a visible joint its surface may lie, metres.
        eyes: centres of the left and right eye on the template.
        girth_basis: how the shape coefficients widen the trunk, as a share of its width.
    """

    data: BodyData
    coarse: bool
    template: Float[np.ndarray, "vertices 3"]
    normals: Float[np.ndarray, "3 vertices"]
    faces: Int[np.ndarray, "faces 3"]
    part_of_face: UInt8[np.ndarray, " faces"]
    region_of_face: UInt8[np.ndarray, " faces"]
    region_of_vertex: UInt8[np.ndarray, " vertices"]
    regions: tuple[str, ...]
    radii: Float[np.ndarray, "24"]
    eyes: Float[np.ndarray, "2 3"]
    girth_basis: Float[np.ndarray, "10"]

    def rest_joints(self, betas: Float[np.ndarray, "10"]) -> Float[np.ndarray, "24 3"]:
        """Return the joints of a shape in the rest pose."""
        return numpy_body.rest_joints(self.data, betas)

    def girth(self, betas: Float[np.ndarray, "10"]) -> float:
        """Return the width of a shape's trunk over the mean body's."""
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
            translation: position of the pelvis in the camera frame, metres.
            thickness: distance of clothes and hair from the skin, metres.

        Returns:
            The surface and the joints.
        """
        transforms, joints = numpy_body.skin_transforms(self.data, betas, rotations)
        shift = translation - joints[0]
        transforms[..., 3] += shift
        blended = numpy_body.blend_transforms(self.data, transforms.astype(np.float32), self.coarse)
        shaped = numpy_body.rest_vertices(
            self.data, betas.astype(np.float32), rotations, self.coarse
        )
        shaped += thickness * self.normals
        return PosedMesh(
            vertices=numpy_body.skin_points(blended, shaped).T,
            normals=numpy_body.skin_directions(blended, self.normals).T,
            joints=joints + shift,
        )


@functools.cache
def load_mesh(kind: str) -> BodyMesh:
    """Load the free body's "full" or "coarse" mesh; the same object at every call."""
    data = load_body_data()
    coarse = kind == "coarse"
    extras, prefix = data.extras, "coarse_" if coarse else ""
    template = extras["coarse_template"] if coarse else data.template
    faces = np.ascontiguousarray(extras["coarse_faces"] if coarse else data.faces)
    template = np.ascontiguousarray(template, dtype=np.float32)
    regions = tuple(str(name) for name in extras["region_names"])
    region = np.asarray(extras[f"{prefix}region_of_vertex"])
    full_region = np.asarray(extras["region_of_vertex"])
    is_eye = full_region == regions.index("eyes")
    eyes = np.stack(
        [data.template[is_eye & (s * data.template[:, 0] > 0)].mean(0) for s in (1, -1)]
    )
    return BodyMesh(
        data=data,
        coarse=coarse,
        template=template,
        normals=np.ascontiguousarray(vertex_normals(template, faces).T, dtype=np.float32),
        faces=faces.astype(np.int32),
        part_of_face=face_labels(np.asarray(extras[f"{prefix}part_of_vertex"]), faces),
        region_of_face=face_labels(region, faces),
        region_of_vertex=region,
        regions=regions,
        radii=_radii(data.template, data.weights.argmax(1), data.joint_template),
        eyes=eyes.astype(np.float32),
        girth_basis=_girth_basis(data.template, data.shape_basis, data.weights.argmax(1)),
    )


def _girth_basis(template: np.ndarray, basis: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return how each coefficient grows the trunk's mean distance from its axis, relatively."""
    trunk = np.isin(part, [joint_index(name) for name in ("pelvis", "spine1", "spine2")])
    middle = np.array([0.0, 0.0, template[trunk, 2].mean()])
    outward = (template[trunk] - middle) * [1, 0, 1]
    distance = np.linalg.norm(outward, axis=1)
    growth = np.einsum("vi,vik->vk", outward / distance[:, None], basis[trunk].astype(np.float64))
    return growth.mean(0) / distance.mean()


def _radii(vertices: np.ndarray, part: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Return each joint's depth: the surface's largest distance across the limb, plus a margin.

    It measures a slice through the joint, perpendicular to the limb: to x for arms at rest, to z
    for toes, to y elsewhere. The slice holds vertices of the joint's part and of its parent's,
    on the joint's side of the body.
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
