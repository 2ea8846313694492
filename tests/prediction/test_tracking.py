"""Tracks: ids through crossings, gaps and missing detections, and ids from the user."""

import functools
import itertools

import numpy as np
import pytest

from data_pipelines.synthetic.clip import ClipSettings, draw_clip
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.detection.detector import box_iou
from pare_jax.prediction.tracking import Tracker, TrackSettings, given_tracks, track_clip


def person(x, *, y=100.0, height=200.0, width=70.0):
    return np.array([x - width / 2, y, x + width / 2, y + height])


def crossing(seed, *, speed=8.0, post=(440, 520), noise=3.0, missing=0.1, frames=110):
    """Two people pass each other behind a post, which hides part of them.

    Returns for each frame the detections, each with its person's number.
    """
    rng = np.random.default_rng(seed)
    clip = []
    for frame in range(frames):
        found = []
        for who, (x, size) in enumerate(
            ((40 + speed * frame, 210.0), (920 - speed * frame, 190.0))
        ):
            box = person(x, height=size)
            if post[0] < box[2] and box[0] < post[1]:  # one side of the person may be left
                left = np.array([box[0], box[1], min(box[2], post[0]), box[3]])
                right = np.array([max(box[0], post[1]), box[1], box[2], box[3]])
                box = max(left, right, key=lambda b: b[2] - b[0])
            share = (box[2] - box[0]) / 70.0
            if share < 0.35 or rng.random() < missing:
                continue
            score = 0.9 if share > 0.8 else 0.35
            found.append((Detection(box + rng.normal(0, noise, 4), score), who))
        order = rng.permutation(len(found))
        clip.append([found[i] for i in order])
    return clip


@pytest.mark.parametrize("seed", range(8))
def test_ids_stay_through_a_crossing_behind_a_post(seed):
    clip = crossing(seed)
    frames = track_clip([[d for d, _ in found] for found in clip])
    ids = {0: set(), 1: set()}
    for found, tracked in zip(clip, frames, strict=True):
        for detection, who in found:
            ids[who] |= {t.id for t in tracked if np.array_equal(t.box, detection.box)}
    assert sorted(map(sorted, ids.values())) == [[1], [2]]


@pytest.mark.parametrize("seed", range(4))
def test_ids_stay_in_a_drawn_clip(seed):
    """True boxes of drawn people, with noise, some missing and all while they are hidden."""
    rng = np.random.default_rng(seed)
    clip = []
    for frame in drawn_clip():
        found = []
        for box, share in zip(frame.boxes, frame.seen, strict=True):
            if share > 0.25 and rng.random() > 0.1:
                noise = rng.normal(0, 0.02 * (box[3] - box[1]), 4)
                found.append(Detection(box + noise, 0.9 if share > 0.6 else 0.3))
        clip.append(found[:: rng.choice([-1, 1])])
    frames = track_clip(clip)
    assert {t.id for tracked in frames for t in tracked} == {1, 2}
    whose = set()
    # Detections missing at the very ends cannot be interpolated.
    for frame, tracked in zip(drawn_clip()[8:-8], frames[8:-8], strict=True):
        overlap = box_iou(frame.boxes, np.array([t.box for t in tracked]).reshape(-1, 4))
        for person in np.flatnonzero(frame.seen > 0.6):
            best = int(overlap[person].argmax())
            assert overlap[person, best] > 0.6
            whose.add((int(person), tracked[best].id))
    assert len(whose) == 2


@functools.cache
def drawn_clip():
    return list(draw_clip(ClipSettings(width=320, height=180, mesh="coarse")))


def test_boxes_are_interpolated_over_a_gap():
    clip = [[Detection(person(100 + 6 * i), 0.9)] for i in range(40)]
    clip[20:28] = [[]] * 8
    frames = track_clip(clip)
    for number, (tracked,) in enumerate(frames):
        np.testing.assert_allclose(tracked.box, person(100 + 6 * number), atol=1e-9)
        assert tracked.id == 1
        assert tracked.seen == (not 20 <= number < 28)


