"""3D metrics: MPJPE, PA-MPJPE, PVE, PCK, AUC, MPJAE and PA-MPJAE of predicted bodies.

Inputs are metres and rotation matrices; results are millimetres, degrees or shares. Functions take
any leading batch axes, which broadcast, for example one mean pose against a batch of true ones.
They return one float32 value per sample, and the caller averages. They accept NumPy arrays, and
work both eagerly and inside `jax.jit`.

The arithmetic is float64 whatever JAX's global precision is. In the camera frame the distance to
the camera takes the digits that matter: in float32, an error at 40 m is off by 0.001 mm. An
untrained network may predict all joints in nearly one place: singular values in float32 then put
the error off by hundreds of millimetres. Beside a network, float64 costs nothing here. The only
operations are additions, multiplications, divisions and square roots, because every accelerator
has these in float64, natively or emulated.

Definitions are the 3DPW challenge's unless a function says otherwise.

Source: von Marcard et al., "Recovering Accurate 3D Human Pose in the Wild Using IMUs and a Moving
Camera", ECCV 2018.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from pare_jax import skeleton
from pare_jax.evaluation.alignment import angle_of, fit_similarity, matmul, norm, rotate
from pare_jax.evaluation.double_precision import as_float32, in_float64, point_sets, select

MILLIMETRES = 1000.0
PCK_THRESHOLD = 50.0
# Thresholds of the challenge's AUC: whole millimetres from 0 to 199.
AUC_THRESHOLDS = 200
# At most this many numbers are added one after another.
_FEW = 16


class Similarity(NamedTuple):
    """The map x -> scale * rotation @ x + translation."""

    scale: Float[Array, "*batch"]
    rotation: Float[Array, "*batch 3 3"]
    translation: Float[Array, "*batch 3"]


@in_float64("root")
def joint_errors(
    pred: Float[ArrayLike, "*batch joints 3"],
    true: Float[ArrayLike, "*batch joints 3"],
    root: int | None = 0,
) -> Float[Array, "*batch joints"]:
    """Return each joint's distance from the truth, with both roots at the origin.

    Args:
        pred: predicted joints, metres.
        true: true joints, metres, same frame.
        root: index of the root joint. None: the points are already centred, as they must be if
            the sets do not contain their root.

    Returns:
        Distances in millimetres.

    Raises:
        ValueError: the two sets differ in their number of points.
    """
    return as_float32(_joint_errors(pred, true, root))


@in_float64("root")
def mpjpe(
    pred: Float[ArrayLike, "*batch joints 3"],
    true: Float[ArrayLike, "*batch joints 3"],
    root: int | None = 0,
) -> Float[Array, "*batch"]:
    """Return the mean per-joint position error: the mean over joints of `joint_errors`.

    Args:
        pred: predicted joints, metres.
        true: true joints, metres, same frame.
        root: index of the root joint; None: the points are already centred.

    Returns:
        Millimetres, one value per sample.
    """
    return as_float32(_joint_errors(pred, true, root).mean(-1))


@in_float64()
def pa_mpjpe(
    pred: Float[ArrayLike, "*batch joints 3"],
    true: Float[ArrayLike, "*batch joints 3"],
) -> Float[Array, "*batch"]:
    """Return the mean per-joint position error after the best similarity transform.

    Args:
        pred: predicted joints, metres, any frame.
        true: true joints, metres.

    Returns:
        Millimetres, one value per sample; see `procrustes` for the transform.
    """
    pred, true = point_sets(pred, true)
    fit = fit_similarity(pred, true)
    aligned = fit.scale[..., None, None] * rotate(fit.rotation, pred - fit.pred_mean)
    return as_float32(MILLIMETRES * norm(aligned - (true - fit.true_mean)).mean(-1))


@in_float64("root")
def pve(
    pred: Float[ArrayLike, "*batch vertices 3"],
    true: Float[ArrayLike, "*batch vertices 3"],
    pred_joints: Float[ArrayLike, "*batch joints 3"] | None = None,
    true_joints: Float[ArrayLike, "*batch joints 3"] | None = None,
    root: int = 0,
) -> Float[Array, "*batch"]:
    """Return the mean per-vertex error, with both roots at the origin.

    PARE's code aligns nothing: its V2V is this function without joints, on vertices in the camera's
    axes, not translated.

    Args:
        pred: predicted vertices, metres.
        true: true vertices, metres, same mesh topology.
        pred_joints: the predicted body's joints, in the frame of its vertices.
        true_joints: the true body's joints, in the frame of its vertices.
        root: index of the root joint. Without joints, the vertices are compared as they are.

    Returns:
        Millimetres, one value per sample.

    Raises:
        ValueError: the meshes differ in size, or only one body's joints are given.
    """
    if (pred_joints is None) != (true_joints is None):
        raise ValueError("pve needs the joints of both bodies, or of neither")
    if np.shape(pred)[-2:] != np.shape(true)[-2:] or np.shape(pred)[-1] != 3:
        raise ValueError(f"expected two meshes (..., V, 3), got {np.shape(pred)}, {np.shape(true)}")
    offset = jnp.zeros(3)
    if pred_joints is not None and true_joints is not None:
        pred_joints, true_joints = point_sets(pred_joints, true_joints)
        offset = (pred_joints - true_joints)[..., root, None, :]
    # One coordinate at a time, and float64 no sooner than that: no array of whole meshes is made.
    squares = [
        jnp.square(_coordinate(pred, i) - _coordinate(true, i) - offset[..., i]) for i in range(3)
    ]
    return as_float32(MILLIMETRES * _mean_of_many(jnp.sqrt(sum(squares))))


def _coordinate(points: ArrayLike, axis: int) -> Float[Array, "*batch points"]:
    return jnp.asarray(points)[..., axis].astype(jnp.float64)


def _mean_of_many(values: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Return the mean over the last axis, adding one half to the other again and again.

    On a CPU, XLA's own sum adds one number after another, which takes many times as long.
    """
    count = values.shape[-1]
    while values.shape[-1] > _FEW:
        half = values.shape[-1] // 2
        halves = values[..., :half] + values[..., half : 2 * half]
        values = jnp.concatenate([halves, values[..., 2 * half :]], -1)
    return values.sum(-1) / count


