"""Fits bodies to keypoints: from scratch (`fit`) or from a network's answer (`refine`).

    fit = fitter.fit(points, body=body_points(load_body_data()))
    fit = fitter.refine(points, start, body=body)

Points are in crop units of the person's square, as the crop camera of every network is.
"""

import dataclasses
import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.errors import UserError
from pare_jax.fitting.energy import ALL_JOINTS, ROOT, Pose, Problem, Unknowns, Weights
from pare_jax.fitting.prior import PosePrior, load_pose_prior
from pare_jax.fitting.solver import Solved, solve
from pare_jax.fitting.starts import find_starts
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES

# The crop camera's focal length and principal point, crop units.
CROP_LENS = (2.0 * FOCAL_LENGTH / CROP_RESOLUTION, 0.0, 0.0)
# Annotators and detectors place these less exactly than wrists and ankles.
_SIGMA_OF = {"hip": 2.0, "pelvis": 2.0, "shoulder": 1.5, "thorax": 1.5, "neck": 1.5}
_SIGMA_OF |= dict.fromkeys(("spine", "jaw", "head", "head_top", "upper_neck"), 2.0)
_SIGMA_OF |= dict.fromkeys(("eye", "ear", "mouth", "nose", "index", "pinky", "thumb"), 1.5)
_SIGMAS = np.array(
    [_SIGMA_OF.get(n.removeprefix("left_").removeprefix("right_"), 1.0) for n in POINT_NAMES],
    np.float32,
)


# A fit has converged when the next step promises less energy than this.
_CONVERGED = 0.05


