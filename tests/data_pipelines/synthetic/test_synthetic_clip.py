"""The drawn clip: its pictures, labels and movement."""

import numpy as np
import pytest

from data_pipelines.synthetic.clip import ClipSettings, draw_clip, walking_angles

SMALL = ClipSettings(width=240, height=136, frame_rate=5.0, mesh="coarse")


@pytest.fixture(scope="module")
def clip():
    return list(draw_clip(SMALL))


def test_same_settings_give_the_same_clip(clip):
    again = next(draw_clip(SMALL))
    np.testing.assert_array_equal(again.image, clip[0].image)
    np.testing.assert_array_equal(again.joints_3d, clip[0].joints_3d)
    other = next(draw_clip(ClipSettings(**{**vars(SMALL), "seed": 1})))
    assert not np.array_equal(other.image, clip[0].image)


def test_people_cross_behind_the_post(clip):
    assert len(clip) == SMALL.num_frames == 20
    places = np.stack([frame.translations for frame in clip])
    assert places[0, 0, 0] < places[0, 1, 0]
    assert places[-1, 0, 0] > places[-1, 1, 0]
    seen = np.stack([frame.seen for frame in clip])
    assert (seen[0] > 0.99).all()
    assert (seen[-1] > 0.99).all()
    assert (seen.max(1) < 0.2).any()  # both are hidden at once
    speeds = np.abs(np.diff(places[..., 0], axis=0)) * SMALL.frame_rate
    np.testing.assert_allclose(speeds, SMALL.speed)


def test_boxes_and_joints_lie_where_the_picture_shows_people(clip):
    frame = clip[0]
    empty = np.median(
        [other.image for other in clip], axis=0
    )  # people move, the background does not
    is_person = np.abs(frame.image.astype(float) - empty).max(-1) > 4
    for box, joints in zip(frame.boxes, frame.joints_2d, strict=True):
        x0, y0, x1, y1 = np.rint(box).astype(int)
        assert is_person[y0:y1, x0:x1].mean() > 0.2
        assert (joints >= box[:2] - 1).all()
        assert (joints <= box[2:] + 1).all()
        is_person[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False
    assert is_person.mean() < 0.002
    projected = frame.joints_3d[..., :2] / frame.joints_3d[..., 2:] * SMALL.focal_length
    np.testing.assert_allclose(frame.joints_2d, projected + np.array([120, 68]), atol=1e-9)


def test_a_foot_is_always_on_the_floor_and_nothing_jumps(clip):
    lowest = [frame.joints_3d[:, [7, 8, 10, 11], 1].max(1) for frame in clip]
    np.testing.assert_allclose(lowest, np.full((20, 2), 1.24), atol=1e-6)
    phases = np.linspace(0, 2 * np.pi, 200)
    angles = np.stack([walking_angles(phase) for phase in phases])
    assert np.abs(np.diff(angles, axis=0)).max() < 3.0  # degrees, in steps of 1.8 degrees of phase
    np.testing.assert_allclose(angles[0], angles[-1], atol=1e-9)
