"""Tracks people through a clip: each frame's boxes in, boxes with stable ids out.

A constant-velocity Kalman filter predicts each person's box. The Hungarian algorithm matches
predicted boxes and detections by overlap. As in ByteTrack (Zhang et al., ECCV 2022), detections of
high score are matched first, those of low score then to the remaining tracks: a half hidden person
has a low score at the predicted place. A hidden person keeps moving as predicted. No id is reused.
Limits are in seconds, so that clips of one frame a second and of sixty are tracked alike.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.prediction.detection.detector import Detection, box_iou

_FIRST_ID = 1
# The frame rate at which limits in frames hold, and that of detections without times.
_RATE = 25.0
# Standard deviations as shares of the person's height: the detector's error, and the change of a
# person's velocity (heights a second) in a second.
_BOX_NOISE = 0.05
_VELOCITY_NOISE = 0.5
_FIRST_VELOCITY = 1.25  # standard deviation of a new track's velocity, heights a second
# A hidden person leaves the predicted place, so the boxes compared grow on each side: by this share
# of the height a second, up to the limit. A person seen once may walk in any direction.
_GROWTH, _LARGEST_GROWTH = 0.25, 0.25
_FIRST_GROWTH, _LARGEST_FIRST_GROWTH = 0.5, 0.5
# A person may be hidden for this many frames and seconds, however briefly it was seen.
_LEAST_FRAMES, _LEAST_SECONDS = 2, 0.25
_ROUNDING = 1e-6  # seconds


@dataclasses.dataclass(frozen=True)
class TrackSettings:
    """Thresholds and limits that turn detections into tracks.

    Attributes:
        high_score: detections with at least this score start tracks and are matched first.
        low_score: detections with a lower score are ignored.
        min_iou: least overlap of a detection with a track's predicted box.
        max_gap: seconds for which a person may be hidden, 30 frames of 25 a second. A person
            seen for t seconds may be hidden for at most 2 t, but always for 2 frames and 0.25 s.
        min_length: tracks seen in fewer frames are removed at the end of a clip; 1 keeps all. It
            holds for 25 frames a second and more. With fewer, as short a time is enough.
        given: whether the boxes are the user's: short tracks stay, and every person may be hidden
            for `max_gap`, or for two of the usual steps between boxes if these are longer.
    """

    high_score: float = 0.5
    low_score: float = 0.1
    min_iou: float = 0.2
    max_gap: float = 1.2
    min_length: int = 3
    given: bool = False

    def __post_init__(self):
        if not 0.0 <= self.low_score <= self.high_score <= 1.0:
            raise ValueError("expected 0 <= low_score <= high_score <= 1")
        if not 0.0 < self.min_iou < 1.0 or self.max_gap < 0 or self.min_length < 1:
            raise ValueError("expected min_iou between 0 and 1, max_gap >= 0, min_length >= 1")

    def fewest_frames(self, frame_rate: float) -> int:
        """Return the number of frames in which a track must be seen to be kept."""
        if self.given:
            return 1
        seconds = (self.min_length - 1) / _RATE
        return min(self.min_length, 1 + round(seconds * frame_rate))


@dataclasses.dataclass(frozen=True)
class TrackedBox:
    """One person's box in one frame.

    Attributes:
        id: of the track, from 1; the same in every frame.
        box: x0, y0, x1, y1 in pixels, detected or, for a hidden person, predicted.
        score: the detection's, NaN for a box from the user; 0 for a hidden person.
        seen: whether this frame has a detection of the person.
        keypoints: the detection's, if it has them.
    """

    id: int
    box: Float[np.ndarray, "4"]
    score: float
    seen: bool
    keypoints: Keypoints | None = None


class _Track:
    """One person's box as centre and size, each coordinate with its velocity, in pixels."""

    def __init__(self, number: int, detection: Detection):
        self.id = number
        self.seen_for = 0.0  # seconds from the first sighting to the last
        self.seen = 1
        self.missed = 0  # frames since the last sighting
        self.unseen = 0.0  # seconds
        self.last = detection
        self._state = np.stack([_centre_and_size(detection.box), np.zeros(4)])
        height = max(float(self._state[0, 3]), 1.0)
        # All four coordinates have the same covariance.
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
        if self.seen == 1:
            return self.height * min(_FIRST_GROWTH * self.unseen, _LARGEST_FIRST_GROWTH)
        return self.height * min(_GROWTH * self.unseen, _LARGEST_GROWTH)

    def predict(self, seconds: float) -> None:
        if self.missed:
            # A box that shrank while the person was covered must not shrink further.
            self._state[1, 2:] = 0.0
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        self._state = step @ self._state
        self._state[0, 2:] = np.maximum(self._state[0, 2:], 1.0)
        # The noise of a velocity that changes at random all the time.
        noise = [[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]]
        noise = (_VELOCITY_NOISE * self.height) ** 2 * np.array(noise)
        self._covariance = step @ self._covariance @ step.T + noise
        self.missed += 1
        self.unseen += seconds

    def update(self, detection: Detection) -> None:
        variance = self._covariance[0, 0] + (_BOX_NOISE * self.height) ** 2
        gain = self._covariance[:, :1] / variance
        self._state = self._state + gain * (_centre_and_size(detection.box) - self._state[0])
        self._covariance = self._covariance - gain @ self._covariance[:1]
        self.seen += 1
        self.seen_for += self.unseen
        self.missed, self.unseen = 0, 0.0
        self.last = detection


