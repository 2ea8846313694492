"""Stands in for BlazePose's two networks: people are a red disc (hips) below a blue one (top)."""

import cv2
import numpy as np
import pytest

from pare_jax.keypoints import blazepose
from pare_jax.keypoints.blazepose import BlazePose
from pare_jax.keypoints.blazepose_decoding import (
    DETECTOR_SIDE,
    LANDMARK_SIDE,
    NEXT_HIPS,
    NEXT_TOP,
    NUM_LANDMARKS,
    anchors,
)
from pare_jax.keypoints.blazepose_files import missing

RED, BLUE = (255, 0, 0), (0, 0, 255)
# The real files, where they are installed; looked up before tests set another cache folder.
needs_files = pytest.mark.skipif(missing() is not None, reason=f"needs BlazePose: {missing()}")
# The detector sees people of at least this share of its input.
_LEAST_SHARE = 0.15


def picture_of(*people, height=300, width=400):
    """Return a grey picture; each person is the middle of the hips and the top, (x, y) each."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 120, np.uint8)
    for hips, top in people:
        radius = 0.12 * np.hypot(*np.subtract(top, hips))
        for (x, y), colour in ((hips, RED), (top, BLUE)):
            picture[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = colour
    return picture


def _discs(picture, colour):
    """Return the centres of the discs of a colour, pixels."""
    far = np.abs(picture.astype(float) - colour).max(-1)
    count, _, stats, centres = cv2.connectedComponentsWithStats((far < 80).astype(np.uint8))
    return [centres[n] + 0.5 for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] > 3]


def _people(picture):
    """Return hips and top of each person; a disc without its partner is nobody."""
    tops = _discs(picture, BLUE)
    pairs = []
    for hips in _discs(picture, RED):
        if tops:
            top = min(tops, key=lambda one: np.hypot(*(one - hips)))
            pairs.append((hips, top))
    return pairs


class FakeLiteRt:
    """Computes what the network of a file would, and counts the calls."""

    calls = 0

    def __init__(self, path, threads=1, content=None):
        self.is_detector = "detection" in str(path)

    def __call__(self, picture):
        FakeLiteRt.calls += 1
        if self.is_detector:
            assert picture.shape == (DETECTOR_SIDE, DETECTOR_SIDE, 3)
            return self._detect(_people((picture + 1) * 127.5))
        assert picture.shape == (LANDMARK_SIDE, LANDMARK_SIDE, 3)
        return self._see(_people(picture * 255))

    @staticmethod
    def _detect(people):
        rows, logits = np.zeros((len(anchors()), 12)), np.full((len(anchors()), 1), -9.0)
        for n, (hips, top) in enumerate(people):
            length = np.hypot(*(top - hips))
            if length > _LEAST_SHARE * DETECTOR_SIDE:
                points = np.stack([top, [length, length], hips, top, hips, top])
                points[[0, 2, 3, 4, 5]] -= anchors()[n] * DETECTOR_SIDE
                rows[n], logits[n] = points.ravel(), 4.0 + 0.1 * length / DETECTOR_SIDE
        return {"Identity": rows, "Identity_1": logits}

    @staticmethod
    def _see(people):
        middle = LANDMARK_SIDE / 2
        best = min(people, key=lambda pair: np.hypot(*(pair[0] - middle)), default=None)
        values, world = np.zeros((39, 5)), np.zeros((39, 3))
        values[:, 3:] = 9.0
        presence = 0.0
        if best is not None and np.hypot(*(best[0] - middle)) < middle / 2:
            hips, top = best
            presence = 1.0
            # Points lie on the line from the hips to the top, to its left and its right.
            along = np.linspace(0, 1, NUM_LANDMARKS)[:, None] * (top - hips)
            aside = np.linspace(-0.4, 0.4, NUM_LANDMARKS)[:, None] * ((top - hips)[::-1] * (-1, 1))
            values[:NUM_LANDMARKS, :2] = hips + along + aside
            values[NEXT_HIPS, :2], values[NEXT_TOP, :2] = hips, top
            world[:, :2] = (values[:, :2] - hips) / 100
            world[:, 2] = 0.5
        return {
            "Identity": values.ravel(),
            "Identity_1": np.array([presence]),
            "Identity_3": np.full((64, 64, 39), -9.0),
            "Identity_4": world.ravel(),
        }


@pytest.fixture(name="network")
def fake_network(monkeypatch):
    monkeypatch.setattr(blazepose, "LiteRtNetwork", FakeLiteRt)
    FakeLiteRt.calls = 0
    return BlazePose("pose_detection.tflite", "pose_landmark_full.tflite")
