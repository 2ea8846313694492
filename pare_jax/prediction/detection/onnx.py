"""Person detectors from ONNX files, run by onnxruntime.

The shapes of the outputs decide which of two layouts a file has:

* YOLOX (Ge et al., 2021, https://github.com/Megvii-BaseDetection/YOLOX): one output (1, N, 5 + C)
  of centre, size, objectness and C class scores. There is one row for every cell of the strides 8,
  16 and 32 (and 64), either raw (offsets in the cell, log sizes) or decoded to pixels.
  The input is BGR from 0 to 255.
* RTMDet as MMDeploy exports it (Lyu et al., 2022, https://github.com/open-mmlab/mmdeploy): boxes
  with scores (1, N, 5), x0, y0, x1, y1 in pixels, and labels (1, N), after suppression. The input
  is BGR, normalised with ImageNet's mean and deviation. YOLOX exported by MMDeploy has the same
  outputs but takes 0 to 255; it is recognised by "yolox" in the file's name.

The photograph is shrunk to fit the input's top-left corner; the rest is grey 114. Class 0 is the
person, as in COCO.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from pare_jax.io.images import Picture
from pare_jax.keypoints.onnx_network import OnnxNetwork
from pare_jax.prediction.detection.detector import Detection, suppress_overlaps

_PERSON = 0
_PADDING = 114
_DEFAULT_SIZE = (640, 640)  # where the file leaves the input's size open
_MAX_IOU = 0.45  # as in YOLOX
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
# ImageNet's mean and deviation, BGR, on the scale 0 to 255.
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
_LAYOUTS = "YOLOX (1, N, 5 + classes) and RTMDet (1, N, 5) with labels (1, N)"


class OnnxDetector:
    """Finds people with the network of an ONNX file."""

    def __init__(self, path: str | Path, threshold: float = 0.5):
        """Load a detector.

        Args:
            path: an ONNX file in one of the layouts above.
            threshold: detections with a lower score are skipped.

        Raises:
            UserError: onnxruntime or the file is missing, the file is not an ONNX model, or its
                inputs or outputs are not a detector's.
        """
        self.path = Path(path)
        self.threshold = threshold
        self._network = OnnxNetwork(self.path, "person detector", _DEFAULT_SIZE, _LAYOUTS)
        self._size = width, height = self._network.size
        # A grey input gives the outputs' shapes, which files often leave open.
        outputs = self._network(np.full((3, height, width), _PADDING, np.float32))
        self._is_yolox = len(outputs) == 1 and outputs[0].ndim == 3 and outputs[0].shape[2] > 5
        if self._is_yolox:
            self._cells = _cells(self._size, outputs[0].shape[1])
            if self._cells is None:
                raise self._network.unknown(outputs)
        elif not _is_rtmdet(outputs):
            raise self._network.unknown(outputs)
        self._is_normalised = not self._is_yolox and "yolox" not in self.path.stem.lower()

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a photograph, the highest scores first; see `Detector`."""
        height, width = image.shape[:2]
        scale = min(self._size[0] / width, self._size[1] / height)
        outputs = self._network(self._letterbox(image, scale))
        boxes, scores = self._yolox(outputs[0][0]) if self._is_yolox else _rtmdet(outputs)
        good = scores >= self.threshold
        boxes = np.clip(boxes[good] / scale, 0, [width, height, width, height])
        scores = np.clip(scores[good], 0.0, 1.0)
        kept = suppress_overlaps(boxes, scores, _MAX_IOU)
        # A box that lies in the padding has no area left.
        return [
            Detection(boxes[index].astype(np.float64), float(scores[index]))
            for index in kept
            if (boxes[index, 2:] - boxes[index, :2]).min() > 0
        ]

    def _letterbox(self, image: Picture, scale: float) -> Float[np.ndarray, "3 height width"]:
        width, height = self._size
        size = (
            max(int(image.shape[1] * scale), 1),
            max(int(image.shape[0] * scale), 1),
        )
        canvas = np.full((height, width, 3), _PADDING, np.uint8)
        small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        canvas[: size[1], : size[0]] = small[..., ::-1]
        values = canvas.astype(np.float32)
        if self._is_normalised:
            values = (values - _MEAN) / _DEVIATION
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _yolox(
        self, rows: Float[np.ndarray, "n features"]
    ) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
        assert self._cells is not None
        corners, strides = self._cells
        centres, sizes = rows[:, :2], rows[:, 2:4]
        # Decoded centres lie near their cells, raw ones near 0 wherever the cell is.
        if np.abs(centres).mean() < np.abs(centres - corners).mean():
            centres = corners + centres * strides
            sizes = np.exp(np.minimum(sizes, 20.0)) * strides
        scores = rows[:, 4] * rows[:, 5 + _PERSON]
        is_person = rows[:, 5:].argmax(1) == _PERSON
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        return boxes[is_person], scores[is_person]


def _cells(size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return corner and stride of each of YOLOX's cells, pixels; None if they are not `count`."""
    width, height = size
    for strides in _STRIDES:
        corners, steps = [], []
        for stride in strides:
            y, x = np.mgrid[: height // stride, : width // stride]
            corners.append(np.stack([x.ravel(), y.ravel()], axis=1) * stride)
            steps.append(np.full((x.size, 1), stride))
        if sum(map(len, corners)) == count:
            return np.concatenate(corners), np.concatenate(steps)
    return None


def _is_rtmdet(outputs: list[np.ndarray]) -> bool:
    boxes = [output for output in outputs if output.ndim == 3 and output.shape[2] == 5]
    labels = [output for output in outputs if output.ndim == 2]
    return len(boxes) == 1 and len(labels) <= 1 and len(boxes) + len(labels) == len(outputs)


def _rtmdet(
    outputs: list[np.ndarray],
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
    rows = next(output for output in outputs if output.ndim == 3)[0]
    labels: Int[np.ndarray, " n"] = next(
        (output[0] for output in outputs if output.ndim == 2), np.full(len(rows), _PERSON)
    )
    rows = rows[labels == _PERSON]
    return rows[:, :4], rows[:, 4]
