"""Fits bodies to keypoints: from scratch (`fit`) or from a network's answer (`refine`).

    fit = fitter.fit(points, body=body_points(load_body_data()))
    fit = fitter.refine(points, start, body=body)

Points are in crop units of the person's square, as every network's crop camera is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from pare_jax.fitting.batches import (
    FitInputs,
    Start,
    checked_inputs,
    padded_rows,
    problem_of,
    used_points,
)
from pare_jax.fitting.energy import EVERYTHING, EnergyWeights, Pose, Problem
from pare_jax.fitting.prior import PosePrior, load_pose_prior
from pare_jax.fitting.solver import Solved, solve
from pare_jax.fitting.starts import find_starts
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# How much the points of a network's answer, which hold a refined body's depths, weigh beside the 3D
# points of a source.
_OWN_WEIGHT = 2.0
# A fit has converged when the next step promises less energy than this.
_CONVERGED = 0.05
# Starts count in the agreement by exp(-(energy - lowest energy) / _TEMPERATURE).
_TEMPERATURE = 3.0


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Settings of a fit.

    Attributes:
        starts: number of poses of the dictionary that each person's fit starts from.
        kept: number of those that are continued.
        first_steps: Levenberg-Marquardt steps of each start.
        steps: further steps of those that are continued.
        refine_steps: steps of `refine`.
        ignored: keypoints further from the body, in shares of the person's extent, are reported as
            ignored.
        weights: of the terms of the energy.
        batch: most people at once; more are fitted batch by batch. On an accelerator thousands are
            fastest.
    """

    starts: int = 8
    kept: int = 2
    first_steps: int = 10
    steps: int = 20
    refine_steps: int = 12
    ignored: float = 0.1
    weights: EnergyWeights = dataclasses.field(default_factory=EnergyWeights)
    batch: int = 256


class BodyFit(NamedTuple):
    """Fitted bodies; `pare_jax.fitting.verdict` says which of them are good.

    Attributes:
        rotations: relative to the parents; the root's into the camera frame.
        betas: shape coefficients.
        camera: crop camera (s, tx, ty).
        energy: of the fit; comparable among fits to the same keypoints.
        error: mean distance of the keypoints that count from the body's, in shares of the extent of
            the person's keypoints; infinite if none counts.
        ignored: keypoints that are known but too far from the body to count.
        converged: whether a further step would hardly lower the energy.
        agreement: of the starts, mm: mean distance between the joints of the fit and those of the
            other starts, roots aligned. A start counts the less, the higher its energy is. 0: all
            starts of low energy give one body. None: there was no search.
    """

    rotations: Float[np.ndarray, "batch 24 3 3"]
    betas: Float[np.ndarray, "batch 10"]
    camera: Float[np.ndarray, "batch 3"]
    energy: Float[np.ndarray, " batch"]
    error: Float[np.ndarray, " batch"]
    ignored: Bool[np.ndarray, "batch points"]
    converged: Bool[np.ndarray, " batch"]
    agreement: Float[np.ndarray, " batch"] | None = None


_DEFAULT = FitSettings()


def fit(
    points: Float[np.ndarray, "batch points 3"],
    *,
    body: PointBody,
    world: Float[np.ndarray, "batch points 3"] | None = None,
    start: Start | None = None,
    lens: Float[np.ndarray, "batch 3"] | None = None,
    prior: PosePrior | None = None,
    settings: FitSettings = _DEFAULT,
) -> BodyFit:
    """Fit bodies to keypoints from several starts.

    Args:
        points: body points, x and y in crop units and confidence; 0: unknown.
        body: of the points, from `body_points`.
        world: the same points in 3D, metres, camera axes; NaN: unknown. Their origin and scale do
            not matter.
        start: a further start, for instance a network's answer.
        lens: each person's focal length, and x and y of the principal point, in crop units, for a
            known camera (`crop_lens`); default: the crop camera.
        prior: of poses; default: this package's.
        settings: of the fit.

    Returns:
        The best fit of each person. The crop camera is that of `full_frame_translation`, with the
        lens's focal length. A person without known points gets a likely pose.

    Raises:
        UserError: arrays of other shapes, or NaN or infinity among known points.
    """
    if world is not None and np.shape(world) == np.shape(points):
        # A source's 3D points count as far as its 2D points are known.
        world = np.where(np.asarray(points)[..., 2:] > 0, world, np.nan)
    inputs = checked_inputs(points, world, start, lens)
    return _fit_batches(inputs, body, prior, settings, search=True)