@in_float64("joints", "root")
def pck(
    pred: Float[ArrayLike, "*batch joints 3"],
    true: Float[ArrayLike, "*batch joints 3"],
    threshold: float = PCK_THRESHOLD,
    joints: tuple[int, ...] | None = skeleton.PCK_JOINTS,
    root: int | None = 0,
) -> Float[Array, "*batch"]:
    """Return the share of joints at most `threshold` millimetres off after root alignment.

    Args:
        pred: predicted joints, metres.
        true: true joints, metres, same frame.
        threshold: millimetres.
        joints: indices of the joints that count; None: all.
        root: index of the root joint; None: the points are already centred.

    Returns:
        A share between 0 and 1 per sample.
    """
    errors = select(_joint_errors(pred, true, root), joints)
    # Without this, NaN would count as a large distance.
    share = jnp.where(jnp.isnan(errors), jnp.nan, errors <= threshold)
    return as_float32(share.mean(-1))


@in_float64("joints", "root")
def auc(
    pred: Float[ArrayLike, "*batch joints 3"],
    true: Float[ArrayLike, "*batch joints 3"],
    joints: tuple[int, ...] | None = skeleton.PCK_JOINTS,
    root: int | None = 0,
) -> Float[Array, "*batch"]:
    """Return the area under the curve of PCK over thresholds from 0 to 199 mm.

    The challenge's script samples the curve at whole millimetres, integrates by the trapezoidal
    rule and divides by 199. The mean over samples of this function is the area under the mean
    curve, because the area is linear in the curve. The exact integral from 0 to 200 mm is up to
    0.003 larger.

    Args:
        pred: predicted joints, metres.
        true: true joints, metres, same frame.
        joints: indices of the joints that count; None: all.
        root: index of the root joint; None: the points are already centred.

    Returns:
        A share between 0 and 1 per sample.
    """
    errors = select(_joint_errors(pred, true, root), joints)[..., None]
    within = errors <= jnp.arange(AUC_THRESHOLDS, dtype=errors.dtype)
    # Without this, NaN would count as a large distance.
    curve = jnp.where(jnp.isnan(errors), jnp.nan, within).mean(-2)
    return as_float32((0.5 * (curve[..., 1:] + curve[..., :-1])).mean(-1))


@in_float64("parents")
def global_rotations(
    rotations: Float[ArrayLike, "*batch joints 3 3"],
    parents: tuple[int, ...] = skeleton.PARENTS,
) -> Float[Array, "*batch joints 3 3"]:
    """Compose rotations relative to the parent into rotations relative to the camera frame.

    Args:
        rotations: each joint's rotation relative to its parent, the root's relative to the camera
            frame, as networks predict and body models take them.
        parents: parent of each joint, -1 for the root; parents come before children.

    Returns:
        Rotation of each joint into the camera frame.
    """
    return as_float32(_global_rotations(rotations, parents))


