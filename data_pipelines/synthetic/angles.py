"""Anatomical joint angles, their ranges of motion, and their conversion to SMPL's rotations.

Angles are in degrees. Left and right have the same sign for the same movement: abduction leads
away from the body on both sides. All zeros is the anatomical stance: upright, arms hanging, palms
at the thighs. Rotations are relative to the parent and identity in SMPL's rest pose (arms about
along x, y up, chest to +z).
"""

import math

import numpy as np
from jaxtyping import Float

from pare_jax.body.rest_pose import rest_turns
from pare_jax.skeleton import MIRROR, NUM_JOINTS, PARENTS, joint_index

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

_FLIP = np.diag([-1.0, 1.0, 1.0])
# The angles turn the straight limbs of an exact T-pose; SMPL's limbs are a little bent at rest.
_TO_REST = rest_turns()
_PARENT_TO_REST = _TO_REST[[max(parent, 0) for parent in PARENTS]]


def index(name: str) -> int:
    """Return the index of the angle `name` in an angle vector."""
    return _INDEX[name]


def zeros() -> Float[np.ndarray, " angles"]:
    """Return the angles of the anatomical stance."""
    return np.zeros(NUM_ANGLES)


def clip(angles: Float[np.ndarray, " angles"]) -> Float[np.ndarray, " angles"]:
    """Clip every angle to its range of motion."""
    return np.minimum(np.maximum(angles, LOWEST), HIGHEST)


def mirror(angles: Float[np.ndarray, " angles"]) -> Float[np.ndarray, " angles"]:
    """Swap left and right."""
    sides = len(SIDE_RANGES)
    centre = angles[: len(CENTRAL_RANGES)] * [1, -1, -1, 1, -1, -1]
    left, right = angles[-2 * sides : -sides], angles[-sides:]
    return np.concatenate([centre, right, left])


def rotations(angles: Float[np.ndarray, " angles"]) -> Float[np.ndarray, "24 3 3"]:
    """Convert angles to SMPL's rotations; the root's is the identity.

    Args:
        angles: degrees, in the order of NAMES.

    Returns:
        Rotation matrices relative to the parent joint.
    """
    radians = np.deg2rad(angles)
    result = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    flex, side, twist = radians[:3]
    for name, share in (("spine1", 0.4), ("spine2", 0.35), ("spine3", 0.25)):
        result[joint_index(name)] = _bend(share * flex, share * side, share * twist)
    flex, side, twist = radians[3:6]
    for name in ("neck", "head"):
        result[joint_index(name)] = _bend(0.5 * flex, 0.5 * side, 0.5 * twist)
    count = len(SIDE_RANGES)
    _set_left_limbs(result, dict(zip(SIDE_RANGES, radians[6 : 6 + count], strict=True)))
    # The right side is the left side's mirror image.
    other = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    _set_left_limbs(other, dict(zip(SIDE_RANGES, radians[6 + count :], strict=True)))
    for joint, twin in enumerate(MIRROR):
        if joint < twin:
            result[twin] = _FLIP @ other[joint] @ _FLIP
    # Every part keeps its orientation in space, but counts its rotation from SMPL's rest pose.
    return _PARENT_TO_REST @ result @ _TO_REST.swapaxes(1, 2)


def _set_left_limbs(result: np.ndarray, angle: dict[str, float]) -> None:
    result[joint_index("left_hip")] = (
        about_x(-angle["hip_flex"]) @ about_z(angle["hip_abduct"]) @ about_y(angle["hip_rotate"])
    )
    result[joint_index("left_knee")] = about_x(angle["knee"])
    result[joint_index("left_ankle")] = about_x(angle["ankle"])
    result[joint_index("left_foot")] = about_x(-angle["toes"])

    # Beyond 40 degrees, the shoulder blade turns by about a third of the arm's raise: the
    # scapulohumeral rhythm (Inman et al., 1944).
    raised = angle["arm_raise"]
    collar = about_z(min(max((raised - math.radians(40.0)) / 3.0, 0.0), math.radians(35.0)))
    plane = angle["arm_plane"]
    axis = np.array([-math.sin(plane), 0.0, math.cos(plane)])
    hanging = about_y(angle["arm_rotate"]) @ about_z(-np.pi / 2)
    result[joint_index("left_collar")] = collar
    result[joint_index("left_shoulder")] = collar.T @ about(axis, raised) @ hanging
    turn = about_x(0.5 * angle["forearm"])
    result[joint_index("left_elbow")] = about_y(-angle["elbow"]) @ turn
    result[joint_index("left_wrist")] = (
        turn @ about_y(angle["wrist_side"]) @ about_z(-angle["wrist_flex"])
    )


def _bend(flex: float, side: float, twist: float) -> np.ndarray:
    """Return a rotation that bends forwards and to the left and turns left."""
    return about_y(twist) @ about_z(-side) @ about_x(flex)


def about_x(angle: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation by `angle` (radians) about x."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def about_y(angle: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation by `angle` (radians) about y."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def about_z(angle: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation by `angle` (radians) about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def about(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation by `angle` (radians) about a unit axis (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * (cross @ cross)
