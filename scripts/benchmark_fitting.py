"""Time fits of bodies to keypoints, beside an Adam loop from the same starts.

    python scripts/benchmark_fitting.py [--people=256] [--adam_steps=250]

People are drawn: poses from the generator, COCO's 17 points, exact. Prints a table: fits a second
without compilation, the ratio to Adam in the same run, the mean error of the joints (mm, relative
to the root) and of the keypoints (shares of the extent), and the process's peak memory.
"""

import argparse
import functools
import resource
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipelines.synthetic.pose_pool import draw_pose_pool
from pare_jax.body.io import load_body_data
from pare_jax.fitting.batches import checked_inputs, problem_of, used_points
from pare_jax.fitting.energy import EVERYTHING, EnergyWeights, Pose, Problem, normal_equations
from pare_jax.fitting.fitter import BodyFit, FitSettings, fit, fit_of, refine
from pare_jax.fitting.prior import load_pose_prior
from pare_jax.fitting.solver import Solved
from pare_jax.fitting.starts import find_starts
from pare_jax.geometry import (
    axis_angle_to_matrix,
    camera_translation,
    matrix_to_sixd,
    project,
    sixd_to_matrix,
)
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.keypoints import SQUARE_SCALE
from pare_jax.keypoints.sets import COCO17, NUM_BODY_POINTS

# The generator's seed of the prior is another.
SEED = 7
# Radians about each axis, added to the true rotations: a network's answer.
ANSWER_NOISE = 0.2
_LEARNING_RATE = 0.03


class DrawnPeople(NamedTuple):
    """Bodies and their keypoints in the crop."""

    pose: Pose
    points: np.ndarray
    joints: np.ndarray


def draw_people(body: PointBody, count: int, seed: int = SEED) -> DrawnPeople:
    """Draw bodies seen from all around, and their exact keypoints.

    Args:
        body: of the points.
        count: number of people.
        seed: start of the random numbers.
    """
    rng = np.random.default_rng(seed)
    rotations = draw_pose_pool(seed, count).rotations
    turn = np.zeros((count, 3), np.float32)
    turn[:, 1] = rng.uniform(0, 2 * np.pi, count)
    lean = np.zeros((count, 3), np.float32)
    lean[:, 0] = rng.normal(0, 0.2, count)
    flip = np.diag([1.0, -1.0, -1.0])
    view = np.asarray(axis_angle_to_matrix(lean)) @ flip @ np.asarray(axis_angle_to_matrix(turn))
    rotations[:, 0] = view @ rotations[:, 0]
    betas = rng.normal(size=(count, 10)).astype(np.float32)
    placed, joints = body.place(rotations, betas)
    chosen = list(COCO17.indices)
    seen = np.asarray(placed)[:, chosen, :2]
    low, high = seen.min(1), seen.max(1)
    scale = 2.0 / (SQUARE_SCALE * (high - low).max(1, keepdims=True))
    camera = np.concatenate([scale, -(low + high) / 2], 1).astype(np.float32)
    points = np.zeros((count, NUM_BODY_POINTS, 3), np.float32)
    points[:, chosen, :2] = project(placed, camera_translation(jnp.asarray(camera)))[:, chosen]
    points[:, chosen, 2] = 1.0
    return DrawnPeople(Pose(rotations, betas, camera), points, np.asarray(joints))


def adam_fit(points: np.ndarray, body: PointBody, steps: int, settings: FitSettings) -> BodyFit:
    """Minimise the same energy from the same starts by Adam on 6D rotations."""
    inputs = checked_inputs(points, None, None, None)
    used = used_points(inputs)
    problem = problem_of(inputs, body, load_pose_prior(), used)
    solved = _adam(problem, settings.weights, steps, settings.starts)
    return fit_of(solved, inputs, body, used, settings)


@functools.partial(jax.jit, static_argnames=("steps", "count"))
def _adam(problem: Problem, weights: EnergyWeights, steps: int, count: int) -> Solved:
    starts = find_starts(problem, count)
    people = len(problem.points)

    def pose_of(parameters) -> Pose:
        sixd, betas, camera = parameters
        return Pose(sixd_to_matrix(sixd), betas, camera)

    def energies(parameters):
        normal, squared = normal_equations(problem, pose_of(parameters), weights, EVERYTHING)
        return normal.energy.sum(), (normal.energy, squared)

    def from_start(_, start: Pose):
        optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))
        parameters = (matrix_to_sixd(start.rotations), start.betas, start.camera)

        def step(_, carry):
            parameters, state = carry
            gradient = jax.grad(energies, has_aux=True)(parameters)[0]
            change, state = optimizer.update(gradient, state)
            return optax.apply_updates(parameters, change), state

        first = (parameters, optimizer.init(parameters))
        parameters, _ = jax.lax.fori_loop(0, steps, step, first)
        energy, squared = energies(parameters)[1]
        return None, Solved(pose_of(parameters), energy, squared, jnp.zeros(people))

    _, found = jax.lax.scan(from_start, None, jax.tree.map(lambda x: x.swapaxes(0, 1), starts))
    best = found.energy.argmin(0)
    return jax.tree.map(lambda x: x[best, jnp.arange(people)], found)


def measure(name: str, do: Callable[[], BodyFit], people: DrawnPeople, body: PointBody) -> dict:
    """Run a method twice; return its speed in the second run, and its errors."""
    do()
    start = time.perf_counter()
    found = do()
    seconds = time.perf_counter() - start
    joints = np.asarray(body.place(found.rotations, found.betas)[1])
    error = (joints - joints[:, :1]) - (people.joints - people.joints[:, :1])
    return {
        "method": name,
        "speed": len(joints) / seconds,
        "mpjpe": 1000 * float(np.linalg.norm(error, axis=-1).mean()),
        "error": float(found.error.mean()),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--adam_steps", type=int, default=250)
    options = parser.parse_args(arguments)
    body, settings = body_points(load_body_data()), FitSettings()
    people = draw_people(body, options.people)
    points = people.points
    noise = np.random.default_rng(SEED).normal(size=(options.people, 24, 3)) * ANSWER_NOISE
    answer = SimpleNamespace(
        rotations=people.pose.rotations @ np.asarray(axis_angle_to_matrix(noise)),
        betas=np.zeros_like(people.pose.betas),
        camera=people.pose.camera,
    )
    rows = [
        measure("refine", lambda: refine(points, answer, body=body), people, body),
        measure("fit", lambda: fit(points, body=body), people, body),
        measure(
            f"Adam, {options.adam_steps} steps",
            lambda: adam_fit(points, body, options.adam_steps, settings),
            people,
            body,
        ),
    ]
    print("| method | fits/s | to Adam | joints, mm | keypoints | peak memory, GiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        ratio = row["speed"] / rows[-1]["speed"]
        print(
            f"| {row['method']} | {row['speed']:.1f} | {ratio:.1f} | {row['mpjpe']:.1f} "
            f"| {row['error']:.4f} | {row['memory']:.2f} |"
        )


if __name__ == "__main__":
    main()
