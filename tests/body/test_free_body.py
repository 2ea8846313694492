"""The free body: SMPL's frame, format and rest pose, symmetry, sizes."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pare_jax.body.io import load_body_data
from pare_jax.body.model import load_body_model
from pare_jax.body.numpy_body import joints_of, vertices_and_joints
from pare_jax.body.rest_pose import LIMBS, STRAIGHT, rest_turns
from pare_jax.skeleton import JOINT_NAMES, MIRROR, PARENTS, joint_index
from tests.body.small_bodies import random_pose, rotations_of

REST = np.tile(np.eye(3), (24, 1, 1))


@pytest.fixture(scope="module")
def free():
    return load_body_data()


@pytest.fixture(scope="module")
def rest(free):
    """Return a function from a joint's name to its rest-pose positions in 200 shapes."""
    betas = np.clip(np.random.default_rng(0).normal(size=(200, 10)), -2.5, 2.5)
    joints = joints_of(free, betas, np.tile(REST, (200, 1, 1, 1)))
    return lambda name: joints[:, joint_index(name)]


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def test_the_top_of_the_head_is_the_crown(free):
    """It is on the midline, moves with the head, and is above the head joint in every shape."""
    top = free.head_top
    assert abs(free.template[top, 0]) < 1e-6
    assert free.weights[top, joint_index("head")] > 0.99
    betas = np.clip(np.random.default_rng(1).normal(size=(20, 10)), -2.5, 2.5)
    vertices, joints = vertices_and_joints(free, betas, np.tile(REST, (20, 1, 1, 1)))
    assert abs(vertices[:, top, 0]).max() < 0.005
    assert (vertices[:, :, 1].max(1) - vertices[:, top, 1]).max() < 0.005
    above = vertices[:, top] - joints[:, joint_index("head")]
    assert (above[:, 1] > 0.12).all()
    assert (above[:, 1] < 0.3).all()


@pytest.mark.parametrize("name", LIMBS)
def test_limbs_rest_in_smpls_directions(rest, free, name):
    """Within 1 degree for the mean shape, and about as close for the others."""
    joint = joint_index(name)
    flat = [1, 0, 1] if name == "left_foot" else 1  # feet are flat, so only their heading is SMPL's
    for number, flip in ((joint, 1), (MIRROR[joint], -1)):
        smpls = unit(np.array(LIMBS[name]) * flat) * [flip, 1, 1]
        own = free.joint_template[number] - free.joint_template[PARENTS[number]]
        assert np.rad2deg(np.arccos(unit(own * flat) @ smpls)) < 1
        shaped = rest(JOINT_NAMES[number]) - rest(JOINT_NAMES[PARENTS[number]])
        assert np.rad2deg(np.arccos((unit(shaped * flat) @ smpls).min())) < 2


def test_the_slope_of_feet_is_as_near_to_smpls_as_public_tables_are_to_each_other(free):
    toes = free.joint_template[joint_index("left_foot")]
    foot = unit(toes - free.joint_template[joint_index("left_ankle")])
    assert np.rad2deg(np.arccos(foot @ unit(np.array(LIMBS["left_foot"])))) < 5


def test_turns_lead_from_straight_limbs_to_smpls():
    turns = rest_turns()
    for name, straight in STRAIGHT.items():
        turned = turns[PARENTS[joint_index(name)]] @ straight
        np.testing.assert_allclose(turned, LIMBS[name], atol=1e-4)
    flip = np.diag([-1, 1, 1])
    np.testing.assert_allclose(turns[list(MIRROR)], flip @ turns @ flip, atol=1e-12)
    np.testing.assert_array_equal(turns[joint_index("left_ankle")], np.eye(3))


def test_stands_upright_on_flat_feet_in_every_shape(rest, free):
    assert unit(rest("head") - rest("pelvis"))[:, 1].min() > 0.98
    assert np.abs(rest("pelvis")).max() < 0.003
    for side in ("left", "right"):
        toes = rest(f"{side}_foot") - rest(f"{side}_ankle")
        assert toes[:, 2].min() > 0.08
        foot = free.template[free.weights.argmax(1) == joint_index(f"{side}_foot")]
        heel = free.template[free.weights.argmax(1) == joint_index(f"{side}_ankle")]
        assert abs(foot[:, 1].min() - heel[:, 1].min()) < 0.01


def test_joints_are_inside_the_body(free):
    """The solid angles of all triangles add up to a full sphere around an inner point."""
    for betas in (np.zeros(10), *(2.5 * np.eye(10)[:3]), *(-2.5 * np.eye(10)[:3])):
        vertices = free.template + free.shape_basis @ betas
        joints = free.joint_template + free.joint_basis @ betas
        for joint in joints:
            a, b, c = (vertices[free.faces[:, i]] - joint for i in range(3))
            la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
            spread = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
            angle = 2 * np.arctan2((a * np.cross(b, c)).sum(1), spread)
            assert angle.sum() == pytest.approx(4 * np.pi, rel=1e-3)


def test_has_the_size_of_people(free):
    height = np.ptp(free.template[:, 1])
    assert 1.65 < height < 1.75
    tall = free.template + 2 * free.shape_basis[..., 0]
    assert 1.80 < np.ptp(tall[:, 1]) < 2.0


def test_is_symmetric(free):
    distance, mirror = cKDTree(free.template).query(free.template * [-1, 1, 1])
    assert distance.max() < 1e-5
    np.testing.assert_allclose(free.weights[mirror][:, list(MIRROR)], free.weights, atol=1e-5)
    joints = free.joint_template
    np.testing.assert_allclose(joints[list(MIRROR)] * [-1, 1, 1], joints, atol=1e-4)
    basis = free.joint_basis
    np.testing.assert_allclose(
        basis[list(MIRROR)] * np.array([-1, 1, 1])[:, None], basis, atol=1e-3
    )


