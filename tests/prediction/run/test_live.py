"""A camera that runs for long: its video's clock, and the memory it takes."""

import gc
from types import SimpleNamespace

import cv2
import numpy as np

from pare_jax.io.media import Frame, Webcam
from pare_jax.prediction.run import live
from pare_jax.prediction.run.track_files import LargestView, LargestViews
from pare_jax.prediction.smoothing import MotionSmoother
from tests.prediction.predict_fakes import photo_with_spots
from tests.prediction.run.folders import make_run, spots_detector


def camera_of(pictures):
    """Return a reader of a camera whose user presses Ctrl-C after these pictures."""

    class Camera:
        size = (400, 300)

        def __init__(self, source):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            for number, picture in enumerate(pictures):
                yield Frame(number, number / 30, picture)
            raise KeyboardInterrupt

    return Camera


def test_a_picture_stays_until_the_next_one(predictor, tmp_path, monkeypatch):
    brightness = (0, 120, 255)
    pictures = [np.full((300, 400, 3), value, np.uint8) for value in brightness]
    # The camera begins at 0 s; its pictures come at 0, 0.5 and 0.51 s, the last two in one frame.
    clock = iter([0.0, 0.0, 0.5, 0.51])
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(live, "FrameReader", camera_of(pictures))
    run = make_run(predictor, tmp_path / "out", "overlay", clip_detector=lambda image: [])
    record = live.predict_webcam(run, Webcam(0), "camera")
    (name,) = record.files
    video = cv2.VideoCapture(str(run.folder.path / name))
    seen = []
    while (read := video.read())[0]:
        seen.append(float(read[1].mean()))
    np.testing.assert_allclose(seen, [0] * 8 + [120], atol=12)  # 0.5 s are 7.5 frames


def alive(kind):
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


def test_people_who_left_take_no_memory_but_numbers(predictor, tmp_path):
    run = make_run(predictor, tmp_path / "out", "attention", clip_detector=spots_detector)
    smoothers, views = alive(MotionSmoother), alive(LargestView)
    (tmp_path / "views").mkdir()
    tracks = live.LiveTracks(run, LargestViews(tmp_path / "views"))
    frame = 0
    for place in (80.0, 200.0, 320.0):  # one after the other
        for _ in range(3):
            tracks.predict(photo_with_spots((place, 150.0)), frame)
            frame += 1
        for _ in range(8):
            tracks.predict(photo_with_spots(), frame)
            frame += 1
    tracks.predict(photo_with_spots((200.0, 150.0)), frame)
    assert alive(MotionSmoother) - smoothers == 1
    assert alive(LargestView) == views
    for number in (1, 2, 3, 4):
        view = tracks.views.get(number)
        assert view is not None
        assert view["attention"].shape == (16, 16, 24)
    assert np.unique(tracks.rows()["id"]).tolist() == [1, 2, 3]  # the fourth was hardly seen
