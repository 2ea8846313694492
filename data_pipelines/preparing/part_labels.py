"""Draws part labels of people in photographs from their true meshes.

The other annotated people of a photograph occlude a person. Objects do not, since they are not
annotated: a leg behind a table is labelled as if the table were not there.
"""

import dataclasses
import functools
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.example import STORED_PARTS_STRIDE
from data_pipelines.releases.release import STORED_SIDE
from pare_jax.body import numpy_body
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.rendering import rasterizer
from pare_jax.skeleton import PART_BACKGROUND

_SIDE = STORED_SIDE // STORED_PARTS_STRIDE
_NEAR, _FAR = 0.1, 100.0  # metres


@dataclasses.dataclass(frozen=True)
class ProjectedMesh:
    """The mesh of a person, projected into a photograph.

    Attributes:
        points: (x, y, depth) of the vertices: pixels of the photograph, and metres.
        faces: vertex numbers.
        part_of_face: the joint each face moves with.
        head_top: the vertex at the top of the head.
    """

    points: Float[np.ndarray, "vertices 3"]
    faces: np.ndarray
    part_of_face: UInt8[np.ndarray, " faces"]
    head_top: int


def pose_mesh(
    body: Path,
    betas: Float[np.ndarray, "10"],
    rotations: Float[np.ndarray, "24 3 3"],
    pelvis: Float[np.ndarray, "3"],
    intrinsics: Float[np.ndarray, "3 3"],
) -> ProjectedMesh:
    """Pose a body and project it.

    Args:
        body: the body's file.
        betas: shape coefficients.
        rotations: relative to the parent; the root's into the camera frame.
        pelvis: position of the pelvis joint, metres in the camera frame.
        intrinsics: camera frame to the photograph's pixels.

    Returns:
        The mesh.

    Raises:
        UserError: the body cannot be read.
    """
    data, part_of_face = _load(body)
    vertices, joints = numpy_body.vertices_and_joints(
        data, betas.astype(np.float32), rotations.astype(np.float32)
    )
    vertices = vertices + (pelvis - joints[0]).astype(np.float32)
    points = vertices @ intrinsics.T.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # points behind the camera are not drawn
        points[:, :2] /= points[:, 2:]
    return ProjectedMesh(points, data.faces, part_of_face, data.head_top)


@functools.lru_cache(maxsize=4)
def _load(body: Path) -> tuple[BodyData, np.ndarray]:
    data = load_body_data(body)
    return data, rasterizer.face_labels(data.weights.argmax(axis=1), data.faces)


def draw_part_labels(
    people: list[ProjectedMesh],
    number: int,
    to_photo: Float[np.ndarray, "2 3"],
    size: tuple[int, int],
) -> bytes:
    """Draw the visible parts of one of several people.

    Args:
        people: all people with a known mesh.
        number: index of the person to label.
        to_photo: affine from the stored crop to the photograph, without rotation.
        size: width and height of the photograph; pixels outside it are background.

    Returns:
        PNG with a side of STORED_SIDE // STORED_PARTS_STRIDE pixels: joint + 1, 0 elsewhere.
    """
    scale = STORED_PARTS_STRIDE * np.diag(to_photo[:, :2])
    corner = to_photo[:, 2]
    buffer = rasterizer.new_buffer(_SIDE, _SIDE, _NEAR, _FAR)
    first = 0
    for other, mesh in enumerate(people):
        points = mesh.points.astype(np.float32)
        points[:, :2] = (points[:, :2] - corner) / scale
        drawn = rasterizer.draw(buffer, points, mesh.faces)
        first = drawn if other == number else first
    labels = rasterizer.pixel_table(buffer, first, people[number].part_of_face + 1)[buffer.face()]
    for axis in (0, 1):
        centres = (np.arange(_SIDE) + 0.5) * scale[axis] + corner[axis]
        beyond = (centres < 0) | (centres >= size[axis])
        labels[(slice(None), beyond) if axis == 0 else beyond] = PART_BACKGROUND
    return cv2.imencode(".png", labels)[1].tobytes()
