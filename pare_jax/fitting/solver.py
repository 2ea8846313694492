"""Levenberg-Marquardt steps for a batch of fits, each with its own damping."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pare_jax.fitting.energy import (
    EnergyWeights,
    Normal,
    Pose,
    Problem,
    Unknowns,
    moved,
    normal_equations,
)
from pare_jax.skeleton import NUM_BETAS

_FIRST_DAMPING, _LESS, _MORE = 1e-2, 0.3, 5.0
_DAMPING_RANGE = (1e-5, 1e4)
# A step turns no joint by more, radians.
_LARGEST_STEP = 0.8


class Solved(NamedTuple):
    """The state of a batch of fits.

    Attributes:
        pose: the unknowns.
        energy: of each fit.
        squared: each keypoint's squared error in sigmas.
        decrease: of the energy that the last step promised.
        matrix: the Gauss-Newton matrix; None where it is no longer needed.
    """

    pose: Pose
    energy: Float[Array, " batch"]
    squared: Float[Array, "batch points"]
    decrease: Float[Array, " batch"]
    matrix: Float[Array, "batch unknowns unknowns"] | None = None


@functools.partial(jax.jit, static_argnames="unknowns")
def solve(
    problem: Problem, pose: Pose, weights: EnergyWeights, unknowns: Unknowns, steps: int
) -> Solved:
    """Minimise the energy by Levenberg-Marquardt steps.

    A step that does not lower a fit's energy is not taken, and its damping grows.

    Args:
        problem: what is fitted to.
        pose: the start.
        weights: of the terms.
        unknowns: which of them change.
        steps: number of steps; all numbers share one compiled program.
    """
    rows, count = problem.points.shape[:2]
    size = 3 * len(unknowns.joints) + NUM_BETAS * unknowns.shape + 3
    infinite = jnp.full(rows, jnp.inf)
    # The first round takes no step: it only replaces these by the start's equations.
    nothing = Normal(infinite, jnp.zeros((rows, size)), jnp.zeros((rows, size, size)))
    start = (pose, nothing, jnp.zeros((rows, count)), jnp.full(rows, _FIRST_DAMPING), infinite)

    def body(_, carry):
        pose, normal, squared, damping, _ = carry
        step = _step(normal, damping, unknowns)
        promised = -0.5 * (step * normal.gradient).sum(-1)
        tried = moved(pose, step, unknowns)
        other, other_squared = normal_equations(problem, tried, weights, unknowns)
        better = other.energy < normal.energy
        pose, normal, squared = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            (tried, other, other_squared),
            (pose, normal, squared),
        )
        damping = jnp.clip(damping * jnp.where(better, _LESS, _MORE), *_DAMPING_RANGE)
        return pose, normal, squared, damping, promised

    pose, normal, squared, _, decrease = jax.lax.fori_loop(0, steps + 1, body, start)
    return Solved(pose, normal.energy, squared, decrease, normal.matrix)


def _step(normal: Normal, damping: Array, unknowns: Unknowns) -> Array:
    diagonal = jnp.diagonal(normal.matrix, axis1=1, axis2=2)
    added = damping[:, None] * (diagonal + 1.0) + 1e-4
    matrix = normal.matrix + jnp.eye(diagonal.shape[-1]) * added[:, None]
    factor = jax.lax.linalg.cholesky(matrix)
    solved = jax.scipy.linalg.cho_solve((factor, True), -normal.gradient[..., None])[..., 0]
    solved = jnp.where(jnp.isfinite(solved), solved, 0.0)
    turns = solved[:, : 3 * len(unknowns.joints)]
    largest = jnp.sqrt((turns.reshape(len(turns), -1, 3) ** 2).sum(-1)).max(-1)
    return solved * jnp.minimum(1.0, _LARGEST_STEP / (largest + 1e-9))[:, None]