def test_has_smpls_format(free):
    assert free.parents == PARENTS
    np.testing.assert_allclose(free.weights.sum(1), 1, atol=1e-5)
    assert (free.weights >= 0).all()
    assert (free.weights > 0).sum(1).max() <= 4
    np.testing.assert_allclose(free.joint_regressor.sum(1), 1, atol=1e-4)
    assert not free.has_pose_basis
    assert len(np.unique(free.faces)) == len(free.template)


def test_faces_look_outward_and_close_the_surface(free):
    for faces, points in (
        (free.faces, free.template),
        (free.extras["coarse_faces"], free.extras["coarse_template"]),
    ):
        a, b, c = (points[faces[:, i]].astype(np.float64) for i in range(3))
        volume = (a * np.cross(b, c)).sum() / 6
        assert 0.04 < volume < 0.11  # Cubic metres; people weigh about a tonne per cubic metre.
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_coarse_mesh_is_the_same_body(free):
    rng = np.random.default_rng(1)
    betas, _, rotations = random_pose(rng, 5, angle=0.4)
    fine, joints = vertices_and_joints(free, betas, rotations)
    coarse, same = vertices_and_joints(free, betas, rotations, coarse=True)
    np.testing.assert_array_equal(joints, same)
    for one, other in zip(coarse, fine, strict=True):
        distance, _ = cKDTree(other).query(one)
        # The coarse mesh keeps the inside of its mouth, 1.5 % of its vertices.
        assert np.quantile(distance, 0.97) < 0.03


def test_parts_and_regions_are_in_the_right_places(free):
    names = list(free.extras["region_names"])
    parts = free.extras["part_of_vertex"]
    assert set(parts) == set(range(24))

    def centre(name, prefix=""):
        points = free.template if not prefix else free.extras["coarse_template"]
        chosen = free.extras[f"{prefix}region_of_vertex"] == names.index(name)
        assert chosen.any(), name
        return points[chosen].mean(0)

    for prefix in ("", "coarse_"):
        assert centre("face", prefix)[2] > centre("scalp", prefix)[2] + 0.05
        assert centre("eyes", prefix)[1] > centre("lips", prefix)[1] + 0.03
        assert centre("brows", prefix)[1] > centre("eyes", prefix)[1]
        assert centre("foot", prefix)[1] < centre("shin", prefix)[1] < centre("thigh", prefix)[1]
        assert abs(centre("hand", prefix)[0]) < 0.01
    for j in range(24):
        gap = free.template[parts == j].mean(0) - free.joint_template[j]
        assert np.linalg.norm(gap) < 0.25


def test_the_surface_is_a_neutral_figure(free):
    """Trunk and face have no creases, and chest and belly no detail, in any shape.

    The largest angles between neighbouring triangles of the body with details were 151 degrees on
    the trunk, 129 on the face, 21 on the chest and 26 on the belly.
    """
    names = list(free.extras["region_names"])
    region = free.extras["region_of_vertex"]
    x, y, z = free.template.T

    def near(*point):
        return np.linalg.norm(free.template - point, axis=1) < 0.015

    trunk = np.isin(region, [names.index(name) for name in ("torso", "pelvis")])
    face = np.isin(region, [names.index(name) for name in ("face", "eyes", "lips", "brows")])
    places = {
        "trunk": (trunk & (y < 0.35) & (abs(x) < 0.14), 60),
        "face": (face & (z > 0.06), 45),
        "chest": (near(0.079, 0.287, 0.135), 9),
        "belly": (near(0, 0.095, 0.123), 9),
    }
    pairs = np.sort(np.stack([free.faces, np.roll(free.faces, -1, 1)], -1).reshape(-1, 2), 1)
    order = np.lexsort(pairs.T)
    edges, faces = pairs[order[::2]], order.reshape(-1, 2) // 3
    rng = np.random.default_rng(0)
    for betas in (np.zeros(10), *np.clip(rng.normal(size=(8, 10)), -2.5, 2.5)):
        a, b, c = (free.template + free.shape_basis @ betas)[free.faces].swapaxes(0, 1)
        normals = unit(np.cross(b - a, c - a))
        cosines = np.einsum("ei,ei->e", *normals[faces].swapaxes(0, 1))
        angles = np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))
        for place, (inside, most) in places.items():
            chosen = angles[inside[edges].all(1)]
            assert len(chosen) > 10, place
            assert chosen.max() < most, place


def test_rotations_bend_as_in_smpl(free):
    """Elbows flex forward about y, knees back about x."""

    def pose(name, *axis_angle):
        angles = np.zeros((24, 3))
        angles[joint_index(name)] = axis_angle
        joints = joints_of(free, np.zeros(10), rotations_of(angles))
        return lambda other: joints[joint_index(other)]

    at = pose("left_elbow", 0, -1.5, 0)
    assert at("left_wrist")[2] > at("left_elbow")[2] + 0.2
    at = pose("right_elbow", 0, 1.5, 0)
    assert at("right_wrist")[2] > at("right_elbow")[2] + 0.2
    at = pose("left_knee", 1.5, 0, 0)
    assert at("left_ankle")[2] < at("left_knee")[2] - 0.3
    at = pose("left_hip", -1.5, 0, 0)
    assert at("left_knee")[2] > at("left_hip")[2] + 0.3


def test_loads_as_the_default_model():
    body = load_body_model()
    assert body.name == "free_body"
    assert body.weights.shape == (body.num_vertices, 24)
    assert body.faces.shape[1] == 3
    assert body.parents == PARENTS
