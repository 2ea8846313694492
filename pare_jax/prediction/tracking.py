"""Who is who from frame to frame: boxes in, stable ids out.

Each person's box is predicted by a constant-velocity Kalman filter and matched with the detections
by overlap, all at once (Hungarian algorithm). Sure detections are matched first, unsure ones then
to the tracks still left, as ByteTrack does (Zhang et al., ECCV 2022), for a person half hidden is
found with a low score at the very place where one is expected. A person who is hidden keeps
moving as predicted and is found again by that; ids are never given twice.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from pare_jax.prediction.detection.detector import Detection, box_iou

_FIRST_ID = 1
# How far boxes stray from a steady course, as shares of the person's height: what a detector
# errs by, and by how much a person's velocity changes from one frame to the next.
_BOX_NOISE = 0.05
_VELOCITY_NOISE = 0.004
_FIRST_VELOCITY = 0.05  # spread of velocities, heights a frame, before anything is known
# Hidden people stray from their predicted place: by this share of their height a frame each side,
# and no more than the limit, the boxes compared are grown.
_GROWTH, _LARGEST_GROWTH = 0.01, 0.25


@dataclasses.dataclass(frozen=True)
class TrackSettings:
    """How detections become tracks.

    Attributes:
        high_score: detections from here on start tracks and are matched first.
        low_score: detections below are ignored.
        min_iou: overlap that a detection needs with a track's predicted box.
        max_gap: frames that a person may be hidden and still be the same. A person seen for fewer
            frames may be hidden for twice as many as that.
        min_length: people seen in fewer frames are dropped at the end of a clip; 1 keeps all.
    """

    high_score: float = 0.5
    low_score: float = 0.1
    min_iou: float = 0.2
    max_gap: int = 30
    min_length: int = 3

    def __post_init__(self):
        if not 0.0 <= self.low_score <= self.high_score <= 1.0:
            raise ValueError("expected 0 <= low_score <= high_score <= 1")
        if not 0.0 < self.min_iou < 1.0 or self.max_gap < 0 or self.min_length < 1:
            raise ValueError("expected min_iou between 0 and 1, max_gap >= 0, min_length >= 1")


@dataclasses.dataclass(frozen=True)
class TrackedBox:
    """One person's box in one frame.

    Attributes:
        id: the person's, from 1; the same in every frame and never another's.
        box: x0, y0, x1, y1 in pixels: as detected, or where the person is thought to be.
        score: the detection's, NaN for a box that was given; 0 where there is none.
        seen: whether there is a detection in this frame.
    """

    id: int
    box: Float[np.ndarray, "4"]
    score: float
    seen: bool


class _Track:
    """One person's box as centre and size, each coordinate with its velocity, in pixels."""

    def __init__(self, number: int, detection: Detection):
        self.id = number
        self.seen = 1
        self.missed = 0
        self.last = detection
        self._state = np.stack([_centre_and_size(detection.box), np.zeros(4)])
        height = max(float(self._state[0, 3]), 1.0)
        # One covariance serves all four coordinates: they are filtered alike.
        self._covariance = np.diag([_BOX_NOISE, _FIRST_VELOCITY]) ** 2 * height**2

    @property
    def box(self) -> Float[np.ndarray, "4"]:
        centre, size = self._state[0, :2], self._state[0, 2:]
        return np.concatenate([centre - size / 2, centre + size / 2])

    @property
    def height(self) -> float:
        return max(float(self._state[0, 3]), 1.0)

    def grown_box(self) -> Float[np.ndarray, "4"]:
        return self.box + self.growth * np.array([-1, -1, 1, 1])

    @property
    def growth(self) -> float:
        return self.height * min(_GROWTH * self.missed, _LARGEST_GROWTH)

    def predict(self) -> None:
        if self.missed:
            # A box that shrank on being covered must not go on shrinking.
            self._state[1, 2:] = 0.0
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        self._state = step @ self._state
        self._state[0, 2:] = np.maximum(self._state[0, 2:], 1.0)
        self._covariance = step @ self._covariance @ step.T
        self._covariance[1, 1] += (_VELOCITY_NOISE * self.height) ** 2
        self.missed += 1

    def update(self, detection: Detection) -> None:
        variance = self._covariance[0, 0] + (_BOX_NOISE * self.height) ** 2
        gain = self._covariance[:, :1] / variance
        self._state = self._state + gain * (_centre_and_size(detection.box) - self._state[0])
        self._covariance = self._covariance - gain @ self._covariance[:1]
        self.seen += 1
        self.missed = 0
        self.last = detection


