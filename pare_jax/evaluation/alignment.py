"""The best similarity transform between two point sets, and small matrices in float64.

Internals of `metrics`: everything here expects float64 arrays, under `jax.enable_x64`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Squarings that separate the two largest eigenvalues of a matrix in float64: after 50 of them a
# relative gap of 1e-13 has become a factor of more than 1e40.
_SQUARINGS = 50


class Fit(NamedTuple):
    """A similarity transform about the means of the two sets it was found for."""

    scale: Float[Array, "*batch"]
    rotation: Float[Array, "*batch 3 3"]
    pred_mean: Float[Array, "*batch 1 3"]
    true_mean: Float[Array, "*batch 1 3"]


def fit_similarity(
    pred: Float[Array, "*batch points 3"], true: Float[Array, "*batch points 3"]
) -> Fit:
    """Find the similarity transform of `pred` with the least squared distance from `true`.

    Args:
        pred: points to be moved.
        true: points to be met, in the same order.

    Returns:
        The transform x -> scale * rotation @ (x - pred_mean) + true_mean. A prediction without
        extent keeps scale 1 and turns by nothing.

    Source: Horn, "Closed-form solution of absolute orientation using unit quaternions", JOSA 1987.
    """
    pred_mean, true_mean = _mean(pred), _mean(true)
    pred, true = pred - pred_mean, true - true_mean
    covariance = matmul(jnp.swapaxes(pred, -1, -2), true)
    rotation = _best_rotation(covariance)
    spread = jnp.square(pred).sum((-1, -2))
    overlap = (jnp.swapaxes(rotation, -1, -2) * covariance).sum((-1, -2))
    has_extent = spread != 0
    scale = jnp.where(has_extent, overlap / jnp.where(has_extent, spread, 1.0), 1.0)
    return Fit(scale, rotation, pred_mean, true_mean)


def matmul(
    left: Float[Array, "*batch n k"], right: Float[Array, "*batch k m"]
) -> Float[Array, "*batch n m"]:
    """Multiply small matrices."""
    # Not jnp.matmul: accelerators have no float64 matrix units, and these are 3x3 or 4x4.
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


def rotate(
    rotation: Float[Array, "*batch 3 3"], points: Float[Array, "*batch n 3"]
) -> Float[Array, "*batch n 3"]:
    """Turn points about the origin."""
    return matmul(points, jnp.swapaxes(rotation, -1, -2))


def norm(vectors: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Return Euclidean lengths."""
    return jnp.sqrt(jnp.square(vectors).sum(-1))


def _best_rotation(covariance: Array) -> Array:
    """Returns the rotation R that maximises trace(R @ covariance), covariance = sum of p t^T."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (
        [covariance[..., i, j] for j in range(3)] for i in range(3)
    )
    # Horn's matrix: R's unit quaternion is the eigenvector of its largest eigenvalue.
    form = _stack(
        (xx + yy + zz, yz - zy, zx - xz, xy - yx),
        (yz - zy, xx - yy - zz, xy + yx, zx + xz),
        (zx - xz, xy + yx, yy - xx - zz, yz + zy),
        (xy - yx, zx + xz, yz + zy, zz - xx - yy),
    )
    return _quaternion_to_matrix(_dominant_eigenvector(form))


def _dominant_eigenvector(symmetric: Array) -> Array:
    """Returns a unit eigenvector of the largest (not the largest absolute) eigenvalue.

    Squares a shifted copy again and again, which leaves the projector onto the wanted eigenspace:
    no branches, no special cases for repeated eigenvalues, and as accurate as the gap between the
    eigenvalues allows, since the gap has widened by the time later rounding errors come in.
    """
    size = symmetric.shape[-1]
    shift = jnp.sqrt(jnp.square(symmetric).sum((-1, -2)))[..., None, None]
    # A zero matrix has every vector as eigenvector; the identity then yields the first axis.
    power = symmetric + jnp.where(shift == 0, 1.0, shift) * jnp.eye(size)

    def square(_: int, power: Array) -> Array:
        power = power / jnp.trace(power, axis1=-2, axis2=-1)[..., None, None]
        return matmul(power, power)

    projector = jax.lax.fori_loop(0, _SQUARINGS, square, power)
    # Any column spans the eigenspace; the longest has lost nothing to rounding. Compared one by
    # one, because argmax does not lower in float64 inside a caller that is jitted in float32.
    column, longest = projector[..., 0], projector[..., 0, 0]
    for i in range(1, size):
        longer = projector[..., i, i] > longest
        column = jnp.where(longer[..., None], projector[..., i], column)
        longest = jnp.where(longer, projector[..., i, i], longest)
    return column / norm(column)[..., None]


def _quaternion_to_matrix(quaternion: Array) -> Array:
    w, x, y, z = (quaternion[..., i] for i in range(4))
    return _stack(
        (w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    )


def _mean(points: Array) -> Array:
    """Returns the mean (..., 1, 3), exact for points that all coincide."""
    first = points[..., :1, :]
    return first + (points - first).mean(-2, keepdims=True)


def _stack(*rows: tuple[Array, ...]) -> Array:
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
