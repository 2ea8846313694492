"""Compares predicted body points with annotators' labels: PCK, PCKh, PA-MPJPE."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from photo_labels import PhotoPerson

from pare_jax.evaluation.metrics import pa_mpjpe
from pare_jax.evaluation.pckh import THRESHOLD as HEAD_THRESHOLD
from pare_jax.evaluation.pckh import hits
from pare_jax.keypoints.sets import LIMB_POINTS, point_index
from pare_jax.prediction.detection.detector import Detection, box_iou
from pare_jax.prediction.person import Person

PCK_THRESHOLDS = (0.1, 0.2)
# LSP's 14 joints, which most sets and SMPL have.
COMMON_POINTS = (*LIMB_POINTS, point_index("neck"), point_index("head_top"))
_HEAD_TOP = point_index("head_top")
# The lower end of a head's length; the first that a person has.
_NECKS = (point_index("upper_neck"), point_index("neck"))
_FEWEST_IN_3D = 8
# Overlap of a detection with the labelled box that it finds.
GOOD_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class PhotoAnswer:
    """A method's answer for one person.

    Attributes:
        points: x, y of every body point in pixels; NaN where the method has none, a miss.
        world: every body point in metres about any origin, camera axes, NaN where unknown; None if
            the method has no 3D points.
        person: the predicted person, for drawings; None for methods without a mesh.
    """

    points: Float[np.ndarray, "points 2"]
    world: Float[np.ndarray, "points 3"] | None = None
    person: Person | None = None


def limb_hits(
    people: Sequence[PhotoPerson], answers: Sequence[PhotoAnswer | None], threshold: float
) -> Float[np.ndarray, "people 12"]:
    """Return which limb joints are within a share of the body's extent.

    Args:
        people: with their labels.
        answers: of each person; None: nobody was found, all joints are misses.
        threshold: in longer sides of the extent of the person's annotated points.

    Returns:
        1 for hits, 0 for misses, NaN for joints without a label.
    """
    return _hits(people, answers, np.array([one.extent for one in people]), threshold)


def detection_counts(
    labelled: Float[np.ndarray, "people 4"], found: Sequence[Detection]
) -> tuple[int, int]:
    """Return how many labelled boxes were found in a photograph, and how many others.

    Args:
        labelled: boxes of people.
        found: the detector's, best scores first. Each finds the box that it overlaps most, with an
            IoU of at least 0.5, of those that no better one has found.
    """
    left, others = list(range(len(labelled))), 0
    for one in found:
        overlaps = box_iou(one.box, labelled[left])[0] if left else np.zeros(0)
        if len(overlaps) and overlaps.max() >= GOOD_IOU:
            del left[int(overlaps.argmax())]
        else:
            others += 1
    return len(labelled) - len(left), others


def head_hits(
    people: Sequence[PhotoPerson], answers: Sequence[PhotoAnswer | None]
) -> Float[np.ndarray, "people 12"]:
    """Return which limb joints are within half a head's length, which is from neck to head top.

    Returns:
        As `limb_hits`; NaN also for people without a labelled head.
    """
    sizes = np.array([_head_size(one.points) for one in people])
    return _hits(people, answers, sizes, HEAD_THRESHOLD)


def aligned_error(person: PhotoPerson, answer: PhotoAnswer | None) -> float:
    """Return the PA-MPJPE over the common points that both have, mm; NaN where there are few."""
    if person.world is None or answer is None or answer.world is None:
        return float("nan")
    rows = list(COMMON_POINTS)
    true, own = person.world[rows], answer.world[rows]
    known = np.isfinite(true).all(1) & np.isfinite(own).all(1)
    if known.sum() < _FEWEST_IN_3D:
        return float("nan")
    return float(pa_mpjpe(own[known], true[known]))


def percent(found: Float[np.ndarray, "people points"]) -> float:
    """Return the share of hits among all judged points, %; NaN if there are none."""
    judged = found[np.isfinite(found)]
    return 100.0 * float(judged.mean()) if judged.size else float("nan")


def _hits(
    people: Sequence[PhotoPerson],
    answers: Sequence[PhotoAnswer | None],
    sizes: Float[np.ndarray, " people"],
    threshold: float,
) -> Float[np.ndarray, "people 12"]:
    rows = list(LIMB_POINTS)
    true = np.array([one.points[rows] for one in people]).reshape(-1, len(rows), 3)
    nowhere = np.full((len(rows), 2), np.nan)
    own = np.array([nowhere if one is None else one.points[rows] for one in answers])
    return np.asarray(
        hits(own.reshape(-1, len(rows), 2), true[..., :2], true[..., 2], sizes, threshold)
    )


def _head_size(points: Float[np.ndarray, "points 3"]) -> float:
    neck = next((points[row] for row in _NECKS if points[row, 2] > 0), None)
    if neck is None or not points[_HEAD_TOP, 2] > 0:
        return 0.0
    return float(np.linalg.norm(points[_HEAD_TOP, :2] - neck[:2]))
