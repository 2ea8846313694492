"""BlazePose: finds people in photographs, and their 33 landmarks in 2D and 3D."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture
from pare_jax.keypoints.blazepose_decoding import (
    DETECTOR_SIDE,
    HIPS,
    LANDMARK_SIDE,
    NEXT_HIPS,
    NEXT_TOP,
    NUM_LANDMARKS,
    TOP,
    Landmarks,
    decode_landmarks,
    decode_people,
)
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.litert import LiteRtNetwork
from pare_jax.keypoints.sets import BLAZEPOSE33
from pare_jax.keypoints.squares import Square, square_around, square_of

_THRESHOLD = 0.5
_BOX_SCALE = 1.25


class BlazePose:
    """The detector and the landmark network."""

    def __init__(self, detector_path: str | Path, landmark_path: str | Path, threads: int = 1):
        """Load both networks.

        Args:
            detector_path: pose_detection.tflite.
            landmark_path: pose_landmark_full.tflite, or the lite or heavy one.
            threads: that compute one call.

        Raises:
            UserError: LiteRT or a file is missing, or a file is no network.
        """
        self._detector = LiteRtNetwork(detector_path, threads)
        self._landmarks = LiteRtNetwork(landmark_path, threads)

    def find(self, image: Picture) -> list[Keypoints]:
        """Return the people in a whole photograph, the highest scores first."""
        height, width = image.shape[:2]
        whole = Square(np.array([width / 2, height / 2]), float(max(height, width)))
        found = []
        for square, score in self.people_in(image, whole):
            seen = self.landmarks_in(image, square)
            if seen.presence >= _THRESHOLD:
                found.append(keypoints_of(seen, square, score))
        return found

    def look(self, image: Picture, boxes: Sequence[np.ndarray]) -> list[Keypoints | None]:
        """Return the person in each box; None where there is none."""
        return [self._look(image, np.asarray(box, np.float64)) for box in boxes]

    def _look(self, image: Picture, box: Float[np.ndarray, "4"]) -> Keypoints | None:
        square = square_around(box, _BOX_SCALE)
        seen = self.landmarks_in(image, square)
        if seen.presence >= _THRESHOLD:
            square = next_square(seen, square)
            seen = self.landmarks_in(image, square)
        if seen.presence < _THRESHOLD:
            return None
        return dataclasses.replace(keypoints_of(seen, square, seen.presence), box=box)

    def people_in(self, image: Picture, area: Square) -> list[tuple[Square, float]]:
        """Return the squares and scores of the people whom the detector finds in an area."""
        picture = area.cut(image, DETECTOR_SIDE).astype(np.float32) / 127.5 - 1.0
        outputs = self._detector(picture)
        found = decode_people(outputs["Identity"], outputs["Identity_1"], _THRESHOLD)
        return [
            (square_of(*area.to_photo(points[[HIPS, TOP]])), float(score))
            for points, score in zip(found.points, found.scores, strict=True)
        ]

    def landmarks_in(self, image: Picture, square: Square) -> Landmarks:
        """Return what the landmark network sees in a square."""
        picture = square.cut(image, LANDMARK_SIDE).astype(np.float32) / 255.0
        outputs = self._landmarks(picture)
        return decode_landmarks(
            outputs["Identity"],
            float(outputs["Identity_1"][0]),
            outputs["Identity_3"],
            outputs["Identity_4"],
        )


def next_square(seen: Landmarks, square: Square) -> Square:
    """Return the square of the person whom the network saw in another one."""
    return square_of(*square.to_photo(seen.points[[NEXT_HIPS, NEXT_TOP]]))


def keypoints_of(seen: Landmarks, square: Square, score: float) -> Keypoints:
    """Return landmarks in the photograph's pixels and axes."""
    points = square.to_photo(seen.points[:NUM_LANDMARKS])
    confidence = seen.confidence[:NUM_LANDMARKS]
    world = square.turned_back(seen.world[:NUM_LANDMARKS])
    return Keypoints(BLAZEPOSE33, points, confidence, world, None, score)