def test_a_long_gap_ends_a_track_and_ids_are_not_reused():
    settings = TrackSettings(max_gap=5 / 25)
    found = [Detection(person(300), 0.9)]
    tracker = Tracker(settings)
    ids = []
    for frame in range(60):
        ids += [t.id for t in tracker.update(found if frame % 20 < 10 else [])]
    assert list(dict.fromkeys(ids)) == [1, 2, 3]
    assert ids == sorted(ids)
    assert len(ids) == 3 * (10 + 5)  # predicted for as long as the gap may last


def test_hidden_people_are_predicted_to_keep_walking():
    tracker = Tracker()
    for frame in range(30):
        tracker.update([Detection(person(100 + 6 * frame), 0.9)])
    for frame in range(30, 36):
        (tracked,) = tracker.update([])
        assert not tracked.seen
        np.testing.assert_allclose(tracked.box, person(100 + 6 * frame), atol=4)


def test_detections_of_low_score_continue_a_track_but_start_none():
    box = person(200)
    sure, unsure = Detection(box, 0.9), Detection(box, 0.2)
    frames = track_clip([[sure], [sure], *[[unsure]] * 5, [sure]])
    assert all(len(frame) == 1 and frame[0].seen for frame in frames)
    assert track_clip([[unsure]] * 10) == [[]] * 10
    hopeless = Detection(box, 0.05)
    assert not any(t.seen for t in track_clip([[sure]] * 4 + [[hopeless]] * 3 + [[sure]])[5])


def test_short_tracks_are_removed_by_default():
    clip = [[Detection(person(200), 0.9)] for _ in range(20)]
    clip[10].append(Detection(person(600), 0.95))
    assert {t.id for frame in track_clip(clip) for t in frame} == {1}
    everyone = track_clip(clip, TrackSettings(min_length=1))
    assert {t.id for frame in everyone for t in frame} == {1, 2}
    assert track_clip([]) == []


def test_streaming_and_whole_clips_agree_on_visible_people():
    clip = crossing(3)
    tracker = Tracker()
    streamed = [tracker.update([d for d, _ in found]) for found in clip]
    whole = track_clip([[d for d, _ in found] for found in clip], TrackSettings(min_length=1))
    for live, looked_back in zip(streamed, whole, strict=True):
        seen = [[(t.id, *t.box) for t in frame if t.seen] for frame in (live, looked_back)]
        assert sorted(seen[0]) == sorted(seen[1])


def test_a_frames_ids_differ():
    rng = np.random.default_rng(0)
    for _ in range(5):
        clip = [
            [Detection(person(x), 0.9) for x in rng.uniform(0, 800, rng.integers(0, 6))]
            for _ in range(30)
        ]
        for frame in track_clip(clip):
            assert all(a.id != b.id for a, b in itertools.combinations(frame, 2))


def walkers(rate, score, seed=0):
    """Eighteen people walk by at different times; returns boxes, whose they are, and times."""
    rng = np.random.default_rng(seed)
    heights, pace = rng.uniform(80, 200, 18), rng.uniform(0.5, 0.9, 18) * rng.choice([-1, 1], 18)
    begins, lasts = rng.uniform(0, 20, 18), rng.uniform(4, 9, 18)
    x, y = rng.uniform(100, 1500, 18), rng.uniform(0, 900, 18)
    times = np.arange(0, 30, 1 / rate)
    clip, whose = [], []
    for time in times:
        present = np.flatnonzero((begins <= time) & (time < begins + lasts)).tolist()
        places = x + pace * heights * (time - begins)
        boxes = [
            person(places[who], y=y[who], height=heights[who], width=0.4 * heights[who])
            for who in present
        ]
        clip.append([Detection(box, score) for box in boxes])
        whose.append(present)
    return clip, whose, times


@pytest.mark.parametrize("score", [0.9, np.nan])
@pytest.mark.parametrize(("rate", "switches"), [(1, 15), (2, 0), (5, 0), (25, 0)])
def test_people_are_followed_at_any_frame_rate(rate, switches, score):
    """At one frame a second a walker's boxes do not overlap: few are lost, none is left out."""
    clip, whose, times = walkers(rate, score)
    frames = track_clip(clip, TrackSettings(given=bool(np.isnan(score))), times)
    ids = {}
    for found, present, tracked in zip(clip, whose, frames, strict=True):
        for detection, who in zip(found, present, strict=True):
            own = [t.id for t in tracked if t.seen and np.array_equal(t.box, detection.box)]
            ids.setdefault(who, []).extend(own)
    assert len(ids) == 18
    assert sum(map(len, ids.values())) == sum(map(len, clip))
    assert sum(len(set(own)) - 1 for own in ids.values()) <= switches


