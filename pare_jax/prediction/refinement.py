"""Fits predicted bodies to the people's keypoints, and judges the fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pare_jax import geometry
from pare_jax.body.io import BodyData
from pare_jax.body.model import BodyModel
from pare_jax.fitting.clip_fitter import fit_clip
from pare_jax.fitting.fitter import BodyFit, own_points, refine
from pare_jax.fitting.verdict import verdicts as fit_verdicts
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.network_points import in_square
from pare_jax.keypoints.sets import NUM_BODY_POINTS, point_index
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
        fitted = {
            row: crop.keypoints
            for row, crop in enumerate(crops)
            if crop.keypoints is not None and finite[row]
        }
        if not fitted:
            return outputs, verdicts
        rows, seen = list(fitted), list(fitted.values())
        squares = [(crops[row].centre, crops[row].side) for row in rows]
        points = np.stack(
            [in_square(one.body_points(), *own) for one, own in zip(seen, squares, strict=True)]
        )
        start = Prediction(*(outputs[name][rows] for name in ("rotations", "betas", "camera_crop")))
        fit = refine(points, start, body=self._points)
        translation = np.asarray(geometry.camera_translation(jnp.asarray(fit.camera)))
        posed = pose_people(self._body, fit.betas, fit.rotations, translation)
        for name, value in posed.items():
            outputs[name][rows] = value
        reports = fit_verdicts(fit, points)
        for row, one, report, ignored in zip(rows, seen, reports, fit.ignored, strict=True):
            problems = "; ".join(report.reasons)
            verdicts[row] = FitVerdict(report.error, problems, _of_set(one, ignored))
        return outputs, verdicts

    def track(
        self,
        seen: Sequence[Keypoints | None],
        squares: Float[np.ndarray, "frames 3"],
        start: Prediction,
    ) -> tuple[BodyFit, list[FitVerdict | None]]:
        """Fit one person's bodies in consecutive frames of a clip, with one shape.

        Args:
            seen: the keypoints in each frame; None: unknown.
            squares: centre x and y and side of each frame's crop, pixels.
            start: the network's answers, with the crops' cameras.

        Returns:
            The fit, and a verdict on each frame with keypoints.
        """
        points = np.zeros((len(seen), NUM_BODY_POINTS, 3), np.float32)
        # The network has seen the source's 3D points already, so its own hold the depths.
        world = own_points(start, self._points)
        for frame, one in enumerate(seen):
            if one is not None:
                square = squares[frame, :2], float(squares[frame, 2])
                points[frame] = in_square(one.body_points(), *square)
        world[[one is None for one in seen]] = np.nan
        fit = fit_clip(points, body=self._points, world=world, start=start)
        reports = zip(seen, fit_verdicts(fit, points), fit.ignored, strict=True)
        return fit, [
            None
            if one is None
            else FitVerdict(report.error, "; ".join(report.reasons), _of_set(one, ignored))
            for one, report, ignored in reports
        ]


def _of_set(keypoints: Keypoints, values: np.ndarray) -> np.ndarray:
    """Return values of body points for the points of a set; False where it has no body point."""
    return np.array(
        [bool(name) and bool(values[point_index(name)]) for name in keypoints.set.points]
    )
