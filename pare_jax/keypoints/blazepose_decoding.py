"""Decodes the outputs of BlazePose's two networks: people found, and landmarks.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020,
https://arxiv.org/abs/2006.10204. The layout of the outputs is that of the files in
mediapipe 0.10.21.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

# The detector's input, pixels, and its anchors: at the centre of each cell of a stride, so many.
DETECTOR_SIDE = 224
_ANCHORS = ((8, 2), (16, 2), (32, 6))
# The detector's points: the middle of the hips, and the one that says size and direction.
HIPS, TOP = 0, 1
# Overlapping answers of the detector about one person are averaged, weighted by their scores.
_MAX_IOU = 0.3

# The landmark network's input, pixels.
LANDMARK_SIDE = 256
NUM_LANDMARKS = 33
# Of its 39 points these two are the next frame's square, as the detector's.
NEXT_HIPS, NEXT_TOP = 33, 34
_NUM_POINTS = 39
# Heat maps refine a landmark where one of the 7 x 7 cells around it is at least so sure.
_WINDOW = 7
_LEAST_HEAT = 0.5


@dataclasses.dataclass(frozen=True)
class Found:
    """People found in one square picture.

    Attributes:
        boxes: x0, y0, x1, y1 of their heads, in shares of the input's side.
        points: the middle of the hips, the top, and the same of the upper body; in these shares.
        scores: 0 to 1.
    """

    boxes: Float[np.ndarray, "n 4"]
    points: Float[np.ndarray, "n 4 2"]
    scores: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """The landmark network's points of one square.

    Attributes:
        points: in shares of the square's side: the landmarks, then six auxiliary points.
        confidence: of each, visibility times presence, 0 to 1.
        world: metres about the middle of the hips, in the square's axes.
        presence: whether the square shows a person, 0 to 1.
    """

    points: Float[np.ndarray, "39 2"]
    confidence: Float[np.ndarray, "39"]
    world: Float[np.ndarray, "39 3"]
    presence: float


@functools.cache
def anchors() -> Float[np.ndarray, "2254 2"]:
    """Return the centres of the detector's anchors, in shares of the input's side."""
    parts = []
    for stride, count in _ANCHORS:
        cells = DETECTOR_SIDE // stride
        y, x = np.mgrid[:cells, :cells] + 0.5
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1) / cells, count, axis=0))
    return np.concatenate(parts)


def decode_people(
    rows: Float[np.ndarray, "2254 12"], logits: Float[np.ndarray, " 2254"], threshold: float
) -> Found:
    """Return the people whose scores are at least a threshold, each once, highest score first.

    Args:
        rows: for each anchor the offset of the box's centre, its size, and the offsets of four
            points, all in pixels of the input.
        logits: for each anchor the score before the sigmoid.
        threshold: 0 to 1.
    """
    scores = sigmoid(np.ravel(logits))
    good = np.flatnonzero(scores >= threshold)
    values = np.asarray(rows, np.float64).reshape(-1, 6, 2)[good] / DETECTOR_SIDE
    centres = anchors()[good]
    middles, sizes = values[:, 0] + centres, values[:, 1]
    boxes = np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)
    return merge_weighted(Found(boxes, values[:, 2:] + centres[:, None], scores[good]))


def merge_weighted(found: Found) -> Found:
    """Average the answers whose boxes overlap, weighted by their scores, as MediaPipe does."""
    left = np.argsort(-found.scores, kind="stable")
    merged: list[tuple[np.ndarray, np.ndarray, float]] = []
    while len(left):
        same = _iou(found.boxes[left[0]], found.boxes[left]) > _MAX_IOU
        same[0] = True
        group, left = left[same], left[~same]
        weights = found.scores[group] / found.scores[group].sum()
        box = np.tensordot(weights, found.boxes[group], 1)
        points = np.tensordot(weights, found.points[group], 1)
        merged.append((box, points, float(found.scores[group[0]])))
    return Found(
        np.array([box for box, _, _ in merged]).reshape(-1, 4),
        np.array([points for _, points, _ in merged]).reshape(-1, 4, 2),
        np.array([score for *_, score in merged]),
    )


def decode_landmarks(
    values: Float[np.ndarray, " 195"],
    presence: float,
    heat: Float[np.ndarray, "64 64 39"],
    world: Float[np.ndarray, " 117"],
) -> Landmarks:
    """Decode the landmark network's outputs for one square.

    Args:
        values: `Identity`: x, y, z in pixels of the input, visibility and presence before the
            sigmoid, of each point.
        presence: `Identity_1`.
        heat: `Identity_3`, before the sigmoid.
        world: `Identity_4`.
    """
    rows = np.asarray(values, np.float64).reshape(_NUM_POINTS, 5)
    points = refine(rows[:, :2] / LANDMARK_SIDE, heat)
    confidence = sigmoid(rows[:, 3]) * sigmoid(rows[:, 4])
    places = np.asarray(world, np.float64).reshape(_NUM_POINTS, 3)
    return Landmarks(points, confidence, places, float(presence))


def refine(
    points: Float[np.ndarray, "k 2"], heat: Float[np.ndarray, "rows columns k"]
) -> Float[np.ndarray, "k 2"]:
    """Move points to the centroid of the heat around them, where a heat map is sure.

    Args:
        points: in shares of the square's side.
        heat: a map for each point, before the sigmoid.
    """
    rows, columns, _ = heat.shape
    result = np.array(points, np.float64)
    cells = np.floor(result * (columns, rows)).astype(int)
    inside = ((cells >= 0) & (cells < (columns, rows))).all(1)
    reach = _WINDOW // 2
    for index in np.flatnonzero(inside):
        column, row = cells[index]
        x = np.arange(max(column - reach, 0), min(column + reach + 1, columns))
        y = np.arange(max(row - reach, 0), min(row + reach + 1, rows))
        window = sigmoid(heat[y[0] : y[-1] + 1, x[0] : x[-1] + 1, index].astype(np.float64))
        if window.max() >= _LEAST_HEAT:
            total = window.sum()
            centre = window.sum(0) @ x / total, window.sum(1) @ y / total
            result[index] = np.divide(centre, (columns, rows))
    return result


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, np.float64)))


def _iou(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.maximum(high - low, 0.0).prod(1)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(1)
    union = areas + np.maximum(box[2:] - box[:2], 0.0).prod() - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
