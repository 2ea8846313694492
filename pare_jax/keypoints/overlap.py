"""Boxes of people from their landmarks, and removal of people who were found twice."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from pare_jax.io.images import Picture
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import BLAZEPOSE33

_EARS, _SHOULDERS = (
    [BLAZEPOSE33.points.index(f"{side}_{name}") for side in ("left", "right")]
    for name in ("ear", "shoulder")
)
# The top of the head lies above the ears by this share of their distance from the shoulders.
_CROWN = 0.6
# Clothes, hands and feet reach beyond the landmarks by this share of the longer side.
_MARGIN = 0.04
# Landmarks of the body, without the face's, which say little about the pose.
_BODY = slice(11, 33)
# Two sets of landmarks agree if their distance is below this share of the person's size.
_CLOSE = 0.1
# Above this sum of overlap and agreement two finds are the same person. In photographs, finds of
# one person had at least 0.8, finds of two people at most 0.3.
_SAME = 0.75


class HasKeypoints(Protocol):
    @property
    def keypoints(self) -> Keypoints: ...


Person = TypeVar("Person", bound=HasKeypoints)


def box_of_landmarks(points: Float[np.ndarray, "33 2"], image: Picture) -> Float[np.ndarray, "4"]:
    """Return the tight box of a person within a photograph; it may have no area.

    Args:
        points: BlazePose's landmarks, pixels.
        image: the photograph.
    """
    ears, shoulders = points[_EARS].mean(0), points[_SHOULDERS].mean(0)
    every = np.concatenate([points, [ears + _CROWN * (ears - shoulders)]])
    low, high = every.min(0), every.max(0)
    margin = _MARGIN * (high - low).max()
    height, width = image.shape[:2]
    corners = np.concatenate([low - margin, high + margin])
    return np.clip(corners, 0, [width, height, width, height])


def without_duplicates(people: Sequence[Person], known: Sequence[Person] = ()) -> list[Person]:
    """Return each person once.

    Args:
        people: may contain a person several times; the find with the highest score is kept.
        known: people who are kept in any case.

    Returns:
        The known people, then the others, the highest scores first.
    """
    kept = list(known)
    for one in sorted(people, key=lambda person: -(person.keypoints.score or 0.0)):
        if not any(_is_same(one.keypoints, other.keypoints) for other in kept):
            kept.append(one)
    return kept


def overlap(first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]) -> float:
    """Return the intersection over union of two boxes; 0 for boxes without area."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.maximum(high - low, 0.0).prod()
    areas = [np.maximum(box[2:] - box[:2], 0.0).prod() for box in (first, second)]
    return float(shared / max(sum(areas) - shared, 1e-9))


def _is_same(first: Keypoints, second: Keypoints) -> bool:
    assert first.box is not None
    assert second.box is not None
    if (shared := overlap(first.box, second.box)) == 0:
        return False
    size = (np.ptp(first.points, axis=0) * np.ptp(second.points, axis=0)).prod() ** 0.25
    distances = np.hypot(*(first.points - second.points)[_BODY].T)
    agreement = np.exp(-0.5 * (distances / (_CLOSE * max(size, 1.0))) ** 2).mean()
    return shared + agreement > _SAME
