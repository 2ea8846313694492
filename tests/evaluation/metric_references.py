"""Metrics from their definitions in float64 NumPy, one sample at a time where that is clearer."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from pare_jax import skeleton


def reference_alignment(pred, true):
    """Return the aligned prediction of one sample and its rotation, by Umeyama's method."""
    pred, true = pred.astype(np.float64), true.astype(np.float64)
    # Coinciding points must centre to exact zeros.
    pred_mean = pred[0] + (pred - pred[0]).mean(0)
    true_mean = true[0] + (true - true[0]).mean(0)
    p, t = pred - pred_mean, true - true_mean
    u, values, vt = np.linalg.svd(t.T @ p)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    spread = np.sum(p**2)
    scale = np.sum(values * sign) / spread if spread else 1.0
    return scale * p @ rotation.T + true_mean, rotation


def has_one_best_turn(pred, true):
    """Return True for samples with a single best rotation.

    A cloud on a line may turn about it. Without any extent the convention is the identity.
    """
    p, t = (x.astype(np.float64) - x[:, :1] for x in (pred, true))
    p, t = p - p.mean(1, keepdims=True), t - t.mean(1, keepdims=True)
    u, values, vt = np.linalg.svd(np.swapaxes(t, 1, 2) @ p)
    gap = values[:, 1] + np.sign(np.linalg.det(u @ vt)) * values[:, 2]
    return (gap > 1e-9 * values[:, 0]) | (values[:, 0] == 0)


def reference_pa_mpjpe(pred, true):
    aligned = [reference_alignment(p, t)[0] for p, t in zip(pred, true, strict=True)]
    return 1000 * np.linalg.norm(np.stack(aligned) - true.astype(np.float64), axis=-1).mean(-1)


def reference_errors(pred, true, root: int | None = 0):
    pred, true = pred.astype(np.float64), true.astype(np.float64)
    if root is not None:
        pred, true = pred - pred[..., [root], :], true - true[..., [root], :]
    return 1000 * np.sqrt(((pred - true) ** 2).sum(-1))


def reference_auc(errors):
    """Return each person's area under PCK's curve as the 3DPW challenge's script computes it.

    The script samples the curve at 0, 1, ... 199 mm, joins the samples by lines and integrates over
    the range, scaled to length 1. `errors` are (people, joints), mm.
    """
    thresholds = np.arange(0.0, 200.0)
    curves = (errors[..., None] <= thresholds).mean(-2)
    return np.trapezoid(curves, thresholds / thresholds.max(), axis=-1)


def reference_globals(rotations):
    rotations = rotations.astype(np.float64)
    composed = np.empty_like(rotations)
    for joint, parent in enumerate(skeleton.PARENTS):
        local = rotations[..., joint, :, :]
        composed[..., joint, :, :] = local if parent < 0 else composed[..., parent, :, :] @ local
    return composed


def reference_angles(pred, true):
    """Return geodesic angles in degrees by SciPy, which projects onto the rotations first."""
    turn = (np.swapaxes(pred, -1, -2) @ true).reshape(-1, 3, 3)
    return np.degrees(Rotation.from_matrix(turn).magnitude()).reshape(pred.shape[:-2])


# Both hips, knees and ankles, neck, shoulders, elbows and wrists, and the top of the head.
MPII_POINTS = (1, 2, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21, 24)


def reference_pckh(pred, true, known, head_size):
    """Return each person's share of MPII's annotated points within half a head's length."""
    shares = []
    for p, t, k, head in zip(pred, true, known, head_size, strict=True):
        joints = [joint for joint in MPII_POINTS if k[joint] > 0 and head > 0]
        right = [
            np.hypot(*(p[joint].astype(np.float64) - t[joint])) / head <= 0.5 for joint in joints
        ]  # a comparison with NaN is False: a miss
        shares.append(np.mean(right) if joints else np.nan)
    return np.array(shares)


def reference_pck_of_box(pred, true, known):
    """Return each person's share of points within a tenth of their box's longer side."""
    shares = []
    for p, t, k in zip(pred, true, known, strict=True):
        points = t[k > 0].astype(np.float64)
        side = max(np.ptp(points, axis=0)) if len(points) else 0.0
        errors = np.hypot(*(p[k > 0] - points).T)
        shares.append(np.mean(errors <= 0.1 * side) if side else np.nan)
    return np.array(shares)


class Bodies(NamedTuple):
    """Joints of many people, with rotations and vertices for the metrics that need them."""

    joints: np.ndarray
    rotations: np.ndarray | None = None
    vertices: np.ndarray | None = None


def reference_table(pred, true, root: int | None = 0, limbs=skeleton.PCK_JOINTS):
    """Return every 3D metric by its heading, one number a person, in the unit of `metrics`.

    `pred` and `true` have the fields of `Bodies`. PA-MPJAE is NaN without a single best rotation.
    """
    errors = reference_errors(pred.joints, true.joints, root)
    counted = errors[:, list(limbs)]
    fits = [reference_alignment(p, t) for p, t in zip(pred.joints, true.joints, strict=True)]
    aligned, turns = (np.stack(part) for part in zip(*fits, strict=True))
    table = {
        "MPJPE": errors.mean(-1),
        "PA-MPJPE": reference_errors(aligned, true.joints, None).mean(-1),
        "PCK@50": (counted <= 50).mean(-1),
        "AUC": reference_auc(counted),
    }
    if pred.vertices is not None:
        ours, theirs = (
            people.vertices.astype(np.float64) - people.joints[:, :1] for people in (pred, true)
        )
        table["PVE"] = reference_errors(ours, theirs, None).mean(-1)
    if pred.rotations is not None:
        parts = list(skeleton.ORIENTATION_PARTS)
        ours, theirs = (reference_globals(people.rotations)[:, parts] for people in (pred, true))
        table["MPJAE"] = reference_angles(ours, theirs).mean(-1)
        turned = reference_angles(turns[:, None] @ ours, theirs).mean(-1)
        one_best = has_one_best_turn(pred.joints, true.joints)
        table["PA-MPJAE"] = np.where(one_best, turned, np.nan)
    return table
