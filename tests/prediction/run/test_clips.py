"""Whole runs over clips and cameras: interruptions and wrong inputs."""

import dataclasses
import json
import os
import re
import time

import cv2
import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.io.media import Frame, FrameReader
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.person import read_people
from pare_jax.prediction.run import clips, live, tracks
from pare_jax.prediction.run import command as command_module
from pare_jax.prediction.run.output_folder import OutputFolder
from pare_jax.prediction.tracking import TrackSettings
from tests.prediction.predict_fakes import box_about, photo_with_spots
from tests.prediction.run.folders import boxes_of_clip, save_clip, spots_detector


@pytest.mark.parametrize("given", [True, False])
def test_a_clip_becomes_tracks_and_a_video(command, tmp_path, given, monkeypatch):
    clip = tmp_path / "clip.mp4"
    places = save_clip(clip)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.mp4": boxes_of_clip(places)}))
    arguments = [f"--boxes={boxes}"] if given else []
    if not given:
        monkeypatch.setattr(command_module, "make_detector", lambda name, threshold: spots_detector)
    status, printed, errors, output = command(
        "--outputs=npz,json,overlay,glb,page", *arguments, clip
    )
    assert (status, errors) == (0, [])
    assert "done: 1 clip with 2 people" in printed
    for number, turn in ((1, 1), (2, -1)):
        track = read_people(output / f"clip_track_{number}.npz")
        assert track.frame_rate == 20
        assert track.photo_size == (400, 300)
        assert [person.frame for person in track.people] == list(range(12))
        assert {person.id for person in track.people} == {number}
        walked = np.diff([person.joints_2d[0, 0] for person in track.people])
        assert (np.sign(walked[2:]) == turn).all()
        assert np.ptp([person.betas for person in track.people], axis=0).max() < 1e-5
        assert (output / f"clip_track_{number}.glb").read_bytes().startswith(b"glTF")
    (video,) = output.glob("clip_overlay.*")
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert not list((output / ".predictions").glob("unfinished-*"))
    assert '<article class="card"' in (output / "index.html").read_text()


def test_a_clip_that_was_stopped_is_predicted_again(command, stopped_after, tmp_path):
    clip = tmp_path / "clip.mp4"
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.mp4": boxes_of_clip(save_clip(clip))}))
    arguments = "--outputs=npz,attention", f"--boxes={boxes}", clip
    whole = tmp_path / "whole"
    command(f"--output={whole}", *arguments)
    with stopped_after(16):
        assert command(*arguments)[0] == 130
    assert not list((tmp_path / "out").glob("clip*"))
    status, _, errors, output = command(*arguments)
    assert (status, errors) == (0, [])
    for number in (1, 2):
        sheet = f"clip_track_{number}_attention.jpg"
        assert (output / sheet).read_bytes() == (whole / sheet).read_bytes()
        one, other = (
            read_people(folder / f"clip_track_{number}.npz").people for folder in (whole, output)
        )
        for before, after in zip(one, other, strict=True):
            np.testing.assert_allclose(before.joints_3d, after.joints_3d, atol=1e-4)


