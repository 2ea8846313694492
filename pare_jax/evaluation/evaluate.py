"""Evaluation of a network on splits: errors of every sample, and samples to draw.

`report.py` writes the errors as a table, metrics.json and figures.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pare_jax import geometry, sharding, skeleton
from pare_jax.body.model import BodyModel
from pare_jax.errors import UserError
from pare_jax.evaluation import protocols, sample_errors
from pare_jax.evaluation.protocols import Protocol, TrueBodies
from pare_jax.evaluation.sample_errors import HostBatch, SampleErrors
from pare_jax.models.inference import input_field, predict_step
from pare_jax.rendering import overlay
from pare_jax.rendering.keypoint_picture import keypoint_picture

# Outputs of `eval_step` that drawings need.
_DRAWN = ("vertices", "translation", "rotations", "attention")
# `eval_step` with its graph bound, jitted once by the caller.
EvalStep = Callable[..., dict[str, Array]]


class Weights(NamedTuple):
    """Weights to evaluate: "swa" (the running mean) or "last", of one step of a run."""

    params: nnx.State
    batch_stats: nnx.State
    name: str
    step: int


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSetup:
    """Bodies, protocol and devices of an evaluation; data only.

    Attributes:
        body: the body that poses predictions.
        protocol: the joints to compare.
        truth: the bodies that pose labels.
        mean_joints: the training set's mean joints, the pelvis at the origin, metres; the
            mean-pose baseline's prediction.
        mesh: the devices that share a batch.
    """

    body: BodyModel
    protocol: Protocol
    truth: TrueBodies
    mean_joints: Float[Array, "24 3"]
    mesh: Mesh

    def with_baseline(self, mean_joints: Float[np.ndarray, "24 3"]) -> "EvaluationSetup":
        """Return the setup with the training set's mean joints, metres; NaN if unknown."""
        mean = np.asarray(mean_joints - mean_joints[:1], np.float32)
        return dataclasses.replace(self, mean_joints=sharding.put_replicated(mean, self.mesh))


@dataclasses.dataclass(frozen=True)
class PredictedSample:
    """One sample with the prediction to draw.

    Attributes:
        index: its row in the split.
        image: the network's crop, or a picture of its keypoints, RGB, (S, S, 3) uint8.
        vertices: the predicted mesh in the camera frame, metres, (V, 3).
        root: the root's predicted rotation into the camera frame, (3, 3).
        attention: each joint's attention, which sums to 1 over its map, (h, w, 24); None for a
            network without attention.
    """

    index: int
    image: np.ndarray
    vertices: np.ndarray
    root: np.ndarray
    attention: np.ndarray | None


def make_setup(settings: ConfigDict, body: BodyModel, mesh: Mesh) -> EvaluationSetup:
    """Load what a config's `eval` names and copy all of it to every device.

    The mean-pose baseline is unknown until `with_baseline`, which needs the training set.

    Args:
        settings: config.eval.
        body: the body that poses predictions.
        mesh: the devices that share a batch.

    Raises:
        UserError: see `protocols.load`.
    """
    body = sharding.put_replicated(body, mesh)
    protocol, truth = sharding.put_replicated(protocols.load(settings, body), mesh)
    unknown = np.full((skeleton.NUM_JOINTS, 3), np.nan, np.float32)
    setup = EvaluationSetup(body, protocol, truth, jnp.asarray(unknown), mesh)
    return setup.with_baseline(unknown)


def eval_step(
    params: nnx.State,
    batch_stats: nnx.State,
    body: BodyModel,
    batch: Mapping[str, Array],
    *,
    graphdef: nnx.GraphDef,
) -> dict[str, Array]:
    """Predict one batch: all that metrics and drawings need of it.

    Args:
        params: the network's parameters.
        batch_stats: its batch statistics.
        body: the body that poses predictions.
        batch: has the network's input, see `input_field`; other fields are not read.
        graphdef: the network's static graph, in evaluation mode.

    Returns:
        rotations: relative to the parent joint, (B, 24, 3, 3).
        joints, vertices: in the camera's axes, not translated, metres, (B, 24, 3) and (B, V, 3).
        orientations: rotations of `skeleton.ORIENTATION_PARTS` into the camera frame,
            (B, 9, 3, 3).
        translation: of the body in the camera frame, metres, (B, 3).
        points_2d: `skeleton.EVALUATED_POINTS` in the crop, (B, 25, 2).
        attention: (B, h, w, 24); missing for a network without attention.
    """
    prediction = predict_step(params, batch_stats, batch[input_field(batch)], graphdef=graphdef)
    posed = body.with_shape(prediction.betas).with_pose(prediction.rotations)
    vertices = posed.mesh()
    translation = geometry.camera_translation(prediction.camera)
    points = jnp.concatenate([posed.joints, vertices[:, [body.head_top]]], axis=1)
    outputs = {
        "rotations": prediction.rotations,
        "joints": posed.joints,
        "vertices": vertices,
        "orientations": posed.global_rotations[:, jnp.array(skeleton.ORIENTATION_PARTS)],
        "translation": translation,
        "points_2d": geometry.project(points, translation),
    }
    if prediction.attention is not None:
        outputs["attention"] = prediction.attention
    return outputs


