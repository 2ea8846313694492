"""Animated GLBs, read and skinned by the tests' own reader, match the body model."""

import dataclasses
import re

import numpy as np
import pytest

from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.errors import UserError
from pare_jax.meshes.animation import BodyMotion, animated_glb, four_weights, rigged_glb
from pare_jax.meshes.mesh import to_viewer
from pare_jax.skeleton import JOINT_NAMES, PARENTS
from tests.body.small_bodies import random_pose, rotations_of
from tests.meshes.glb_reader import Glb
from tests.prediction.made_up_people import small_body

RATE = 25.0
FRAMES = np.array([4, 5, 6, 9, 10])


@pytest.fixture(scope="module")
def body():
    return small_body()


def motion(seed: int = 0, **changes) -> BodyMotion:
    rng = np.random.default_rng(seed)
    betas, _, rotations = random_pose(rng, len(FRAMES))
    translations = rng.normal((0, 0, 5), 1, (len(FRAMES), 3))
    return dataclasses.replace(
        BodyMotion(betas[0], rotations, translations, FRAMES, name=f"person {seed}"), **changes
    )


def skinned_node(glb: Glb, name: str) -> int:
    return next(
        number
        for number, node in enumerate(glb.scene["nodes"])
        if node["name"] == name and "skin" in node
    )


def expected(body, moving: BodyMotion, row: int) -> np.ndarray:
    vertices, _ = vertices_and_joints(body, moving.betas, moving.rotations[row])
    return to_viewer(vertices + moving.translations[row])


def test_every_key_is_the_posed_body(body):
    first, second = motion(0), motion(1, frames=FRAMES + 7)
    glb = Glb(animated_glb(body, [first, second], RATE))
    for moving in (first, second):
        node = skinned_node(glb, moving.name)
        for row, frame in enumerate(moving.frames):
            got = glb.posed(node, (frame - 4) / RATE)
            # float32 numbers about 5 m away
            np.testing.assert_allclose(got, expected(body, moving, row), atol=1e-5)


def test_before_and_after_the_person_stands_still(body):
    moving, later = motion(0), motion(1, frames=FRAMES + 7)
    glb = Glb(animated_glb(body, [moving, later], RATE))
    node = skinned_node(glb, later.name)
    np.testing.assert_allclose(glb.posed(node, 0.0), expected(body, later, 0), atol=1e-5)
    np.testing.assert_allclose(glb.posed(node, 99.0), expected(body, later, -1), atol=1e-5)


def test_between_keys_joints_turn_the_short_way(body):
    """Halfway through a turn from 170 to 190 degrees is 180, where quaternions change sign."""
    angles = np.deg2rad([150, 170, 190, 210])
    vectors = np.zeros((4, 24, 3))
    vectors[:, 16, 1] = angles
    moving = BodyMotion(np.zeros(10), rotations_of(vectors), np.zeros((4, 3)), np.arange(4))
    glb = Glb(animated_glb(body, [moving], RATE))
    vectors[0, 16, 1] = np.pi
    middle, _ = vertices_and_joints(body, np.zeros(10), rotations_of(vectors[0]))
    got = glb.posed(skinned_node(glb, "person"), 1.5 / RATE)
    np.testing.assert_allclose(got, to_viewer(middle), atol=1e-5)


def test_only_pose_correctives_are_missing():
    body, plain = small_body(correctives=1.0), small_body()
    moving = motion()
    glb = Glb(animated_glb(body, [moving], RATE))
    got = glb.posed(skinned_node(glb, moving.name), 0.0)
    np.testing.assert_allclose(got, expected(plain, moving, 0), atol=1e-5)
    missing = np.abs(expected(body, moving, 0) - got).max()
    features = np.abs(moving.rotations[0, 1:] - np.eye(3)).reshape(-1)
    assert 1e-3 < missing < np.linalg.norm(np.abs(body.pose_basis) @ features, axis=1).max() + 1e-5


def test_without_the_animation_the_first_pose_is_shown(body):
    """Programs that do not animate use the nodes' own transforms."""
    moving = motion()
    glb = Glb(animated_glb(body, [moving], RATE))
    glb.scene["animations"][0]["channels"] = []
    got = glb.posed(skinned_node(glb, moving.name), 0.0)
    np.testing.assert_allclose(got, expected(body, moving, 0), atol=1e-5)


def test_a_still_pose_is_the_bodys_own_surface():
    """Pose correctives, which skins cannot hold, are in the rest mesh."""
    body, plain = small_body(correctives=1.0), small_body()
    people = [motion(0), motion(1)]
    glb = Glb(rigged_glb(body, people))
    assert "animations" not in glb.scene
    for person in people:
        got = glb.posed(skinned_node(glb, person.name), 0.0)
        np.testing.assert_allclose(got, expected(body, person, 0), atol=1e-5)
        assert np.abs(got - expected(plain, person, 0)).max() > 1e-3
    # The second person's joints are a skeleton of their own; weights are stored once.
    joints = [joint for skin in glb.scene["skins"] for joint in skin["joints"]]
    assert len(set(joints)) == 48
    assert [glb.scene["nodes"][joint]["name"] for joint in joints] == 2 * list(JOINT_NAMES)
    first, second = (mesh["primitives"][0]["attributes"] for mesh in glb.scene["meshes"])
    assert first["WEIGHTS_0"] == second["WEIGHTS_0"]
    assert first["POSITION"] != second["POSITION"]


def test_the_skeleton_is_smpls(body):
    glb = Glb(animated_glb(body, [motion()], RATE))
    (skin,) = glb.scene["skins"]
    nodes = glb.scene["nodes"]
    assert [nodes[joint]["name"] for joint in skin["joints"]] == list(JOINT_NAMES)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            assert skin["joints"][joint] in nodes[skin["joints"][parent]]["children"]
    (animation,) = glb.scene["animations"]
    targets = [(c["target"]["node"], c["target"]["path"]) for c in animation["channels"]]
    assert len(set(targets)) == len(targets) == 25


def test_four_weights_keep_the_strongest_and_sum_to_one():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(24, 0.3), 50)
    joints, kept = four_weights(weights)
    np.testing.assert_allclose(kept.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(joints[:, 0], weights.argmax(1))
    ratio = np.take_along_axis(weights, joints.astype(int), 1) / kept
    np.testing.assert_allclose(
        ratio, np.sort(weights, 1)[:, -4:].sum(1, keepdims=True).repeat(4, 1)
    )


@pytest.mark.parametrize("rate", [0.0, -5.0, float("nan"), float("inf")])
def test_a_rate_that_is_not_positive_and_finite_is_refused(body, rate):
    with pytest.raises(UserError, match=re.escape(str(rate))):
        animated_glb(body, [motion()], rate)


def test_bad_motions_are_refused(body):
    with pytest.raises(ValueError, match="'person 0'"):
        motion(frames=FRAMES[::-1])
    with pytest.raises(ValueError, match=r"rotations .*\(2, 24, 3, 3\)"):
        motion(rotations=np.zeros((2, 24, 3, 3)))
    with pytest.raises(ValueError, match=r"translations .*\(2, 3\)"):
        motion(translations=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="motions"):
        animated_glb(body, [], RATE)
    with pytest.raises(ValueError, match="poses"):
        rigged_glb(body, [])
