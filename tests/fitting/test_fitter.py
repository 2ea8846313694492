"""Fits of drawn people: found again, outliers ignored, knees never backwards, bad input refused."""

import dataclasses

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.fitting.clip_fitter import best_path, fit_clip
from pare_jax.fitting.fitter import FitSettings, crop_lens, fit, refine
from pare_jax.fitting.verdict import verdicts
from pare_jax.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from pare_jax.keypoints.sets import NUM_BODY_POINTS, point_index
from pare_jax.skeleton import joint_index
from tests.fitting.drawn_points import FLIP, drawn_pose, free_points, points_of

# One size of batch, so that the tests share a compiled program.
PEOPLE = 4
QUICK = FitSettings(starts=4, kept=1, first_steps=6, steps=10)


def joint_errors(fitted, joints):
    found = np.asarray(free_points().place(fitted.rotations, fitted.betas)[1])
    error = (found - found[:, :1]) - (joints - joints[:, :1])
    return np.linalg.norm(error, axis=-1).mean(1)


def test_drawn_people_are_found_again():
    points, joints = points_of(drawn_pose(PEOPLE))
    fitted = fit(points, body=free_points(), settings=QUICK)
    assert fitted.error.max() < 0.02
    assert np.median(joint_errors(fitted, joints)) < 0.08
    assert all(report.good for report in verdicts(fitted, points))


def test_refining_a_wrong_answer_brings_it_close_and_names_an_outlier():
    pose = drawn_pose(PEOPLE, seed=3)
    points, joints = points_of(pose)
    noise = np.random.default_rng(1).normal(size=(PEOPLE, 24, 3)).astype(np.float32) * 0.15
    turned = pose.rotations @ np.asarray(axis_angle_to_matrix(noise))
    start = pose._replace(rotations=turned, betas=0 * pose.betas)
    wrist = point_index("left_wrist")
    points[0, wrist, :2] += (1.5, -1.5)
    fitted = refine(points, start, body=free_points())
    # Depths stay near those of the start, which are wrong here.
    assert joint_errors(fitted, joints)[1:].mean() < 0.9 * joint_errors(start, joints)[1:].mean()
    assert fitted.error[1:].max() < 0.05
    first, *others = verdicts(fitted, points)
    assert "left_wrist" in first.ignored
    assert not any("left_wrist" in report.ignored for report in others)


def test_a_knee_does_not_bend_backwards():
    pose = drawn_pose(PEOPLE)
    pose.rotations[:] = np.eye(3)
    # Seen from the side, the shin 70 degrees forwards.
    sideways = np.asarray(axis_angle_to_matrix(np.float32([0, np.pi / 2, 0])))
    pose.rotations[:, 0] = FLIP @ sideways
    knee = joint_index("left_knee")
    pose.rotations[:, knee] = np.asarray(axis_angle_to_matrix(np.float32([-1.2, 0, 0])))
    points, _ = points_of(pose)
    fitted = fit(points, body=free_points(), settings=QUICK)
    bend = np.asarray(matrix_to_axis_angle(fitted.rotations[:, knee]))[:, 0]
    assert bend.min() > -0.3


def test_a_person_without_points_gets_a_finite_pose_and_a_reason():
    points, _ = points_of(drawn_pose(PEOPLE))
    points[1] = 0
    points[2, :, 2] = np.arange(NUM_BODY_POINTS) == point_index("nose")
    fitted = fit(points, body=free_points(), settings=QUICK)
    assert all(np.isfinite(x).all() for x in (fitted.rotations, fitted.betas, fitted.camera))
    good = [report.good for report in verdicts(fitted, points)]
    assert good == [True, False, False, True]


def test_nobody_gives_empty_arrays():
    fitted = fit(np.zeros((0, NUM_BODY_POINTS, 3)), body=free_points())
    assert fitted.rotations.shape == (0, 24, 3, 3)
    assert fitted.ignored.dtype == bool


def test_a_lens_in_the_middle_of_the_photograph_is_seen_from_the_crop():
    lens = crop_lens(np.array([[30.0, 40.0]]), np.array([20.0]), (100, 80), 50.0)
    np.testing.assert_allclose(lens, [[5.0, 2.0, 0.0]])


@pytest.mark.parametrize("broken", ["nan", "shape", "start", "world", "lens"])
def test_bad_input_is_refused(broken):
    pose = drawn_pose(PEOPLE)
    points, _ = points_of(pose)
    more = {}
    if broken == "nan":
        points[1, point_index("nose"), 0] = np.nan
    elif broken == "shape":
        points = points[:, :17]
    elif broken == "start":
        more["start"] = pose._replace(betas=pose.betas[:, :5])
    elif broken == "world":
        more["world"] = points[:2]
    else:
        more["lens"] = np.zeros((PEOPLE, 3))
    names = {"nan": "NaN", "shape": "17", "start": "5", "world": "3D", "lens": "lenses"}
    with pytest.raises(UserError, match=names[broken]):
        fit(points, body=free_points(), **more)


def test_the_best_path_avoids_a_flip_that_costs_less_energy():
    places = np.zeros((3, 2, 5, 3))
    places[:, 1] = 0.5
    energy = np.array([[0.0, 9.0], [1.0, 0.0], [0.0, 9.0]])
    np.testing.assert_array_equal(best_path(energy, places), [0, 0, 0])


def test_a_clip_has_one_shape_and_frames_without_points_follow_their_neighbours():
    frames = 2 * PEOPLE
    pose = drawn_pose(1, seed=5)
    pose = pose._replace(
        **{name: np.repeat(value, frames, axis=0) for name, value in pose._asdict().items()}
    )
    points, _ = points_of(pose)
    noise = np.random.default_rng(0).normal(size=points[..., :2].shape) * 0.02
    points[..., :2] += np.where(points[..., 2:] > 0, noise, 0)
    points[3] = 0
    quick = dataclasses.replace(QUICK, batch=PEOPLE)
    fitted = fit_clip(points, body=free_points(), settings=quick)
    assert np.ptp(fitted.betas, axis=0).max() == 0
    joints = np.asarray(free_points().place(fitted.rotations, fitted.betas)[1])
    motion = np.linalg.norm(np.diff(joints - joints[:, :1], axis=0), axis=-1)
    assert motion.mean() < 0.03
