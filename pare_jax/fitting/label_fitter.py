"""Fits bodies that become labels: the network's answer refined, and how far other starts agree.

The body is the network's answer, moved to the keypoints with its depths kept: on drawn people it is
nearer to the truth than the fit of the lowest energy (docs/fitting.md). Fits from poses of the
dictionary say how sure it is.
"""

import numpy as np
from jaxtyping import Float

from pare_jax.fitting.batches import Start, checked_inputs, padded_rows, problem_of, used_points
from pare_jax.fitting.energy import Pose
from pare_jax.fitting.fitter import (
    BodyFit,
    FitSettings,
    agreement_of,
    candidates,
    fit,
    refine,
)
from pare_jax.fitting.prior import load_pose_prior
from pare_jax.keypoints.body_points import PointBody

_DEFAULT = FitSettings()


def fit_label(
    points: Float[np.ndarray, "batch points 3"],
    start: Start | None,
    *,
    body: PointBody,
    settings: FitSettings = _DEFAULT,
) -> BodyFit:
    """Fit bodies to keypoints, with the agreement of starts.

    Args:
        points: as of `fitter.fit`.
        start: a network's answer, which `fitter.refine` improves; None: `fitter.fit` searches.
        body: as of `fitter.fit`.
        settings: as of `fitter.fit`.

    Returns:
        The fit of each person. Its agreement compares it with fits from the dictionary's poses and
        from the network's answer, in which depths are free.

    Raises:
        UserError: as of `fitter.fit`.
    """
    if start is None:
        return fit(points, body=body, settings=settings)
    refined = refine(points, start, body=body, settings=settings)
    inputs, prior = checked_inputs(points, None, start, None), load_pose_prior()
    used, parts = used_points(inputs), [np.zeros(0, np.float32)]
    for rows, size in padded_rows(len(inputs.points), settings.batch):
        batch = inputs.rows(rows)
        problem = problem_of(batch, body, prior, used)
        found = candidates(problem, batch.pose, settings)
        own = Pose(*(getattr(refined, name)[rows] for name in Pose._fields))
        parts.append(agreement_of(problem, found, own)[:size])
    return refined._replace(agreement=np.concatenate(parts))
