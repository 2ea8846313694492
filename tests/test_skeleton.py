"""The skeleton's tables against SMPL's, MPII's and the 3DPW challenge's definitions."""

import pytest

from pare_jax import skeleton


def test_tree_is_smpl():
    assert skeleton.NUM_JOINTS == 24
    assert (
        *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
        *(9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    ) == skeleton.PARENTS
    assert all(parent < joint for joint, parent in enumerate(skeleton.PARENTS))
    assert len(set(skeleton.JOINT_NAMES)) == skeleton.NUM_JOINTS


def test_names_follow_the_tree():
    chains = {
        "left_foot": ["left_ankle", "left_knee", "left_hip", "pelvis"],
        "right_hand": [
            *("right_wrist", "right_elbow", "right_shoulder", "right_collar"),
            *("spine3", "spine2", "spine1", "pelvis"),
        ],
        "head": ["neck", "spine3"],
    }
    for name, ancestors in chains.items():
        joint = skeleton.joint_index(name)
        for ancestor in ancestors:
            joint = skeleton.PARENTS[joint]
            assert skeleton.JOINT_NAMES[joint] == ancestor


def test_mirror_swaps_sides_and_keeps_the_tree():
    for joint, mirrored in enumerate(skeleton.MIRROR):
        name, other = skeleton.JOINT_NAMES[joint], skeleton.JOINT_NAMES[mirrored]
        assert skeleton.MIRROR[mirrored] == joint
        swapped = {"left": "right", "right": "left"}.get(name.split("_")[0])
        assert other == (name if swapped is None else f"{swapped}_{name.split('_')[1]}")
        parent = skeleton.PARENTS[joint]
        expected = parent if parent < 0 else skeleton.MIRROR[parent]
        assert skeleton.PARENTS[mirrored] == expected


def test_metric_sets_are_those_of_the_challenge():
    assert skeleton.PCK_JOINTS == (1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21)
    assert skeleton.ORIENTATION_PARTS == (0, 1, 2, 4, 5, 16, 17, 18, 19)


def test_mpii_joints_map_to_the_same_joints_of_smpl():
    assert len(skeleton.MPII_JOINT_NAMES) == 16
    # Right leg from the ankle up, left leg down; the neck; arms from right wrist to left wrist.
    legs, arms = (
        {0: 8, 1: 5, 2: 2, 3: 1, 4: 4, 5: 7},
        {10: 21, 11: 19, 12: 17, 13: 16, 14: 18, 15: 20},
    )
    assert dict(skeleton.MPII_TO_SMPL) == legs | {8: 12} | arms
    for mpii_id, joint in skeleton.MPII_TO_SMPL:
        name = skeleton.MPII_JOINT_NAMES[mpii_id]
        assert skeleton.JOINT_NAMES[joint] == name.removeprefix("upper_")
    assert skeleton.MPII_JOINT_NAMES[skeleton.MPII_HEAD_TOP] == "head_top"
    assert skeleton.MPII_JOINT_NAMES[6:10] == ("pelvis", "thorax", "upper_neck", "head_top")


def test_pckh_has_mpiis_columns():
    assert skeleton.HEAD_TOP == 24
    assert skeleton.PCKH_POINTS == (1, 2, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21, 24)
    assert list(skeleton.PCKH_GROUPS) == [
        *("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
    ]
    pairs = list(skeleton.PCKH_GROUPS.values())
    assert pairs == [(12, 24), (16, 17), (18, 19), (20, 21), (1, 2), (4, 5), (7, 8)]


def test_unknown_name_is_refused():
    assert skeleton.joint_index("left_wrist") == 20
    with pytest.raises(ValueError, match="not in tuple"):
        skeleton.joint_index("left_wing")
