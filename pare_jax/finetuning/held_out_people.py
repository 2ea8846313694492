"""Measures and draws held-out people with a network's weights."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from data_pipelines import transforms
from data_pipelines.example import EVALUATION_FIELDS
from data_pipelines.reading.input_pipeline import Batch, eval_batches
from data_pipelines.reading.storage import StoredSplit
from pare_jax import geometry
from pare_jax.body.io import load_body_data
from pare_jax.body.model import body_from_data
from pare_jax.body.numpy_body import joints_of
from pare_jax.evaluation import metrics, pckh
from pare_jax.finetuning.comparison import MEASURES, Errors
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.keypoints import SURE
from pare_jax.models import build_model
from pare_jax.models.inference import predict_step
from pare_jax.models.prediction import Prediction

_FIELDS = (*EVALUATION_FIELDS, "points_2d", "points_2d_weight")
_LABELS = ("points_2d", "points_2d_weight")
# Fewer points nearly fit each other under any similarity.
_FEWEST_JOINTS = 6


class Drawn(NamedTuple):
    """A person to draw with one network's body.

    Attributes:
        vertices: in the frame of `rendering.camera.crop_camera`, metres.
        root: the root's rotation into the camera frame.
    """

    vertices: Float[np.ndarray, "V 3"]
    root: Float[np.ndarray, "3 3"]


class HeldOutPeople:
    """The people of a split, measured with weights of a config's network."""

    def __init__(self, split: StoredSplit, config: ConfigDict):
        """Prepare the network's graph and its body.

        Args:
            split: the people.
            config: has the network, its input and its body.
        """
        self.split, self._config = split, config
        model = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
        model.eval()
        graphdef = nnx.graphdef(model)
        data = self._data = load_body_data(config.body_model or None)
        self.faces = np.asarray(data.faces)
        self._predict = jax.jit(functools.partial(predict_step, graphdef=graphdef))
        self._measure = jax.jit(
            functools.partial(_measure, graphdef=graphdef, body=body_points(data))
        )
        self._body = body_from_data(data)

    def errors(self, params: nnx.State, batch_stats: nnx.State) -> Errors:
        """Return each person's errors, NaN where a label is missing.

        Args:
            params: the network's parameters.
            batch_stats: its batch statistics.
        """
        rows = [self._errors_of(params, batch_stats, batch) for batch in self._batches()]
        return {name: np.concatenate([row[name] for row in rows]) for name in MEASURES}

    def _errors_of(self, params, batch_stats, batch: Batch) -> Errors:
        real = batch["sample_weight"] > 0
        labels = {name: batch[name] for name in _LABELS}
        missed, joints = self._measure(params, batch_stats, batch["image"], labels)
        true, known = self._true_joints(batch)
        in_3d = _errors_3d(np.asarray(joints)[real], true[real], known[real])
        return {"missed": np.asarray(missed, np.float64)[real], **in_3d}

    def _true_joints(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return joints in metres, and which are known: measured ones, or those of the pose."""
        known = (batch["joints_3d_known"] > 0) & (batch["joints_3d_weight"][:, None] > 0)
        posed = (batch["pose_weight"] > 0) & (batch["betas_weight"] > 0)
        posed &= (batch["rotations_known"] > 0).all(1) & ~known.any(1)
        of_pose = joints_of(self._data, batch["betas"], batch["rotations"])
        joints = np.where(posed[:, None, None], of_pose, batch["joints_3d"])
        return joints, known | posed[:, None]

    def _batches(self) -> Iterator[Batch]:
        return eval_batches(
            self.split,
            batch_size=min(self._config.eval.batch_size, len(self.split)),
            image_size=self._config.image_size,
            fields=_FIELDS,
        )

    def draw(self, params: nnx.State, batch_stats: nnx.State, rows: Sequence[int]) -> list[Drawn]:
        """Return the predicted bodies of the people at some rows of the split."""
        crops = np.stack([self.crop(row, self._config.image_size) for row in rows])
        found: Prediction = self._predict(params, batch_stats, crops)
        mesh = self._body.with_shape(found.betas).with_pose(found.rotations).mesh()
        vertices = mesh + geometry.camera_translation(found.camera)[:, None]
        roots = np.asarray(found.rotations[:, 0])
        return [Drawn(*one) for one in zip(np.asarray(vertices), roots, strict=True)]

    def crop(self, row: int, side: int) -> np.ndarray:
        """Return the network's square of a person as a picture of another side."""
        crop = np.empty((side, side, 3), np.uint8)
        image = self.split[row]["image"]
        transforms.warp_image(image, transforms.invert_affine(self._affine(row, side))[0], crop)
        return crop

    def keypoints(self, row: int, side: int) -> Float[np.ndarray, "points 3"]:
        """Return a person's keypoints in that picture: pixels and confidence."""
        example = self.split[row]
        affine = self._affine(row, side)[0]
        places = example["points_2d"] @ affine[:, :2].T + affine[:, 2]
        return np.concatenate([places, example["points_2d_weight"][:, None]], axis=1)

    def _affine(self, row: int, side: int) -> np.ndarray:
        stored = np.array([transforms.stored_side(self.split[row]["image"])])
        return transforms.crop_affine(transforms.identity_placement(1), stored, side)


def _measure(
    params: nnx.State,
    batch_stats: nnx.State,
    images: Array,
    labels: Mapping[str, Array],
    *,
    graphdef: nnx.GraphDef,
    body: PointBody,
) -> tuple[Array, Array]:
    """Return the share of keypoints missed by each person, %, and the joints, metres."""
    found = predict_step(params, batch_stats, images, graphdef=graphdef)
    points, joints = body.place(found.rotations, found.betas)
    places = geometry.project(points, geometry.camera_translation(found.camera))
    # Points that the body lacks cannot be judged.
    known = (labels["points_2d_weight"] > SURE) & (body.known > 0)
    with jax.enable_x64(True):
        share = pckh.pck_of_box(places, labels["points_2d"], known)
    return 100.0 * (1.0 - share), joints


def _errors_3d(
    joints: Float[np.ndarray, "people 24 3"],
    true: Float[np.ndarray, "people 24 3"],
    known: Bool[np.ndarray, "people 24"],
) -> Errors:
    """Return MPJPE and PA-MPJPE over each person's known joints; NaN without enough of them."""
    errors = {name: np.full(len(joints), np.nan) for name in ("mpjpe", "pa_mpjpe")}
    for pattern in np.unique(known, axis=0):
        if pattern.sum() < _FEWEST_JOINTS:
            continue
        rows = (known == pattern).all(1)
        pair = joints[rows][:, pattern], true[rows][:, pattern]
        found = {"pa_mpjpe": metrics.pa_mpjpe(*pair)}
        if pattern[0]:  # the pelvis, about which MPJPE is measured
            found["mpjpe"] = metrics.mpjpe(*pair)
        for name, values in found.items():
            # A prediction that is not finite is as bad as can be.
            values = np.asarray(values, np.float64)
            errors[name][rows] = np.where(np.isfinite(values), values, np.inf)
    return errors