def refine(
    points: Float[np.ndarray, "batch points 3"],
    start: Start,
    *,
    body: PointBody,
    world: Float[np.ndarray, "batch points 3"] | None = None,
    lens: Float[np.ndarray, "batch 3"] | None = None,
    prior: PosePrior | None = None,
    settings: FitSettings = _DEFAULT,
) -> BodyFit:
    """Improve a network's answer by few steps (as EFT, Joo et al. 2020, does by its weights).

    Args:
        points: as of `fit`.
        start: the network's answer, with crop cameras of the same squares.
        body: as of `fit`.
        world: as of `fit`; None: the answer's own points, so that depths stay as the network found
            them where keypoints do not fix them.
        lens: as of `fit`.
        prior: as of `fit`.
        settings: `refine_steps`, `weights`, `ignored` and `batch` of it are used.

    Returns:
        The fit of each person.

    Raises:
        UserError: as of `fit`.
    """
    if world is None:
        world = own_points(start, body)
        weights = settings.weights._replace(world=_OWN_WEIGHT * settings.weights.world)
        settings = dataclasses.replace(settings, weights=weights)
    inputs = checked_inputs(points, world, start, lens)
    return _fit_batches(inputs, body, prior, settings, search=False)


def own_points(start: Start, body: PointBody) -> Float[np.ndarray, "batch points 3"]:
    """Return the body points of a network's answer, metres; NaN for points the body lacks."""
    placed = _place(body, np.asarray(start.rotations), np.asarray(start.betas))
    return np.where(np.asarray(body.known)[:, None] > 0, placed, np.nan)


@jax.jit
def _place(body: PointBody, rotations: jax.Array, betas: jax.Array) -> jax.Array:
    return body.place(rotations, betas)[0]


def crop_lens(
    crop_centre: Float[np.ndarray, "batch 2"],
    crop_side: Float[np.ndarray, " batch"],
    picture_size: tuple[float, float],
    focal_length: float,
) -> Float[np.ndarray, "batch 3"]:
    """Return the lens of crops of a photograph whose camera is known.

    Args:
        crop_centre: of the square crops, pixels of the photograph.
        crop_side: pixels of the photograph.
        picture_size: the photograph's width and height, pixels.
        focal_length: of the photograph's camera, pixels.
    """
    side = np.asarray(crop_side, np.float64)[:, None]
    middle = (np.asarray(picture_size) / 2.0 - np.asarray(crop_centre)) * 2.0 / side
    return np.concatenate([2.0 * focal_length / side, middle], 1).astype(np.float32)


def _fit_batches(inputs: FitInputs, body, prior, settings: FitSettings, search: bool) -> BodyFit:
    prior = load_pose_prior() if prior is None else prior
    if not len(inputs.points):
        return _nobody()
    used = used_points(inputs)
    parts = []
    for rows, size in padded_rows(len(inputs.points), settings.batch):
        batch = inputs.rows(rows)
        problem = problem_of(batch, body, prior, used)
        agreement = None
        if search:
            solved, agreement = search_starts(problem, batch.pose, settings)
        else:
            assert batch.pose is not None
            solved = _solved(problem, batch.pose, settings, settings.refine_steps)
        found = fit_of(solved, batch, body, used, settings)._replace(agreement=agreement)
        parts.append(jax.tree.map(lambda x, size=size: x[:size], found))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def candidates(problem: Problem, pose: Pose | None, settings: FitSettings) -> list[Solved]:
    """Return a short fit from each start, the network's answer last."""
    starts = find_starts(problem, settings.starts)
    poses = [jax.tree.map(lambda x, k=k: x[:, k], starts) for k in range(settings.starts)]
    poses += [] if pose is None else [pose]
    return [_solved(problem, one, settings, settings.first_steps) for one in poses]