@pytest.mark.parametrize("step", [1, 2, 3, 4, 10, 30, 45])
def test_sparse_boxes_of_the_user_become_one_track(step):
    """Annotation tools write key frames, and detectors run at a few frames a second."""
    clip = [
        [Detection(person(200 + 2 * n), np.nan)] if n % step == 0 else []
        for n in range(6 * step + 1)
    ]
    frames = track_clip(clip, TrackSettings(given=True))
    assert [[t.id for t in frame] for frame in frames] == [[1]] * len(clip)
    assert [t.seen for (t,) in frames] == [n % step == 0 for n in range(len(clip))]
    for number, (tracked,) in enumerate(frames):
        np.testing.assert_allclose(tracked.box, person(200 + 2 * number), atol=1e-6)


def test_a_box_of_the_user_in_a_single_frame_is_a_track():
    clip = [[], [Detection(person(200), np.nan)], [], []]
    assert [len(frame) for frame in track_clip(clip, TrackSettings(given=True))] == [0, 1, 0, 0]
    assert track_clip(clip) == [[]] * 4


def test_key_frames_with_ids_are_interpolated_over_two_of_their_steps():
    def seen(x):
        return [Detection(person(x), np.nan, 7)]

    clip = [seen(n) if n in (0, 50, 100, 200, 400) else [] for n in range(401)]
    present = [bool(frame) for frame in given_tracks(clip)]
    assert present == [n <= 200 or n == 400 for n in range(401)]


def test_patience_counts_seconds():
    """A person is hidden for a second, at any frame rate."""
    for rate in (5, 25, 100):
        times = np.arange(0, 3, 1 / rate)
        clip = [[] if 1 < time < 2 else [Detection(person(200), 0.9)] for time in times]
        ids = {t.id for frame in track_clip(clip, None, times) for t in frame}
        assert ids == {1}
        short = track_clip(clip, TrackSettings(max_gap=0.5), times)
        assert {t.id for frame in short for t in frame} == {1, 2}


def test_bad_settings():
    for values in ({"low_score": 0.6}, {"min_iou": 0.0}, {"max_gap": -1}, {"min_length": 0}):
        with pytest.raises(ValueError, match="expected"):
            TrackSettings(**values)


def test_ids_from_the_user_are_kept_and_short_gaps_filled():
    def seen(number, x):
        return Detection(np.array([x, 0.0, x + 10, 20.0]), np.nan, number)

    # Person 7 is hidden for two frames, person 0 for more than `max_gap`, person 3 is seen once.
    frames = [[seen(7, 0.0), seen(0, 50.0)], [], [seen(3, 90.0)], [seen(7, 30.0)], [], []]
    frames.append([seen(0, 80.0)])
    found = given_tracks(frames, TrackSettings(max_gap=4 / 25))
    people = [[(one.id, round(one.box[0], 6), one.seen) for one in frame] for frame in found]
    assert people == [
        [(0, 50.0, True), (7, 0.0, True)],
        [(7, 10.0, False)],
        [(3, 90.0, True), (7, 20.0, False)],
        [(7, 30.0, True)],
        [],
        [],
        [(0, 80.0, True)],
    ]
    assert [one.score for one in found[1]] == [0.0]


def test_boxes_from_the_user_keep_the_score_nan():
    """In frames where the person is hidden it is 0."""
    box = np.array([0.0, 0.0, 10.0, 20.0])
    frames = [[Detection(box, np.nan)], [Detection(box, np.nan)], [], [Detection(box, np.nan)]]
    scores = [one.score for frame in track_clip(frames) for one in frame]
    np.testing.assert_array_equal(scores, [np.nan, np.nan, 0.0, np.nan])
