"""Joint angles and poses: signs, ranges of motion, no limb through the body."""

import numpy as np
import pytest

from data_pipelines.synthetic import angles as anatomy
from data_pipelines.synthetic.actions import LEAN, TIP
from data_pipelines.synthetic.collisions import body_size, collisions
from data_pipelines.synthetic.limb_targets import Figure, reach, step
from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.pose_pool import POOL_ACTIONS, draw_pose_pool
from data_pipelines.synthetic.poses import sample_pose, sample_poses
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
    for action in POOL_ACTIONS:
        for _ in range(10):
            drawn = action(rng)
            assert set(drawn) <= {*anatomy.NAMES, LEAN, TIP}, action.__name__
            assert np.isfinite(list(drawn.values())).all()


def test_a_batch_is_the_same_as_one_after_another(rest_joints):
    rng = np.random.default_rng(4)
    drawn = rng.uniform(anatomy.LOWEST, anatomy.HIGHEST, (40, anatomy.NUM_ANGLES))
    rotations = anatomy.rotations(drawn)
    each = [anatomy.rotations(one) for one in drawn]
    np.testing.assert_allclose(rotations, each, atol=1e-12)
    np.testing.assert_array_equal(anatomy.mirror(drawn), [anatomy.mirror(one) for one in drawn])
    posed = forward_kinematics(np.tile(rest_joints, (40, 1, 1)), rotations)
    arms, legs = collisions(*posed, 1.1, 0.9)
    alone = [collisions(*forward_kinematics(rest_joints, one), 1.1, 0.9) for one in each]
    np.testing.assert_array_equal(arms, [arm for arm, _ in alone])
    np.testing.assert_array_equal(legs, [leg for _, leg in alone])
    assert 0 < legs.sum() < 40
    assert 0 < arms.sum() < 80


@pytest.mark.parametrize(
    ("everyday", "left_wrist"),
    [(0.0, (0.251642, 0.556181, 0.374268)), (1.0, (0.062072, 0.167832, 0.344534))],
)
def test_a_seed_keeps_its_pose(rest_joints, everyday, left_wrist):
    """Sets of drawn people are reproduced from their seed alone."""
    rotations = sample_pose(np.random.default_rng(9), everyday, rest_joints, girth=1.0)
    _, joints = forward_kinematics(rest_joints, rotations)
    moved = joints[joint_index("left_wrist")] - joints[0]
    np.testing.assert_allclose(moved, left_wrist, atol=1e-5)


def _assert_possible(rotations, rest_joints):
    """Check rotations, collisions, and that knees and elbows bend one way."""
    eyes = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.swapaxes(-1, -2), eyes, atol=1e-5)
    rest = np.tile(rest_joints, (len(rotations), 1, 1))
    global_rotations, joints = forward_kinematics(rest, rotations)
    arms, legs = collisions(global_rotations, joints, body_size(rest_joints))
    assert not arms.any()
    assert not legs.any()
    from_t_pose = global_rotations @ rest_turns()

    def forwards(part, start, end):
        bone = joints[:, joint_index(end)] - joints[:, joint_index(start)]
        return (bone[:, None] @ from_t_pose[:, joint_index(part)])[:, 0, 2]

    for side in ("left", "right"):
        # The shin bends towards the thigh's back, the forearm to the upper arm's front (its +z).
        assert forwards(f"{side}_hip", f"{side}_knee", f"{side}_ankle").max() < 0.02
        assert forwards(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist").min() > -0.02


@pytest.mark.parametrize("everyday", [0.0, 1.0])
def test_poses_are_anatomically_possible(rest_joints, everyday):
    rng = np.random.default_rng(1)
    drawn = [sample_pose(rng, everyday, rest_joints, girth=1.0) for _ in range(50)]
    drawn += [*sample_poses(rng, 300, everyday, rest_joints, 1.0)]
    _assert_possible(np.array(drawn), rest_joints)


def test_the_pool_is_possible_and_reproducible(rest_joints):
    pool = draw_pose_pool(3, 1200).rotations
    assert pool.dtype == np.float32
    _assert_possible(pool, rest_joints)
    np.testing.assert_array_equal(draw_pose_pool(3, 40).rotations, pool[:40])
    assert not np.array_equal(draw_pose_pool(4, 40).rotations, pool[:40])
    assert len(np.unique(pool.reshape(1200, -1), axis=0)) == 1200  # chunks do not repeat


def test_the_pool_has_people_upright_lying_and_upside_down():
    up = draw_pose_pool(5, 1000).rotations[:, 0, 1, 1]  # of the trunk's axis, upwards
    assert 0.02 < np.mean(np.abs(up) < 0.4) < 0.3
    assert 0 < np.mean(up < -0.3) < 0.05
    assert np.mean(up > 0.8) > 0.6


@pytest.mark.parametrize(("side", "x"), [("left", 1.0), ("right", -1.0)])
def test_hands_and_feet_come_to_their_points(rest_joints, side, x):
    """Within reach, whatever the trunk does."""
    wrist, ankle = (0.2 * x, 0.35, 0.35), (0.15 * x, -0.6, 0.2)
    figure = Figure(20, 15, -10 * x, 12 * x).hand(side, wrist).foot(side, ankle)
    lean = figure.angles.pop(LEAN)
    angles = anatomy.zeros()
    for name, value in figure.angles.items():
        angles[anatomy.index(name)] = value
    np.testing.assert_array_equal(anatomy.clip(angles), angles)
    rotations = anatomy.rotations(angles)
    rotations[0] = anatomy.about_x(np.deg2rad(lean))
    _, joints = forward_kinematics(rest_joints, rotations)
    joints = joints - joints[0]
    np.testing.assert_allclose(joints[joint_index(f"{side}_wrist")], wrist, atol=0.02)
    np.testing.assert_allclose(joints[joint_index(f"{side}_ankle")], ankle, atol=0.02)
    foot = joints[joint_index(f"{side}_foot")] - joints[joint_index(f"{side}_ankle")]
    flat = rest_joints[joint_index(f"{side}_foot")] - rest_joints[joint_index(f"{side}_ankle")]
    assert abs(foot[1] - flat[1]) < 0.03


def test_limbs_that_cannot_turn_so_far_take_another_way():
    """The elbow bends elsewhere; a hip that is flexed too far does not become extended."""
    behind = reach("left", (0.3, 0.3, -0.1), (0.0, 0.0, -1.0))
    assert abs(behind["left_arm_rotate"]) < 110
    drawn_up = step("right", (-0.1, 0.1, 0.05), (0.0, 1.0, -0.2))
    assert drawn_up["right_hip_flex"] > 120


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