def search_starts(
    problem: Problem, pose: Pose | None, settings: FitSettings
) -> tuple[Solved, Float[np.ndarray, " batch"]]:
    """Return the fit of the lowest energy from several starts, and their agreement in mm."""
    found = candidates(problem, pose, settings)
    order = np.argsort(np.stack([one.energy for one in found]), axis=0, kind="stable")
    kept = [chosen(found, order[k]) for k in range(min(settings.kept, len(found)))]
    further = [_solved(problem, one.pose, settings, settings.steps) for one in kept]
    best = chosen(further, np.stack([one.energy for one in further]).argmin(0))
    return best, agreement_of(problem, found, best.pose)


def agreement_of(
    problem: Problem, found: Sequence[Solved], pose: Pose
) -> Float[np.ndarray, " batch"]:
    """Return how far fits from several starts are from a body, mm; see `BodyFit.agreement`."""
    poses = jax.tree.map(lambda *xs: jnp.stack(xs), *[one.pose for one in found])
    energies = jnp.stack([one.energy for one in found])
    return np.asarray(_agreement(problem.body, poses, energies, pose))


@jax.jit
def _agreement(body: PointBody, poses: Pose, energies: jax.Array, best: Pose) -> jax.Array:
    """Return the mean distance of joints between the starts (first axis) and the best, mm."""

    def joints(pose: Pose) -> jax.Array:
        placed = body.place(pose.rotations, pose.betas)[1]
        return placed - placed[..., :1, :]

    distance = jnp.linalg.norm(joints(poses) - joints(best), axis=-1).mean(-1)
    shares = jax.nn.softmax(-energies / _TEMPERATURE, axis=0)
    return 1000.0 * (shares * distance).sum(0)


def _solved(problem: Problem, pose: Pose, settings: FitSettings, steps: int) -> Solved:
    found = solve(problem, pose, settings.weights, EVERYTHING, steps)
    return found._replace(matrix=None)  # its memory is needed for other starts


def chosen(found: Sequence[Solved], index: np.ndarray) -> Solved:
    """Return each person's fit number `index`."""
    rows = np.arange(len(index))
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs])[index, rows], *found)


def fit_of(
    solved: Solved,
    inputs: FitInputs,
    body: PointBody,
    used: tuple[int, ...],
    settings: FitSettings,
) -> BodyFit:
    """Return solved problems as fits, with the points that count."""
    xy, known = inputs.points[..., :2], inputs.points[..., 2] > 0
    low = np.where(known[..., None], xy, np.inf).min(1)
    high = np.where(known[..., None], xy, -np.inf).max(1)
    extent = np.where(known.any(1), np.maximum((high - low).max(-1), 1e-6), 1.0)
    distance = np.zeros(known.shape, np.float32)
    squared = np.asarray(solved.squared)
    distance[:, list(used)] = np.sqrt(squared) * settings.weights.sigma / extent[:, None]
    known &= np.asarray(body.known) > 0  # others were not fitted to
    ignored = known & (distance > settings.ignored)
    counted = known & ~ignored
    total = counted.sum(-1)
    error = np.where(total > 0, (distance * counted).sum(-1) / np.maximum(total, 1), np.inf)
    rotations, betas, camera = (np.asarray(x) for x in solved.pose)
    energy = np.asarray(solved.energy)
    finite = np.isfinite(energy)
    error = np.where(finite, error, np.inf)
    converged = finite & (np.asarray(solved.decrease) < _CONVERGED)
    return BodyFit(rotations, betas, camera, energy, error.astype(np.float32), ignored, converged)


def _nobody() -> BodyFit:
    def empty(*shape: int, dtype: Any = np.float32) -> np.ndarray:
        return np.zeros((0, *shape), dtype)

    return BodyFit(
        empty(NUM_JOINTS, 3, 3),
        empty(NUM_BETAS),
        empty(3),
        empty(),
        empty(),
        empty(NUM_BODY_POINTS, dtype=bool),
        empty(dtype=bool),
        empty(),
    )
