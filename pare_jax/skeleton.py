"""The SMPL skeleton: joint names, kinematic tree, mirror table, and joint sets of the metrics.

Joints are in SMPL's order (Loper et al., "SMPL: A Skinned Multi-Person Linear Model", 2015).
Constants are plain tuples, so that they can be hashed and used without JAX.
"""

JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
NUM_JOINTS = len(JOINT_NAMES)
NUM_BETAS = 10

# Parent of each joint; -1 marks the root. Parents always precede their children.
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def joint_index(name: str) -> int:
    """Return the index of a joint; raise ValueError for an unknown name."""
    return JOINT_NAMES.index(name)


def _mirror(name: str) -> int:
    if name.startswith("left_"):
        return joint_index("right_" + name.removeprefix("left_"))
    if name.startswith("right_"):
        return joint_index("left_" + name.removeprefix("right_"))
    return joint_index(name)


# In a mirrored image joint j becomes joint MIRROR[j].
MIRROR = tuple(_mirror(name) for name in JOINT_NAMES)


def _indices(*names: str) -> tuple[int, ...]:
    return tuple(joint_index(name) for name in names)


def _right_to_left(*parts: str) -> tuple[str, ...]:
    """Return a limb's joints on the right side, then on the left in reverse order."""
    right = [f"right_{part}" for part in parts]
    return (*right, *(f"left_{part}" for part in reversed(parts)))


# The joints of PCK and AUC in the 3DPW challenge.
PCK_JOINTS = _indices(
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)

# The joints whose global orientation the 3DPW challenge compares (MPJAE).
ORIENTATION_PARTS = _indices(
    "pelvis",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
)

# The rows of J_regressor_h36m.npy, the usual regressor from SMPL's mesh to Human3.6M's joints.
H36M_NAMES = (
    "pelvis",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_hip",
    "right_knee",
    "right_ankle",
    "spine",
    "neck",
    "jaw",
    "head",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
)

# The order of the limbs in LSP's and MPII's joints.
_LEGS = _right_to_left("ankle", "knee", "hip")
_ARMS = _right_to_left("wrist", "elbow", "shoulder")

# The 14 of them on which papers report 3DPW (HMR, SPIN, PARE), in LSP's order.
J14_NAMES = (*_LEGS, *_ARMS, "neck", "head")

# Part labels: 0 is background, j + 1 is joint j's part, 255 is unknown.
PART_BACKGROUND = 0
PART_UNKNOWN = 255
NUM_PART_LABELS = NUM_JOINTS + 1

# The joints of the MPII Human Pose annotations, in the order of their ids (Andriluka et al., "2D
# Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014).
MPII_JOINT_NAMES = (*_LEGS, "pelvis", "thorax", "upper_neck", "head_top", *_ARMS)
MPII_HEAD_TOP = MPII_JOINT_NAMES.index("head_top")

# MPII joints with another name in SMPL, or None. SMPL has no thorax and no top of the head. MPII's
# pelvis is the middle of the hips, which SMPL's is not.
_MPII_RENAMED = {"upper_neck": "neck", "pelvis": None, "thorax": None, "head_top": None}

# (id in MPII, SMPL joint) of the joints that both have.
MPII_TO_SMPL = tuple(
    (mpii_id, joint_index(ours))
    for mpii_id, name in enumerate(MPII_JOINT_NAMES)
    if (ours := _MPII_RENAMED.get(name, name)) is not None
)

# The points of 2D metrics: SMPL's joints, and the top of the head, which is a vertex of the mesh.
EVALUATED_POINTS = (*JOINT_NAMES, "head_top")
NUM_POINTS = len(EVALUATED_POINTS)
HEAD_TOP = EVALUATED_POINTS.index("head_top")

# The points of PCKh: MPII's joints without pelvis and thorax, as in MPII's own evaluation.
PCKH_POINTS = (*sorted(joint for _, joint in MPII_TO_SMPL), HEAD_TOP)
# The columns of MPII's table, in its order, with their points.
PCKH_GROUPS = {
    "Head": (joint_index("neck"), HEAD_TOP),
    "Shoulder": _indices("left_shoulder", "right_shoulder"),
    "Elbow": _indices("left_elbow", "right_elbow"),
    "Wrist": _indices("left_wrist", "right_wrist"),
    "Hip": _indices("left_hip", "right_hip"),
    "Knee": _indices("left_knee", "right_knee"),
    "Ankle": _indices("left_ankle", "right_ankle"),
}
