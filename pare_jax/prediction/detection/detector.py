"""The interface of detectors: a photograph in, boxes with scores out; and overlap of boxes."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import Keypoints


@dataclasses.dataclass(frozen=True)
class Detection:
    """One person found in a photograph.

    Attributes:
        box: x0, y0, x1, y1, the tight box of the visible person, pixels of the photograph.
        score: the detector's confidence, 0 to 1; NaN for a box from the user.
        id: of the person's track, if the box file gives it.
        keypoints: of the person, if the detector found them.
    """

    box: Float[np.ndarray, "4"]
    score: float
    id: int | None = None
    keypoints: Keypoints | None = None


class Detector(Protocol):
    """Finds people; any class with this method is a detector."""

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a photograph, those with the highest scores first.

        Args:
            image: RGB.
        """
        ...


@runtime_checkable
class FollowingDetector(Protocol):
    """A detector that follows people through clips."""

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a photograph, as `Detector` does."""
        ...

    def follower(self) -> Detector:
        """Return a detector for the frames of one clip, to be called in their order."""
        ...


def for_frames(detector: Detector) -> Detector:
    """Return the detector for the frames of one clip: a follower, if the detector has one."""
    return detector.follower() if isinstance(detector, FollowingDetector) else detector


class _WithoutKeypoints:
    """A detector whose keypoints are dropped."""

    def __init__(self, detector: Detector):
        self._detector = detector

    def __call__(self, image: Picture) -> list[Detection]:
        return [dataclasses.replace(one, keypoints=None) for one in self._detector(image)]


class _FollowerWithoutKeypoints(_WithoutKeypoints):
    """The same, of a detector that follows people through clips."""

    def follower(self) -> Detector:
        return _WithoutKeypoints(for_frames(self._detector))


def without_keypoints(detector: Detector) -> Detector:
    """Return a detector that finds the same boxes, for keypoints from another source."""
    follows = isinstance(detector, FollowingDetector)
    return (_FollowerWithoutKeypoints if follows else _WithoutKeypoints)(detector)


class WholePicture:
    """Detects one person, whose box is the whole photograph."""

    def __call__(self, image: Picture) -> list[Detection]:
        """Return one detection that covers the photograph."""
        height, width = image.shape[:2]
        return [Detection(np.array([0.0, 0.0, width, height]), 1.0)]


def box_iou(
    first: Float[np.ndarray, "n 4"], second: Float[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of every pair of boxes; 0 for boxes without area."""
    first, second = np.reshape(first, (-1, 1, 4)), np.reshape(second, (1, -1, 4))
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.maximum(high - low, 0.0).prod(-1)
    union = box_area(first) + box_area(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_area(boxes: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """Return the areas of boxes; 0 for a box with swapped corners."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0).prod(-1)


def suppress_overlaps(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], max_iou: float
) -> list[int]:
    """Choose boxes greedily by score that overlap by at most `max_iou` (non-maximum suppression).

    Returns:
        The indices of the boxes kept, highest score first.
    """
    kept: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[box_iou(boxes[best], boxes[left])[0] <= max_iou]
    return kept
