"""BlazePose as a detector, and following people through clips."""

import numpy as np

from pare_jax.prediction.detection import FollowingDetector, WholePicture, landmark_detector
from pare_jax.prediction.detection.landmark_detector import BlazePoseDetector, LandmarkFollower
from pare_jax.prediction.tracking import track_clip
from tests.keypoints.blazepose_fakes import FakeLiteRt, fake_network, picture_of

network = fake_network


def person(x, y=160.0, height=80.0):
    return (x, y), (x, y - height)


def test_detections_carry_the_keypoints(network, monkeypatch):
    monkeypatch.setattr(landmark_detector, "load_blazepose", lambda *_: network)
    detector = BlazePoseDetector()
    assert isinstance(detector, FollowingDetector)
    assert not isinstance(WholePicture(), FollowingDetector)
    (found,) = detector(picture_of(person(150.0)))
    np.testing.assert_array_equal(found.box, found.keypoints.box)
    assert found.score == found.keypoints.score
    assert BlazePoseDetector(0.999)(picture_of(person(150.0))) == []


def test_people_are_followed_and_keep_their_ids(network):
    follow = LandmarkFollower(network)
    # One walks, another appears later and leaves again.
    frames, calls = [], []
    for step in range(16):
        people = [person(60.0 + 8 * step)] + [person(330.0, 200.0)] * (4 < step < 13)
        FakeLiteRt.calls = 0
        frames.append(follow(picture_of(*people)))
        calls.append(FakeLiteRt.calls)
    counts = [len(found) for found in frames]
    assert counts[:5] == [1] * 5
    assert counts[10:13] == [2] * 3
    assert counts[13:] == [1] * 3
    # Most frames need the landmarks only.
    assert sorted(calls)[len(calls) // 2] <= 2
    tracks = track_clip(frames)
    walker = [one for tracked in tracks for one in tracked if one.id == 1]
    assert len(walker) == 16
    for step, one in enumerate(walker):
        np.testing.assert_allclose(one.keypoints.points[16, 0], 60 + 8 * step, atol=2)
    assert {one.id for tracked in tracks for one in tracked} == {1, 2}


def test_two_followers_that_meet_on_one_person_become_one(network):
    follow = LandmarkFollower(network)
    assert len(follow(picture_of(person(150.0), person(200.0)))) == 2
    assert len(follow(picture_of(person(175.0)))) == 1
