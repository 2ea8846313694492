"""A network and a split in, errors out: per sample on the device, summed up on the host.

`report.py` turns the errors into a table, metrics.json and figures.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from pare_jax import geometry, sharding, skeleton
from pare_jax.body.io import GENDERS
from pare_jax.body.model import BodyModel
from pare_jax.errors import UserError
from pare_jax.evaluation import metrics, pckh, protocols
from pare_jax.evaluation.protocols import Measured, Protocol, TrueBodies
from pare_jax.models.inference import predict_step
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import PCKH_POINTS
from pare_jax.training.data import HostBatch

_NEEDS_POSE = ("mpjae", "pa_mpjae")
# The fields of `SampleErrors` that are no metrics.
_ARRAYS = (
    *("labelled", "answered", "per_joint", "constant_per_joint", "visible"),
    *("pckh_points", "pckh_hits"),
)
_WEIGHTS = ("joints_3d_weight", "pose_weight", "betas_weight", "visible_weight")


@dataclasses.dataclass(frozen=True)
class SplitPredictions:
    """What a network predicted for each sample of a split, whatever the protocol.

    Attributes:
        joints: SMPL's joints in the camera's axes, the pelvis at the origin, metres, (N, 24, 3).
        orientations: rotations of `skeleton.ORIENTATION_PARTS` into the camera frame,
            (N, 9, 3, 3).
    """

    joints: np.ndarray
    orientations: np.ndarray


@dataclasses.dataclass(frozen=True)
class SampleErrors:
    """Errors of every sample of a split, in its order (N samples; rows of padding removed).

    Attributes:
        protocol: says what the J joints are.
        values: by metric name, (N,), in the metric's unit; NaN where the label is missing, or the
            network's answer is not finite; to PCKh such an answer is a miss.
        labelled: which samples have 3D joints to compare with, (N,) bool.
        answered: for which samples the network's points in the picture are finite, (N,) bool.
        per_joint: root-aligned error of each joint, mm, (N, J).
        constant_per_joint: the same of the best constant, mm, (N, J); NaN for a protocol that has
            none.
        visible: 1 for joints that are seen, 0 for hidden ones, NaN where not known, (N, J).
        pckh_points: how many points a sample's PCKh is the share of, (N,).
        pckh_hits: 1 for `skeleton.POINT_NAMES` that PCKh counts as found, 0 for missed ones, NaN
            where not known, (N, 25).
        truth_body: by gender of the samples, the name of the body their true mesh was posed with.
        gendered_truth: whether none of them is a man or woman posed with a neutral body.
        answers: what was predicted.
    """

    protocol: Protocol
    values: dict[str, np.ndarray]
    labelled: np.ndarray
    answered: np.ndarray
    per_joint: np.ndarray
    constant_per_joint: np.ndarray
    visible: np.ndarray
    pckh_points: np.ndarray
    pckh_hits: np.ndarray
    truth_body: dict[str, str]
    gendered_truth: bool
    answers: SplitPredictions


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One sample as pictures need it.

    Attributes:
        index: its row in the split.
        image: the network's crop, RGB, (S, S, 3) uint8.
        vertices: the predicted mesh in the camera's frame, metres, (V, 3).
        attention: where each joint looks, shares of 1 over its map, (h, w, 24); None for a network
            without.
    """

    index: int
    image: np.ndarray
    vertices: np.ndarray
    attention: np.ndarray | None


