"""The input of a network for one person: pixels of a crop, or body points in a square."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture, cut_crop
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.network_points import NUM_CHANNELS, network_points
from pare_jax.keypoints.sets import COCO17, NUM_BODY_POINTS
from pare_jax.prediction.answers import Crop
from pare_jax.prediction.boxes import crop_of_box

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class NetworkInput(Protocol):
    """Makes a network's input; any class with these methods and the attribute does.

    Attributes:
        needs_keypoints: whether `crop` needs the person's keypoints.
    """

    needs_keypoints: bool

    def crop(
        self, image: Picture, box: Float[np.ndarray, "4"], keypoints: Keypoints | None
    ) -> Crop:
        """Return the input for the person in a box."""
        ...

    def blank(self) -> Crop:
        """Return an input that shows nobody in particular; its outputs are finite."""
        ...

    def stack(self, crops: Sequence[Crop], count: int) -> np.ndarray:
        """Return the inputs as one array of `count` rows; rows without a crop are zero."""
        ...


class PixelInput:
    """The crop around a box, `size` pixels a side."""

    needs_keypoints = False

    def __init__(self, size: int, crop_scale: float):
        """Take the network's side, pixels, and the crop's side over the box's longer side."""
        self.size, self.crop_scale = size, crop_scale

    def crop(
        self, image: Picture, box: Float[np.ndarray, "4"], keypoints: Keypoints | None
    ) -> Crop:
        """Cut the square around a box."""
        centre, side = crop_of_box(box, self.crop_scale)
        return Crop(cut_crop(image, centre, side, self.size), box, centre, side, keypoints)

    def blank(self) -> Crop:
        """Return a grey crop."""
        grey = np.full((self.size, self.size, 3), 128, np.uint8)
        return self.crop(grey, np.array([0.0, 0.0, self.size, self.size]), None)

    def stack(self, crops: Sequence[Crop], count: int) -> np.ndarray:
        """Return pixels, (count, size, size, 3) uint8."""
        inputs = np.zeros((count, self.size, self.size, 3), np.uint8)
        for row, crop in zip(inputs, crops, strict=False):
            row[:] = crop.pixels
        return inputs


class PointInput:
    """A person's body points in the square around them (`network_points`)."""

    needs_keypoints = True

    def crop(
        self, image: Picture, box: Float[np.ndarray, "4"], keypoints: Keypoints | None
    ) -> Crop:
        """Put the keypoints into their square; the pixels are not used."""
        assert keypoints is not None
        points, centre, side = network_points(keypoints)
        return Crop(NO_PIXELS, box, centre, side, keypoints, points)

    def blank(self) -> Crop:
        """Return an upright figure's joints."""
        places = np.array(UPRIGHT)
        keypoints = Keypoints(COCO17, places, np.ones(len(places)))
        return self.crop(NO_PIXELS, np.array([0.0, 0.0, 1.0, 1.0]), keypoints)

    def stack(self, crops: Sequence[Crop], count: int) -> np.ndarray:
        """Return points, (count, points, 5) float32."""
        inputs = np.zeros((count, NUM_BODY_POINTS, NUM_CHANNELS), np.float32)
        for row, crop in zip(inputs, crops, strict=False):
            row[:] = crop.points
        return inputs


# COCO's points of an upright figure that faces the camera, in a picture of 100 pixels.
UPRIGHT = (
    *((50, 10), (52, 8), (48, 8), (55, 10), (45, 10), (60, 20), (40, 20), (63, 35), (37, 35)),
    *((64, 48), (36, 48), (56, 50), (44, 50), (56, 70), (44, 70), (56, 92), (44, 92)),
)