class Start(Protocol):
    """What a fit starts from, for instance a network's `Prediction`."""

    rotations: Float[Array, "batch 24 3 3"]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Settings of a fit.

    Attributes:
        starts: number of poses of the dictionary that each person's fit starts from.
        kept: number of those that are continued.
        root_steps: Levenberg-Marquardt steps of root and camera alone.
        first_steps: steps of each start.
        steps: steps of those that are continued.
        refine_steps: steps of `refine`.
        ignored: keypoints further from the body, in shares of the person's extent, are reported as
            ignored.
        weights: of the terms of the energy.
        batch: most people in one call of the device; more are fitted batch by batch.
    """

    starts: int = 8
    kept: int = 2
    root_steps: int = 3
    first_steps: int = 8
    steps: int = 20
    refine_steps: int = 10
    ignored: float = 0.1
    weights: Weights = dataclasses.field(default_factory=Weights)
    batch: int = 256


class Fit(NamedTuple):
    """Fitted bodies.

    Attributes:
        rotations: relative to the parents; the root's into the camera frame.
        betas: shape coefficients.
        camera: crop camera (s, tx, ty).
        energy: of the fit; comparable among fits to the same keypoints.
        error: mean distance of the keypoints that count from the body's, in shares of the extent.
        ignored: keypoints that are known but too far from the body to count.
        converged: whether the energy no longer fell.
    """

    rotations: Float[np.ndarray, "batch 24 3 3"]
    betas: Float[np.ndarray, "batch 10"]
    camera: Float[np.ndarray, "batch 3"]
    energy: Float[np.ndarray, " batch"]
    error: Float[np.ndarray, " batch"]
    ignored: Bool[np.ndarray, "batch points"]
    converged: Bool[np.ndarray, " batch"]


def fit(
    points: Float[np.ndarray, "batch points 3"],
    *,
    body: PointBody,
    world: Float[np.ndarray, "batch points 3"] | None = None,
    start: Start | None = None,
    lens: Float[np.ndarray, "batch 3"] | None = None,
    prior: PosePrior | None = None,
    settings: FitSettings = FitSettings(),
) -> Fit:
    """Fit bodies to keypoints from several starts.

    Args:
        points: body points, x and y in crop units and confidence; 0: unknown.
        body: of the points, from `body_points`.
        world: the same points in 3D, metres, camera axes; NaN: unknown. Their origin and scale do
            not matter.
        start: a further start, for instance a network's answer.
        lens: focal length, x and y of the principal point in crop units of each person, for a
            camera that is known; default: the crop camera.
        prior: of poses; default: this package's.
        settings: of the fit.

    Returns:
        The best fit of each person. People without known points get the mean pose.

    Raises:
        UserError: arrays of other shapes, or infinite or NaN points of known confidence.
    """
    return _in_batches(points, body, world, start, lens, prior, settings, search=True)


def refine(
    points: Float[np.ndarray, "batch points 3"],
    start: Start,
    *,
    body: PointBody,
    world: Float[np.ndarray, "batch points 3"] | None = None,
    lens: Float[np.ndarray, "batch 3"] | None = None,
    prior: PosePrior | None = None,
    settings: FitSettings = FitSettings(),
) -> Fit:
    """Improve a network's answer by few steps (EFT, Joo et al. 2020, without the network).

    Args:
        points: as of `fit`.
        start: the network's answer, with crop cameras of the same squares.
        body: as of `fit`.
        world: as of `fit`.
        lens: as of `fit`.
        prior: as of `fit`.
        settings: `refine_steps` and `weights` of it are used.

    Returns:
        The fit of each person. People without known points keep the start.

    Raises:
        UserError: as of `fit`.
    """
    return _in_batches(points, body, world, start, lens, prior, settings, search=False)


def _in_batches(points, body, world, start, lens, prior, settings, search) -> Fit:
    points = _checked(points, world, start, lens)
    count = len(points)
    prior = load_pose_prior() if prior is None else prior
    if lens is None:
        lens = np.tile(np.float32(CROP_LENS), (count, 1))
    pose = None
    if start is not None:
        pose = Pose(*(np.asarray(x, np.float32) for x in _fields(start)))
    used = _used_points(points, world, body)
    parts = []
    for first in range(0, count, settings.batch):
        rows = slice(first, first + settings.batch)
        size = len(points[rows])
        padded = min(settings.batch, 1 << (size - 1).bit_length())

        def padded_rows(x, rows=rows, extra=padded - size):
            x = np.asarray(x, np.float32)[rows]
            return np.concatenate([x, np.repeat(x[-1:], extra, axis=0)])

        batch = jax.tree.map(padded_rows, (points, world, pose, lens))
        found = _run(body, prior, batch, used, settings, search)
        parts.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], found))
    if not parts:
        return _none()
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def _fields(start: Start) -> tuple[Array, Array, Array]:
    return start.rotations, start.betas, start.camera


def _checked(points, world, start, lens) -> np.ndarray:
    points = np.array(points, np.float32)
    if points.ndim != 3 or points.shape[1:] != (NUM_BODY_POINTS, 3):
        raise UserError(
            f"points of shape {points.shape} are not body points: give (people, "
            f"{NUM_BODY_POINTS}, 3)"
        )
    known = points[..., 2] > 0
    if np.isnan(points[..., 2]).any() or not np.isfinite(points[known]).all():
        raise UserError("known points contain NaN or infinity; give them confidence 0")
    points[~known] = 0
    count = len(points)
    if world is not None and np.shape(world) != points.shape:
        raise UserError(f"3D points of shape {np.shape(world)} do not fit points {points.shape}")
    if lens is not None and np.shape(lens) != (count, 3):
        raise UserError(f"lenses of shape {np.shape(lens)} do not fit {count} people")
    shapes = ((count, 24, 3, 3), (count, 10), (count, 3))
    if start is not None and tuple(map(np.shape, _fields(start))) != shapes:
        found = ", ".join(str(np.shape(x)) for x in _fields(start))
        raise UserError(f"a start of shapes {found} does not fit {count} people")
    return points


def _used_points(points, world, body: PointBody) -> tuple[int, ...]:
    """Return the points that any of these people has; a multiple of 8, so that few differ."""
    known = (points[..., 2] > 0).any(0)
    if world is not None:
        known |= np.isfinite(world).all(-1).any(0)
    order = np.argsort(~known, kind="stable")
    count = max(8, -(-int(known.sum()) // 8) * 8)
    return tuple(sorted(order[:count].tolist()))


def _none() -> Fit:
    shapes = ((0, 24, 3, 3), (0, 10), (0, 3), (0,), (0,), (0, NUM_BODY_POINTS), (0,))
    types = (*[np.float32] * 5, bool, bool)
    return Fit(*(np.zeros(s, t) for s, t in zip(shapes, types, strict=True)))


def _run(body, prior, batch, used, settings: FitSettings, search: bool) -> Fit:
    chosen = np.array(used)
    points, world, pose, lens = batch
    small = dataclasses.replace(
        body,
        template=body.template[chosen],
        basis=body.basis[:, chosen],
        weights=body.weights[chosen],
        known=body.known[chosen],
    )
    if world is not None:
        world = world[:, chosen]
    args = (small, prior, points[:, chosen], _SIGMAS[chosen], world, lens, settings.weights, pose)
    solved, error, ignored = _fitted(*args, dataclasses.replace(settings, weights=None), search)
    whole = np.zeros(points.shape[:2], bool)
    whole[:, chosen] = ignored
    converged = solved.decrease < _CONVERGED
    return Fit(*solved.pose, solved.energy, error, whole, converged)


@functools.partial(jax.jit, static_argnames=("settings", "search"))
def _fitted(body, prior, points, sigmas, world, lens, weights, pose, settings, search):
    shares = jnp.maximum(points[..., 2], 0) * body.known / sigmas**2
    world_shares = None
    if world is not None:
        seen = jnp.isfinite(world).all(-1) & (body.known > 0)
        world, world_shares = jnp.where(seen[..., None], world, 0.0), seen / sigmas**2
    problem = Problem(
        body, prior, points[..., :2], shares, lens, world=world, world_shares=world_shares
    )
    solved = _search(problem, pose, weights, settings) if search else None
    if solved is None:
        steps = settings.refine_steps
        solved = solve(problem, pose, weights, Unknowns(ALL_JOINTS, True), steps)
    return solved, *_report(points, shares > 0, solved, weights, settings)


def _search(problem: Problem, pose: Pose | None, weights: Weights, settings) -> Solved:
    batch = len(problem.points)
    starts = find_starts(problem, settings.starts)
    if pose is not None:
        starts = jax.tree.map(lambda a, b: jnp.concatenate([a, b[:, None]], 1), starts, pose)
    number = starts.camera.shape[1]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), starts)
    wide = _repeated(problem, number)
    solved = solve(wide, flat, weights, Unknowns(ROOT, False), settings.root_steps)
    everything = Unknowns(ALL_JOINTS, True)
    solved = solve(wide, solved.pose, weights, everything, settings.first_steps)
    kept = _best(solved, batch, settings.kept)
    solved = solve(
        _repeated(problem, settings.kept), kept.pose, weights, everything, settings.steps
    )
    return _best(solved, batch, 1)


def _repeated(problem: Problem, number: int) -> Problem:
    repeat = functools.partial(jnp.repeat, repeats=number, axis=0)
    fields = {n: jax.tree.map(repeat, getattr(problem, n)) for n in Problem._fields[2:]}
    return problem._replace(**fields)


def _best(solved: Solved, batch: int, count: int) -> Solved:
    """Keep each person's fits of the lowest energy."""
    split = jax.tree.map(lambda x: x.reshape(batch, -1, *x.shape[1:]), solved)
    _, chosen = jax.lax.top_k(-split.energy, count)

    def take(x):
        index = chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2))
        return jnp.take_along_axis(x, index, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(take, split)


def _report(points, known, solved: Solved, weights: Weights, settings):
    """Return the mean error of the points that count, and those that do not."""
    xy = points[..., :2]
    low = jnp.where(known[..., None], xy, jnp.inf).min(1)
    high = jnp.where(known[..., None], xy, -jnp.inf).max(1)
    extent = jnp.maximum((high - low).max(-1), 1e-6)
    distance = jnp.sqrt(solved.squared) * weights.sigma / extent[:, None]
    ignored = known & (distance > settings.ignored)
    counted = known & ~ignored
    total = counted.sum(-1)
    error = jnp.where(total > 0, (distance * counted).sum(-1) / jnp.maximum(total, 1), jnp.inf)
    return error, ignored
