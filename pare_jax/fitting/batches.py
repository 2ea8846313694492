"""Checks keypoints and starts, and makes the problems of batches of people."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.errors import UserError
from pare_jax.fitting.energy import Pose, Problem
from pare_jax.fitting.prior import PosePrior
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# The crop camera's focal length and principal point, crop units.
CROP_LENS = (2.0 * FOCAL_LENGTH / CROP_RESOLUTION, 0.0, 0.0)
# Standard deviations over those of wrists and ankles. Hips and shoulders are clicked on the skin,
# and the mesh's face and hands are not the person's.
_LOOSE = {
    **dict.fromkeys(("hip", "pelvis", "spine", "jaw", "head", "head_top", "upper_neck"), 2.0),
    **dict.fromkeys(("shoulder", "thorax", "neck"), 1.5),
    **dict.fromkeys(("nose", "eye", "ear", "mouth", "index", "pinky", "thumb"), 1.5),
}
SIGMAS = np.array(
    [_LOOSE.get(n.removeprefix("left_").removeprefix("right_"), 1.0) for n in POINT_NAMES],
    np.float32,
)
# Numbers of points are rounded up, so that few programs are compiled.
_ROUNDED_TO = 8


class Start(Protocol):
    """Poses, shapes and cameras that fits start from, as a network's `Prediction` has them."""

    @property
    def rotations(self) -> Float[Array, "batch 24 3 3"]: ...

    @property
    def betas(self) -> Float[Array, "batch 10"]: ...

    @property
    def camera(self) -> Float[Array, "batch 3"]: ...


class FitInputs(NamedTuple):
    """Checked inputs of a fit: float32 arrays, one row a person.

    Attributes:
        points: x and y in crop units and confidence, all 0 for unknown points.
        world: 3D points; None without any.
        pose: the start; None without one.
        lens: focal length, and x and y of the principal point, crop units.
    """

    points: Float[np.ndarray, "batch points 3"]
    world: Float[np.ndarray, "batch points 3"] | None
    pose: Pose | None
    lens: Float[np.ndarray, "batch 3"]

    def rows(self, chosen: np.ndarray | slice) -> "FitInputs":
        """Return some of the people."""
        return jax.tree.map(lambda x: x[chosen], self)


def checked_inputs(points, world, start: Start | None, lens) -> FitInputs:
    """Check and convert the inputs of a fit.

    Raises:
        UserError: arrays of other shapes, or infinite or NaN points of known confidence.
    """
    points = np.array(points, np.float32)
    if points.ndim != 3 or points.shape[1:] != (NUM_BODY_POINTS, 3):
        raise UserError(
            f"points of shape {points.shape} are not body points: give (people, "
            f"{NUM_BODY_POINTS}, 3)"
        )
    known = points[..., 2] > 0
    if np.isnan(points[..., 2]).any() or not np.isfinite(points[known]).all():
        raise UserError("points contain NaN or infinity; give unknown points confidence 0")
    points[~known] = 0
    count = len(points)
    if world is not None:
        world = np.asarray(world, np.float32)
        if world.shape != points.shape:
            raise UserError(f"3D points of shape {world.shape} do not fit points {points.shape}")
    if lens is None:
        lens = np.tile(np.array(CROP_LENS, np.float32), (count, 1))
    lens = np.asarray(lens, np.float32)
    if lens.shape != (count, 3) or not np.isfinite(lens).all() or (lens[:, 0] <= 0).any():
        raise UserError(
            f"lenses of shape {lens.shape} do not fit {count} people: give a focal length above 0 "
            "and the principal point of each"
        )
    pose = None if start is None else _checked_start(start, count)
    return FitInputs(points, world, pose, lens)


def _checked_start(start: Start, count: int) -> Pose:
    fields: Any = (start.rotations, start.betas, start.camera)
    pose = Pose(*jax.tree.map(lambda x: np.asarray(x, np.float32), fields))
    shapes = ((count, NUM_JOINTS, 3, 3), (count, NUM_BETAS), (count, 3))
    if tuple(x.shape for x in pose) != shapes:
        found = ", ".join(str(x.shape) for x in pose)
        raise UserError(f"a start of shapes {found} does not fit {count} people")
    if not all(np.isfinite(x).all() for x in pose):
        raise UserError("the start contains NaN or infinity")
    # A scale below 0 would put the body behind the camera.
    camera = np.concatenate([np.maximum(pose.camera[:, :1], 0.05), pose.camera[:, 1:]], 1)
    return pose._replace(camera=camera)


def used_points(inputs: FitInputs) -> tuple[int, ...]:
    """Return the points that anybody has; a multiple of 8 of them, so that few programs differ."""
    known = (inputs.points[..., 2] > 0).any(0)
    if inputs.world is not None:
        known |= np.isfinite(inputs.world).all(-1).any(0)
    order = np.argsort(~known, kind="stable")
    count = max(1, -(-int(known.sum()) // _ROUNDED_TO)) * _ROUNDED_TO
    return tuple(sorted(order[:count].tolist()))


def padded_rows(count: int, most: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows of each batch, padded to a power of two, and their number without padding."""
    for first in range(0, count, most):
        size = min(most, count - first)
        padded = min(most, 1 << (size - 1).bit_length())
        yield np.minimum(first + np.arange(padded), first + size - 1), size


def problem_of(
    inputs: FitInputs, body: PointBody, prior: PosePrior, used: tuple[int, ...]
) -> Problem:
    """Return the problem of a batch, with the points `used` alone."""
    chosen = np.array(used)
    small = dataclasses.replace(
        body,
        template=body.template[chosen],
        basis=body.basis[:, chosen],
        weights=body.weights[chosen],
        known=body.known[chosen],
    )
    points = inputs.points[:, chosen]
    weight = np.asarray(body.known)[chosen] / SIGMAS[chosen] ** 2
    problem = Problem(
        small,
        prior,
        jnp.asarray(points[..., :2]),
        jnp.asarray(points[..., 2] * weight),
        jnp.asarray(inputs.lens),
    )
    if inputs.world is None:
        return problem
    world = inputs.world[:, chosen]
    seen = np.asarray(np.isfinite(world).all(-1))
    return problem._replace(
        world=jnp.asarray(np.where(seen[..., None], world, 0.0)),
        world_shares=jnp.asarray(np.float32(seen * weight)),
    )
