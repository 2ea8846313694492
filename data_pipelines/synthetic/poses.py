"""Random poses: everyday actions or the whole range of motion, without self-collision."""

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic import angles as anatomy
from data_pipelines.synthetic.actions import ACTIONS, sit
from data_pipelines.synthetic.collisions import body_size, collisions
from pare_jax.body.numpy_body import forward_kinematics
from pare_jax.skeleton import joint_index

# Angles that an action does not set, and the random variation of every angle, degrees.
_RELAXED = {
    "arm_plane": 15.0,
    "arm_raise": 13.0,
    "arm_rotate": -5.0,
    "elbow": 14.0,
    "forearm": 15.0,
    "hip_abduct": 2.0,
    "wrist_flex": 5.0,
}
_VARIATION = {
    "spine_flex": 4.0,
    "spine_side": 3.0,
    "spine_twist": 5.0,
    "neck_flex": 9.0,
    "neck_side": 5.0,
    "neck_twist": 18.0,
    "hip_flex": 4.0,
    "hip_abduct": 3.0,
    "hip_rotate": 6.0,
    "knee": 5.0,
    "ankle": 4.0,
    "toes": 4.0,
    "arm_plane": 9.0,
    "arm_raise": 5.0,
    "arm_rotate": 8.0,
    "elbow": 8.0,
    "forearm": 15.0,
    "wrist_flex": 12.0,
    "wrist_side": 6.0,
}


def _vector(values: dict[str, float]) -> np.ndarray:
    """Return an angle vector; names without a side apply to both sides."""
    return np.array(
        [values.get(n.removeprefix("left_").removeprefix("right_"), 0.0) for n in anatomy.NAMES]
    )


_RELAXED_ANGLES = _vector(_RELAXED)
_VARIATION_ANGLES = _vector(_VARIATION)
_ACTION_LIST = tuple(ACTIONS)
_ACTION_WEIGHTS = np.cumsum([*ACTIONS.values()]) / sum(ACTIONS.values())
_ARM_RAISE = [anatomy.index(f"{side}_arm_raise") for side in ("left", "right")]
_HIP_ABDUCT = [anatomy.index(f"{side}_hip_abduct") for side in ("left", "right")]

_TRIES = 6
_SPREADS = 4
_LEAN_STEPS = 3
_SUPPORT_SOFTNESS = 0.2  # metres above the lowest point where a foot bears little weight


def sample_pose(
    rng: np.random.Generator,
    everyday: float,
    rest_joints: Float[np.ndarray, "24 3"],
    girth: float,
) -> Float[np.ndarray, "24 3 3"]:
    """Draw a pose.

    Args:
        rng: the example's random numbers.
        everyday: share of everyday actions; the others are angles from the range of motion.
        rest_joints: the person's joints in the rest pose, for the collision test.
        girth: the trunk's width over the mean body's.

    Returns:
        Rotations relative to the parent, in a frame with y up and the person facing +z. The root's
        rotation leans so that the body keeps its balance.
    """
    is_action = rng.random() < everyday
    action = _ACTION_LIST[int(np.searchsorted(_ACTION_WEIGHTS, rng.random()))]
    for _ in range(_TRIES):
        angles = _sample_action(rng, action) if is_action else _sample_range(rng)
        rotations, joints, free = _settle(angles, rest_joints, girth)
        if free:
            break
    else:  # half way to the relaxed stance, then the stance itself, which has no collision
        for share in (0.5, 1.0):
            eased = (1 - share) * angles + share * _RELAXED_ANGLES
            rotations, joints, free = _settle(eased, rest_joints, girth)
            if free:
                break
    sitting = is_action and action is sit
    lean = np.deg2rad(rng.normal(-5.0 if sitting else 0.0, 5.0 if sitting else 2.5))
    if not sitting:
        lean += _balance(joints)
    side = np.deg2rad(rng.normal(0.0, 2.0))
    rotations[0] = anatomy.about_z(side) @ anatomy.about_x(lean)
    return rotations


def _sample_action(rng: np.random.Generator, action) -> np.ndarray:
    angles = _RELAXED_ANGLES.copy()
    for name, value in action(rng).items():
        angles[anatomy.index(name)] = value
    angles += rng.normal(size=anatomy.NUM_ANGLES) * _VARIATION_ANGLES
    if rng.random() < 0.5:
        angles = anatomy.mirror(angles)
    return anatomy.clip(angles)


def _sample_range(rng: np.random.Generator) -> np.ndarray:
    """Draw each angle from a triangle over 90 % of its range, with its mode at the relaxed one."""
    low, high = 0.9 * anatomy.LOWEST, 0.9 * anatomy.HIGHEST
    return rng.triangular(low, np.clip(_RELAXED_ANGLES, low, high), high)


def _settle(
    angles: np.ndarray, rest_joints: np.ndarray, girth: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Convert angles to rotations; spread arms and legs a little where they touch the body.

    Returns:
        The rotations, the posed joints, and whether the pose is free of collisions.
    """
    angles = angles.copy()
    size = body_size(rest_joints)
    for _ in range(_SPREADS):
        rotations = anatomy.rotations(angles)
        global_rotations, joints = forward_kinematics(rest_joints, rotations)
        arms, legs = collisions(global_rotations, joints, size, girth)
        if not arms.any() and not legs:
            return rotations, joints, True
        for side in np.flatnonzero(arms):
            angles[_ARM_RAISE[side]] += 6.0
        if legs:
            angles[_HIP_ABDUCT] += 5.0
        angles = anatomy.clip(angles)
    return rotations, joints, False


def _balance(joints: np.ndarray) -> float:
    """Return the forward lean, radians, that brings the trunk over the lowest feet and knees."""
    mass = joints[_MASS_JOINTS].mean(0)
    support = joints[_SUPPORT_JOINTS]
    lean = 0.0
    for _ in range(_LEAN_STEPS):
        down = support @ np.array([0.0, -np.cos(lean), np.sin(lean)])
        weight = np.exp((down - down.max()) / _SUPPORT_SOFTNESS)
        under = weight @ support / weight.sum()
        lean = -np.arctan2(mass[2] - under[2], mass[1] - under[1])
    return float(np.clip(lean, -0.6, 1.4))


_MASS_JOINTS = [joint_index(n) for n in ("pelvis", "spine1", "spine3", "spine3", "head")]
_SUPPORT_JOINTS = [
    joint_index(f"{side}_{name}")
    for side in ("left", "right")
    for name in ("ankle", "foot", "knee")
]
