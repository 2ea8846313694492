"""SMPL's rest pose: the directions of its limbs, and the turns from straight limbs to them.

SMPL does not rest in an exact T-pose: its thighs stand apart, its knees and elbows are a little
bent. This module does not import JAX, so that data pipelines start fast.
"""

import numpy as np
from jaxtyping import Float

from pare_jax.skeleton import MIRROR, NUM_JOINTS, PARENTS, joint_index

# Unit vectors from the parent to the joint on the left side, in SMPL's frame: x to the person's
# left, y up, z out of the chest. They are the mean of the left bone and the mirrored right bone of
# the neutral SMPL, whose rest joints PHC prints in phc/data/assets/mjcf/smpl_0_humanoid.xml
# (https://github.com/ZhengyiLuo/PHC, smpl_1 is the male, smpl_2 the female; EDGE's vis.py prints
# the male's joints with the same numbers).
LIMBS = {
    "left_knee": (0.0954, -0.9953, -0.0176),
    "left_ankle": (-0.0367, -0.9936, -0.1073),
    "left_foot": (0.1926, -0.3863, 0.9020),
    "left_elbow": (0.9942, -0.0506, -0.0947),
    "left_wrist": (0.9994, 0.0333, -0.0135),
    "left_hand": (0.9856, -0.0836, -0.1473),
}
# Limbs of an exact T-pose. Feet are missing: they are flat in both poses and only turn outwards.
STRAIGHT = {
    "left_knee": (0.0, -1.0, 0.0),
    "left_ankle": (0.0, -1.0, 0.0),
    "left_elbow": (1.0, 0.0, 0.0),
    "left_wrist": (1.0, 0.0, 0.0),
    "left_hand": (1.0, 0.0, 0.0),
}
# Angle in the floor's plane between a foot and straight ahead, radians.
FEET_OUTWARD = float(np.arctan2(LIMBS["left_foot"][0], LIMBS["left_foot"][2]))

_FLIP = np.diag([-1.0, 1.0, 1.0])


def rest_turns() -> Float[np.ndarray, "24 3 3"]:
    """Return each part's rotation from an exact T-pose to SMPL's rest pose, in the body's frame.

    Thighs, shins, upper arms, forearms and hands turn by the smallest angle. All other parts keep
    the identity.
    """
    turns = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for name, straight in STRAIGHT.items():
        joint = joint_index(name)
        part = PARENTS[joint]  # the part that moves the bone
        turns[part] = _smallest_turn(np.array(straight), np.array(LIMBS[name]))
        if name == "left_hand":
            turns[joint] = turns[part]
    for joint, twin in enumerate(MIRROR):
        if joint < twin:
            turns[twin] = _FLIP @ turns[joint] @ _FLIP
    return turns


def _smallest_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the rotation by the smallest angle from one direction to another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + start @ end)
