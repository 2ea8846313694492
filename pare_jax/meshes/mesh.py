"""Meshes to write to files, and their conversion to the viewer's frame.

Files are in glTF's frame, "the viewer's": x right, y up, z towards the viewer, metres. It is the
camera frame (x right, y down, z forward) after half a turn about x. A person upright in the picture
is upright in the viewer, and one who faces the camera faces the viewer. The turn mirrors nothing:
faces stay counter-clockwise seen from outside.
"""

import dataclasses
import re

import numpy as np
from jaxtyping import Float, Int

from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.overlay import BODY_COLOURS
from pare_jax.rendering.text import Colour

_TO_VIEWER = np.array([1.0, -1.0, -1.0])


@dataclasses.dataclass(frozen=True)
class Mesh:
    """One surface of one colour.

    Attributes:
        vertices: camera frame, metres.
        faces: counter-clockwise seen from outside.
        colour: RGB, 0 to 255.
        name: the mesh's name in the file.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    colour: Colour = BODY_COLOURS[0]
    name: str = "person"

    def __post_init__(self):
        vertices, faces = np.asarray(self.vertices), np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(
                f"expected vertices (V, 3) and faces (F, 3), not {vertices.shape} and {faces.shape}"
            )
        if not len(vertices) or not len(faces):
            raise ValueError(f"the mesh {self.name!r} has no vertices or no faces")
        if not np.isfinite(vertices).all():
            raise ValueError(f"the mesh {self.name!r} has vertices that are not finite")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError(f"the mesh {self.name!r} has faces with vertex numbers out of range")


def to_viewer(points: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Convert points or directions from the camera frame to the viewer's, or back."""
    return np.asarray(points) * _TO_VIEWER


def unit_normals(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """Return outward unit normals; a vertex without faces gets the z axis."""
    normals = vertex_normals(np.asarray(vertices, np.float64), np.asarray(faces))
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0.0, 0.0, 1.0)
    return normals


def plain_name(name: str) -> str:
    """Return the name as one ASCII word, which every format can hold."""
    word = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).strip("_")
    return word or "person"
