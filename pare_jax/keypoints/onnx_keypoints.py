"""Keypoint networks from ONNX files: RTMPose's SimCC outputs, and heat maps (ViTPose, HRNet).

The outputs of a file decide which form it has:

* SimCC (Li et al., ECCV 2022; RTMPose, Jiang et al., 2023, https://arxiv.org/abs/2303.07399): two
  outputs (1, K, bins of x) and (1, K, bins of y), most often two bins a pixel.
* Heat maps (Xiao et al., ECCV 2018; ViTPose, Xu et al., NeurIPS 2022): one output
  (1, K, height, width), most often a quarter of the input's size.

The input is one person: the box, 1.25 times as large and widened to the input's aspect, RGB with
ImageNet's mean and deviation, as MMPose exports such networks. 17 points are COCO's, 26 Halpe's,
133 COCO-WholeBody's; other sets must be named.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import SURE, Keypoints
from pare_jax.keypoints.onnx_network import OnnxNetwork
from pare_jax.keypoints.sets import (
    COCO17,
    HALPE26,
    SETS,
    WHOLEBODY133,
    KeypointSet,
    find_set,
)

_FORMS = "SimCC (1, K, x) and (1, K, y) or heat maps (1, K, height, width)"
_DEFAULT_SIZE = (192, 256)  # where the file leaves the input's size open
_PADDING = 1.25
# ImageNet's mean and deviation, RGB, on the scale 0 to 255.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_SETS = {len(own.points): own for own in (COCO17, HALPE26, WHOLEBODY133)}
# The width of DARK's blur, pixels of the heat map. Its authors' 11 more often crosses an edge.
_BLUR = 7
_LEAST = 1e-10


class OnnxKeypoints:
    """Finds the keypoints of a person in a box with the network of an ONNX file.

    Attributes:
        path: of the file.
        set: the names of its points.
    """

    def __init__(self, path: str | Path, set_name: str | None = None):
        """Load a network.

        Args:
            path: an ONNX file of one of the forms above.
            set_name: the set of its points, one of `sets.SETS`; None: by their number.

        Raises:
            UserError: onnxruntime or the file is missing; the file is no ONNX model, has other
                inputs or outputs, or points of a set that must be named.
        """
        self.path = Path(path)
        self._network = OnnxNetwork(self.path, "keypoint network", _DEFAULT_SIZE, _FORMS)
        width, height = self._network.size
        outputs = self._network(np.zeros((3, height, width), np.float32))
        self._swapped = self._is_swapped(outputs)
        self.set = self._set_of(outputs[0].shape[1], set_name)

    def look(
        self, image: Picture, boxes: Sequence[Float[np.ndarray, "4"]]
    ) -> list[Keypoints | None]:
        """Return the person in each box; None where the network is sure of no point.

        Args:
            image: RGB.
            boxes: x0, y0, x1, y1, pixels.
        """
        return [self._look(image, np.asarray(box, np.float64)) for box in boxes]

    def _look(self, image: Picture, box: Float[np.ndarray, "4"]) -> Keypoints | None:
        size = np.array(self._network.size, np.float64)
        centre, whole = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1.0) * _PADDING
        scale = float((size / whole).min())
        corner = centre - size / scale / 2
        # OpenCV counts from the first pixel's centre.
        shift = scale * (0.5 - corner) - 0.5
        affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        picture = cv2.warpAffine(image, affine, self._network.size, flags=cv2.INTER_LINEAR)
        values = (picture.astype(np.float32) - _MEAN) / _DEVIATION
        outputs = self._network(np.ascontiguousarray(values.transpose(2, 0, 1)))
        if len(outputs) == 1:
            points, scores = _of_heat_maps(outputs[0][0], self._network.size)
        else:
            x, y = outputs[::-1] if self._swapped else outputs
            points, scores = _of_simcc(x[0], y[0], self._network.size)
        scores = np.clip(np.nan_to_num(scores), 0.0, 1.0)
        if scores.max(initial=0.0) < SURE:
            return None
        points = points / scale + corner
        return Keypoints(self.set, points, scores, None, box, float(scores.mean()))

    def _is_swapped(self, outputs: list[np.ndarray]) -> bool:
        """Return whether SimCC's y is before x; raise UserError for outputs of another form."""
        if len(outputs) == 1 and outputs[0].ndim == 4 and min(outputs[0].shape) > 0:
            return False
        shapes = [output.shape for output in outputs]
        if [len(shape) for shape in shapes] == [3, 3] and shapes[0][:2] == shapes[1][:2]:
            bins = np.array([shape[2] for shape in shapes])
            straight, swapped = (
                bool(np.ptp(bins / np.array(size)) < 1e-6)
                for size in (self._network.size, self._network.size[::-1])
            )
            if straight and swapped:  # a square input
                return self._network.output_names[0].endswith("y")
            if straight or swapped:
                return swapped
        raise self._network.unknown(outputs)

    def _set_of(self, count: int, set_name: str | None) -> KeypointSet:
        own = find_set(set_name) if set_name else _SETS.get(count)
        if own is None or len(own.points) != count:
            names = [one.name for one in SETS.values() if len(one.points) == count]
            raise UserError(
                f"{self.path} finds {count} points, "
                + (f"not {own.name}'s {len(own.points)}" if own else "of a set that is not given")
                + (f": give --keypoint_set={' or '.join(names)}" if names else ": no set has them")
            )
        return own


def _of_simcc(
    x: Float[np.ndarray, "k x_bins"], y: Float[np.ndarray, "k y_bins"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]:
    """Return points in pixels of the input, and their scores."""
    places = np.stack([x.argmax(1), y.argmax(1)], axis=1).astype(np.float64)
    bins_per_pixel = np.array([x.shape[1], y.shape[1]]) / size
    # The network counts from the first pixel's centre.
    return places / bins_per_pixel + 0.5, np.minimum(x.max(1), y.max(1))


def _of_heat_maps(
    maps: Float[np.ndarray, "k height width"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]:
    """Return points in pixels of the input, and their scores."""
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    places = np.stack(np.unravel_index(flat.argmax(1), (height, width))[::-1], axis=1)
    points = places.astype(np.float64)
    for number, (column, row) in enumerate(places):
        if 2 <= column < width - 2 and 2 <= row < height - 2:
            points[number] += _dark_shift(maps[number], int(column), int(row))
    return (points + 0.5) * (np.array(size) / (width, height)), flat.max(1)


def _dark_shift(
    heat: Float[np.ndarray, "height width"], column: int, row: int
) -> Float[np.ndarray, "2"]:
    """Return the step from a maximum's pixel to the maximum of a Gaussian through it.

    Source: Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation",
    CVPR 2020, section 3.
    """
    blurred = cv2.GaussianBlur(np.asarray(heat, np.float32), (_BLUR, _BLUR), 0)
    around = blurred[row - 2 : row + 3, column - 2 : column + 3].astype(np.float64)
    log = np.log(np.maximum(around, _LEAST))
    slope = np.array([log[2, 3] - log[2, 1], log[3, 2] - log[1, 2]]) / 2
    xx, yy = (line[4] - 2 * line[2] + line[0] for line in (log[2], log[:, 2]))
    xy = log[3, 3] - log[3, 1] - log[1, 3] + log[1, 1]
    curvature = np.array([[xx, xy], [xy, yy]]) / 4
    if np.linalg.det(curvature) <= 0 or curvature[0, 0] >= 0:
        return np.zeros(2)
    return np.clip(-np.linalg.solve(curvature, slope), -1.0, 1.0)
