"""Fits bodies to the keypoints of people in photographs; makes `Person`s and SPIN's arrays."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.crop import SPIN_UNIT
from pare_jax.fitting.batches import CROP_LENS
from pare_jax.fitting.fitter import BodyFit, FitSettings, crop_lens, fit
from pare_jax.fitting.prior import PosePrior
from pare_jax.fitting.verdict import FitReport, verdicts
from pare_jax.keypoints.body_points import PointBody
from pare_jax.keypoints.keypoints import Keypoints, box_of_keypoints
from pare_jax.keypoints.network_points import in_square, square_around
from pare_jax.keypoints.sets import SPIN24, point_index
from pare_jax.prediction.network_programs import pose_people
from pare_jax.prediction.person import Person
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS


@dataclasses.dataclass(frozen=True)
class PersonToFit:
    """A person with keypoints.

    Attributes:
        photograph: its name in the outputs.
        keypoints: pixels of the photograph.
        size: the photograph's width and height; None: unknown.
        focal_length: of its camera, pixels; None: the diagonal, as in the scene's camera.
        enlarged: pixels here for each pixel of the file of keypoints; 1 unless a huge photograph
            was read smaller.
    """

    photograph: str
    keypoints: Keypoints
    size: tuple[float, float] | None = None
    focal_length: float | None = None
    enlarged: float = 1.0

    @property
    def full_focal_length(self) -> float | None:
        """The focal length that the fit uses; None: the photograph's size is unknown."""
        if self.size is None:
            return None
        return math.hypot(*self.size) if self.focal_length is None else self.focal_length


@dataclasses.dataclass(frozen=True)
class FittedPeople:
    """People with fitted bodies.

    Attributes:
        people: in the order of the arrays.
        points: body points, pixels.
        centre: of the squares, pixels.
        side: of the squares, pixels.
        fit: the bodies.
        reports: the verdicts.
    """

    people: Sequence[PersonToFit]
    points: Float[np.ndarray, "n points 3"]
    centre: Float[np.ndarray, "n 2"]
    side: Float[np.ndarray, " n"]
    fit: BodyFit
    reports: list[FitReport]


def fit_people(
    people: Sequence[PersonToFit], body: PointBody, prior: PosePrior, settings: FitSettings
) -> FittedPeople:
    """Fit a body to each person's keypoints.

    Args:
        people: each has two known points or more.
        body: of the points.
        prior: of poses.
        settings: of the fit.

    Raises:
        UserError: someone has fewer known points.
    """
    points = np.stack([one.keypoints.body_points() for one in people])
    squares = [square_around(own) for own in points]
    centre = np.stack([centre for centre, _ in squares])
    side = np.array([side for _, side in squares])
    units = np.stack([in_square(own, *square) for own, square in zip(points, squares, strict=True)])
    world = np.stack([one.keypoints.body_world() for one in people])
    lens = np.tile(np.array(CROP_LENS, np.float32), (len(people), 1))
    for row, one in enumerate(people):
        if one.size is not None and one.full_focal_length is not None:
            own = slice(row, row + 1)
            lens[own] = crop_lens(centre[own], side[own], one.size, one.full_focal_length)
    found = fit(
        units,
        body=body,
        world=world if np.isfinite(world).any() else None,
        lens=lens,
        prior=prior,
        settings=settings,
    )
    return FittedPeople(people, points, centre, side, found, verdicts(found, units))


