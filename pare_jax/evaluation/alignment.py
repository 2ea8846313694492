"""Similarity transforms between point sets, small matrices and angles in float64.

Internals of `metrics`: functions expect float64 arrays and run under `jax.enable_x64`. They only
add, multiply, divide and take square roots, which every accelerator has in float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Squarings that separate the two largest eigenvalues of a matrix in float64: 50 of them turn a
# relative gap of 1e-13 into a factor of more than 1e40.
_SQUARINGS = 50
# Halved five times, an angle is at most pi / 32: the eighth term of its arctangent's series is
# below 1e-16.
_HALVINGS = 5
_ARCTANGENT_TERMS = 8


class Fit(NamedTuple):
    """A similarity transform about the means of the two point sets that it aligns."""

    scale: Float[Array, "*batch"]
    rotation: Float[Array, "*batch 3 3"]
    pred_mean: Float[Array, "*batch 1 3"]
    true_mean: Float[Array, "*batch 1 3"]


def fit_similarity(
    pred: Float[Array, "*batch points 3"], true: Float[Array, "*batch points 3"]
) -> Fit:
    """Return the similarity transform of `pred` with the least squared distance from `true`.

    Args:
        pred: points to move.
        true: target points, in the same order.

    Returns:
        The transform x -> scale * rotation @ (x - pred_mean) + true_mean. For points in one place
        it is scale 1 and the identity rotation.

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
    """Rotate points about the origin."""
    return matmul(points, jnp.swapaxes(rotation, -1, -2))


def norm(vectors: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Return Euclidean lengths."""
    return jnp.sqrt(jnp.square(vectors).sum(-1))


def angle_of(
    sine: Float[Array, "*batch"], cosine: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the angle of the vector (cosine, sine), like atan2, which TPUs lack in float64.

    Args:
        sine: at least 0; the vector may have any length.
        cosine: of the same length.

    Returns:
        Radians in [0, pi], to the last digits of float64 near 0 and near pi too; 0 for the zero
        vector.
    """
    length = jnp.sqrt(sine * sine + cosine * cosine)
    # A vector of half the angle, written so that no two like numbers are subtracted.
    acute = cosine >= 0
    half_sine = jnp.where(acute, sine, length - cosine)
    half_cosine = jnp.where(acute, length + cosine, sine)
    denominator = jnp.sqrt(half_sine * half_sine + half_cosine * half_cosine) + half_cosine
    tangent = half_sine / jnp.where(denominator == 0, 1.0, denominator)  # of a quarter
    for _ in range(_HALVINGS - 2):
        tangent = tangent / (1.0 + jnp.sqrt(1.0 + tangent * tangent))
    square, series = tangent * tangent, jnp.zeros_like(tangent)
    for term in reversed(range(_ARCTANGENT_TERMS)):
        series = 1.0 / (2 * term + 1) - square * series
    return 2.0**_HALVINGS * tangent * series


def _best_rotation(covariance: Array) -> Array:
    """Return the rotation R that maximises trace(R @ covariance), covariance = sum of p t^T."""
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
    """Return a unit eigenvector of the largest (not the largest absolute) eigenvalue.

    Squaring a shifted copy many times leaves the projector onto the eigenspace. This needs no
    branches and no special cases for repeated eigenvalues. It is as accurate as the gap between
    the eigenvalues allows, because each squaring widens the gap before it rounds.
    """
    size = symmetric.shape[-1]
    shift = jnp.sqrt(jnp.square(symmetric).sum((-1, -2)))[..., None, None]
    # Every vector is an eigenvector of a zero matrix; the identity then yields the first axis.
    power = symmetric + jnp.where(shift == 0, 1.0, shift) * jnp.eye(size)

    def square(_: int, power: Array) -> Array:
        power = power / jnp.trace(power, axis1=-2, axis2=-1)[..., None, None]
        return matmul(power, power)

    projector = jax.lax.fori_loop(0, _SQUARINGS, square, power)
    # Any column spans the eigenspace; the longest loses least to rounding. Compared one by one,
    # because argmax does not lower in float64 inside a caller that is jitted in float32.
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
    """Return the mean (..., 1, 3), exact for points that all coincide."""
    first = points[..., :1, :]
    return first + (points - first).mean(-2, keepdims=True)


def _stack(*rows: tuple[Array, ...]) -> Array:
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
