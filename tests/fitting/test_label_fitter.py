"""Fits that become labels: agreement of starts, and plausibility."""

import numpy as np

from pare_jax.fitting.batches import checked_inputs, problem_of, used_points
from pare_jax.fitting.energy import Pose
from pare_jax.fitting.fitter import FitSettings, agreement_of
from pare_jax.fitting.label_fitter import fit_label
from pare_jax.fitting.plausibility import plausibility
from pare_jax.fitting.prior import load_pose_prior
from pare_jax.fitting.solver import Solved
from pare_jax.geometry import axis_angle_to_matrix
from pare_jax.skeleton import joint_index
from tests.fitting.drawn_points import drawn_pose, free_points, points_of

# As the tests of data_pipelines/fits have it, so that they share compiled programs.
PEOPLE = 1
QUICK = FitSettings(starts=2, kept=1, first_steps=3, steps=3, refine_steps=4)


def test_starts_agree_by_distance_and_energy():
    pose, other = Pose(*drawn_pose(2)), Pose(*drawn_pose(2, seed=1))
    points, joints = points_of(pose)
    inputs = checked_inputs(points, None, None, None)
    problem = problem_of(inputs, free_points(), load_pose_prior(), used_points(inputs))
    far = points_of(other)[1]
    error = (far - far[:, :1]) - (joints - joints[:, :1])
    distance = 1000 * np.linalg.norm(error, axis=-1).mean(1)
    squared = np.zeros(points.shape[:2], np.float32)
    # The second start of the second person has a far higher energy.
    energies = np.float32([[5.0, 5.0]]), np.float32([[5.0, 500.0]])
    found = [
        Solved(one, energy[0], squared, energy[0])
        for one, energy in zip((pose, other), energies, strict=True)
    ]
    agreement = agreement_of(problem, found, pose)
    np.testing.assert_allclose(agreement, [distance[0] / 2, 0], rtol=1e-3, atol=1e-3)


def test_a_label_keeps_the_depths_of_the_networks_answer():
    pose = drawn_pose(PEOPLE)
    points, joints = points_of(pose)
    fitted = fit_label(points, pose, body=free_points(), settings=QUICK)
    found = np.asarray(free_points().place(fitted.rotations, fitted.betas)[1])
    assert np.abs((found - found[:, :1]) - (joints - joints[:, :1])).max() < 0.05
    assert fitted.agreement.shape == (PEOPLE,)
    assert (fitted.agreement > 0).all()


def test_plausibility_falls_with_strange_poses_and_shapes():
    prior = load_pose_prior()
    rotations, betas = np.array(prior.poses[:200]), np.zeros((200, 10), np.float32)
    usual = plausibility(rotations, betas)
    assert 0.2 < np.median(usual) <= 1
    assert plausibility(rotations, betas + 5).max() < 0.01
    backwards = np.asarray(axis_angle_to_matrix(np.float32([-1.5, 0, 0])))
    rotations[:, joint_index("left_knee")] = backwards
    strange = plausibility(rotations, betas)
    assert (strange <= usual).all()
    assert np.median(strange) == 0
