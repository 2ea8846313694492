"""Errors of every sample: all metrics of a batch in one compiled program, and labels applied.

The network and the bodies compute in float32, the metrics in float64.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pare_jax.body.io import GENDERS
from pare_jax.body.model import BodyOutput
from pare_jax.errors import UserError
from pare_jax.evaluation import metrics, pckh
from pare_jax.evaluation.protocols import Measured, Protocol, TrueBodies
from pare_jax.skeleton import PCKH_POINTS

# By the names of `data_pipelines.example.BATCH_FIELDS`.
HostBatch = Mapping[str, np.ndarray]

# Fields of a batch that `batch_errors` reads.
LABELS = (
    *("rotations", "betas", "gender", "joints_3d", "joints_2d", "joints_2d_weight"),
    *("head_top", "head_top_weight", "head_size"),
)
_NEEDS_POSE = ("mpjae", "pa_mpjae")
_WEIGHTS = ("joints_3d_weight", "pose_weight", "betas_weight", "visible_weight")
# Weights of labels, and which joints have the label.
_PARTIAL = {"joints_3d_weight": "joints_3d_known"}
# Fields of a batch that are applied to its errors on the host.
APPLIED = (
    *(*_WEIGHTS, *_PARTIAL.values(), "visible", "joints_2d_weight", "head_top_weight"),
    *("head_size", "sample_weight", "gender"),
)
# Fields of `SampleErrors` that are not metrics.
_ARRAYS = (
    *("labelled", "finite_2d", "per_joint", "mean_pose_per_joint", "visible"),
    *("pckh_points", "pckh_hits"),
)


@dataclasses.dataclass(frozen=True)
class SplitPredictions:
    """Predictions for each sample of a split, the same for every protocol.

    Attributes:
        joints: SMPL's joints in the camera's axes, the pelvis at the origin, metres, (N, 24, 3).
        orientations: rotations of `skeleton.ORIENTATION_PARTS` into the camera frame,
            (N, 9, 3, 3).
    """

    joints: np.ndarray
    orientations: np.ndarray


@dataclasses.dataclass(frozen=True)
class SampleErrors:
    """Errors of every sample of a split, in its order, without padding (N samples).

    Attributes:
        protocol: names the J joints.
        values: by metric name, (N,), in the metric's unit. NaN where the label is missing or the
            prediction is not finite; PCKh and PCK count such a prediction as a miss. `pck_2d` is
            NaN in a split where anybody has 3D joints or a head's length.
        labelled: True for samples with 3D joints to compare with, (N,).
        finite_2d: True for samples whose predicted 2D points are finite, (N,).
        per_joint: root-aligned error of each joint, mm, (N, J).
        mean_pose_per_joint: the same of the mean-pose baseline, mm, (N, J); NaN for a protocol
            without one.
        visible: 1 for visible joints, 0 for hidden ones, NaN where unknown, (N, J).
        pckh_points: number of points that PCKh judges, (N,).
        pckh_hits: 1 for `skeleton.EVALUATED_POINTS` that PCKh counts as found, 0 for missed ones,
            NaN where unknown, (N, 25).
        truth_body: by gender of the samples, the name of the body that poses their true mesh.
        gendered_truth: False if a man or woman is posed with a neutral body; None without men and
            women.
        predictions: joints and orientations of the samples.
    """

    protocol: Protocol
    values: dict[str, np.ndarray]
    labelled: np.ndarray
    finite_2d: np.ndarray
    per_joint: np.ndarray
    mean_pose_per_joint: np.ndarray
    visible: np.ndarray
    pckh_points: np.ndarray
    pckh_hits: np.ndarray
    truth_body: dict[str, str]
    gendered_truth: bool | None
    predictions: SplitPredictions


@jax.jit
def batch_errors(
    predicted: Mapping[str, Array],
    labels: Mapping[str, Array],
    protocol: Protocol,
    truth: TrueBodies,
    mean_joints: Float[Array, "24 3"],
) -> dict[str, Array]:
    """Measure a batch by every metric, as if all labels were known.

    Args:
        predicted: outputs of `evaluate.eval_step`.
        labels: the batch's `LABELS`.
        protocol: the joints to compare.
        truth: the bodies of the labels.
        mean_joints: the mean-pose baseline's prediction, the pelvis at the origin, metres.

    Returns:
        By name of `SampleErrors.values` and of its arrays, the batch's rows.
    """
    pred = protocol.measure(BodyOutput(predicted["vertices"], predicted["joints"]))
    posed = truth(labels["betas"], labels["rotations"], labels["gender"])
    true = protocol.measure(posed)
    if not protocol.from_mesh:
        joints = labels["joints_3d"]
        true = true._replace(joints=joints - joints[:, :1])
    rotations = predicted["rotations"], labels["rotations"]
    points_2d = predicted["points_2d"]
    in_2d = (points_2d, *_true_points(labels), labels["head_size"])
    limbs = protocol.pck_joints
    with jax.enable_x64(True):
        return {
            "mpjpe": metrics.mpjpe(pred.joints, true.joints, root=None),
            "pa_mpjpe": metrics.pa_mpjpe(pred.joints, true.joints),
            "pck": 100.0 * metrics.pck(pred.joints, true.joints, joints=limbs, root=None),
            "auc": 100.0 * metrics.auc(pred.joints, true.joints, joints=limbs, root=None),
            "pve": metrics.pve(pred.vertices, true.vertices),
            "v2v": _v2v(predicted["vertices"], posed.vertices, protocol),
            "mpjae": metrics.mpjae(*rotations),
            "pa_mpjae": metrics.pa_mpjae(*rotations, pred.joints, true.joints),
            "pckh": 100.0 * pckh.pckh(*in_2d),
            "pck_2d": 100.0 * pckh.pck_of_box(*in_2d[:3]),
            "pckh_hits": pckh.hits(*in_2d),
            "finite_2d": jnp.isfinite(points_2d).all((1, 2)),
            "per_joint": metrics.joint_errors(pred.joints, true.joints, root=None),
            **_mean_pose_errors(mean_joints, true, protocol),
        }


def _v2v(predicted: Array, true: Array, protocol: Protocol) -> Array:
    """Return PARE's V2V, which aligns nothing; NaN unless the protocol is PARE's."""
    if not protocol.from_mesh:
        return jnp.full(len(predicted), jnp.nan, jnp.float32)
    return metrics.pve(predicted, true)


def _true_points(labels: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the true `skeleton.EVALUATED_POINTS` and their weights."""
    points = jnp.concatenate([labels["joints_2d"], labels["head_top"][:, None]], axis=1)
    weights = jnp.concatenate([labels["joints_2d_weight"], labels["head_top_weight"][:, None]], 1)
    return points, weights


