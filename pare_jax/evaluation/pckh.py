"""PCKh and PCK: shares of 2D points that are close to the truth, by a head's length or a box.

Source: Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis",
CVPR 2014, section 4, and the evaluation code released with it. PCK, for people whose head's length
is unknown: Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", TPAMI
2013, section 7. The points are `skeleton.EVALUATED_POINTS`: SMPL's joints and the top of the head.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from pare_jax.evaluation.alignment import norm
from pare_jax.evaluation.double_precision import as_float32, in_float64, point_sets, select
from pare_jax.skeleton import EVALUATED_POINTS, PCKH_GROUPS, PCKH_POINTS

THRESHOLD = 0.5
# Of PCK, in longer sides of the box around a person's annotated points.
BOX_THRESHOLD = 0.1
# The columns of MPII's table, in its order.
TOTAL = "Total"
HEADINGS = (*PCKH_GROUPS, TOTAL)


@in_float64()
def hits(
    pred: Float[ArrayLike, "*batch points 2"],
    true: Float[ArrayLike, "*batch points 2"],
    known: Float[ArrayLike, "*batch points"],
    head_size: Float[ArrayLike, "*batch"],
    threshold: float = THRESHOLD,
) -> Float[Array, "*batch points"]:
    """Return 1 for points at most half a head's length off, 0 for others.

    Points and head may be measured in the photograph or in any square crop, which scales both
    alike.

    Args:
        pred: predicted points in the image.
        true: annotated points, same coordinates.
        known: above 0 for points that are annotated.
        head_size: length of the head in the same unit, 0.6 times its box's diagonal in MPII; 0
            where it is unknown.
        threshold: in lengths of the head.

    Returns:
        1 for hits, 0 for misses and for predictions that are not finite, NaN for points that
        cannot be judged.

    Raises:
        ValueError: the two sets differ in their number of points, or are not in 2D.
    """
    pred, true = point_sets(pred, true, size=2)
    head = jnp.asarray(head_size, jnp.float64)[..., None]
    judged = (jnp.asarray(known) > 0) & (head > 0) & jnp.isfinite(true).all(-1)
    # NaN is within no distance and so a miss, as in MPII's own code.
    return as_float32(jnp.where(judged, norm(pred - true) <= threshold * head, jnp.nan))


@in_float64("points")
def pckh(
    pred: Float[ArrayLike, "*batch points 2"],
    true: Float[ArrayLike, "*batch points 2"],
    known: Float[ArrayLike, "*batch points"],
    head_size: Float[ArrayLike, "*batch"],
    threshold: float = THRESHOLD,
    points: tuple[int, ...] = PCKH_POINTS,
) -> Float[Array, "*batch"]:
    """Return the share of a person's annotated points that are hits.

    Args:
        pred: predicted points in the image.
        true: annotated points, same coordinates.
        known: above 0 for points that are annotated.
        head_size: length of the head in the same unit; 0 where it is unknown.
        threshold: in lengths of the head.
        points: indices of the points that count.

    Returns:
        A share between 0 and 1 per sample; NaN where no point can be judged. MPII's own number
        takes all people's points together, see `table`.

    Raises:
        ValueError: the two sets differ in their number of points, or are not in 2D.
    """
    right = select(hits(pred, true, known, head_size, threshold), points)
    judged = ~jnp.isnan(right)
    # Without any point this is 0 / 0, which is NaN.
    return as_float32(jnp.where(judged, right, 0.0).sum(-1) / judged.sum(-1))


@in_float64()
def pck_of_box(
    pred: Float[ArrayLike, "*batch points 2"],
    true: Float[ArrayLike, "*batch points 2"],
    known: Float[ArrayLike, "*batch points"],
    threshold: float = BOX_THRESHOLD,
) -> Float[Array, "*batch"]:
    """Return the share of a person's annotated points within a share of their box's longer side.

    Args:
        pred: predicted points in the image.
        true: annotated points, same coordinates.
        known: above 0 for points that are annotated.
        threshold: in longer sides of the box around the annotated points.

    Returns:
        A share between 0 and 1 per sample, in which predictions that are not finite are misses; NaN
        where fewer than two points are annotated, or all in one place.

    Raises:
        ValueError: the two sets differ in their number of points, or are not in 2D.
    """
    pred, true = point_sets(pred, true, size=2)
    known = jnp.asarray(known) > 0
    inside = known[..., None]
    highest = jnp.where(inside, true, -jnp.inf).max(-2)
    lowest = jnp.where(inside, true, jnp.inf).min(-2)
    # Without any point this is minus infinity, which is no size.
    side = (highest - lowest).max(-1)
    found = hits(pred, true, known, side, threshold)
    judged = ~jnp.isnan(found)
    return as_float32(jnp.where(judged, found, 0.0).sum(-1) / judged.sum(-1))


def table(
    found: Float[np.ndarray, "people points"],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Average people as MPII's evaluation does.

    Args:
        found: from `hits`.

    Returns:
        Percent by point name, and percent by `HEADINGS`: the mean of a pair's two shares, and the
        share of all points of all people. None where no point can be judged.
    """
    by_point = {EVALUATED_POINTS[point]: _percent(found[:, point]) for point in PCKH_POINTS}
    groups: dict[str, float | None] = {}
    for heading, pair in PCKH_GROUPS.items():
        shares = [by_point[EVALUATED_POINTS[point]] for point in pair]
        known = [share for share in shares if share is not None]
        groups[heading] = sum(known) / len(known) if known else None
    groups[TOTAL] = _percent(found[:, list(PCKH_POINTS)])
    return by_point, groups


def _percent(found: np.ndarray) -> float | None:
    known = found[np.isfinite(found)]
    return 100.0 * float(known.mean(dtype=np.float64)) if known.size else None
