"""Anatomical joint angles, their ranges of motion, and their conversion to SMPL's rotations.

Functions take any leading batch axes.

Angles are in degrees. Left and right have the same sign for the same movement: abduction leads
away from the body on both sides. All zeros is the anatomical stance: upright, arms hanging, palms
at the thighs. Rotations are relative to the parent and identity in SMPL's rest pose (arms about
along x, y up, chest to +z).
"""

import numpy as np
from jaxtyping import Float

from pare_jax.body.rest_pose import rest_turns
from pare_jax.skeleton import NUM_JOINTS, PARENTS, joint_index

# (lowest, highest), degrees. Ranges of healthy adults after the American Academy of Orthopaedic
# Surgeons ("Joint Motion: Method of Measuring and Recording", 1965; also in Norkin & White,
# "Measurement of Joint Motion", appendix). The arm's ranges are these norms converted to the plane
# and height of the upper arm. Spine and neck angles are spread over their joints.
CENTRAL_RANGES = {
    "spine_flex": (-25.0, 80.0),
    "spine_side": (-35.0, 35.0),
    "spine_twist": (-45.0, 45.0),
    "neck_flex": (-45.0, 45.0),
    "neck_side": (-45.0, 45.0),
    "neck_twist": (-60.0, 60.0),
}
SIDE_RANGES = {
    "hip_flex": (-30.0, 120.0),
    "hip_abduct": (-30.0, 45.0),
    "hip_rotate": (-45.0, 45.0),  # outwards
    "knee": (0.0, 135.0),
    "ankle": (-20.0, 50.0),  # toes down
    "toes": (-10.0, 60.0),  # toes up
    "arm_plane": (-60.0, 130.0),  # 0: raised sideways, 90: raised forwards, beyond: across
    "arm_raise": (0.0, 180.0),  # 0: hanging, 90: level, 180: overhead
    "arm_rotate": (-70.0, 90.0),  # outwards, about the upper arm
    "elbow": (0.0, 150.0),
    "forearm": (-80.0, 80.0),  # pronation
    "wrist_flex": (-70.0, 80.0),  # towards the palm
    "wrist_side": (-20.0, 30.0),  # towards the little finger
}
NAMES = (
    *CENTRAL_RANGES,
    *(f"left_{name}" for name in SIDE_RANGES),
    *(f"right_{name}" for name in SIDE_RANGES),
)
_INDEX = {name: number for number, name in enumerate(NAMES)}
_ALL_RANGES = np.array([*CENTRAL_RANGES.values(), *SIDE_RANGES.values(), *SIDE_RANGES.values()])
LOWEST, HIGHEST = _ALL_RANGES[:, 0], _ALL_RANGES[:, 1]
NUM_ANGLES = len(NAMES)

# Joints that bend with the spine or the neck: each one's share, and where its angles are in NAMES.
_BENT_JOINTS = [joint_index(name) for name in ("spine1", "spine2", "spine3", "neck", "head")]
SPINE_SHARES = (0.4, 0.35, 0.25)
_BENT_SHARES = np.array([*SPINE_SHARES, 0.5, 0.5])
_BENT_ANGLES = np.array([[0, 0, 0, 3, 3], [1, 1, 1, 4, 4], [2, 2, 2, 5, 5]])
_LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
_LIMB_JOINTS = np.array([[joint_index(f"left_{n}"), joint_index(f"right_{n}")] for n in _LIMBS])
_FLIP_SIGNS = np.outer([-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0])  # of a mirrored rotation's elements
# The angles turn the straight limbs of an exact T-pose; SMPL's limbs are a little bent at rest.
_TO_REST = rest_turns()
_FROM_REST = _TO_REST.swapaxes(1, 2)
_PARENT_TO_REST = _TO_REST[[max(parent, 0) for parent in PARENTS]]


def index(name: str) -> int:
    """Return the index of the angle `name` in an angle vector."""
    return _INDEX[name]


def zeros() -> Float[np.ndarray, " angles"]:
    """Return the angles of the anatomical stance."""
    return np.zeros(NUM_ANGLES)


def clip(angles: Float[np.ndarray, "*batch angles"]) -> Float[np.ndarray, "*batch angles"]:
    """Clip every angle to its range of motion."""
    return np.minimum(np.maximum(angles, LOWEST), HIGHEST)


