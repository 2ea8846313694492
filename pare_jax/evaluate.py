"""A network and a split in, errors out: per sample on the device, summed up on the host.

`report.py` turns the errors into a table, metrics.json and figures.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from pare_jax import geometry, metrics, sharding
from pare_jax.body.model import BodyModel
from pare_jax.errors import UserError
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import PCKH_JOINTS
from pare_jax.train_step import predict_step

_NEEDS_POSE = ("mpjae", "pa_mpjae")

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SampleErrors:
    """Errors of every sample of a split, in its order (N samples; rows of padding removed).

    Attributes:
        values: by metric name, (N,), in the metric's unit; NaN where the label is missing, or the
            network's answer is not finite.
        labelled: which samples have 3D joints, or 2D ones and a head's size, to compare with,
            (N,) bool.
        per_joint: root-aligned error of each joint, mm, (N, 24).
        constant_per_joint: the same of the best constant, mm, (N, 24).
        visible: 1 for joints that are seen, 0 for hidden ones, NaN where not known, (N, 24).
        pckh_joints: how many joints a sample's PCKh is the share of, (N,).
    """

    values: dict[str, np.ndarray]
    labelled: np.ndarray
    per_joint: np.ndarray
    constant_per_joint: np.ndarray
    visible: np.ndarray
    pckh_joints: np.ndarray


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One sample as pictures need it."""

    index: int
    image: np.ndarray
    vertices: np.ndarray
    attention: np.ndarray | None


class Evaluator:
    """Compiled programs that measure and draw what a network predicts."""

    def __init__(
        self, graphdef: nnx.GraphDef, body: BodyModel, mean_joints: np.ndarray, mesh: Mesh
    ):
        """Prepare the programs; they compile on first use.

        Args:
            graphdef: the network's graph in evaluation mode.
            body: the body that predictions and labels are posed with.
            mean_joints: the training set's mean root-centred joints, metres, (24, 3): the answer
                of the best constant.
            mesh: the devices to spread batches over.
        """
        self._mesh = mesh
        self._mean_joints = jnp.asarray(mean_joints, jnp.float32)
        self.body = body
        self._bodies = jax.jit(functools.partial(_bodies, graphdef=graphdef, body=body))
        self._picture = jax.jit(functools.partial(_picture, graphdef=graphdef, body=body))

    def measure(
        self, params: nnx.State, batch_stats: nnx.State, batches: Iterable[HostBatch]
    ) -> SampleErrors:
        """Measure every sample of a split.

        Args:
            params: the network's parameters.
            batch_stats: its batch statistics.
            batches: the split's batches, the last one padded with sample_weight 0.

        Raises:
            UserError: the split holds no sample with 3D joints or with what PCKh needs, or no
                answer of the network's is finite.
        """
        parts = [self._measure_batch(params, batch_stats, batch) for batch in batches]
        if not any(part["labelled"].any() for part in parts):
            raise UserError(
                "the split to evaluate holds no person with 3D joints, and none with 2D joints and "
                "a head's size"
            )
        if not any(np.isfinite(part[name]).any() for part in parts for name in ("mpjpe", "pckh")):
            raise UserError(
                "the network's answers are not finite: its weights are of a run that diverged; "
                "choose an earlier checkpoint"
            )
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays = {
            name: joined.pop(name)
            for name in ("labelled", "per_joint", "constant_per_joint", "visible", "pckh_joints")
        }
        return SampleErrors(values=joined, **arrays)

    def _measure_batch(
        self, params: nnx.State, batch_stats: nnx.State, batch: HostBatch
    ) -> dict[str, np.ndarray]:
        on_device = sharding.put_batch(batch, self._mesh)
        predicted, true = self._bodies(params, batch_stats, on_device)
        joints, true_joints = predicted["joints"], on_device["joints_3d"]
        rotations, true_rotations = predicted["rotations"], on_device["rotations"]
        per_joint = metrics.joint_errors(joints, true_joints)
        constant = metrics.joint_errors(self._mean_joints, true_joints)
        joints_2d, true_2d = predicted["joints_2d"], on_device["joints_2d"]
        annotated, head_size = on_device["joints_2d_weight"], on_device["head_size"]
        values = {
            "mpjpe": metrics.mpjpe(joints, true_joints),
            "pa_mpjpe": metrics.pa_mpjpe(joints, true_joints),
            "pck": 100.0 * metrics.pck(joints, true_joints),
            "auc": 100.0 * metrics.auc(joints, true_joints),
            "mean_pose_mpjpe": metrics.mpjpe(self._mean_joints, true_joints),
            "pve": metrics.pve(predicted["vertices"], true["vertices"], joints, true["joints"]),
            "mpjae": metrics.mpjae(rotations, true_rotations),
            "pa_mpjae": metrics.pa_mpjae(rotations, true_rotations, joints, true_joints),
            "pckh": 100.0 * metrics.pckh(joints_2d, true_2d, annotated, head_size),
        }
        host = jax.device_get(values | {"per_joint": per_joint, "constant_per_joint": constant})
        return _without_unlabelled(host, batch)

    def draw(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        batches: Iterable[HostBatch],
        rows: Sequence[int],
    ) -> list[Drawn]:
        """Predict the samples at the given rows of the split, for drawing."""
        wanted = set(rows)
        found: dict[int, Drawn] = {}
        start = 0
        for batch in batches:
            here = sorted(row for row in wanted if start <= row < start + len(batch["image"]))
            if here:
                on_device = sharding.put_batch(batch, self._mesh)
                vertices, attention = jax.device_get(
                    self._picture(params, batch_stats, on_device["image"])
                )
                for row in here:
                    at = row - start
                    maps = None if attention is None else attention[at]
                    found[row] = Drawn(row, batch["image"][at], vertices[at], maps)
            start += len(batch["image"])
            if len(found) == len(wanted):
                break
        return [found[row] for row in rows if row in found]


