"""Fits one person over the frames of a clip: one shape, smooth motion, all frames at once.

Every frame is fitted from several starts. The path through these fits that moves least removes most
flips in depth, which single frames cannot tell apart. All frames then get one shape, and even and
odd frames take turns: those of one kind are fitted with points near the middle of the other's.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.fitting.batches import (
    FitInputs,
    Start,
    checked_inputs,
    padded_rows,
    problem_of,
    used_points,
)
from pare_jax.fitting.energy import (
    EVERYTHING,
    POSE_ALONE,
    Pose,
    Problem,
)
from pare_jax.fitting.fitter import BodyFit, FitSettings, candidates, chosen, fit, fit_of
from pare_jax.fitting.linearise import linearise
from pare_jax.fitting.prior import PosePrior, load_pose_prior
from pare_jax.fitting.solver import Solved, solve
from pare_jax.keypoints.body_points import PointBody
from pare_jax.skeleton import NUM_BETAS

# Rounds over even and odd frames, and the steps of each.
_ROUNDS, _STEPS = 4, 3
# Standard deviation of a point's motion from frame to frame when a path is chosen, metres.
_MOTION_SIGMA = 0.1
_DEFAULT = FitSettings()


def fit_clip(
    points: Float[np.ndarray, "frames points 3"],
    *,
    body: PointBody,
    world: Float[np.ndarray, "frames points 3"] | None = None,
    start: Start | None = None,
    lens: Float[np.ndarray, "frames 3"] | None = None,
    prior: PosePrior | None = None,
    settings: FitSettings = _DEFAULT,
) -> BodyFit:
    """Fit one person's body to the frames of a clip.

    Args:
        points: of consecutive frames; frames without known points follow their neighbours. Each
            frame may have its own square.
        body: as of `fit`.
        world: as of `fit`.
        start: a network's answer for each frame.
        lens: as of `fit`.
        prior: as of `fit`.
        settings: as of `fit`; `weights.smooth` says how smooth the motion is.

    Returns:
        The fit of each frame; all have the same betas.

    Raises:
        UserError: as of `fit`.
    """
    inputs = checked_inputs(points, world, start, lens)
    if len(inputs.points) < 2:
        return fit(
            points,
            body=body,
            world=world,
            start=start,
            lens=lens,
            prior=prior,
            settings=settings,
        )
    job = _Clip(inputs, body, load_pose_prior() if prior is None else prior, settings)
    solved = job.best_path()
    solved = job.solved(np.arange(len(points)), solved.pose, settings.steps)
    pose = solved.pose._replace(betas=job.shared_shape(solved))
    return fit_of(job.smoothed(pose), inputs, body, job.used, settings)


class _Clip:
    """One person's frames."""

    def __init__(self, inputs: FitInputs, body: PointBody, prior: PosePrior, settings: FitSettings):
        self.inputs, self.body, self.prior, self.settings = inputs, body, prior, settings
        self.used = used_points(inputs)

    def _problem(self, rows: np.ndarray) -> Problem:
        return problem_of(self.inputs.rows(rows), self.body, self.prior, self.used)

    def best_path(self) -> Solved:
        """Return each frame's candidate on the path of least energy and motion."""
        parts = []
        for rows, size in padded_rows(len(self.inputs.points), self.settings.batch):
            pose = None if self.inputs.pose is None else _take(self.inputs.pose, rows)
            found = candidates(self._problem(rows), pose, self.settings)
            parts.append([_take(one, slice(size)) for one in found])
        found = [_joined(list(pieces)) for pieces in zip(*parts, strict=True)]
        energy = np.stack([one.energy for one in found], 1)
        places = np.stack([self._places(one.pose) for one in found], 1)
        return chosen(found, best_path(energy, places))

    def _places(self, pose: Pose) -> Float[np.ndarray, "frames points 3"]:
        """Return the used points relative to the root joint."""
        small = self._problem(np.arange(1)).body
        return np.asarray(_relative_points(small, pose.rotations, pose.betas))

    def solved(
        self, frames: np.ndarray, pose: Pose, steps: int, near: np.ndarray | None = None
    ) -> Solved:
        """Solve some frames; with `near` their shapes stay.

        Args:
            frames: their numbers.
            pose: of these frames.
            steps: of the solver.
            near: points that they stay close to.
        """
        parts = []
        for rows, size in padded_rows(len(frames), self.settings.batch):
            problem = self._problem(frames[rows])
            unknowns = EVERYTHING
            if near is not None:
                problem, unknowns = problem._replace(near=jnp.asarray(near[rows])), POSE_ALONE
            found = solve(problem, _take(pose, rows), self.settings.weights, unknowns, steps)
            parts.append(_take(found, slice(size)))
        return _joined(parts)

    def shared_shape(self, solved: Solved) -> Float[np.ndarray, "frames 10"]:
        """Return the shape that suits all frames, each weighted by what it says of the shape."""
        prior = self.settings.weights.shape * np.eye(NUM_BETAS)
        betas = np.asarray(solved.pose.betas, np.float64)
        information = _shape_information(np.asarray(solved.matrix, np.float64))
        right = np.einsum("tij,tj->i", information, betas)
        shared = np.linalg.solve((information - prior).sum(0) + prior, right)
        return np.tile(shared.astype(np.float32), (len(betas), 1))

    def smoothed(self, pose: Pose) -> Solved:
        """Fit even and odd frames in turn, near the middle of their neighbours."""
        frames = np.arange(len(pose.betas))
        kinds = [frames[0::2], frames[1::2]]
        order = np.argsort(np.concatenate(kinds))
        for _ in range(_ROUNDS):
            found = []
            for own in kinds:
                places = self._places(pose)
                before = np.where(own > 0, own - 1, own + 1)
                after = np.where(own + 1 < len(frames), own + 1, own - 1)
                near = (places[before] + places[after]) / 2.0
                found.append(self.solved(own, _take(pose, own), _STEPS, near))
                pose = jax.tree.map(
                    lambda old, new, own=own: _replaced(old, own, new), pose, found[-1].pose
                )
        return _take(_joined(found), order)


