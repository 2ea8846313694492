"""Says of each fit whether it is good, and why not, so that bad fits can be thrown away."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pare_jax.errors import counted
from pare_jax.fitting.fitter import BodyFit
from pare_jax.keypoints.sets import POINT_NAMES

# Fewer known points leave most of the pose to the prior.
FEWEST_POINTS = 6


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a good fit.

    Attributes:
        error: largest mean distance of the points that count, in shares of the person's extent.
        ignored: largest share of known points that are ignored.
        points: fewest known points that count.
    """

    error: float = 0.04
    ignored: float = 0.25
    points: int = FEWEST_POINTS


@dataclasses.dataclass(frozen=True)
class FitReport:
    """The verdict on one fit.

    Attributes:
        converged: whether a further step would hardly lower its energy.
        error: mean distance of the points that count, in shares of the person's extent.
        ignored: names of the known points that do not count.
        reasons: why the fit is bad; empty for a good one.
    """

    converged: bool
    error: float
    ignored: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """True if there is no reason against the fit."""
        return not self.reasons


_DEFAULT = Limits()


def verdicts(
    fit: BodyFit, points: Float[np.ndarray, "batch points 3"], limits: Limits = _DEFAULT
) -> list[FitReport]:
    """Return a verdict on each fit.

    Args:
        fit: fitted bodies.
        points: what they were fitted to.
        limits: what a good fit keeps to.
    """
    known = np.asarray(points)[..., 2] > 0
    return [
        _verdict(bool(converged), float(error), ignored, own, limits)
        for converged, error, ignored, own in zip(
            fit.converged, fit.error, fit.ignored, known, strict=True
        )
    ]


def _verdict(
    converged: bool, error: float, ignored: np.ndarray, known: np.ndarray, limits: Limits
) -> FitReport:
    names = tuple(POINT_NAMES[k] for k in np.flatnonzero(ignored))
    counting = int(known.sum()) - len(names)
    reasons = []
    if counting < limits.points:
        reasons.append(f"{counted(counting, 'point')} of {limits.points} needed")
    if len(names) > limits.ignored * max(int(known.sum()), 1):
        reasons.append(f"{counted(len(names), 'point')} ignored: {', '.join(names)}")
    if counting and error > limits.error:
        reasons.append(f"error {error:.3f} of the extent above {limits.error:g}")
    if not converged:
        reasons.append("not converged")
    return FitReport(converged, error, names, tuple(reasons))
