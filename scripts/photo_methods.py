"""Methods that `measure_photos.py` compares: labelled people in, body points out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from photo_labels import PhotoPerson
from photo_scores import PhotoAnswer

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import NUM_BODY_POINTS, point_index
from pare_jax.prediction.keypoint_source import make_source
from pare_jax.prediction.loading import load_predictor
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import Predictor

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
BoxedSource = Callable[[Picture, Sequence[PhotoPerson]], Sequence[Keypoints | None]]


class PhotoMethod(Protocol):
    """Finds the body points of labelled people in one photograph."""

    def __call__(
        self, image: Picture, people: Sequence[PhotoPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return an answer for each person; None where it has none.

        Args:
            image: RGB.
            people: all in this photograph. Their boxes may be used, their keypoints only by the
                source "annotated".
        """
        ...


def make_method(text: str, keypoints: str, refine: bool = False) -> PhotoMethod:
    """Return a method by name.

    Args:
        text: "figure", "keypoints", "network" for the network of this package, or "network:RUN".
        keypoints: source of the keypoints: "annotated", or as `make_source` knows them.
        refine: whether a network's bodies are fitted to the keypoints.

    Raises:
        UserError: another name, or a run or a source that cannot be loaded.
    """
    name, _, run = text.partition(":")
    if text == "figure":
        return upright_figure
    if text == "keypoints":
        return KeypointMethod(source_of(keypoints))
    if name == "network" and text != "network:":
        predictor = load_predictor(run or None, keypoints=None, refine=refine)
        return NetworkMethod(predictor, source_of(keypoints))
    raise UserError(f"--method={text} is unknown: use figure, keypoints, network or network:RUN")


def source_of(text: str) -> BoxedSource:
    """Return a source of keypoints by name; see `make_method`."""
    if text == "annotated":
        return lambda _, people: [dataclasses.replace(one.keypoints, world=None) for one in people]
    look = make_source(text).look
    return lambda image, people: look(image, [one.box for one in people])


def upright_figure(image: Picture, people: Sequence[PhotoPerson]) -> list[PhotoAnswer]:
    """Return a standing figure that fills each box: what a method must beat."""
    shares = np.full((NUM_BODY_POINTS, 2), np.nan)
    for name, (x, y) in _UPRIGHT.items():
        shares[point_index(f"left_{name}")] = x, y
        shares[point_index(f"right_{name}")] = 1.0 - x, y
    return [PhotoAnswer(one.box[:2] + shares * (one.box[2:] - one.box[:2])) for one in people]


class KeypointMethod:
    """Answers with the keypoints themselves."""

    def __init__(self, source: BoxedSource):
        """Take a source."""
        self._source = source

    def __call__(
        self, image: Picture, people: Sequence[PhotoPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the keypoints in each box."""
        return [one and _answer_of_keypoints(one) for one in self._source(image, people)]


class NetworkMethod:
    """Predicts with a network, in the annotators' boxes."""

    def __init__(self, predictor: Predictor, source: BoxedSource):
        """Take a predictor, and a source for those that need keypoints.

        Raises:
            UserError: the predictor's body is unknown.
        """
        if predictor.body_data is None:
            raise UserError("the predictor has no body data: load it from a run")
        self._predictor, self._source = predictor, source
        self._body = body_points(predictor.body_data)

    def __call__(
        self, image: Picture, people: Sequence[PhotoPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the points of the predicted bodies; None where the source sees nobody."""
        boxes = [one.box.tolist() for one in people]
        if not (self._predictor.input.needs_keypoints or self._predictor.refine):
            return [self._answer(one) for one in self._predictor(image, boxes)]
        seen = self._source(image, people)
        chosen = [number for number, one in enumerate(seen) if one is not None]
        answers: list[PhotoAnswer | None] = [None] * len(people)
        predicted = self._predictor(
            image, [boxes[n] for n in chosen], keypoints=[seen[n] for n in chosen]
        )
        for number, person in zip(chosen, predicted, strict=True):
            answers[number] = self._answer(person)
        return answers

    def _answer(self, person: Person) -> PhotoAnswer:
        placed, _ = self._body.place(jnp.asarray(person.rotations), jnp.asarray(person.betas))
        world = np.where(np.asarray(self._body.known)[:, None] > 0, np.asarray(placed), np.nan)
        return PhotoAnswer(person.camera.project(world + person.translation), world, person)


def _answer_of_keypoints(keypoints: Keypoints) -> PhotoAnswer:
    points = keypoints.body_points()
    known = points[:, 2:] > 0
    world = None if keypoints.world is None else keypoints.body_world()
    return PhotoAnswer(np.where(known, points[:, :2], np.nan), world)
