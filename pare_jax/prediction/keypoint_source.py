"""The interface of keypoint sources: a photograph and boxes in, keypoints out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import Keypoints


class KeypointSource(Protocol):
    """Finds the keypoints of people in boxes; any class with this method is a source."""

    def look(self, image: Picture, boxes: Sequence[np.ndarray]) -> list[Keypoints | None]:
        """Return the keypoints of the person in each box; None where there is none.

        Args:
            image: RGB.
            boxes: x0, y0, x1, y1 in pixels.
        """
        ...


@runtime_checkable
class PeopleSource(KeypointSource, Protocol):
    """A keypoint source that also finds the people."""

    def find(self, image: Picture) -> list[Keypoints]:
        """Return the people in a whole photograph, those with the highest scores first."""
        ...
