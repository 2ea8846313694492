"""OpenCV's HOG people detector: histograms of oriented gradients and a linear classifier.

Dalal and Triggs, CVPR 2005, with the classifier that OpenCV contains. It needs no download and
finds only upright, fully visible people; docs/detection.md has its recall. An ONNX detector is far
better.
"""

import cv2
import numpy as np

from pare_jax.io.images import Picture
from pare_jax.prediction.detection.detector import Detection, suppress_overlaps

# The classifier's window; a person in it is about 100 pixels high.
_WINDOW = (64, 128)
# Photographs are resized to this many pixels on their longer side, so that people higher than about
# an eighth of that side are found. Windows step by 8 pixels and scales by 1.05.
_SEARCH_SIDE = 800
_STRIDE = (8, 8)
_SCALE_STEP = 1.05
# A border around the photograph, so that windows fit around people near its edges.
_BORDER = 32
_MAX_IOU = 0.4
# The person's tight box within the window, x0, y0, x1, y1 as shares of its width and height:
# medians over people found in synthetic scenes, by scripts/measure_detector.py --calibrate.
_TIGHT = np.array([0.17, 0.11, 0.83, 0.88])
# A margin m of the classifier becomes the score 1 / (1 + exp(-slope (m - middle))): the share of
# detections with that margin that are correct in the same scenes.
_SLOPE, _MIDDLE = 2.4, 1.55


class HogDetector:
    """Finds upright, fully visible people."""

    def __init__(self, threshold: float = 0.5):
        """Make the detector; detections with a score below `threshold` are skipped."""
        self.threshold = threshold
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), np.float32))
        # The margin at which the score is the threshold.
        odds = np.clip(threshold, 1e-3, 1 - 1e-3)
        self._least_margin = float(_MIDDLE + np.log(odds / (1 - odds)) / _SLOPE)

    def __call__(self, image: Picture) -> list[Detection]:
        """Return the people in a photograph, the highest scores first; see `Detector`."""
        windows, margins = self.windows(image)
        boxes = tight_boxes(windows)
        height, width = image.shape[:2]
        boxes = np.clip(boxes, 0, [width, height, width, height])
        kept = suppress_overlaps(boxes, margins, _MAX_IOU)
        return [
            Detection(boxes[index], float(1 / (1 + np.exp(_SLOPE * (_MIDDLE - margins[index])))))
            for index in kept
        ]

    def windows(self, image: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return all windows that the classifier accepts, and its margins.

        Returns:
            (n, 4) x0, y0, x1, y1 in the photograph's pixels, and (n,).
        """
        height, width = image.shape[:2]
        scale = _SEARCH_SIDE / max(height, width)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        searched = cv2.cvtColor(cv2.resize(image, size, interpolation=how), cv2.COLOR_RGB2BGR)
        searched = cv2.copyMakeBorder(
            searched, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE
        )
        # A narrow photograph is padded to the window's size.
        missing = [max(w - s, 0) for w, s in zip(_WINDOW, searched.shape[1::-1], strict=True)]
        searched = cv2.copyMakeBorder(searched, 0, missing[1], 0, missing[0], cv2.BORDER_REPLICATE)
        found, margins = self._hog.detectMultiScale(
            searched,
            hitThreshold=self._least_margin,
            winStride=_STRIDE,
            scale=_SCALE_STEP,
            groupThreshold=0,  # OpenCV's grouping loses the margins
        )
        if not len(found):
            return np.zeros((0, 4)), np.zeros(0)
        found = np.asarray(found, np.float64)
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1) - _BORDER
        return corners * np.tile(np.array([width, height]) / size, 2), np.ravel(margins)


def tight_boxes(windows: np.ndarray) -> np.ndarray:
    """Return people's tight boxes (n, 4) for HOG's windows (n, 4)."""
    corner, size = windows[:, :2], windows[:, 2:] - windows[:, :2]
    return np.tile(corner, 2) + np.tile(size, 2) * _TIGHT