class Tracker:
    """Tracks people frame by frame, without later frames."""

    def __init__(self, settings: TrackSettings | None = None):
        """Start without tracks."""
        self.settings = settings or TrackSettings()
        self._tracks: list[_Track] = []
        self._next_id = _FIRST_ID
        self._time: float | None = None

    def update(
        self, detections: Sequence[Detection], time: float | None = None
    ) -> list[TrackedBox]:
        """Return the tracks of the next frame; call it for every frame, also without detections.

        Args:
            detections: of the frame.
            time: of the frame, seconds; None: a 25th of a second after the last.

        Returns:
            The frame's people by id, hidden ones with predicted boxes. For a whole clip
            `track_clip` is better: it interpolates the boxes of hidden people.
        """
        before = self._time
        self._time = time if time is not None else (before or 0.0) + 1 / _RATE
        for track in self._tracks:
            track.predict(self._time - (before or 0.0))
        settings = self.settings
        # A box from the user is certain; its score NaN is not below the limit.
        high = [found for found in detections if not found.score < settings.high_score]
        low = [
            found for found in detections if settings.low_score <= found.score < settings.high_score
        ]
        left, high = self._match(self._tracks, high)
        # A detection of low score continues a track of the last frame, but no lost track.
        self._match([track for track in left if track.missed == 1], low)
        for found in high:
            self._tracks.append(_Track(self._next_id, found))
            self._next_id += 1
        self._tracks = [track for track in self._tracks if self._waits_for(track)]
        return [_tracked_box(track) for track in self._tracks]

    def _waits_for(self, track: _Track) -> bool:
        """Return whether a person may still appear again."""
        if track.missed <= _LEAST_FRAMES:
            return True
        patience = self.settings.max_gap
        if not self.settings.given:
            patience = min(patience, max(2 * track.seen_for, _LEAST_SECONDS))
        return track.unseen <= patience + _ROUNDING

    def _match(
        self, tracks: list[_Track], detections: list[Detection]
    ) -> tuple[list[_Track], list[Detection]]:
        """Update the tracks that match a detection; return the other tracks and detections."""
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
    detections: Sequence[Sequence[Detection]],
    settings: TrackSettings | None = None,
    times: Sequence[float] | np.ndarray | None = None,
) -> list[list[TrackedBox]]:
    """Track people through a whole clip.

    Args:
        detections: of every frame in order.
        settings: of the tracker.
        times: of every frame, seconds, increasing; None: 25 frames a second.

    Returns:
        The people of every frame by id. The boxes of a hidden person are interpolated. Tracks
        seen in fewer than `min_length` frames are removed, and the others numbered from 1 in order
        of appearance.
    """
    clock = _clock(detections, times)
    settings = _for_steps_between(detections, settings or TrackSettings(), clock)
    tracker = Tracker(settings)
    frames: list[list[TrackedBox]] = []
    sightings: dict[int, list[tuple[int, TrackedBox]]] = {}
    for number, (found, time) in enumerate(zip(detections, clock, strict=True)):
        frames.append([])
        for tracked in tracker.update(found, time):
            if tracked.seen:
                sightings.setdefault(tracked.id, []).append((number, tracked))
    steps = len(clock) - 1
    fewest = settings.fewest_frames(steps / (clock[-1] - clock[0])) if steps > 0 else 1
    fewest = min(fewest, len(frames))  # a clip may be as short
    kept = [seen for seen in sightings.values() if len(seen) >= fewest]
    for number, seen in enumerate(kept, _FIRST_ID):
        for frame, tracked in _with_gaps_filled(seen, clock):
            frames[frame].append(dataclasses.replace(tracked, id=number))
    return frames