def mirror(angles: Float[np.ndarray, "*batch angles"]) -> Float[np.ndarray, "*batch angles"]:
    """Swap left and right."""
    sides = len(SIDE_RANGES)
    centre = angles[..., : len(CENTRAL_RANGES)] * [1, -1, -1, 1, -1, -1]
    left, right = angles[..., -2 * sides : -sides], angles[..., -sides:]
    return np.concatenate([centre, right, left], axis=-1)


def rotations(angles: Float[np.ndarray, "*batch angles"]) -> Float[np.ndarray, "*batch 24 3 3"]:
    """Convert angles to SMPL's rotations; the root's is the identity.

    Args:
        angles: degrees, in the order of NAMES.

    Returns:
        Rotation matrices relative to the parent joint.
    """
    radians = np.deg2rad(angles)
    batch, centre = radians.shape[:-1], len(CENTRAL_RANGES)
    result = np.zeros((NUM_JOINTS, *batch, 3, 3))
    result[..., [0, 1, 2], [0, 1, 2]] = 1.0
    # Spine and neck bend forwards and to the left and turn left.
    bends = radians[..., _BENT_ANGLES] * _BENT_SHARES
    flex, side, twist = np.moveaxis(bends, (-2, -1), (0, 1))
    result[_BENT_JOINTS] = about_y(twist) @ about_z(-side) @ about_x(flex)
    sides = radians[..., centre:].reshape(*batch, 2, -1)
    limbs = _left_limbs(np.moveaxis(sides, (-1, -2), (0, 1)))
    limbs[:, 1] *= _FLIP_SIGNS  # the right side is the left side's mirror image
    result[_LIMB_JOINTS] = limbs
    # Every part keeps its orientation in space, but counts its rotation from SMPL's rest pose.
    return _PARENT_TO_REST @ np.moveaxis(result, 0, -3) @ _FROM_REST


def _left_limbs(radians: np.ndarray) -> np.ndarray:
    """Return the rotations (8, ..., 3, 3) of _LIMBS from a left side's angles (13, ...)."""
    angle = dict(zip(SIDE_RANGES, radians, strict=True))
    # Beyond 40 degrees, the shoulder blade turns by about a third of the arm's raise: the
    # scapulohumeral rhythm (Inman et al., 1944).
    raised, plane = angle["arm_raise"], angle["arm_plane"]
    collar = np.clip((raised - np.deg2rad(40.0)) / 3.0, 0.0, np.deg2rad(35.0))
    # Rotations about one axis are computed together.
    flex, knee, ankle, foot, turn = about_x(
        np.array(
            [
                -angle["hip_flex"],
                angle["knee"],
                angle["ankle"],
                -angle["toes"],
                0.5 * angle["forearm"],
            ]
        )
    )
    rotate, back, forth, elbow, tilt = about_y(
        np.array(
            [
                angle["hip_rotate"],
                -plane,
                plane + angle["arm_rotate"],
                -angle["elbow"],
                angle["wrist_side"],
            ]
        )
    )
    abduct, lift, blade, wrist = about_z(
        np.array([angle["hip_abduct"], raised, collar, -angle["wrist_flex"]])
    )
    hip = flex @ abduct @ rotate
    shoulder = np.swapaxes(blade, -1, -2) @ back @ lift @ forth @ _HANGING
    hand = turn @ tilt @ wrist
    return np.array([hip, knee, ankle, foot, blade, shoulder, elbow @ turn, hand])


def about_x(angle: Float[np.ndarray, "*batch"] | float) -> Float[np.ndarray, "*batch 3 3"]:
    """Return the rotation by `angle` (radians) about x."""
    return _about(0, angle)


def about_y(angle: Float[np.ndarray, "*batch"] | float) -> Float[np.ndarray, "*batch 3 3"]:
    """Return the rotation by `angle` (radians) about y."""
    return _about(1, angle)


def about_z(angle: Float[np.ndarray, "*batch"] | float) -> Float[np.ndarray, "*batch 3 3"]:
    """Return the rotation by `angle` (radians) about z."""
    return _about(2, angle)


def _about(axis: int, angle: np.ndarray | float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    result = np.zeros((*np.shape(angle), 3, 3))
    result[..., axis, axis] = 1.0
    result[..., first, first] = result[..., second, second] = cosine
    result[..., first, second] = -sine
    result[..., second, first] = sine
    return result


_HANGING = about_z(-np.pi / 2)  # from an arm along x to an arm that hangs
