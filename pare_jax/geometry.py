"""Rotations and cameras.

Frames: the camera's is x right, y down, z forward, in metres. Crop units span [-1, 1] over the
network crop, x right and y down. All functions take any leading batch axes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH

# Below this squared angle the Taylor series replaces sin(t)/t: exact in float32, and smooth.
_SMALL_SQUARED_ANGLE = 1e-6


def axis_angle_to_matrix(axis_angle: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Turn axis-angle vectors (radians) into rotation matrices by Rodrigues' formula.

    Differentiable everywhere, the zero vector included.

    Args:
        axis_angle: rotation axes times angles in radians, (..., 3).

    Returns:
        Rotation matrices, (..., 3, 3).
    """
    axis_angle = jnp.asarray(axis_angle)
    squared = jnp.sum(axis_angle**2, -1)[..., None, None]
    small = squared < _SMALL_SQUARED_ANGLE
    safe = jnp.where(small, 1.0, squared)
    angle = jnp.sqrt(safe)
    sinc = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    # (1 - cos t) / t^2 = 2 sin^2(t/2) / t^2, which does not cancel for small angles.
    versine = jnp.where(small, 0.5 - squared / 24.0, 2.0 * jnp.sin(angle / 2.0) ** 2 / safe)
    cross = cross_matrix(axis_angle)
    return jnp.eye(3, dtype=axis_angle.dtype) + sinc * cross + versine * _matmul(cross, cross)


