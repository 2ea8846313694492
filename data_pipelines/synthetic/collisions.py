"""Tests whether limbs pass through the body: points on limbs against simple solids.

The trunk is three stacked elliptic drums, the head a ball, the legs tapering capsules. Their sizes
are measured on the free body's template. Flesh gives way: a limb is inside only if its middle line
comes closer than about half its own thickness. Functions take any leading batch axes.
"""

import numpy as np
from jaxtyping import Bool, Float

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
_SEGMENTS = len(_LEG_RADII) - 1
_SEGMENT_RADII = np.tile(_LEG_RADII[:-1], 2)
_SEGMENT_TAPERS = np.tile(np.diff(_LEG_RADII), 2)
_ARM_JOINTS = np.array(
    [
        [joint_index(f"{side}_{n}") for n in ("shoulder", "elbow", "wrist", "hand")]
        for side in _SIDES
    ]
)


def _weights(*points: dict[int, float]) -> np.ndarray:
    """Return a matrix that makes points from a limb's four joints: {joint: share} for each."""
    return np.array([[point.get(joint, 0.0) for joint in range(4)] for point in points])


# Points of an arm: along the forearm and the hand, then the middle of the upper arm. A hand is 1.7
# times as long as from wrist to knuckles.
_FOREARM, _HAND = (0.0, 0.35, 0.7, 1.0), (0.6, 1.2, 1.7)
_ARM_POINTS = _weights(
    *({1: 1 - share, 2: share} for share in _FOREARM),
    *({2: 1 - share, 3: share} for share in _HAND),
    {0: 0.5, 1: 0.5},
)
_LONG = len(_FOREARM) + len(_HAND)
# Points of a leg: shin and foot, then the kneecap.
_LEG_POINTS = _weights({1: 1}, {2: 1}, {3: 1}, {1: 0.5, 2: 0.5}, {2: 0.5, 3: 0.5})
_KNEECAP = _weights({0: -0.05, 1: 1.05})


def body_size(rest_joints: Float[np.ndarray, "24 3"]) -> float:
    """Return the trunk's length over the mean body's, from joints in the rest pose."""
    return float((rest_joints[joint_index("neck"), 1] - rest_joints[0, 1]) / _TRUNK_LENGTH)


def collisions(
    global_rotations: Float[np.ndarray, "*batch 24 3 3"],
    joints: Float[np.ndarray, "*batch 24 3"],
    size: float,
    girth: float = 1.0,
) -> tuple[Bool[np.ndarray, "*batch 2"], Bool[np.ndarray, "*batch"]]:
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
    batch = joints.shape[:-2]
    arms = _ARM_POINTS @ joints[..., _ARM_JOINTS, :]
    legs = joints[..., _LEG_JOINTS, :]
    head = joints[..., _HEAD, :] + global_rotations[..., _HEAD, :, :] @ _HEAD_CENTRE * size
    near_head = arms - head[..., None, None, :]
    hit = (np.vecdot(near_head, near_head) < (_HEAD_RADIUS * size + _SKIN) ** 2).any(-1)
    arms = arms[..., :_LONG, :]
    points = np.concatenate([arms, _KNEECAP @ legs], axis=-2).reshape(*batch, -1, 3)
    in_trunk = _in_trunk(global_rotations, joints, points, size, girth).reshape(*batch, 2, -1)
    hit |= in_trunk[..., :_LONG].any(-1)
    between = arms[..., 0, :, None, :] - arms[..., 1, None, :, :]
    hit |= (np.vecdot(between, between) < _ARMS_APART**2).any((-2, -1))[..., None]
    # Forearms and hands against both legs; shin and foot of the left leg against the right leg.
    points = [arms[..., 0, 1:, :], arms[..., 1, 1:, :], _LEG_POINTS @ legs[..., 0, :, :]]
    clearance = _clearance(np.concatenate(points, axis=-2), legs)
    near_leg = clearance[..., : 2 * _LONG - 2, :] < 0.5 * _SKIN
    hit |= near_leg.reshape(*batch, 2, -1).any(-1)
    crossed = clearance[..., 2 * _LONG - 2 :, _SEGMENTS:] < 0.035
    return hit, crossed.any((-2, -1)) | in_trunk[..., _LONG:].any((-2, -1))


def _in_trunk(global_rotations, joints, points, size: float, girth: float) -> np.ndarray:
    """Return whether each point (..., N, 3) lies in a drum, grown by the arms' thickness."""
    middle, width, depth, low, high = _DRUM_SIZES[..., None]
    offset = points[..., None, :, :] - joints[..., _DRUM_JOINTS, None, :]
    local = offset @ global_rotations[..., _DRUM_JOINTS, :, :] / size
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    across = (x / (width * girth + _SKIN)) ** 2 + ((z - middle) / (depth * girth + _SKIN)) ** 2
    return ((across < 1.0) & (y > low) & (y < high)).any(-2)


def _clearance(points: np.ndarray, legs: np.ndarray) -> np.ndarray:
    """Return the distance of points (..., N, 3) from each capsule of the legs (..., 2, 4, 3)."""
    start = legs[..., :-1, :].reshape(*legs.shape[:-3], -1, 3)
    along = legs[..., 1:, :].reshape(start.shape) - start
    # Squared distances from products of points, which a matrix product computes fast.
    offset = points @ np.swapaxes(along, -1, -2) - np.vecdot(start, along)[..., None, :]
    length = np.vecdot(along, along)[..., None, :]
    share = np.minimum(np.maximum(offset / length, 0.0), 1.0)
    from_start = (
        np.vecdot(points, points)[..., None]
        - 2.0 * points @ np.swapaxes(start, -1, -2)
        + np.vecdot(start, start)[..., None, :]
    )
    squared = from_start - share * (2.0 * offset - share * length)
    return np.sqrt(np.maximum(squared, 0.0)) - _SEGMENT_RADII - share * _SEGMENT_TAPERS