def test_smoothing_has_its_switches(command, tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    shaken = [(60.0 + 4 * n + 5 * (-1) ** n, 90.0) for n in range(12)]
    with VideoWriter(clip, 20) as writer:
        for place in shaken:
            writer.write(photo_with_spots(place))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.mp4": [[box_about(*place, 60, 100)] for place in shaken]}))
    used = []

    def smooth_rows(rows, smoothing):
        used.append((smoothing.rotations, smoothing.shape, smoothing.camera))
        return tracks.smooth_rows(rows, smoothing)

    monkeypatch.setattr(clips, "smooth_rows", smooth_rows)

    def jitter(*switches):
        folder = tmp_path / "-".join(["run", *switches])
        command(f"--output={folder}", "--outputs=npz", *switches, f"--boxes={boxes}", clip)
        people = read_people(folder / "clip_track_1.npz").people
        return np.abs(np.diff([person.joints_2d[0, 0] for person in people], n=2)).mean()

    steady = jitter()
    assert steady < 0.7 * jitter("--nosmooth_camera")
    jitter("--nosmooth_rotations", "--nosmooth_shape")
    assert used == [(True, True, True), (True, True, False), (False, False, True)]


def test_frames_that_change_their_size_are_drawn_in_the_first_size(command, tmp_path, monkeypatch):
    class Changing(FrameReader):
        def __iter__(self):
            for frame in super().__iter__():
                small = frame.image[:200, :300] if frame.number > 1 else frame.image
                yield dataclasses.replace(frame, image=small)

    monkeypatch.setattr(clips, "FrameReader", Changing)
    clip = tmp_path / "clip.mp4"
    save_clip(clip, frames=4)
    status, _, errors, output = command("--outputs=overlay", clip)
    assert (status, errors) == (0, [])
    (video,) = output.glob("clip_overlay.*")
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 400


def test_a_clip_whose_name_is_not_utf8(command, tmp_path):
    save_clip(tmp_path / "clip.mp4", frames=4)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    os.rename(tmp_path / "clip.mp4", odd)
    status, _, errors, output = command("--outputs=npz,overlay,page", odd)
    assert (status, errors) == (0, [])
    assert len(list(output.glob("caf\ufffd_overlay.*"))) == 1
    assert ">caf\ufffd.mp4</h2>" in (output / "index.html").read_text()


def test_a_clip_with_nobody_is_on_the_page(command, tmp_path, monkeypatch):
    monkeypatch.setattr(command_module, "make_detector", lambda name, threshold: lambda image: [])
    clip = tmp_path / "clip.mp4"
    save_clip(clip, frames=4)
    status, _, errors, output = command("--outputs=npz,page", clip)
    assert (status, errors) == (0, [])
    page = (output / "index.html").read_text()
    assert ">clip.mp4</h2>" in page
    assert "Nobody was found." in page


def test_clips_that_are_broken_do_not_stop_the_others(command, tmp_path):
    good = tmp_path / "good.mp4"
    save_clip(good)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[: len(good.read_bytes()) // 2])
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    paths = [text, empty, cut, tmp_path / "missing.mp4", good]
    status, printed, errors, output = command("--outputs=npz,overlay,page", *paths)
    assert status == 1
    assert any("clip" in line and "done:" in line for line in printed)
    for path in (text, empty, tmp_path / "missing.mp4"):
        (line,) = [line for line in errors if path.name in line]
        assert line.startswith("error: ")
    assert (output / "good_track_1.npz").exists()
    page = (output / "index.html").read_text()
    assert "missing.mp4" in page
    assert printed.count("failed: " + str(len(errors))) == 1


def test_boxes_of_clips_are_lists_for_each_frame(command, tmp_path):
    clip = tmp_path / "clip.mp4"
    save_clip(clip, frames=4)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.mp4": [[1, 2, 30, 40]]}))
    status, _, errors, _ = command(f"--boxes={boxes}", clip)
    assert (status, len(errors)) == (2, 1)
    assert "clip.mp4" in errors[0]
    bad = [[box_about(60, 90), (10, 10, 10, 40)]] * 4
    boxes.write_text(json.dumps({"clip.mp4": bad}))
    status, printed, errors, _ = command("--outputs=npz", f"--boxes={boxes}", clip)
    assert (status, len(errors)) == (1, 1)
    assert "4 boxes " in errors[0]
    assert "done: 1 clip with 1 person" in printed


# Cameras.


class _Camera:
    """A camera whose user presses Ctrl-C after some frames."""

    size = (400, 300)

    def __init__(self, source):
        if source.index:
            raise UserError(f"{source} cannot be opened")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for number in range(6):
            time.sleep(0.08)
            yield Frame(number, number / 30, photo_with_spots((100.0 + 4 * number, 150.0)))
        raise KeyboardInterrupt


class _ten_frames(TrackSettings):
    def __init__(self, **settings):
        super().__init__(min_length=30, **settings)


def test_a_camera_is_followed_until_ctrl_c(command, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "FrameReader", _Camera)
    monkeypatch.setattr(command_module, "make_detector", lambda name, threshold: spots_detector)
    status, printed, errors, output = command("webcam:0", "webcam:7")
    assert status == 1
    assert len(errors) == 1
    assert "webcam:7" in errors[0]
    assert "done: 1 clip with 1 person" in printed
    (recording,) = [record.name for record in OutputFolder(output)]
    assert re.fullmatch(r"webcam0_\d{8}_\d{6}", recording)
    people = read_people(output / f"{recording}_track_1.npz").people
    assert 3 <= len(people) <= 6
    assert (np.diff([person.frame for person in people]) > 0).all()
    assert np.ptp([person.betas for person in people], axis=0).max() == 0
    assert len(list(output.glob(f"{recording}_overlay.*"))) == 1
    # A camera's people have the same outputs as a clip's.
    monkeypatch.setattr(command_module.time, "strftime", lambda _: "20290101_000000")
    arguments = "--outputs=attention,side,obj", f"--output={tmp_path / 'more'}", "webcam:0"
    assert command(*arguments)[0] == 0
    endings = {path.name.split("_track_1_")[1] for path in (tmp_path / "more").glob("webcam0*_1_*")}
    assert endings == {"attention.jpg", "side.mp4", "obj"}
    # A later recording has another name; people seen in too few frames are left out.
    monkeypatch.setattr(command_module, "TrackSettings", _ten_frames)
    monkeypatch.setattr(command_module.time, "strftime", lambda _: "20300101_000000")
    assert command("webcam:0")[0] == 0
    names = {path.name.split("_track")[0] for path in output.glob("*_track_1.npz")}
    assert names == {recording}
    assert len(OutputFolder(output)) == 2
