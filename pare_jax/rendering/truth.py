"""A person's labels over the crop they belong to, for eyes to judge whether they fit."""

import numpy as np
from jaxtyping import Float

from pare_jax.body.io import BodyData
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.rendering.camera import fit_camera
from pare_jax.rendering.overlay import draw_mesh
from pare_jax.rendering.skeleton_lines import draw_skeleton, joint_colour
from pare_jax.rendering.text import Picture
from pare_jax.skeleton import NUM_JOINTS

# So that the person below can still be seen.
_OPACITY = 0.7


def draw_truth(
    picture: Picture,
    body: BodyData,
    betas: Float[np.ndarray, "10"],
    rotations: Float[np.ndarray, "24 3 3"],
    joints_3d: Float[np.ndarray, "24 3"],
    joints_2d: Float[np.ndarray, "24 2"],
) -> Picture:
    """Draw the mesh that a record's pose and shape mean, and the record's 2D joints above it.

    A record holds no camera. The one that sees `joints_3d` at `joints_2d` shows the mesh, which is
    posed from the rotations alone: where it does not lie under the joints, labels disagree.

    Args:
        picture: the crop, (S, S, 3) uint8.
        body: of the person's gender.
        betas: shape coefficients.
        rotations: relative to the parent; the root's into the camera frame.
        joints_3d: camera frame, metres, the pelvis at the origin.
        joints_2d: continuous pixels of the picture.

    Returns:
        The picture; the mesh has the skeleton's colours: blue is the person's left, orange the
        right.
    """
    found = fit_camera(joints_3d, joints_2d)
    if found is not None:
        camera, place = found
        vertices, joints = vertices_and_joints(
            body, np.asarray(betas, np.float64), np.asarray(rotations, np.float64)
        )
        colours = np.array([joint_colour(joint) for joint in range(NUM_JOINTS)], np.float64)
        vertices = vertices - joints[0] + joints_3d[0] + place
        colour = colours[body.weights.argmax(1)]
        picture = draw_mesh(picture, vertices, body.faces, camera, colour, _OPACITY)
    return draw_skeleton(picture, joints_2d, width=1.0)
