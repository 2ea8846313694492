"""Bodies in poses of the prior's dictionary, with their exact keypoints."""

import functools

import jax.numpy as jnp
import numpy as np

from pare_jax.body.io import load_body_data
from pare_jax.fitting.energy import Pose
from pare_jax.fitting.prior import load_pose_prior
from pare_jax.geometry import axis_angle_to_matrix, camera_translation, project
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.sets import COCO17, NUM_BODY_POINTS

# From y up into the camera's frame.
FLIP = np.diag([1.0, -1.0, -1.0]).astype(np.float32)


@functools.cache
def free_points():
    """Return the free body's points."""
    return body_points(load_body_data())


def drawn_pose(count, seed=0):
    """Return people in poses of the dictionary, seen from all around."""
    rng = np.random.default_rng(seed)
    poses = load_pose_prior().poses
    rotations = np.array(poses[rng.choice(len(poses), count, replace=False)])
    turns = np.zeros((count, 3), np.float32)
    turns[:, 1] = rng.uniform(0, 2 * np.pi, count)
    rotations[:, 0] = FLIP @ np.asarray(axis_angle_to_matrix(jnp.asarray(turns))) @ rotations[:, 0]
    betas = rng.normal(size=(count, 10)).astype(np.float32)
    camera = np.tile(np.float32([0.8, 0.0, 0.1]), (count, 1))
    return Pose(rotations, betas, camera)


def points_of(pose, known=COCO17.indices):
    """Return the keypoints of people, crop units, and their joints."""
    placed, joints = free_points().place(pose.rotations, pose.betas)
    seen = np.asarray(project(placed, camera_translation(jnp.asarray(pose.camera))))
    points = np.zeros((len(seen), NUM_BODY_POINTS, 3), np.float32)
    points[:, list(known), :2] = seen[:, list(known)]
    points[:, list(known), 2] = 1.0
    return points, np.asarray(joints)
