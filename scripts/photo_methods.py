"""Methods that `measure_photos.py` compares: labelled people in, body points out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from photo_labels import LabelledPerson
from photo_scores import PhotoAnswer

from pare_jax.io.images import Picture
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES, point_index
from pare_jax.prediction.person import Person
from pare_jax.skeleton import JOINT_NAMES

# An upright figure that faces the camera: shares of the box's width and height.
_UPRIGHT = {
    "shoulder": (0.72, 0.20),
    "elbow": (0.83, 0.36),
    "wrist": (0.86, 0.50),
    "hip": (0.61, 0.52),
    "knee": (0.62, 0.74),
    "ankle": (0.63, 0.94),
}


class PhotoMethod(Protocol):
    """Finds the body points of labelled people in one photograph."""

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return an answer for each person; None where it has none.

        Args:
            image: RGB.
            people: all in this photograph. Their boxes may be used; their keypoints only by
                methods that start from annotated keypoints.
        """
        ...


def upright_figure(image: Picture, people: Sequence[LabelledPerson]) -> list[PhotoAnswer]:
    """Return a standing figure that fills each box: what a method must beat."""
    shares = np.full((NUM_BODY_POINTS, 2), np.nan)
    for name, (x, y) in _UPRIGHT.items():
        shares[point_index(f"left_{name}")] = x, y
        shares[point_index(f"right_{name}")] = 1.0 - x, y
    return [PhotoAnswer(one.box[:2] + shares * (one.box[2:] - one.box[:2])) for one in people]


class CheckpointMethod:
    """Predicts with a network on pixels, in the annotators' boxes."""

    def __init__(self, checkpoint: str):
        """Load the network of a run or a checkpoint; raises UserError as `load_predictor`."""
        from pare_jax import load_predictor

        self._predictor = load_predictor(checkpoint)

    def __call__(
        self, image: Picture, people: Sequence[LabelledPerson]
    ) -> Sequence[PhotoAnswer | None]:
        """Return the joints of the predicted bodies."""
        return [answer_of(one) for one in self._predictor(image, [own.box for own in people])]


def answer_of(person: Person) -> PhotoAnswer:
    """Return a predicted person's joints as body points."""
    points = np.full((NUM_BODY_POINTS, 2), np.nan)
    world = np.full((NUM_BODY_POINTS, 3), np.nan)
    for joint, name in enumerate(JOINT_NAMES):
        if name in POINT_NAMES:
            points[point_index(name)] = person.joints_2d[joint]
            world[point_index(name)] = person.joints_3d[joint]
    return PhotoAnswer(points, world)