class Tracker:
    """Follows people through a clip, frame by frame, as it comes."""

    def __init__(self, settings: TrackSettings | None = None):
        """Start with nobody."""
        self.settings = settings or TrackSettings()
        self._tracks: list[_Track] = []
        self._next_id = _FIRST_ID

    def update(self, detections: Sequence[Detection]) -> list[TrackedBox]:
        """Take the next frame's detections; call it for every frame, also those with none.

        Args:
            detections: of the frame.

        Returns:
            The frame's people by id: those seen, and with a predicted box those hidden since a few
            frames. A clip that can be looked at twice is better served by `track_clip`, whose
            boxes of hidden people are interpolated.
        """
        for track in self._tracks:
            track.predict()
        settings = self.settings
        # Boxes that were given, whose score is NaN, are sure.
        high = [found for found in detections if not found.score < settings.high_score]
        low = [
            found for found in detections if settings.low_score <= found.score < settings.high_score
        ]
        left, high = self._match(self._tracks, high)
        # An unsure detection continues what was just seen; it does not bring back the lost.
        self._match([track for track in left if track.missed == 1], low)
        for found in high:
            self._tracks.append(_Track(self._next_id, found))
            self._next_id += 1
        self._tracks = [track for track in self._tracks if track.missed <= self._patience(track)]
        return [_tracked_box(track) for track in self._tracks]

    def _patience(self, track: _Track) -> int:
        return min(self.settings.max_gap, 2 * track.seen)

    def _match(
        self, tracks: list[_Track], detections: list[Detection]
    ) -> tuple[list[_Track], list[Detection]]:
        """Update the tracks that a detection fits; return the tracks and detections left over."""
        if not tracks or not detections:
            return tracks, detections
        overlap = np.stack([_overlap(track, detections) for track in tracks])
        rows, columns = linear_sum_assignment(
            -np.where(overlap >= self.settings.min_iou, overlap, 0)
        )
        pairs = [
            (row, column)
            for row, column in zip(rows, columns, strict=True)
            if overlap[row, column] >= self.settings.min_iou
        ]
        for row, column in pairs:
            tracks[row].update(detections[column])
        matched_tracks = {row for row, _ in pairs}
        matched_detections = {column for _, column in pairs}
        return (
            [track for row, track in enumerate(tracks) if row not in matched_tracks],
            [found for column, found in enumerate(detections) if column not in matched_detections],
        )


def track_clip(
    detections: Iterable[Sequence[Detection]], settings: TrackSettings | None = None
) -> list[list[TrackedBox]]:
    """Follow people through a whole clip.

    Args:
        detections: of every frame in order.
        settings: of the tracker.

    Returns:
        The people of every frame by id. While a person is hidden, between two frames that show
        the person, the box is interpolated. People seen in fewer than `min_length` frames are
        left out, and the others numbered from 1 in the order they appear.
    """
    settings = settings or TrackSettings()
    tracker = Tracker(settings)
    frames: list[list[TrackedBox]] = []
    sightings: dict[int, list[tuple[int, TrackedBox]]] = {}
    for number, found in enumerate(detections):
        frames.append([])
        for tracked in tracker.update(found):
            if tracked.seen:
                sightings.setdefault(tracked.id, []).append((number, tracked))
    kept = [seen for seen in sightings.values() if len(seen) >= settings.min_length]
    for number, seen in enumerate(kept, _FIRST_ID):
        for frame, tracked in _with_gaps_filled(seen):
            frames[frame].append(dataclasses.replace(tracked, id=number))
    return frames


def given_tracks(
    detections: Iterable[Sequence[Detection]], settings: TrackSettings | None = None
) -> list[list[TrackedBox]]:
    """Follow people whose ids are given with their boxes; nobody is renumbered or left out.

    Args:
        detections: of every frame in order, each with its id, none of them twice in a frame.
        settings: people hidden for no more than `max_gap` frames have boxes interpolated there.

    Returns:
        The people of every frame by id.
    """
    settings = settings or TrackSettings()
    frames: list[list[TrackedBox]] = []
    sightings: dict[int, list[tuple[int, TrackedBox]]] = {}
    for number, found in enumerate(detections):
        frames.append([])
        for one in found:
            assert one.id is not None
            tracked = TrackedBox(one.id, one.box, one.score, seen=True)
            sightings.setdefault(one.id, []).append((number, tracked))
    for _, seen in sorted(sightings.items()):
        for frame, tracked in _with_gaps_filled(seen, settings.max_gap):
            frames[frame].append(tracked)
    return frames


def _with_gaps_filled(
    seen: list[tuple[int, TrackedBox]], max_gap: float = math.inf
) -> Iterator[tuple[int, TrackedBox]]:
    for (start, before), (end, after) in itertools.pairwise(seen):
        yield start, before
        if end - start - 1 > max_gap:
            continue
        for frame in range(start + 1, end):
            share = (frame - start) / (end - start)
            box = (1 - share) * before.box + share * after.box
            yield frame, TrackedBox(before.id, box, 0.0, seen=False)
    yield seen[-1]


def _tracked_box(track: _Track) -> TrackedBox:
    if track.missed:
        return TrackedBox(track.id, track.box, 0.0, seen=False)
    return TrackedBox(track.id, track.last.box, track.last.score, seen=True)


def _overlap(track: _Track, detections: list[Detection]) -> Float[np.ndarray, " detections"]:
    boxes = np.stack([found.box for found in detections])
    grown = boxes + track.growth * np.array([-1, -1, 1, 1])
    return box_iou(track.grown_box(), grown)[0]


def _centre_and_size(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    box = np.asarray(box, np.float64)
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])