def _bodies(
    params: nnx.State,
    batch_stats: nnx.State,
    batch: Mapping[str, jax.Array],
    *,
    graphdef: nnx.GraphDef,
    body: BodyModel,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    prediction = predict_step(params, batch_stats, batch["image"], graphdef=graphdef)
    ours = body(prediction.betas, prediction.rotations)
    true = body(batch["betas"], batch["rotations"])
    predicted = {
        "joints": ours.joints,
        "vertices": ours.vertices,
        "rotations": prediction.rotations,
        "joints_2d": geometry.project(ours.joints, geometry.camera_translation(prediction.camera)),
    }
    return predicted, {"joints": true.joints, "vertices": true.vertices}


def _picture(
    params: nnx.State,
    batch_stats: nnx.State,
    images: jax.Array,
    *,
    graphdef: nnx.GraphDef,
    body: BodyModel,
) -> tuple[jax.Array, jax.Array | None]:
    prediction: Prediction = predict_step(params, batch_stats, images, graphdef=graphdef)
    translation = geometry.camera_translation(prediction.camera)
    output = body(prediction.betas, prediction.rotations, translation)
    return output.vertices, prediction.attention


def _without_unlabelled(host: Mapping[str, np.ndarray], batch: HostBatch) -> dict[str, np.ndarray]:
    """Drop padding; put NaN where a sample lacks what a metric compares with."""
    real = batch["sample_weight"] > 0
    has_joints = batch["joints_3d_weight"][real] > 0
    has_pose = has_joints & (batch["pose_weight"][real] > 0)
    has_mesh = has_pose & (batch["betas_weight"][real] > 0)
    pckh_joints = _pckh_joints(batch)[real]
    needs = {"pve": has_mesh, "pckh": pckh_joints > 0, **dict.fromkeys(_NEEDS_POSE, has_pose)}
    out = {}
    for name, value in host.items():
        known = needs.get(name, has_joints)
        rows = np.asarray(value, np.float64)[real]
        out[name] = np.where(known.reshape((-1,) + (1,) * (rows.ndim - 1)), rows, np.nan)
    known_visible = batch["visible_weight"][real, None] > 0
    out["labelled"] = has_joints | (pckh_joints > 0)
    out["pckh_joints"] = pckh_joints
    out["visible"] = np.where(known_visible, batch["visible"][real], np.nan)
    return out


def _pckh_joints(batch: HostBatch) -> np.ndarray:
    """Count the joints that PCKh can judge, (B,)."""
    annotated = (batch["joints_2d_weight"][:, list(PCKH_JOINTS)] > 0).sum(1)
    return np.where(batch["head_size"] > 0, annotated, 0)
