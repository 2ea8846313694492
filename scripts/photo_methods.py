"""Methods that `measure_photos.py` compares: labelled people in, body points out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from photo_labels import LabelledPerson
from photo_scores import PhotoAnswer

from pare_jax.errors import UserError
from pare_jax.geometry import camera_translation, project
from pare_jax.io.images import Picture
from pare_jax.keypoints.blazepose_files import load_blazepose
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.keypoints import SQUARE_SCALE, Keypoints, extent
from pare_jax.keypoints.onnx_keypoints import OnnxKeypoints
from pare_jax.keypoints.sets import NUM_BODY_POINTS, point_index
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import load_predictor
from pare_jax.training.trained_run import load_model, split_checkpoint
from pare_jax.training.workdir import load_run_body

# An upright figure that faces the camera: shares of the box's width and height.
_UPRIGHT = {
    "shoulder": (0.72, 0.20),
    "elbow": (0.83, 0.36),
    "wrist": (0.86, 0.50),
    "hip": (0.61, 0.52),
    "knee": (0.62, 0.74),
    "ankle": (0.63, 0.94),
}
# Finds the keypoints of people in their boxes; None where it finds nobody.
KeypointSource = Callable[[Picture, Sequence[LabelledPerson]], Sequence[Keypoints | None]]


class PhotoMethod(Protocol):
    """Finds the body points of labelled people in one photograph."""

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return an answer for each person; None where it has none.

        Args:
            image: RGB.
            people: all in this photograph. Their boxes may be used, their keypoints only by the
                source "annotated".
        """
        ...


def make_method(text: str, source: str) -> PhotoMethod:
    """Return a method by name.

    Args:
        text: "figure", "keypoints", "checkpoint:RUN" for a network on pixels, or "network:RUN" for
            one on keypoints.
        source: of the keypoints: "annotated", "blazepose" or an ONNX file.

    Raises:
        UserError: another name, or a run or a source that cannot be loaded.
    """
    name, _, argument = text.partition(":")
    if name == "figure":
        return upright_figure
    if name == "keypoints":
        return KeypointMethod(make_source(source))
    if name in ("checkpoint", "network") and argument:
        own = NetworkMethod(argument, make_source(source)) if name == "network" else None
        return own or CheckpointMethod(argument)
    raise UserError(
        f"--method={text} is unknown: use figure, keypoints, checkpoint:RUN or network:RUN"
    )


def make_source(text: str) -> KeypointSource:
    """Return a source of keypoints by name; see `make_method`."""
    if text == "annotated":
        return lambda _, people: [dataclasses.replace(one.keypoints, world=None) for one in people]
    if text == "blazepose":
        look = load_blazepose().look
    elif text.lower().endswith(".onnx"):
        look = OnnxKeypoints(text).look
    else:
        raise UserError(f"--keypoints={text} is unknown: use annotated, blazepose or an .onnx file")
    return lambda image, people: look(image, [one.box for one in people])


def upright_figure(image: Picture, people: Sequence[LabelledPerson]) -> list[PhotoAnswer]:
    """Return a standing figure that fills each box: what a method must beat."""
    shares = np.full((NUM_BODY_POINTS, 2), np.nan)
    for name, (x, y) in _UPRIGHT.items():
        shares[point_index(f"left_{name}")] = x, y
        shares[point_index(f"right_{name}")] = 1.0 - x, y
    return [PhotoAnswer(one.box[:2] + shares * (one.box[2:] - one.box[:2])) for one in people]


class KeypointMethod:
    """Answers with the keypoints themselves."""

    def __init__(self, source: KeypointSource):
        """Take a source."""
        self._source = source

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the keypoints in each box."""
        return [one and _answer_of_keypoints(one) for one in self._source(image, people)]


class CheckpointMethod:
    """Predicts with a network on pixels, in the annotators' boxes."""

    def __init__(self, checkpoint: str):
        """Load the network of a run or a checkpoint; raises UserError as `load_predictor`."""
        self._predictor = load_predictor(checkpoint)
        data = self._predictor.body_data
        self._body = None if data is None else body_points(data)

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the points of the predicted bodies."""
        boxes = [one.box.tolist() for one in people]
        return [answer_of_person(one, self._body) for one in self._predictor(image, boxes)]


class NetworkMethod:
    """Predicts with a network on keypoints."""

    def __init__(self, run: str, source: KeypointSource):
        """Load the network of a run or a checkpoint; raises UserError as `load_model`."""
        config, self._network = load_model(run)
        self._body = body_points(load_run_body(split_checkpoint(run)[0], config, None))
        self._source = source

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the points of the predicted bodies."""
        return [one and self._answer(one) for one in self._source(image, people)]

    def _answer(self, keypoints: Keypoints) -> PhotoAnswer:
        points, world = keypoints.body_points(), keypoints.body_world()
        box = extent(points)
        centre, half = (box[:2] + box[2:]) / 2, SQUARE_SCALE * (box[2:] - box[:2]).max() / 2
        known = points[:, 2:] > 0
        deep = known & np.isfinite(world[:, 2:])
        rows = [
            np.where(known, (points[:, :2] - centre) / half, 0.0),
            points[:, 2:],
            np.where(deep, world[:, 2:], 0.0),
            deep,
        ]
        prediction = self._network(jnp.asarray(np.concatenate(rows, 1)[None], jnp.float32))
        placed, _ = self._body.place(prediction.rotations, prediction.betas)
        pixels = project(placed, camera_translation(prediction.camera))
        has = np.asarray(self._body.known)[:, None] > 0
        return PhotoAnswer(
            np.where(has, np.asarray(pixels[0]) * half + centre, np.nan),
            np.where(has, np.asarray(placed[0]), np.nan),
        )


def answer_of_person(person: Person, body: PointBody | None) -> PhotoAnswer:
    """Return the body points of a predicted person.

    Args:
        person: from a predictor.
        body: the points of its body.

    Raises:
        UserError: the body is unknown.
    """
    if body is None:
        raise UserError("the predictor has no body data: load it from a run")
    placed, _ = body.place(jnp.asarray(person.rotations), jnp.asarray(person.betas))
    world = np.where(np.asarray(body.known)[:, None] > 0, np.asarray(placed), np.nan)
    return PhotoAnswer(person.camera.project(world + person.translation), world, person)


def _answer_of_keypoints(keypoints: Keypoints) -> PhotoAnswer:
    points = keypoints.body_points()
    known = points[:, 2:] > 0
    world = None if keypoints.world is None else keypoints.body_world()
    return PhotoAnswer(np.where(known, points[:, :2], np.nan), world)
