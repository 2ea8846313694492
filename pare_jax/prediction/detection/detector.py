"""What finding people means here: a picture in, boxes with scores out."""

import dataclasses
from typing import Protocol

import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture


@dataclasses.dataclass(frozen=True)
class Detection:
    """One person found in a picture.

    Attributes:
        box: x0, y0, x1, y1, the tight box of what is seen, pixels of the picture.
        score: how sure the detector is, 0 to 1; NaN for a box that was given and is sure.
        id: the person's number through a clip, where somebody has told it.
    """

    box: Float[np.ndarray, "4"]
    score: float
    id: int | None = None


class Detector(Protocol):
    """Finds people. Another detector is a class with this one method."""

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a picture, the surest first.

        Args:
            image: RGB.
        """
        ...


class WholePicture:
    """Takes the whole picture for one person."""

    def __call__(self, image: Picture) -> list[Detection]:
        """Return one detection that covers the picture."""
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
    """Return the areas of boxes; 0 where corners are swapped."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0).prod(-1)


def suppress_overlaps(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], max_iou: float
) -> list[int]:
    """Choose boxes greedily, the best first, that overlap by at most `max_iou`.

    Returns:
        The numbers of the boxes kept, by falling score.
    """
    kept: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[box_iou(boxes[best], boxes[left])[0] <= max_iou]
    return kept
