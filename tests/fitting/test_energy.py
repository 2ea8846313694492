"""The energy of a fit: its analytic derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pare_jax.fitting.batches import checked_inputs, problem_of, used_points
from pare_jax.fitting.energy import EVERYTHING, EnergyWeights, moved, normal_equations
from pare_jax.fitting.prior import load_pose_prior
from tests.fitting.drawn_points import drawn_pose, free_points, points_of

DIRECTIONS = 16
STEP = 2e-3


@pytest.mark.parametrize(
    ("weights", "size"),
    [
        # The scale of 3D points is held in each step, so they weigh little.
        (EnergyWeights(world=1e-3), 1.0),
        # 3D points alone, so small that their scale is at its limit.
        (EnergyWeights(sigma=1e3, pose=0, limits=0, shape=0, upright=0, smooth=0), 0.1),
    ],
)
def test_gradient_is_the_slope_of_the_energy_in_every_direction(weights, size):
    rng = np.random.default_rng(0)

    def repeated(tree):
        return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), DIRECTIONS, axis=0), tree)

    drawn = drawn_pose(1, seed=1)
    points = repeated(points_of(drawn)[0])
    placed = np.asarray(free_points().place(drawn.rotations, drawn.betas)[0])
    world = np.repeat(size * placed, DIRECTIONS, axis=0)
    # A near camera off the crop's centre: every term of the perspective counts.
    lens = np.float32([[3.0, 0.5, -0.4]] * DIRECTIONS)
    inputs = checked_inputs(points, world, None, lens)
    problem = problem_of(inputs, free_points(), load_pose_prior(), used_points(inputs))
    near = rng.normal(size=(1, *problem.points.shape[1:2], 3)).astype(np.float32) * 0.2
    problem = problem._replace(near=repeated(near))
    start = repeated(drawn_pose(1, seed=2))

    @jax.jit
    def solve(problem, pose):
        return normal_equations(problem, pose, weights, EVERYTHING)[0]

    directions = rng.normal(size=(DIRECTIONS, 73)).astype(np.float32)
    before, here, after = (
        solve(problem, moved(start, jnp.asarray(sign * STEP * directions), EVERYTHING))
        for sign in (-1, 0, 1)
    )
    slopes = (np.asarray(after.energy) - np.asarray(before.energy)) / (2 * STEP)
    own = (np.asarray(here.gradient) * directions).sum(1)
    np.testing.assert_allclose(own, slopes, atol=0.01 * np.abs(slopes).max())