def cross_matrix(vector: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Return the skew-symmetric matrix K with K u = vector x u."""
    x, y, z = jnp.moveaxis(vector, -1, 0)
    zero = jnp.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return jnp.stack(rows, -1).reshape((*vector.shape[:-1], 3, 3))


def matrix_to_axis_angle(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 3"]:
    """Turn rotation matrices into axis-angle vectors with angles in [0, pi].

    Goes through the unit quaternion whose largest component is found first (Shepperd 1978), so
    that it is accurate near the identity and near half turns.

    Args:
        matrix: rotation matrices, (..., 3, 3).

    Returns:
        Axis-angle vectors in radians, (..., 3).
    """
    matrix = jnp.asarray(matrix)
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    trace = m[0][0] + m[1][1] + m[2][2]
    # Four times each quaternion component (w, x, y, z) times the component in the row's place.
    products = jnp.stack(
        [
            jnp.stack(row, -1)
            for row in (
                (1 + trace, m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]),
                (
                    m[2][1] - m[1][2],
                    1 + 2 * m[0][0] - trace,
                    m[0][1] + m[1][0],
                    m[0][2] + m[2][0],
                ),
                (
                    m[0][2] - m[2][0],
                    m[0][1] + m[1][0],
                    1 + 2 * m[1][1] - trace,
                    m[1][2] + m[2][1],
                ),
                (
                    m[1][0] - m[0][1],
                    m[0][2] + m[2][0],
                    m[1][2] + m[2][1],
                    1 + 2 * m[2][2] - trace,
                ),
            )
        ],
        -2,
    )
    largest = jnp.argmax(jnp.diagonal(products, axis1=-2, axis2=-1), -1)
    row = jnp.take_along_axis(products, largest[..., None, None], -2)[..., 0, :]
    quaternion = row / jnp.linalg.norm(row, axis=-1, keepdims=True)
    quaternion = jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, vector = quaternion[..., 0], quaternion[..., 1:]
    squared = jnp.sum(vector**2, -1)
    small = squared < _SMALL_SQUARED_ANGLE
    sine = jnp.sqrt(jnp.where(small, 1.0, squared))
    # angle / sin(angle / 2), with its series about 0 where the vector part vanishes.
    scale = jnp.where(small, 2.0 + squared / 3.0, 2.0 * jnp.arctan2(sine, w) / sine)
    return scale[..., None] * vector


def sixd_to_matrix(sixd: Float[Array, "... 6"]) -> Float[Array, "... 3 3"]:
    """Turn the continuous 6D representation into rotation matrices by Gram-Schmidt.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019, section
    4.2, in SPIN's and PARE's layout: the six numbers are a row-major 3x2 matrix whose columns are
    orthonormalised.

    Args:
        sixd: (..., 6).

    Returns:
        Rotation matrices whose columns are b1, b2 and b1 x b2, (..., 3, 3).
    """
    columns = jnp.asarray(sixd).reshape((*sixd.shape[:-1], 3, 2))
    b1 = _unit(columns[..., 0])
    a2 = columns[..., 1]
    b2 = _unit(a2 - jnp.sum(b1 * a2, -1, keepdims=True) * b1)
    return jnp.stack([b1, b2, jnp.cross(b1, b2)], -1)


def matrix_to_sixd(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 6"]:
    """Return the 6D representation of rotation matrices: their first two columns, row-major."""
    return jnp.asarray(matrix)[..., :2].reshape((*matrix.shape[:-2], 6))


def camera_translation(
    camera: Float[Array, "... 3"],
    focal_length: float = FOCAL_LENGTH,
    image_size: float = CROP_RESOLUTION,
) -> Float[Array, "... 3"]:
    """Turn a weak-perspective camera into the body's translation in the crop's camera frame.

    PARE (Kocabas et al. 2021) section 3.3 and SPIN.

    Args:
        camera: (s, tx, ty): scale (crop half-sides a metre) and shift in metres, (..., 3).
        focal_length: in pixels of the crop.
        image_size: the crop's side in those pixels.

    Returns:
        Translation in metres, (..., 3).
    """
    scale, shift_x, shift_y = jnp.moveaxis(jnp.asarray(camera), -1, 0)
    depth = 2.0 * focal_length / (image_size * scale + 1e-9)
    return jnp.stack([shift_x, shift_y, depth], -1)


def project(
    points: Float[Array, "... n 3"],
    translation: Float[Array, "... 3"],
    focal_length: float = FOCAL_LENGTH,
    image_size: float = CROP_RESOLUTION,
) -> Float[Array, "... n 2"]:
    """Project points with a pinhole camera whose principal point is the crop's centre.

    Args:
        points: metres, camera axes, (..., N, 3).
        translation: added to the points, (..., 3), as `camera_translation` gives it.
        focal_length: in pixels of the crop.
        image_size: the crop's side in those pixels.

    Returns:
        Crop units, (..., N, 2).
    """
    moved = points + translation[..., None, :]
    return moved[..., :2] / moved[..., 2:] * (2.0 * focal_length / image_size)


def full_frame_translation(
    camera: Float[Array, "... 3"],
    crop_centre: Float[Array, "... 2"],
    crop_side: Float[Array, "..."],
    picture_size: Float[Array, "... 2"],
    focal_length: Float[Array, "..."],
) -> Float[Array, "... 3"]:
    """Place the body in the frame of a camera that took the whole picture.

    The crop's camera looks along the crop's centre; the picture's along the picture's. The shift
    between the two is added to the translation (CLIFF, Li et al. 2022, section 3.2).

    Args:
        camera: the crop's (s, tx, ty), (..., 3).
        crop_centre: of the square crop, in pixels of the picture, (..., 2).
        crop_side: in pixels of the picture, (...).
        picture_size: width and height in pixels, (..., 2).
        focal_length: of the full camera, in pixels of the picture, (...). `full_frame_focal_length`
            gives the one for which both cameras draw the same person pixel for pixel when the
            crop's centre is the picture's.

    Returns:
        Translation in metres in the full camera's frame, principal point at the picture's centre.
    """
    camera = jnp.asarray(camera)
    scale, shift_x, shift_y = jnp.moveaxis(camera, -1, 0)
    pixels_per_metre = scale * crop_side / 2.0
    offset = (crop_centre - picture_size / 2.0) / pixels_per_metre[..., None]
    depth = focal_length / (pixels_per_metre + 1e-9)
    return jnp.stack([shift_x + offset[..., 0], shift_y + offset[..., 1], depth], -1)


def full_frame_focal_length(crop_side: Float[Array, "..."] | float) -> Float[Array, "..."] | float:
    """Return the crop camera's focal length in pixels of the picture the crop was cut from."""
    return FOCAL_LENGTH * crop_side / CROP_RESOLUTION


def _unit(vector: Array) -> Array:
    """Normalise, with a finite gradient at zero (where the result is zero)."""
    squared = jnp.sum(vector**2, -1, keepdims=True)
    return vector * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def _matmul(a: Array, b: Array) -> Array:
    """Multiply 3x3 matrices at full precision on every accelerator."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
