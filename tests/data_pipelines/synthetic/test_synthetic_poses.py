"""Joint angles and poses: signs, ranges of motion, no limb through the body."""

import numpy as np
import pytest

from data_pipelines.synthetic import angles as anatomy
from data_pipelines.synthetic.actions import ACTIONS, LEAN, TIP
from data_pipelines.synthetic.collisions import body_size, collisions
from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.poses import sample_pose
from pare_jax.body.numpy_body import forward_kinematics
from pare_jax.body.rest_pose import rest_turns
from pare_jax.skeleton import MIRROR, joint_index

FLIP = np.diag([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def rest_joints():
    return load_mesh("coarse").rest_joints(np.zeros(10))


def _posed(rest_joints, **values):
    angles = anatomy.zeros()
    for name, value in values.items():
        angles[anatomy.index(name)] = value
    return forward_kinematics(rest_joints, anatomy.rotations(angles))[1]


def _bone(joints, start, end):
    bone = joints[joint_index(end)] - joints[joint_index(start)]
    return bone / np.linalg.norm(bone)


@pytest.mark.parametrize(
    ("angle", "value", "bone", "direction"),
    [
        ("left_arm_raise", 0, ("left_shoulder", "left_elbow"), (0, -1, 0)),
        ("left_arm_raise", 90, ("left_shoulder", "left_elbow"), (1, 0, 0)),
        ("right_arm_raise", 90, ("right_shoulder", "right_elbow"), (-1, 0, 0)),
        ("left_arm_raise", 180, ("left_shoulder", "left_elbow"), (0, 1, 0)),
        ("left_elbow", 90, ("left_elbow", "left_wrist"), (0, 0, 1)),
        ("right_elbow", 90, ("right_elbow", "right_wrist"), (0, 0, 1)),
        ("left_hip_flex", 90, ("left_hip", "left_knee"), (0, 0, 1)),
        ("left_hip_abduct", 45, ("left_hip", "left_knee"), (0.7071, -0.7071, 0)),
        ("right_hip_abduct", 45, ("right_hip", "right_knee"), (-0.7071, -0.7071, 0)),
        ("left_knee", 90, ("left_knee", "left_ankle"), (0, 0, -1)),
        ("right_knee", 90, ("right_knee", "right_ankle"), (0, 0, -1)),
    ],
)
def test_angles_move_limbs_as_in_anatomy(rest_joints, angle, value, bone, direction):
    joints = _posed(rest_joints, **{angle: value})
    np.testing.assert_allclose(_bone(joints, *bone), direction, atol=1e-2)


def test_the_anatomical_stance_has_straight_limbs(rest_joints):
    """SMPL's limbs are a little bent at rest, so that its rotations are not all the identity."""
    joints = _posed(rest_joints)
    for side in ("left", "right"):
        for bone in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            start, end = (f"{side}_{name}" for name in bone)
            np.testing.assert_allclose(_bone(joints, start, end), (0, -1, 0), atol=1e-2)


def test_trunk_bends_forward_left_and_turns_left(rest_joints):
    upright = _posed(rest_joints)
    head = joint_index("head")
    assert _posed(rest_joints, spine_flex=60)[head, 2] > upright[head, 2] + 0.2
    assert _posed(rest_joints, spine_side=30)[head, 0] > 0.1  # to the person's left
    turned = _posed(rest_joints, spine_twist=40)
    assert turned[joint_index("right_shoulder"), 2] > turned[joint_index("left_shoulder"), 2]


def test_mirrored_angles_give_the_mirrored_pose():
    rng = np.random.default_rng(0)
    drawn = rng.uniform(anatomy.LOWEST, anatomy.HIGHEST)
    rotations = anatomy.rotations(drawn)
    mirrored = anatomy.rotations(anatomy.mirror(drawn))
    np.testing.assert_allclose(mirrored, FLIP @ rotations[list(MIRROR)] @ FLIP, atol=1e-12)


def test_every_action_names_known_angles():
    rng = np.random.default_rng(0)
    for action in ACTIONS:
        for _ in range(20):
            drawn = action(rng)
            assert set(drawn) <= {*anatomy.NAMES, LEAN, TIP}, action.__name__
            assert np.isfinite(list(drawn.values())).all()


@pytest.mark.parametrize("everyday", [0.0, 1.0])
def test_poses_are_anatomically_possible(rest_joints, everyday):
    rng = np.random.default_rng(1)
    size = body_size(rest_joints)
    collided = 0
    for _ in range(150):
        rotations = sample_pose(rng, everyday, rest_joints, girth=1.0)
        np.testing.assert_allclose(
            rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (24, 1, 1)), atol=1e-9
        )
        global_rotations, joints = forward_kinematics(rest_joints, rotations)
        arms, legs = collisions(global_rotations, joints, size)
        collided += bool(arms.any() or legs)
        from_t_pose = global_rotations @ rest_turns()
        for side in ("left", "right"):
            # No backward knee: the shin bends towards the thigh's back.
            shin = from_t_pose[joint_index(f"{side}_hip")].T @ (
                joints[joint_index(f"{side}_ankle")] - joints[joint_index(f"{side}_knee")]
            )
            assert shin[2] < 0.02
            # No backward elbow: the forearm bends towards the upper arm's front (its +z).
            forearm = from_t_pose[joint_index(f"{side}_shoulder")].T @ (
                joints[joint_index(f"{side}_wrist")] - joints[joint_index(f"{side}_elbow")]
            )
            assert forearm[2] > -0.02
    assert collided == 0


def test_everyday_people_stand_on_their_feet(rest_joints):
    """The head is above the lowest foot or knee, and mostly right over it."""
    rng = np.random.default_rng(2)
    upright = []
    for _ in range(150):
        _, joints = forward_kinematics(rest_joints, sample_pose(rng, 1.0, rest_joints, girth=1.0))
        lowest = joints[:, 1].argmin()
        above = joints[joint_index("head")] - joints[lowest]
        upright.append(above[1] / np.linalg.norm(above))
        assert above[1] > 0.2
    assert np.median(upright) > 0.9


def test_a_hand_in_the_chest_and_crossed_legs_are_found(rest_joints):
    size = body_size(rest_joints)

    def collide(**values):
        angles = anatomy.zeros()
        for name, value in values.items():
            angles[anatomy.index(name)] = value
        return collisions(*forward_kinematics(rest_joints, anatomy.rotations(angles)), size)

    arms, legs = collide(left_arm_raise=15, right_arm_raise=15)
    assert not arms.any()
    assert not legs
    arms, _ = collide(left_arm_raise=10, left_arm_rotate=-80, left_elbow=90, right_arm_raise=15)
    assert arms.tolist() == [True, False]
    _, legs = collide(left_hip_abduct=-15, left_arm_raise=20, right_arm_raise=20)
    assert legs