class Evaluator:
    """Compiled programs that measure and draw what a network predicts."""

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        body: BodyModel,
        mean_joints: np.ndarray,
        mesh: Mesh,
        protocol: Protocol = protocols.SMPL24,
        truth: TrueBodies | None = None,
    ):
        """Prepare the programs; they compile on first use.

        Args:
            graphdef: the network's graph in evaluation mode.
            body: the body that predictions are posed with.
            mean_joints: the training set's mean root-centred joints, metres, (24, 3): the answer
                of the best constant.
            mesh: the devices to spread batches over.
            protocol: what is compared.
            truth: the bodies that labels are posed with; None: `body`.
        """
        self._mesh = mesh
        self._mean_joints = jnp.asarray(mean_joints - mean_joints[:1], jnp.float32)
        self.body = body
        self.protocol = protocol
        self.truth = truth or protocols.one_body(body)
        self._bodies = jax.jit(
            functools.partial(
                _bodies, graphdef=graphdef, body=body, protocol=protocol, truth=self.truth
            )
        )
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
        parts, under_way = [], collections.deque()
        for batch in batches:
            under_way.append((batch, *self._start_measuring(params, batch_stats, batch)))
            # The device measures a batch while the host makes the next one.
            if len(under_way) > 1:
                parts.append(self._collect(*under_way.popleft()))
        parts += [self._collect(*one) for one in under_way]
        if not any(part["labelled"].any() or part["pckh_points"].any() for part in parts):
            raise UserError(
                "the split to evaluate holds no person with 3D joints, and none with 2D joints and "
                "a head's size"
            )
        if not any(
            (np.isfinite(part["mpjpe"]) | (part["answered"] & (part["pckh_points"] > 0))).any()
            for part in parts
        ):
            raise UserError(
                "the network's answers are not finite: its weights are of a run that diverged; "
                "choose an earlier checkpoint"
            )
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        genders = [int(number) for number in np.unique(joined.pop("gender"))]
        answers = SplitPredictions(joined.pop("answer_joints"), joined.pop("answer_orientations"))
        arrays = {name: joined.pop(name) for name in _ARRAYS}
        return SampleErrors(
            protocol=self.protocol,
            values=joined,
            **arrays,
            truth_body={GENDERS[number]: self.truth.name_of(number) for number in genders},
            gendered_truth=self.truth.gendered or not any(genders),
            answers=answers,
        )

    def _start_measuring(
        self, params: nnx.State, batch_stats: nnx.State, batch: HostBatch
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        on_device = sharding.put_batch(batch, self._mesh)
        answers, pred, true = self._bodies(params, batch_stats, on_device)
        rotations, true_rotations = answers.pop("rotations"), on_device["rotations"]
        limbs = self.protocol.pck_joints
        in_2d = (answers.pop("points_2d"), *_true_points(on_device), on_device["head_size"])
        values = {
            "mpjpe": metrics.mpjpe(pred.joints, true.joints, root=None),
            "pa_mpjpe": metrics.pa_mpjpe(pred.joints, true.joints),
            "pck": 100.0 * metrics.pck(pred.joints, true.joints, joints=limbs, root=None),
            "auc": 100.0 * metrics.auc(pred.joints, true.joints, joints=limbs, root=None),
            "pve": metrics.pve(pred.vertices, true.vertices),
            "mpjae": metrics.mpjae(rotations, true_rotations),
            "pa_mpjae": metrics.pa_mpjae(rotations, true_rotations, pred.joints, true.joints),
            "pckh": 100.0 * pckh.pckh(*in_2d),
            "pckh_hits": pckh.hits(*in_2d),
            "per_joint": metrics.joint_errors(pred.joints, true.joints, root=None),
            **self._constant(true),
        }
        return values, answers

    def _collect(
        self, batch: HostBatch, values: dict[str, jax.Array], answers: dict[str, jax.Array]
    ) -> dict[str, np.ndarray]:
        return _without_unlabelled(jax.device_get(values), batch, self.protocol) | _of_real(
            jax.device_get(answers) | {"gender": batch["gender"]}, batch
        )

    def _constant(self, true: Measured) -> dict[str, jax.Array]:
        """Measure the best constant; only SMPL's own joints have a known mean to answer with."""
        if self.protocol.from_mesh:
            shape = true.joints.shape[:2]
            return {
                "mean_pose_mpjpe": jnp.full(shape[:1], jnp.nan),
                "constant_per_joint": jnp.full(shape, jnp.nan),
            }
        mean = self._mean_joints
        return {
            "mean_pose_mpjpe": metrics.mpjpe(mean, true.joints, root=None),
            "constant_per_joint": metrics.joint_errors(mean, true.joints, root=None),
        }

    def draw(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        batches: Iterable[HostBatch],
        rows: Sequence[int],
    ) -> list[Drawn]:
        """Predict the samples at the given rows of the split, for drawing.

        Args:
            params: the network's parameters.
            batch_stats: its batch statistics.
            batches: the split's batches from its beginning; closed when the last row is found.
            rows: which samples.

        Returns:
            The samples in the order of `rows`, without those beyond the end of the split.
        """
        wanted = set(rows)
        found: dict[int, Drawn] = {}
        start = 0
        try:
            for batch in batches:
                rows_here = range(start, start + len(batch["image"]))
                here = [row for row in rows_here if row in wanted]
                if here:
                    found |= self._drawn(params, batch_stats, batch, start, here)
                start = rows_here.stop
                if len(found) == len(wanted):
                    break
        finally:
            sharding.close_stream(batches)
        return [found[row] for row in rows if row in found]

    def _drawn(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        batch: HostBatch,
        start: int,
        rows: Sequence[int],
    ) -> dict[int, Drawn]:
        """Predict some samples of a batch that begins at row `start` of its split."""
        on_device = sharding.put_batch(batch, self._mesh)
        vertices, attention = jax.device_get(self._picture(params, batch_stats, on_device["image"]))
        return {
            row: Drawn(
                row,
                batch["image"][row - start],
                vertices[row - start],
                None if attention is None else attention[row - start],
            )
            for row in rows
        }


def _bodies(
    params: nnx.State,
    batch_stats: nnx.State,
    batch: Mapping[str, jax.Array],
    *,
    graphdef: nnx.GraphDef,
    body: BodyModel,
    protocol: Protocol,
    truth: TrueBodies,
) -> tuple[dict[str, jax.Array], Measured, Measured]:
    prediction = predict_step(params, batch_stats, batch["image"], graphdef=graphdef)
    ours = body(prediction.betas, prediction.rotations)
    true = protocol.measure(truth(batch["betas"], batch["rotations"], batch["gender"]))
    if not protocol.from_mesh:
        joints = batch["joints_3d"]
        true = true._replace(joints=joints - joints[:, :1])
    turned = metrics.global_rotations(prediction.rotations)
    points = jnp.concatenate([ours.joints, ours.vertices[:, [body.head_top]]], axis=1)
    points_2d = geometry.project(points, geometry.camera_translation(prediction.camera))
    answers = {
        "rotations": prediction.rotations,
        "points_2d": points_2d,
        "answered": jnp.isfinite(points_2d).all((1, 2)),
        "answer_joints": ours.joints - ours.joints[:, :1],
        "answer_orientations": turned[:, jnp.array(skeleton.ORIENTATION_PARTS)],
    }
    return answers, protocol.measure(ours), true


def _true_points(batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return where `skeleton.POINT_NAMES` are and which of them are known."""
    points = jnp.concatenate([batch["joints_2d"], batch["head_top"][:, None]], axis=1)
    weights = jnp.concatenate([batch["joints_2d_weight"], batch["head_top_weight"][:, None]], 1)
    return points, weights


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


def _without_unlabelled(
    host: Mapping[str, np.ndarray], batch: HostBatch, protocol: Protocol
) -> dict[str, np.ndarray]:
    """Drop padding; put NaN where a sample lacks what a metric compares with."""
    known = _of_real({name: batch[name] > 0 for name in _WEIGHTS}, batch)
    has_mesh = known["pose_weight"] & known["betas_weight"]
    has_joints = has_mesh if protocol.from_mesh else known["joints_3d_weight"]
    has_pose = has_joints & known["pose_weight"]
    pckh_points = _of_real({"pckh": _pckh_points(batch)}, batch)["pckh"]
    needs = {
        "pve": has_joints & has_mesh,
        "pckh": pckh_points > 0,
        "pckh_hits": pckh_points > 0,
        **dict.fromkeys(_NEEDS_POSE, has_pose),
    }
    out = {}
    for name, rows in _of_real(host, batch).items():
        kept = needs.get(name, has_joints).reshape((-1,) + (1,) * (rows.ndim - 1))
        out[name] = np.where(kept, np.asarray(rows, np.float64), np.nan)
    visible = batch["visible"][batch["sample_weight"] > 0]
    out["labelled"] = has_joints
    out["pckh_points"] = pckh_points
    out["visible"] = np.where(known["visible_weight"], visible, np.nan)[:, protocol.smpl_joints]
    return out


def _pckh_points(batch: HostBatch) -> np.ndarray:
    """Count the points that PCKh can judge, (B,)."""
    weights = np.concatenate([batch["joints_2d_weight"], batch["head_top_weight"][:, None]], axis=1)
    annotated = (weights[:, list(PCKH_POINTS)] > 0).sum(1)
    return np.where(batch["head_size"] > 0, annotated, 0)


def _of_real(values: Mapping[str, np.ndarray], batch: HostBatch) -> dict[str, np.ndarray]:
    """Drop the padding of a split's last batch."""
    real = batch["sample_weight"] > 0
    return {name: np.asarray(value)[real] for name, value in values.items()}
