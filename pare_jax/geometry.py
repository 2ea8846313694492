"""Converts rotations and projects points: axis-angle, 6D, matrices, cameras.

The camera's frame is x right, y down, z forward, in metres. Crop units span [-1, 1] over the
crop, x right and y down. All functions take any leading batch axes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH

# Below this squared angle Taylor series replace quotients; they are exact in float32.
_SMALL_SQUARED_ANGLE = 1e-6


def axis_angle_to_matrix(axis_angle: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Convert axis-angle vectors (radians) to rotation matrices by Rodrigues' formula.

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
    # (1 - cos t) / t^2 = 2 sin^2(t/2) / t^2, which loses no digits for small angles.
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
    """Convert rotation matrices to axis-angle vectors with angles in [0, pi].

    Uses the unit quaternion and computes its largest component first (Shepperd 1978). This is
    accurate near the identity and near half turns.

    Args:
        matrix: rotation matrices, (..., 3, 3).

    Returns:
        Axis-angle vectors in radians, (..., 3).
    """
    matrix = jnp.asarray(matrix)
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    trace = m[0][0] + m[1][1] + m[2][2]
    # Row i: 4 q_i (q_w, q_x, q_y, q_z).
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
    # angle / sin(angle / 2); for small angles its series.
    scale = jnp.where(small, 2.0 + squared / 3.0, 2.0 * jnp.arctan2(sine, w) / sine)
    return scale[..., None] * vector


def sixd_to_matrix(sixd: Float[Array, "... 6"]) -> Float[Array, "... 3 3"]:
    """Convert the continuous 6D representation to rotation matrices by Gram-Schmidt.

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
    """Convert a weak-perspective crop camera to the body's translation in the camera frame.

    As in SPIN and PARE (Kocabas et al. 2021), section 3.3.

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
        translation: added to the points, (..., 3); see `camera_translation`.
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
    """Return the body's translation in the frame of the full camera.

    The principal point of the crop camera is the crop's centre, that of the full camera the
    photograph's. Their distance is added (CLIFF, Li et al. 2022, section 3.2).

    Args:
        camera: the crop camera (s, tx, ty), (..., 3).
        crop_centre: of the square crop, in pixels of the photograph, (..., 2).
        crop_side: in pixels of the photograph, (...).
        picture_size: the photograph's width and height, pixels, (..., 2).
        focal_length: of the full camera, in pixels of the photograph, (...). With
            `full_frame_focal_length` both cameras draw the same pixels for a crop at the
            photograph's centre.

    Returns:
        Translation in metres.
    """
    camera = jnp.asarray(camera)
    scale, shift_x, shift_y = jnp.moveaxis(camera, -1, 0)
    pixels_per_metre = scale * crop_side / 2.0
    offset = (crop_centre - picture_size / 2.0) / pixels_per_metre[..., None]
    depth = focal_length / (pixels_per_metre + 1e-9)
    return jnp.stack([shift_x + offset[..., 0], shift_y + offset[..., 1], depth], -1)


def full_frame_focal_length(crop_side: Float[Array, "..."] | float) -> Float[Array, "..."] | float:
    """Return the crop camera's focal length in pixels of the photograph."""
    return FOCAL_LENGTH * crop_side / CROP_RESOLUTION


def _unit(vector: Array) -> Array:
    """Normalise, with a finite gradient at zero (where the result is zero)."""
    squared = jnp.sum(vector**2, -1, keepdims=True)
    return vector * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def _matmul(a: Array, b: Array) -> Array:
    """Multiply 3x3 matrices in full float32 on GPUs and TPUs too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