def _mean_pose_errors(mean: Array, true: Measured, protocol: Protocol) -> dict[str, Array]:
    """Measure the mean-pose baseline; NaN unless the joints are SMPL's, whose mean is known."""
    if protocol.from_mesh:
        nothing = jnp.full(true.joints.shape[:2], jnp.nan, jnp.float32)
        return {"mean_pose_mpjpe": nothing[:, 0], "mean_pose_per_joint": nothing}
    return {
        "mean_pose_mpjpe": metrics.mpjpe(mean, true.joints, root=None),
        "mean_pose_per_joint": metrics.joint_errors(mean, true.joints, root=None),
    }


def apply_labels(
    errors: Mapping[str, np.ndarray], batch: HostBatch, protocol: Protocol
) -> dict[str, np.ndarray]:
    """Drop padding, and put NaN where a sample lacks the label of a metric.

    Args:
        errors: from `batch_errors`, on the host.
        batch: the same batch.
        protocol: the joints that were compared.

    Returns:
        The rows of the samples: `errors`, `labelled`, `pckh_points` and `visible`.
    """
    known = {name: batch[name] > 0 for name in _WEIGHTS}
    for weight, parts in _PARTIAL.items():
        # A label of some joints cannot be measured by a protocol.
        known[weight] &= (batch[parts] > 0).all(1)
    known = without_padding(known, batch)
    has_mesh = known["pose_weight"] & known["betas_weight"]
    has_joints = has_mesh if protocol.from_mesh else known["joints_3d_weight"]
    has_pose = has_joints & known["pose_weight"]
    rows = without_padding(
        {**errors, "pckh_points": _pckh_points(batch), "visible": batch["visible"]}, batch
    )
    pckh_points, visible = rows.pop("pckh_points"), rows.pop("visible")
    finite_2d = rows.pop("finite_2d")
    needs = {
        **dict.fromkeys(("pve", "v2v"), has_joints & has_mesh),
        "pckh": pckh_points > 0,
        "pck_2d": np.ones_like(has_joints),
        "pckh_hits": pckh_points > 0,
        **dict.fromkeys(_NEEDS_POSE, has_pose),
    }
    out = {}
    for name, values in rows.items():
        kept = needs.get(name, has_joints).reshape((-1,) + (1,) * (values.ndim - 1))
        out[name] = np.where(kept, np.asarray(values, np.float64), np.nan)
    return out | {
        "labelled": has_joints,
        "finite_2d": finite_2d,
        "pckh_points": pckh_points,
        "visible": np.where(known["visible_weight"], visible, np.nan)[:, protocol.smpl_joints],
    }


