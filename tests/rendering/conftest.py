"""A figure made of capsules, so that drawing is tested without a body model."""

import dataclasses

import numpy as np
import pytest

from pare_jax.skeleton import PARENTS

# Offsets from the parent joint in a T-pose, metres; y up, the left hand at +x, facing +z.
_OFFSETS = np.array(
    [
        *[(0, 0, 0), (0.09, -0.08, 0), (-0.09, -0.08, 0), (0, 0.12, 0)],
        *[(0.02, -0.38, 0), (-0.02, -0.38, 0), (0, 0.14, 0)],
        *[(0, -0.40, 0), (0, -0.40, 0), (0, 0.06, 0), (0, -0.05, 0.13), (0, -0.05, 0.13)],
        *[(0, 0.21, 0), (0.08, 0.12, 0), (-0.08, 0.12, 0), (0, 0.09, 0.03)],
        *[(0.10, 0.03, 0), (-0.10, 0.03, 0), (0.26, 0, 0), (-0.26, 0, 0)],
        *[(0.25, 0, 0), (-0.25, 0, 0), (0.09, 0, 0), (-0.09, 0, 0)],
    ]
)


@dataclasses.dataclass
class Figure:
    """Joints (24, 3), vertices and faces in the camera frame; the figure faces the camera."""

    joints: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray


@pytest.fixture(scope="session")
def figure() -> Figure:
    """Return the figure in a T-pose with its left forearm towards the camera."""
    joints = np.zeros((24, 3))
    for joint, parent in enumerate(PARENTS):
        joints[joint] = _OFFSETS[joint] + (joints[parent] if parent >= 0 else 0)
    # The left elbow is bent so that the forearm points at the camera: front and back differ.
    joints[20] = joints[18] + (0, 0, 0.25)
    joints[22] = joints[18] + (0, 0, 0.34)
    joints *= (1, -1, -1)
    vertices, faces = [], []
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            start = sum(map(len, vertices))
            points, triangles = _capsule(joints[parent], joints[joint], 0.05)
            vertices.append(points)
            faces.append(triangles + start)
    return Figure(joints, np.concatenate(vertices), np.concatenate(faces).astype(np.int32))


def _capsule(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a closed tube from a to b with rounded ends; faces counter-clockwise from outside."""
    axis = (b - a) / max(np.linalg.norm(b - a), 1e-9)
    side = np.cross(axis, (0.3, 0.5, 0.8))
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    round_ = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rings = []
    for end, angles in ((a, np.linspace(-np.pi / 2, 0, 5)), (b, np.linspace(0, np.pi / 2, 5))):
        for angle in angles:
            circle = np.cos(round_)[:, None] * side + np.sin(round_)[:, None] * up
            ring = end + radius * (np.sin(angle) * axis + np.cos(angle) * circle)
            rings.append(ring)
    points = np.concatenate(rings)
    faces = []
    for ring in range(len(rings) - 1):
        for i in range(12):
            j = (i + 1) % 12
            p, q, r, s = (ring * 12 + i, ring * 12 + j, ring * 12 + 12 + i, ring * 12 + 12 + j)
            faces += [(p, q, r), (q, s, r)]
    return points, np.array(faces)
