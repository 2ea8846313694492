"""Draws an example's labels over its crop, for checking by eye."""

import numpy as np
from jaxtyping import Float

from pare_jax.body.io import BodyData
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.rendering.camera import fit_camera
from pare_jax.rendering.overlay import draw_mesh
from pare_jax.rendering.skeleton_lines import draw_skeleton, joint_colour
from pare_jax.rendering.text import Picture
from pare_jax.skeleton import NUM_JOINTS

# The person below the mesh stays visible.
_OPACITY = 0.7


def draw_truth(
    picture: Picture,
    body: BodyData,
    betas: Float[np.ndarray, "10"],
    rotations: Float[np.ndarray, "24 3 3"],
    joints_3d: Float[np.ndarray, "24 3"],
    joints_2d: Float[np.ndarray, "24 2"],
) -> Picture:
    """Draw the mesh of an example's pose and shape, and its 2D joints above the mesh.

    Examples store no camera, so one is fitted to `joints_3d` and `joints_2d`. The mesh is posed by
    the rotations alone: where it does not lie under the joints, the labels disagree.

    Args:
        picture: the crop, (S, S, 3) uint8.
        body: the body model of the person's gender.
        betas: shape coefficients.
        rotations: relative to the parent joint; the root's into the camera frame.
        joints_3d: camera frame, metres, the pelvis at the origin.
        joints_2d: continuous pixels of the picture.

    Returns:
        The picture. The mesh has the skeleton's colours: the person's left is blue, the right
        orange.
    """
    found = fit_camera(joints_3d, joints_2d)
    if found is not None:
        camera, translation = found
        vertices, joints = vertices_and_joints(
            body, np.asarray(betas, np.float64), np.asarray(rotations, np.float64)
        )
        colours = np.array([joint_colour(joint) for joint in range(NUM_JOINTS)], np.float64)
        vertices = vertices - joints[0] + joints_3d[0] + translation
        colour = colours[body.weights.argmax(1)]
        picture = draw_mesh(picture, vertices, body.faces, camera, colour, _OPACITY)
    return draw_skeleton(picture, joints_2d, width=1.0)
