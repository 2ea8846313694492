"""Random poses: everyday actions or the whole range of motion, without self-collision."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic import angles as anatomy
from data_pipelines.synthetic.actions import ACTIONS, LEAN, TIP, Action
from data_pipelines.synthetic.collisions import body_size, collisions
from pare_jax.body.numpy_body import forward_kinematics
from pare_jax.skeleton import NUM_JOINTS, joint_index

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
_ARM_RAISE = [anatomy.index(f"{side}_arm_raise") for side in ("left", "right")]
_HIP_ABDUCT = [anatomy.index(f"{side}_hip_abduct") for side in ("left", "right")]
_MASS_JOINTS = [joint_index(n) for n in ("pelvis", "spine1", "spine3", "spine3", "head")]
_SUPPORT_JOINTS = [
    joint_index(f"{side}_{name}")
    for side in ("left", "right")
    for name in ("ankle", "foot", "knee")
]

_TRIES = 6
_SPREADS = 4
_LEAN_STEPS = 3
_SUPPORT_SOFTNESS = 0.2  # metres above the lowest point where a foot bears little weight


class _DrawnAngles(NamedTuple):
    """Angles of several people, and how each turns as a whole; degrees."""

    angles: np.ndarray  # (N, angles)
    lean: np.ndarray  # (N,), forwards; NaN: as balance needs
    tip: np.ndarray  # (N,), to the left

    def put(self, rows: np.ndarray, drawn: "_DrawnAngles") -> None:
        for own, new in zip(self, drawn, strict=True):
            own[rows] = new


def sample_pose(
    rng: np.random.Generator,
    everyday: float,
    rest_joints: Float[np.ndarray, "24 3"],
    girth: float,
) -> Float[np.ndarray, "24 3 3"]:
    """Draw a pose; see `sample_poses`."""
    return sample_poses(rng, 1, everyday, rest_joints, girth)[0]


def sample_poses(
    rng: np.random.Generator,
    count: int,
    everyday: float,
    rest_joints: Float[np.ndarray, "24 3"],
    girth: float,
    actions: Mapping[Action, float] = ACTIONS,
) -> Float[np.ndarray, "count 24 3 3"]:
    """Draw poses of one body.

    Args:
        rng: the random numbers.
        count: number of poses.
        everyday: share of everyday actions; the others are angles from the range of motion.
        rest_joints: the person's joints in the rest pose, for the collision test.
        girth: the trunk's width over the mean body's.
        actions: the everyday actions with their weights, which need not sum to 1.

    Returns:
        Rotations relative to the parent, in a frame with y up and the person facing +z. The root's
        rotation leans so that the body keeps its balance, unless the action has a lean of its own.
    """
    is_action = rng.random(count) < everyday
    edges = np.cumsum([*actions.values()]) / sum(actions.values())
    numbers = np.searchsorted(edges, rng.random(count))
    known = tuple(actions)
    chosen = [known[n] if own else None for n, own in zip(numbers, is_action, strict=True)]

    rotations = np.empty((count, NUM_JOINTS, 3, 3))
    joints = np.empty((count, NUM_JOINTS, 3))
    drawn = _DrawnAngles(np.empty((count, anatomy.NUM_ANGLES)), np.empty(count), np.empty(count))
    rows = np.arange(count)

    def settle(angles: np.ndarray) -> np.ndarray:
        """Settle the people `rows`; return those whose limbs still collide."""
        rotations[rows], joints[rows], free = _settle(angles, rest_joints, girth)
        return rows[~free]

    for _ in range(_TRIES):
        drawn.put(rows, _sample_angles(rng, [chosen[row] for row in rows]))
        rows = settle(drawn.angles[rows])
        if not len(rows):
            break
    else:  # half way to the relaxed stance, then the stance itself, which has no collision
        for share in (0.5, 1.0):
            rows = settle((1 - share) * drawn.angles[rows] + share * _RELAXED_ANGLES)
            if not len(rows):
                break
    balanced = np.isnan(drawn.lean)
    lean = np.where(balanced, 0.0, drawn.lean)
    lean = np.deg2rad(rng.normal(lean, np.where(balanced, 2.5, 5.0)))
    lean[balanced] += _balance(joints[balanced])
    side = np.deg2rad(rng.normal(0.0, 2.0, count) - drawn.tip)
    rotations[:, 0] = anatomy.about_z(side) @ anatomy.about_x(lean)
    return rotations


def _sample_angles(rng: np.random.Generator, actions: Sequence[Action | None]) -> _DrawnAngles:
    """Draw the angles of one person for each action; None: from the range of motion."""
    count = len(actions)
    angles = np.tile(_RELAXED_ANGLES, (count, 1))
    lean, tip = np.full(count, np.nan), np.zeros(count)
    acting = np.array([action is not None for action in actions])
    for row, action in enumerate(actions):
        if action is None:
            continue
        for name, value in action(rng).items():
            if name == LEAN:
                lean[row] = value
            elif name == TIP:
                tip[row] = value
            else:
                angles[row, anatomy.index(name)] = value
    if acting.any():
        varied = angles[acting]
        varied += rng.normal(size=varied.shape) * _VARIATION_ANGLES
        mirrored = rng.random(len(varied)) < 0.5
        varied[mirrored] = anatomy.mirror(varied[mirrored])
        angles[acting] = anatomy.clip(varied)
        tip[acting] *= np.where(mirrored, -1.0, 1.0)
    if not acting.all():
        angles[~acting] = _sample_range(rng, np.count_nonzero(~acting))
    return _DrawnAngles(angles, lean, tip)


def _sample_range(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw each angle from a triangle over 90 % of its range, with its mode at the relaxed one."""
    low, high = 0.9 * anatomy.LOWEST, 0.9 * anatomy.HIGHEST
    modes = np.clip(_RELAXED_ANGLES, low, high)
    return rng.triangular(low, modes, high, (count, anatomy.NUM_ANGLES))


