"""`scripts/measure_pixels.py`: ways to join two answers, and their scores."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.body.io import load_body_data
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.sets import COCO17, NUM_BODY_POINTS, point_index
from pare_jax.skeleton import NUM_JOINTS


@pytest.fixture(name="script")
def script_fixture(monkeypatch):
    """Return a function that imports a module of the scripts as they import each other."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module


def answer(script, rotation=(0.0, 0.0, 0.0), camera=(0.8, 0.1, -0.2), people=1):
    """Return bodies whose joints all have one rotation vector."""
    matrix = Rotation.from_rotvec(rotation).as_matrix()
    return script("pixel_methods").Answer(
        np.tile(matrix, (people, NUM_JOINTS, 1, 1)),
        np.zeros((people, 10)),
        np.tile(camera, (people, 1)),
    )


def test_an_answer_keeps_its_place_in_the_photograph_in_another_square(script):
    own, other = np.array([[50.0, 60.0, 80.0]]), np.array([[40.0, 75.0, 120.0]])
    first = answer(script)
    second = script("pixel_methods").in_other_squares(first, own, other)
    places = [
        square[:, :2] + square[:, 2:] / 2 * one.camera[:, :1] * (np.array([0.3, 0.5]) + shift)
        for one, square in ((first, own), (second, other))
        for shift in (one.camera[:, 1:],)
    ]
    np.testing.assert_allclose(places[0], places[1], rtol=1e-5)


def test_the_mean_of_two_rotations_is_half_way(script):
    first, second = answer(script), answer(script, (0.0, 1.2, 0.0), (9.0, 9.0, 9.0))
    mean = script("pixel_methods").mean_of(first, second, 0.5)
    turns = Rotation.from_matrix(mean.rotations[0]).as_rotvec()
    np.testing.assert_allclose(turns, np.tile([0.0, 0.6, 0.0], (NUM_JOINTS, 1)), atol=1e-6)
    np.testing.assert_allclose(mean.camera, first.camera)


def test_a_linear_map_finds_a_linear_relation(script):
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(500, NUM_JOINTS, 3))
    mixed = joints.reshape(500, -1) @ rng.normal(size=(72, 72)) + 3.0
    learned = script("pixel_methods").linear_map(mixed[:400], joints[:400])
    errors = np.abs(learned(mixed[400:]) - joints[400:])
    assert errors.mean() < 0.3 * np.abs(joints).mean()


def test_the_order_of_limbs_counts_those_with_a_difference_in_depth(script):
    order = script("measure_pixels").limb_order
    true = np.zeros((2, NUM_BODY_POINTS, 3))
    true[0, point_index("left_wrist"), 2] = 0.3
    true[0, point_index("right_ankle"), 2] = -0.3
    guess = true.copy()
    guess[0, point_index("right_ankle"), 2] = 0.1
    np.testing.assert_allclose(order(guess, true), [50.0, np.nan])


def test_the_interval_is_around_the_mean(script):
    mean, low, high = script("measure_pixels").interval(np.arange(100.0))
    assert mean == 49.5
    assert 40 < low < mean < high < 59


def test_exact_keypoints_of_drawn_people_are_those_of_their_bodies(script):
    body = body_points(load_body_data(None))
    drawings = SyntheticSettings(image_size=48, mesh="coarse")
    people = script("pixel_people").drawn_people(drawings, body, 2, 32, exact=True)
    assert people.crops.shape == (2, 32, 32, 3)
    known = people.keypoints[0, :, 2] > 0
    assert set(np.flatnonzero(known)) == set(COCO17.indices)
    # Seen from some metres, x in the picture is nearly a multiple of x in the body.
    seen, true = people.keypoints[:, known, 0], people.points[:, known, 0]
    assert all(np.corrcoef(a, b)[0, 1] > 0.97 for a, b in zip(seen, true, strict=True))


def test_with_errors_keypoints_have_depths_until_these_are_left_out(script):
    body = body_points(load_body_data(None))
    drawings = SyntheticSettings(image_size=48, mesh="coarse")
    people = script("pixel_people").drawn_people(drawings, body, 2, 32, exact=False)
    assert people.keypoints[..., 4].any(1).all()
    assert not people.without_depths().keypoints[..., 3:].any()