def persons(fitted: FittedPeople, body: BodyModel) -> list[Person]:
    """Return fitted people as `Person`s, in the frame of their photograph's camera.

    Args:
        fitted: people whose photographs' sizes are known.
        body: the body model.
    """
    translations, cameras = [], []
    for row, one in enumerate(fitted.people):
        assert one.size is not None
        size = np.asarray(one.size, np.float64)
        move = geometry.full_frame_translation(
            jnp.asarray(fitted.fit.camera[row]),
            jnp.asarray(fitted.centre[row]),
            jnp.asarray(fitted.side[row]),
            jnp.asarray(size),
            jnp.asarray(one.full_focal_length),
        )
        translations.append(np.asarray(move))
        cameras.append((float(one.full_focal_length or 0.0), size / 2.0))
    arrays = pose_people(
        body, fitted.fit.betas, fitted.fit.rotations, np.asarray(translations, np.float32)
    )
    result = []
    for row, (one, (focal, middle)) in enumerate(zip(fitted.people, cameras, strict=True)):
        outputs = {name: value[row] for name, value in arrays.items()}
        outputs["camera_crop"] = fitted.fit.camera[row]
        joints = outputs["joints_3d"].astype(np.float64)
        keypoints, report = one.keypoints, fitted.reports[row]
        result.append(
            Person(
                **outputs,
                focal_length=focal,
                principal_point=middle,
                joints_2d=focal * joints[:, :2] / joints[:, 2:] + middle,
                box=box_of_keypoints(keypoints),
                crop_centre=fitted.centre[row],
                crop_side=float(fitted.side[row]),
                faces=np.asarray(body.faces),
                score=keypoints.score,
                keypoints=_rows_of(keypoints),
                keypoint_set=keypoints.set.name,
                fit_error=report.error,
                fit_problems="; ".join(report.reasons),
                fit_ignored=np.array([name in report.ignored for name in keypoints.set.points]),
            )
        )
    return result


def _rows_of(keypoints: Keypoints) -> Float[np.ndarray, "k 3"]:
    rows = np.concatenate([keypoints.points, keypoints.confidence[:, None]], axis=1)
    return np.where(np.isfinite(rows).all(1, keepdims=True) & (rows[:, 2:] > 0), rows, 0.0)


def spin_arrays(parts: Sequence[FittedPeople]) -> dict[str, np.ndarray]:
    """Return all fits in the fields of SPIN's .npz files, and further ones.

    Args:
        parts: fitted people, at least one group.

    Returns:
        imgname, center (pixels), scale (side of the square / 200), pose (72 numbers, axis-angle),
        shape, has_smpl (whether the fit is good) and part (SPIN's 24 points); also camera (s, tx,
        ty of the square), focal_length (pixels; 0: the crop's camera), error, converged, good and
        reason.
    """
    rows = [(part, row, one) for part in parts for row, one in enumerate(part.people)]
    # Lengths are in the pixels of the file of keypoints.
    enlarged = np.array([one.enlarged for *_, one in rows], np.float32)
    wanted = [point_index(name) for name in SPIN24.points]
    count = len(rows)

    def column(values, shape=(), dtype: Any = np.float32) -> np.ndarray:
        return np.asarray([*values], dtype).reshape(count, *shape)

    vectors = [
        np.asarray(geometry.matrix_to_axis_angle(jnp.asarray(part.fit.rotations))).reshape(
            -1, 3 * NUM_JOINTS
        )
        for part in parts
    ]
    spin_points = column((part.points[row, wanted] for part, row, _ in rows), (len(wanted), 3))
    spin_points[..., :2] /= enlarged[:, None, None]
    good = column((part.reports[row].good for part, row, _ in rows), dtype=bool)
    return {
        "imgname": np.array([one.photograph for _, _, one in rows], dtype=str),
        "center": column((part.centre[row] for part, row, _ in rows), (2,)) / enlarged[:, None],
        "scale": column(part.side[row] / SPIN_UNIT for part, row, _ in rows) / enlarged,
        "pose": np.concatenate(vectors).reshape(count, 3 * NUM_JOINTS),
        "shape": column((part.fit.betas[row] for part, row, _ in rows), (NUM_BETAS,)),
        "has_smpl": good.astype(np.uint8),
        "part": spin_points,
        "camera": column((part.fit.camera[row] for part, row, _ in rows), (3,)),
        "focal_length": column(one.full_focal_length or 0.0 for *_, one in rows) / enlarged,
        "error": column(part.fit.error[row] for part, row, _ in rows),
        "converged": column((part.fit.converged[row] for part, row, _ in rows), dtype=bool),
        "good": good,
        "reason": np.array(["; ".join(p.reports[row].reasons) for p, row, _ in rows], dtype=str),
    }