@in_float64("parents")
def mpjae(
    pred: Float[ArrayLike, "*batch joints 3 3"],
    true: Float[ArrayLike, "*batch joints 3 3"],
    parents: tuple[int, ...] | None = skeleton.PARENTS,
) -> Float[Array, "*batch"]:
    """Return the mean angle between the global rotations of nine body parts.

    Args:
        pred: predicted rotations of the 24 joints, each relative to its parent.
        true: true rotations, same convention.
        parents: the kinematic tree. None: both sets are global rotations already.

    Returns:
        Degrees, one value per sample: the mean over `skeleton.ORIENTATION_PARTS`.
    """
    return as_float32(_angle(_parts(pred, parents), _parts(true, parents)).mean(-1))


@in_float64("parents")
def pa_mpjae(
    pred: Float[ArrayLike, "*batch joints 3 3"],
    true: Float[ArrayLike, "*batch joints 3 3"],
    pred_joints: Float[ArrayLike, "*batch joints 3"],
    true_joints: Float[ArrayLike, "*batch joints 3"],
    parents: tuple[int, ...] | None = skeleton.PARENTS,
) -> Float[Array, "*batch"]:
    """Return `mpjae` after turning the prediction by the rotation that best aligns its joints.

    Args:
        pred: predicted rotations of the 24 joints, each relative to its parent.
        true: true rotations, same convention.
        pred_joints: predicted joints, metres, in the frame of the predicted root's rotation.
        true_joints: true joints, metres, in the frame of the true root's rotation.
        parents: the kinematic tree. None: both sets are global rotations already.

    Returns:
        Degrees, one value per sample.
    """
    turn = fit_similarity(*point_sets(pred_joints, true_joints)).rotation
    turned = matmul(turn[..., None, :, :], _parts(pred, parents))
    return as_float32(_angle(turned, _parts(true, parents)).mean(-1))


@in_float64()
def procrustes(
    pred: Float[ArrayLike, "*batch points 3"],
    true: Float[ArrayLike, "*batch points 3"],
) -> Similarity:
    """Return the similarity transform of `pred` with the least squared distance from `true`.

    Args:
        pred: points to move.
        true: target points, in the same order.

    Returns:
        scale >= 0, rotation (never a reflection) and translation:
        `scale * points @ rotation.T + translation` is the aligned prediction. If several
        transforms are equally good (points on a line or in one place, some mirror images), it is
        one of them. For points in one place it is scale 1 and the identity rotation.

    Source: Horn, "Closed-form solution of absolute orientation using unit quaternions", JOSA 1987.
    """
    fit = fit_similarity(*point_sets(pred, true))
    moved_mean = fit.scale[..., None] * rotate(fit.rotation, fit.pred_mean)[..., 0, :]
    return Similarity(
        scale=as_float32(fit.scale),
        rotation=as_float32(fit.rotation),
        translation=as_float32(fit.true_mean[..., 0, :] - moved_mean),
    )


def _global_rotations(rotations: ArrayLike, parents: tuple[int, ...]) -> Array:
    rotations = jnp.asarray(rotations, jnp.float64)
    if rotations.shape[-3:] != (len(parents), 3, 3):
        raise ValueError(
            f"expected rotations of shape (..., {len(parents)}, 3, 3), got {rotations.shape}"
        )
    composed: list[Array] = []
    for joint, parent in enumerate(parents):
        local = rotations[..., joint, :, :]
        composed.append(local if parent < 0 else matmul(composed[parent], local))
    return jnp.stack(composed, axis=-3)


def _parts(rotations: ArrayLike, parents: tuple[int, ...] | None) -> Array:
    """Return the global rotations of `skeleton.ORIENTATION_PARTS`, (..., 9, 3, 3)."""
    if parents is None:
        composed = jnp.asarray(rotations, jnp.float64)
    else:
        composed = _global_rotations(rotations, parents)
    return composed[..., jnp.array(skeleton.ORIENTATION_PARTS), :, :]


def _angle(first: Array, second: Array) -> Array:
    """Return the geodesic angle between rotation matrices, degrees."""
    turn = matmul(jnp.swapaxes(first, -1, -2), second)
    doubled_axis = jnp.stack(
        (
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ),
        axis=-1,
    )
    # Twice the sine and cosine. The trace alone loses half the digits near 0 and 180 degrees.
    cosine = jnp.trace(turn, axis1=-2, axis2=-1) - 1.0
    return angle_of(norm(doubled_axis), cosine) * (180.0 / math.pi)


def _joint_errors(pred: ArrayLike, true: ArrayLike, root: int | None) -> Array:
    pred, true = point_sets(pred, true)
    if root is not None:
        pred = pred - pred[..., root, None, :]
        true = true - true[..., root, None, :]
    return MILLIMETRES * norm(pred - true)