def given_tracks(
    detections: Sequence[Sequence[Detection]],
    settings: TrackSettings | None = None,
    times: Sequence[float] | np.ndarray | None = None,
) -> list[list[TrackedBox]]:
    """Make tracks of boxes that have ids; every box and id is kept.

    Args:
        detections: of every frame in order, each with its id, no id twice in a frame.
        settings: boxes are interpolated over at most `max_gap` seconds, or two of the usual steps
            between boxes if these are longer.
        times: of every frame, seconds, increasing; None: 25 frames a second.

    Returns:
        The people of every frame by id.
    """
    clock = _clock(detections, times)
    settings = dataclasses.replace(settings or TrackSettings(), given=True)
    settings = _for_steps_between(detections, settings, clock)
    frames: list[list[TrackedBox]] = []
    sightings: dict[int, list[tuple[int, TrackedBox]]] = {}
    for number, found in enumerate(detections):
        frames.append([])
        for one in found:
            assert one.id is not None
            tracked = TrackedBox(one.id, one.box, one.score, seen=True, keypoints=one.keypoints)
            sightings.setdefault(one.id, []).append((number, tracked))
    for _, seen in sorted(sightings.items()):
        for frame, tracked in _with_gaps_filled(seen, clock, settings.max_gap):
            frames[frame].append(tracked)
    return frames


def _clock(
    detections: Sequence[Sequence[Detection]], times: Sequence[float] | np.ndarray | None
) -> list[float]:
    if times is None:
        return [number / _RATE for number in range(len(detections))]
    return [float(time) for time in times]


def _for_steps_between(
    detections: Sequence[Sequence[Detection]], settings: TrackSettings, clock: list[float]
) -> TrackSettings:
    """Allow gaps of two usual steps between frames with boxes, if the boxes are the user's."""
    given = [time for time, found in zip(clock, detections, strict=True) if found]
    if not settings.given or len(given) < 2:
        return settings
    step = float(np.median(np.diff(given)))
    return dataclasses.replace(settings, max_gap=max(settings.max_gap, 2 * step))


def _with_gaps_filled(
    seen: list[tuple[int, TrackedBox]], clock: list[float], max_gap: float = math.inf
) -> Iterator[tuple[int, TrackedBox]]:
    for (start, before), (end, after) in itertools.pairwise(seen):
        yield start, before
        if clock[end] - clock[start + 1] > max_gap + _ROUNDING:
            continue
        for frame in range(start + 1, end):
            share = (clock[frame] - clock[start]) / (clock[end] - clock[start])
            box = (1 - share) * before.box + share * after.box
            yield frame, TrackedBox(before.id, box, 0.0, seen=False)
    yield seen[-1]


def _tracked_box(track: _Track) -> TrackedBox:
    if track.missed:
        return TrackedBox(track.id, track.box, 0.0, seen=False)
    last = track.last
    return TrackedBox(track.id, last.box, last.score, seen=True, keypoints=last.keypoints)


def _overlap(track: _Track, detections: list[Detection]) -> Float[np.ndarray, " detections"]:
    boxes = np.stack([found.box for found in detections])
    grown = boxes + track.growth * np.array([-1, -1, 1, 1])
    return box_iou(track.grown_box(), grown)[0]


def _centre_and_size(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    box = np.asarray(box, np.float64)
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])