def _pckh_points(batch: HostBatch) -> np.ndarray:
    """Count the points that PCKh can judge, (B,)."""
    weights = np.concatenate([batch["joints_2d_weight"], batch["head_top_weight"][:, None]], axis=1)
    annotated = (weights[:, list(PCKH_POINTS)] > 0).sum(1)
    return np.where(batch["head_size"] > 0, annotated, 0)


def without_padding(values: Mapping[str, np.ndarray], batch: HostBatch) -> dict[str, np.ndarray]:
    """Drop the rows of a split's last batch that only fill it."""
    real = batch["sample_weight"] > 0
    return {name: np.asarray(value)[real] for name, value in values.items()}


def join(
    parts: Sequence[Mapping[str, np.ndarray]], protocol: Protocol, truth: TrueBodies
) -> SampleErrors:
    """Join the batches of a split.

    Args:
        parts: for each batch, the rows from `apply_labels` and, without padding, `gender`,
            `joints` and `orientations`.
        protocol: the joints that were compared.
        truth: the bodies of the labels.

    Raises:
        UserError: no sample has 3D joints or two 2D joints, or no prediction is finite.
    """
    if any(part["labelled"].any() or part["pckh_points"].any() for part in parts):
        # PCK of the box is for splits that can be measured in no other way.
        parts = [
            part | {"pck_2d": np.full_like(part["pck_2d"], np.nan)} for part in map(dict, parts)
        ]
    elif not any(np.isfinite(part["pck_2d"]).any() for part in parts):
        raise UserError(
            "no person of this split has 3D joints or two 2D joints: choose another split in "
            "config.data.eval"
        )
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    judged_2d = (rows["pckh_points"] > 0) | np.isfinite(rows["pck_2d"])
    if not (np.isfinite(rows["mpjpe"]) | (rows["finite_2d"] & judged_2d)).any():
        raise UserError(
            "the predictions are not finite, because the run of these weights diverged: choose an "
            "earlier checkpoint"
        )
    genders = [int(number) for number in np.unique(rows.pop("gender"))]
    joints = rows.pop("joints")
    predictions = SplitPredictions(joints - joints[:, :1], rows.pop("orientations"))
    arrays = {name: rows.pop(name) for name in _ARRAYS}
    return SampleErrors(
        protocol=protocol,
        values=rows,
        **arrays,
        truth_body={GENDERS[number]: truth.name_of(number) for number in genders},
        gendered_truth=truth.gendered if any(genders) else None,
        predictions=predictions,
    )