def _settle(
    angles: np.ndarray, rest_joints: np.ndarray, girth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert angles to rotations; spread arms and legs a little where they touch the body.

    Returns:
        The rotations, the posed joints, and whether each pose is free of collisions.
    """
    angles = angles.copy()
    size = body_size(rest_joints)
    rotations = np.empty((len(angles), NUM_JOINTS, 3, 3))
    joints = np.empty((len(angles), NUM_JOINTS, 3))
    rows = np.arange(len(angles))  # people whose limbs collide
    for _ in range(_SPREADS):
        turned = anatomy.rotations(angles[rows])
        rest = np.broadcast_to(rest_joints, (len(rows), NUM_JOINTS, 3))
        global_rotations, posed = forward_kinematics(rest, turned)
        rotations[rows], joints[rows] = turned, posed
        arms, legs = collisions(global_rotations, posed, size, girth)
        colliding = arms.any(-1) | legs
        rows, arms, legs = rows[colliding], arms[colliding], legs[colliding]
        if not len(rows):
            break
        spread = angles[rows]
        spread[:, _ARM_RAISE] += 6.0 * arms
        spread[:, _HIP_ABDUCT] += 5.0 * legs[:, None]
        angles[rows] = anatomy.clip(spread)
    free = np.ones(len(angles), bool)
    free[rows] = False
    return rotations, joints, free


def _balance(joints: np.ndarray) -> np.ndarray:
    """Return the forward leans, radians, that bring trunks over the lowest feet and knees."""
    mass = joints[:, _MASS_JOINTS].mean(1)
    support = joints[:, _SUPPORT_JOINTS]
    lean = np.zeros(len(joints))
    for _ in range(_LEAN_STEPS):
        down = support[..., 2] * np.sin(lean)[:, None] - support[..., 1] * np.cos(lean)[:, None]
        weight = np.exp((down - down.max(1, keepdims=True)) / _SUPPORT_SOFTNESS)
        under = (weight[..., None] * support).sum(1) / weight.sum(1)[:, None]
        lean = -np.arctan2(mass[:, 2] - under[:, 2], mass[:, 1] - under[:, 1])
    return np.clip(lean, -0.6, 1.4)