def measure(
    step: EvalStep, weights: Weights, setup: EvaluationSetup, batches: Iterable[HostBatch]
) -> SampleErrors:
    """Measure every sample of a split.

    Args:
        step: `eval_step` with its graph bound, jitted.
        weights: the weights to evaluate.
        setup: bodies, protocol and devices.
        batches: the split's batches, the last one padded with sample_weight 0; of several
            processes, each passes its rows of each batch.

    Raises:
        UserError: no sample has 3D joints or two 2D joints, or no prediction is finite.
    """
    parts: list[dict[str, np.ndarray]] = []
    pending: collections.deque[_Pending] = collections.deque()
    for batch in batches:
        pending.append(_start_measuring(step, weights, setup, batch))
        # The device measures a batch while the host makes the next one.
        if len(pending) > 1:
            parts.append(_finish_measuring(pending.popleft(), setup.protocol))
    parts += [_finish_measuring(one, setup.protocol) for one in pending]
    return sample_errors.join(parts, setup.protocol, setup.truth)


class _Pending(NamedTuple):
    """Labels of a batch, and its errors and predictions, which the device may still compute."""

    batch: Mapping[str, np.ndarray | Array]
    errors: dict[str, Array]
    predictions: dict[str, Array]


def _start_measuring(
    step: EvalStep, weights: Weights, setup: EvaluationSetup, batch: HostBatch
) -> _Pending:
    field, mesh = input_field(batch), setup.mesh
    names = (field, *sample_errors.LABELS)
    labels = sharding.put_batch({name: batch[name] for name in names}, mesh)
    # The input alone, as in `draw`: other fields would compile another program.
    inputs = {field: labels.pop(field)}
    outputs = step(weights.params, weights.batch_stats, setup.body, inputs)
    errors = sample_errors.batch_errors(
        outputs, labels, setup.protocol, setup.truth, setup.mean_joints
    )
    applied = {name: batch[name] for name in sample_errors.APPLIED}
    if mesh.is_multi_process:  # This process has read only its share of the batch.
        applied = sharding.put_batch(applied, mesh)
    predictions = {name: outputs[name] for name in ("joints", "orientations")}
    return sharding.gather(_Pending(applied, errors, predictions), mesh)


def _finish_measuring(pending: _Pending, protocol: Protocol) -> dict[str, np.ndarray]:
    batch, errors, predictions = jax.device_get(pending)
    host = predictions | {"gender": batch["gender"]}
    rows = sample_errors.apply_labels(errors, batch, protocol)
    return rows | sample_errors.without_padding(host, batch)


def measure_splits(
    step: EvalStep,
    weights: Weights,
    setup: EvaluationSetup,
    evals: Mapping[str, Callable[[], Iterable[HostBatch]]],
) -> dict[str, SampleErrors]:
    """Measure several splits.

    Args:
        step, weights, setup: see `measure`.
        evals: by DATASET/SPLIT, a function that passes over the split once.

    Raises:
        UserError: as `measure`, with the split's name.
    """
    errors = {}
    for name, batches in evals.items():
        try:
            errors[name] = measure(step, weights, setup, batches())
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return errors


def draw(
    step: EvalStep,
    weights: Weights,
    setup: EvaluationSetup,
    batches: Iterable[HostBatch],
    rows: Sequence[int],
) -> list[PredictedSample]:
    """Predict the samples at the given rows of a split, for drawing.

    Args:
        step, weights, setup: see `measure`.
        batches: the split's batches from its beginning; closed when the last row is found.
        rows: rows of the samples.

    Returns:
        The samples in the order of `rows`, without those beyond the end of the split.
    """
    wanted = set(rows)
    found: dict[int, PredictedSample] = {}
    start = 0
    try:
        for batch in batches:
            field = input_field(batch)
            inputs = batch[field]
            size = len(inputs) * jax.process_count()
            here = [row for row in range(start, start + size) if row in wanted]
            if here:
                sent = sharding.put_batch({field: inputs}, setup.mesh)
                outputs = step(weights.params, weights.batch_stats, setup.body, sent)
                outputs = {name: outputs[name] for name in _DRAWN if name in outputs}
                outputs, sent = jax.device_get(sharding.gather((outputs, sent), setup.mesh))
                found |= _samples(outputs, sent[field], start, here)
            start += size
            if len(found) == len(wanted):
                break
    finally:
        sharding.close_stream(batches)
    return [found[row] for row in rows if row in found]


def _samples(
    host: Mapping[str, np.ndarray], inputs: np.ndarray, start: int, rows: Sequence[int]
) -> dict[int, PredictedSample]:
    """Collect some samples of a batch that begins at row `start` of its split."""
    vertices, attention = host["vertices"] + host["translation"][:, None], host.get("attention")
    return {
        row: PredictedSample(
            row,
            _picture(inputs[row - start]),
            vertices[row - start],
            host["rotations"][row - start, 0],
            None if attention is None else attention[row - start],
        )
        for row in rows
    }


def _picture(sample: np.ndarray) -> np.ndarray:
    """Return a network's input as a picture."""
    return sample if sample.dtype == np.uint8 else keypoint_picture(sample)


def panels(
    step: EvalStep,
    weights: Weights,
    setup: EvaluationSetup,
    batches: Iterable[HostBatch],
    count: int,
    attention_joints: Sequence[str],
) -> np.ndarray:
    """Draw the first samples of a split with their predictions, two squares in a row.

    TensorBoard shrinks pictures to the width of a card, so that captions of wider ones are too
    small to read.

    Args:
        step, weights, setup: see `measure`.
        batches: the split's batches from its beginning; closed at the end.
        count: number of samples.
        attention_joints: names of the joints whose attention maps are drawn.

    Returns:
        One picture a sample, (n, height, width, 3) uint8.
    """
    faces = np.asarray(setup.body.faces)
    return np.stack(
        [
            overlay.sample_panel(
                sample.image,
                sample.vertices,
                faces,
                sample.root,
                sample.attention,
                attention_joints,
                columns=2,
            )
            for sample in draw(step, weights, setup, batches, range(count))
        ]
    )