def best_path(
    energy: Float[np.ndarray, "frames candidates"],
    places: Float[np.ndarray, "frames candidates points 3"],
) -> np.ndarray:
    """Return the candidate of each frame, of the least sum of energies and motions (Viterbi)."""
    cost, origins = energy[0], []
    for frame in range(1, len(energy)):
        moves = places[frame - 1][:, None] - places[frame][None]
        total = cost[:, None] + 0.5 * (moves**2).sum((-1, -2)) / _MOTION_SIGMA**2
        origins.append(total.argmin(0))
        cost = total.min(0) + energy[frame]
    path = [int(cost.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])


@jax.jit
def _relative_points(body: PointBody, rotations: Array, betas: Array) -> Array:
    return linearise(body, rotations, betas, (0,), False).points.transpose(2, 0, 1)


def _shape_information(
    matrix: Float[np.ndarray, "frames unknowns unknowns"],
) -> Float[np.ndarray, "frames 10 10"]:
    """Return each frame's Hessian in the betas, with all other unknowns at their best."""
    count = matrix.shape[-1]
    shape = np.arange(count - 3 - NUM_BETAS, count - 3)
    other = np.setdiff1d(np.arange(count), shape)
    own, cross = matrix[:, shape[:, None], shape], matrix[:, other[:, None], shape]
    rest = matrix[:, other[:, None], other] + 1e-3 * np.eye(len(other))
    return own - np.einsum("toi,toj->tij", cross, np.linalg.solve(rest, cross))


def _take(tree, rows):
    return jax.tree.map(lambda x: np.asarray(x)[rows], tree)


def _joined(parts):
    return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs]), *parts)


def _replaced(values, rows: np.ndarray, new) -> np.ndarray:
    result = np.array(values)
    result[rows] = new
    return result
