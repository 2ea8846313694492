"""Tests whether limbs pass through the body: points on limbs against simple solids.

The trunk is three stacked elliptic drums, the head a ball, the legs tapering capsules. Their sizes
are measured on the free body's template. Flesh gives way: a limb is inside only if its middle line
comes closer than about half its own thickness.
"""

import numpy as np
from jaxtyping import Float

from pare_jax.skeleton import joint_index

_TRUNK_LENGTH = 0.513  # pelvis to neck on the template, metres
_SIDES = ("left", "right")
# Drums: joint, z of the centre, half sizes in x and z, least and largest y; metres from the joint.
_DRUMS = (
    ("pelvis", 0.005, 0.160, 0.105, -0.12, 0.13),
    ("spine2", 0.025, 0.140, 0.100, -0.10, 0.13),
    ("spine3", 0.050, 0.150, 0.110, -0.02, 0.20),
)
_DRUM_JOINTS = np.array([joint_index(drum[0]) for drum in _DRUMS])
_DRUM_SIZES = np.array([drum[1:] for drum in _DRUMS]).T
_HEAD, _HEAD_CENTRE, _HEAD_RADIUS = joint_index("head"), np.array([0.0, 0.09, 0.035]), 0.095
_SKIN = 0.02  # least distance of a forearm's or hand's middle line from a surface, metres
_ARMS_APART = 0.055
# Legs: segments, with the radius at each joint.
_LEG_JOINTS = np.array(
    [[joint_index(f"{side}_{n}") for n in ("hip", "knee", "ankle", "foot")] for side in _SIDES]
)
_LEG_RADII = np.array([0.075, 0.050, 0.035, 0.035])
_ARM_JOINTS = np.array(
    [
        [joint_index(f"{side}_{n}") for n in ("shoulder", "elbow", "wrist", "hand")]
        for side in _SIDES
    ]
)
# Points along a segment as shares of it. A hand is 1.7 times as long as from wrist to knuckles.
_FOREARM = np.array([0.0, 0.35, 0.7, 1.0])
_HAND = np.array([0.6, 1.2, 1.7])


def body_size(rest_joints: Float[np.ndarray, "24 3"]) -> float:
    """Return the trunk's length over the mean body's, from joints in the rest pose."""
    return float((rest_joints[joint_index("neck"), 1] - rest_joints[0, 1]) / _TRUNK_LENGTH)


def collisions(
    global_rotations: Float[np.ndarray, "24 3 3"],
    joints: Float[np.ndarray, "24 3"],
    size: float,
    girth: float = 1.0,
) -> tuple[np.ndarray, bool]:
    """Return which limbs pass through the body.

    Args:
        global_rotations: from each part's frame into the frame of `joints`.
        joints: the posed joints, metres.
        size: see `body_size`.
        girth: the trunk's width over the mean body's.

    Returns:
        For the left and the right arm, whether it is inside the head, the trunk, a leg or the other
        arm. Then whether the legs are inside each other or the trunk.
    """
    arms = np.stack([_arm_points(joints[chain]) for chain in _ARM_JOINTS])
    legs = joints[_LEG_JOINTS]
    knees = legs[:, 1] + 0.05 * (legs[:, 1] - legs[:, 0])
    head = joints[_HEAD] + global_rotations[_HEAD] @ _HEAD_CENTRE * size
    upper_arms = 0.5 * (joints[_ARM_JOINTS[:, 0]] + joints[_ARM_JOINTS[:, 1]])
    near_head = np.concatenate([arms, upper_arms[:, None]], axis=1) - head
    hit = ((near_head**2).sum(-1) < (_HEAD_RADIUS * size + _SKIN) ** 2).any(1)
    points = np.concatenate([arms.reshape(-1, 3), knees])
    in_trunk = _in_trunk(global_rotations, joints, points, size, girth)
    hit |= in_trunk[:-2].reshape(2, -1).any(1)
    hit |= (_clearance(arms[:, 1:], legs) < 0.5 * _SKIN).any(1)
    between = arms[0][:, None] - arms[1][None]
    if (between**2).sum(-1).min() < _ARMS_APART**2:
        hit[:] = True
    # Shins and feet of one leg against the other leg, and knees against the trunk.
    lower = np.concatenate([legs[0, 1:], 0.5 * (legs[0, 1:-1] + legs[0, 2:])])
    crossed = (_clearance(lower, legs[1:]) < 0.035).any()
    return hit, bool(crossed or in_trunk[-2:].any())


def _arm_points(chain: np.ndarray) -> np.ndarray:
    _, elbow, wrist, hand = chain
    along = elbow + _FOREARM[:, None] * (wrist - elbow)
    return np.concatenate([along, wrist + _HAND[:, None] * (hand - wrist)])


def _in_trunk(global_rotations, joints, points, size: float, girth: float) -> np.ndarray:
    """Return whether each point (N, 3) lies in a drum, grown by the arms' thickness."""
    middle, width, depth, low, high = _DRUM_SIZES
    local = (points[:, None] - joints[_DRUM_JOINTS])[:, :, None] @ global_rotations[_DRUM_JOINTS]
    x, y, z = local[:, :, 0].transpose(2, 0, 1) / size
    across = (x / (width * girth + _SKIN)) ** 2 + ((z - middle) / (depth * girth + _SKIN)) ** 2
    return ((across < 1.0) & (y > low) & (y < high)).any(1)


def _clearance(points: np.ndarray, legs: np.ndarray) -> np.ndarray:
    """Return the distance of points (..., 3) from the capsules of legs (N, 4, 3)."""
    start = legs[:, :-1].reshape(-1, 3)
    along = legs[:, 1:].reshape(-1, 3) - start
    radii = np.tile(_LEG_RADII[:-1], len(legs))
    taper = np.tile(_LEG_RADII[1:] - _LEG_RADII[:-1], len(legs))
    offset = points[..., None, :] - start
    share = (offset * along).sum(-1) / (along**2).sum(-1)
    share = np.minimum(np.maximum(share, 0.0), 1.0)
    distance = np.sqrt(((offset - share[..., None] * along) ** 2).sum(-1))
    return (distance - radii - share * taper).min(-1)
