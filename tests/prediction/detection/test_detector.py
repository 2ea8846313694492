"""Overlap of boxes, the HOG detector, and detectors by name."""

import re

import cv2
import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.detection import make_detector
from pare_jax.prediction.detection.detector import box_iou, suppress_overlaps
from pare_jax.prediction.detection.hog import HogDetector


def test_iou_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 9]], float)
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected)
    assert box_iou(boxes, np.zeros((0, 4))).shape == (4, 0)


def test_suppression_keeps_the_highest_score_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [6, 0, 16, 10], [40, 0, 50, 10]], float)
    scores = np.array([0.5, 0.9, 0.3, 0.7])
    assert suppress_overlaps(boxes, scores, 0.4) == [1, 3, 2]
    assert suppress_overlaps(boxes, scores, 0.2) == [1, 3]


def test_whole_picture():
    (found,) = make_detector("whole")(np.zeros((30, 50, 3), np.uint8))
    assert found.box.tolist() == [0, 0, 50, 30]


@pytest.mark.parametrize(("name", "threshold", "shown"), [("hgo", 0.5, "hgo"), ("hog", 1.5, "1.5")])
def test_bad_names_and_thresholds_are_refused(name, threshold, shown):
    with pytest.raises(UserError, match=re.escape(shown)):
        make_detector(name, threshold)


class KnownWindows:
    """Stands in for OpenCV's classifier: two windows of one person, one of another."""

    shape = (0, 0, 0)

    @staticmethod
    def getDefaultPeopleDetector():
        return [0.0]

    def setSVMDetector(self, weights):
        pass

    def detectMultiScale(self, image, **_):
        KnownWindows.shape = image.shape
        windows = np.array([[132, 82, 64, 128], [136, 84, 64, 128], [300, 52, 96, 192]])
        return windows, np.array([1.2, 2.0, 0.9])


@pytest.mark.parametrize("size", [(800, 600), (1600, 1200), (400, 300)])
def test_hog_windows_become_tight_boxes_in_the_photograph(size, monkeypatch):
    monkeypatch.setattr(cv2, "HOGDescriptor", KnownWindows)
    detector = HogDetector(0.1)
    width, height = size
    found = detector(np.zeros((height, width, 3), np.uint8))
    assert KnownWindows.shape == (600 + 64, 800 + 64, 3)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(0 < d.score < 1 for d in found)
    assert len(found) == 2
    # The box is centred in the overlapping window of higher margin, without the border.
    scale = width / 800
    window = np.array([104, 52, 168, 180]) * scale
    box = found[0].box
    assert (box[:2] > window[:2]).all()
    assert (box[2:] < window[2:]).all()
    np.testing.assert_allclose(
        (box[:2] + box[2:]) / 2, (window[:2] + window[2:]) / 2, atol=3 * scale
    )


@pytest.mark.parametrize("shape", [(16, 16), (40, 700), (700, 30)])
def test_hog_finds_nobody_in_grey_photographs_of_any_shape(shape):
    assert make_detector("hog")(np.full((*shape, 3), 90, np.uint8)) == []
