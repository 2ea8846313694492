"""Fits predicted bodies to the people's keypoints, and judges the fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pare_jax import geometry
from pare_jax.body.io import BodyData
from pare_jax.body.model import BodyModel
from pare_jax.fitting.fitter import refine
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.network_points import in_square
from pare_jax.keypoints.sets import point_index
from pare_jax.models.prediction import Prediction
from pare_jax.prediction.answers import Crop, FitVerdict
from pare_jax.prediction.network_programs import pose_people


class Refiner:
    """Improves a network's bodies by a few steps of fitting."""

    def __init__(self, body: BodyModel, data: BodyData):
        """Tie the body points to a body model.

        Args:
            body: the body model.
            data: the same as read from its file.
        """
        self._body, self._points = body, body_points(data)

    def __call__(
        self, outputs: Mapping[str, Any], crops: Sequence[Crop]
    ) -> tuple[dict[str, np.ndarray], list[FitVerdict | None]]:
        """Return the outputs with fitted bodies, and a verdict on each.

        Args:
            outputs: the network's and the body's arrays, one row for each crop.
            crops: those without keypoints keep the network's body, and have no verdict.
        """
        outputs = {name: np.array(value) for name, value in outputs.items()}
        verdicts: list[FitVerdict | None] = [None] * len(crops)
        finite = np.isfinite(outputs["vertices"]).all((1, 2))
        rows = [n for n, crop in enumerate(crops) if crop.keypoints is not None and finite[n]]
        if not rows:
            return outputs, verdicts
        seen = [crops[row].keypoints for row in rows]
        points = [
            in_square(one.body_points(), crops[row].centre, crops[row].side)
            for row, one in zip(rows, seen, strict=True)
        ]
        world = np.stack([one.body_world() for one in seen])
        start = Prediction(*(outputs[name][rows] for name in ("rotations", "betas", "camera_crop")))
        fit = refine(
            np.stack(points),
            start,
            body=self._points,
            world=world if np.isfinite(world).any() else None,
        )
        translation = np.asarray(geometry.camera_translation(fit.camera))
        fitted = pose_people(self._body, fit.betas, fit.rotations, translation)
        for name, value in fitted.items():
            outputs[name][rows] = value
        for place, (row, one) in enumerate(zip(rows, seen, strict=True)):
            ignored = _of_set(one, fit.ignored[place])
            verdicts[row] = FitVerdict(float(fit.error[place]), bool(fit.converged[place]), ignored)
        return outputs, verdicts


def _of_set(keypoints: Keypoints, values: np.ndarray) -> np.ndarray:
    """Return values of body points for the points of a set; False where it has no body point."""
    return np.array(
        [bool(name) and bool(values[point_index(name)]) for name in keypoints.set.points]
    )
