"""Overlap of boxes, and detectors by name."""

import re

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.prediction import detection
from pare_jax.prediction.detection import make_detector
from pare_jax.prediction.detection.detector import box_iou, suppress_overlaps


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


@pytest.mark.parametrize(
    ("name", "threshold", "shown"),
    [("hgo", 0.5, "hgo"), ("whole", 1.5, "1.5"), ("hog", None, "--detector=blazepose")],
)
def test_bad_names_and_thresholds_are_refused(name, threshold, shown):
    with pytest.raises(UserError, match=re.escape(shown)):
        make_detector(name, threshold)


def test_blazepose_is_the_default_only_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(detection, "missing", lambda: None)
    assert detection.default_detector() == ("blazepose", None)
    monkeypatch.setattr(detection, "missing", lambda: "python -m this")
    name, note = detection.default_detector()
    assert name == "whole"
    assert "python -m this" in note
    assert "\n" not in note
