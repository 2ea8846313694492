"""Clips as other programs make them: their times, pixels and boxes through the whole command."""

import json

import numpy as np
import pytest

from pare_jax.io.images import encode_png
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.page.entries import VideoEntry, entry_from_files
from pare_jax.prediction.person import read_people
from tests.ffmpeg import make_clip, times_shown
from tests.meshes.glb_reader import Glb
from tests.prediction.predict_fakes import box_about, photo_with_spots
from tests.prediction.run.folders import save_clip

# A telephone's frame rate falls in the dark.
TIMES = np.array([0.0, 0.04, 0.08, 0.12, 0.22, 0.32, 0.42])


@pytest.fixture
def varying(tmp_path):
    """A clip of one person with a varying frame rate, and the option that says where."""
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    with VideoWriter(path, 15) as writer:
        for number, time in enumerate(TIMES):
            writer.write(photo_with_spots((100.0 + 5 * number, 150.0)), time)
    around = [[box_about(100.0 + 5 * number, 150.0)] for number in range(len(TIMES))]
    boxes.write_text(json.dumps({"clip.mp4": around}))
    return f"--boxes={boxes}", path


def test_the_times_of_frames_are_in_every_output(command, varying):
    status, _, errors, output = command("--outputs=npz,json,overlay,side,glb,page", *varying)
    assert (status, errors) == (0, [])
    track = read_people(output / "clip_track_1.npz")
    np.testing.assert_allclose([person.time for person in track.people], TIMES, atol=1e-4)
    assert track.frame_rate == pytest.approx(6 / 0.42, rel=1e-3)
    with np.load(output / "clip_track_1.npz") as arrays:
        assert arrays["time"].dtype == np.float64
    described = json.loads((output / "clip_track_1.json").read_text())
    np.testing.assert_allclose([one["time"] for one in described["people"]], TIMES, atol=1e-4)
    assert described["frame_rate"] == pytest.approx(track.frame_rate, abs=1e-5)
    for video in ("clip_overlay.mp4", "clip_track_1_side.mp4"):
        np.testing.assert_allclose(times_shown(output / video), TIMES, atol=1e-3)
    glb = Glb((output / "clip_track_1.glb").read_bytes())
    (animation,) = glb.scene["animations"]
    for sampler in animation["samplers"]:
        np.testing.assert_allclose(glb.accessor(sampler["input"])[:, 0], TIMES, atol=1e-4)
    entry = entry_from_files(output, "clip")
    assert isinstance(entry, VideoEntry)
    # Seconds in frames of the mean rate, which the page's 3D view plays.
    page = (output / "index.html").read_text()
    run = json.loads(page.split('<script type="application/json" id="run">')[1].split("<")[0])
    (scene,) = run["scenes"]
    np.testing.assert_allclose(np.array(scene["frames"]) / scene["rate"], TIMES, atol=1e-3)


def test_a_clips_json_names_the_clip_and_no_folder(command, varying, tmp_path):
    output = command("--outputs=json", *varying)[3]
    text = (output / "clip_track_1.json").read_text()
    described = json.loads(text)
    assert described["clip"] == "clip.mp4"
    assert "photo" not in described
    assert str(tmp_path) not in text


def test_scores_in_json_are_rounded(command, varying, tmp_path):
    content = [{"image_id": n, "bbox": [70, 80, 60, 120], "score": 0.87654321987} for n in range(7)]
    boxes = tmp_path / "scored.json"
    boxes.write_text(json.dumps(content))
    output = command("--outputs=json", f"--boxes={boxes}", varying[1])[3]
    people = json.loads((output / "clip_track_1.json").read_text())["people"]
    assert {one["score"] for one in people} == {0.8765}


def test_pixels_that_are_not_square_become_square(command, tmp_path):
    codec = ("-vf", "hue=s=0,scale=60:80,setsar=2/1", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    clip = make_clip(tmp_path / "dv.mp4", *codec, seconds=0.16)
    status, _, errors, output = command("--outputs=npz,overlay", clip)
    assert (status, errors) == (0, [])
    track = read_people(output / "dv_track_1.npz")
    assert track.photo_size == (120, 80)
    np.testing.assert_allclose(track.people[0].box, [0, 0, 120, 80])


@pytest.mark.parametrize("step", [1, 4, 12])
def test_sparse_boxes_are_all_used(command, tmp_path, step):
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    places = save_clip(path, frames=25)
    around = [
        [box_about(x, y, 60, 100)] if n % step == 0 else [] for n, (x, y) in enumerate(places)
    ]
    boxes.write_text(json.dumps({"clip.mp4": around}))
    status, printed, errors, output = command("--outputs=npz", f"--boxes={boxes}", path)
    assert (status, errors) == (0, [])
    assert "done: 1 clip with 1 person" in printed
    people = read_people(output / "clip_track_1.npz").people
    last = max(range(0, 25, step))
    assert [person.frame for person in people] == list(range(last + 1))
    assert [person.score is None for person in people] == [n % step == 0 for n in range(last + 1)]


def test_given_boxes_that_are_not_used_are_said(command, tmp_path):
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    save_clip(path)
    unsure = [{"image_id": n, "bbox": [200, 100, 60, 100], "score": 0.3} for n in range(12)]
    sure = [{"image_id": n, "bbox": [30, 40, 60, 100], "score": 0.9} for n in (3, 4)]
    boxes.write_text(json.dumps(unsure + sure))
    status, printed, (note,), _ = command("--outputs=json", f"--boxes={boxes}", path)
    assert status == 0
    assert "done: 1 clip with 1 person" in printed
    assert "clip.mp4" in note
    assert "12 of 14 " in note


def test_a_folder_of_frames_is_a_clip(command, tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in range(8, 13):  # 9 comes before 10
        picture = photo_with_spots((100.0 + 5 * number, 150.0))
        (folder / f"f{number}.png").write_bytes(encode_png(picture))
    arguments = "--outputs=npz,overlay,page", f"--clip={folder}", "--fps=10"
    status, printed, errors, output = command(*arguments)
    assert (status, errors) == (0, [])
    assert "done: 1 clip with 1 person" in printed
    track = read_people(output / "walk_track_1.npz")
    assert track.frame_rate == 10
    np.testing.assert_allclose([person.time for person in track.people], np.arange(5) / 10)
    places = [person.joints_2d[0, 0] for person in track.people]
    assert (np.diff(places) > 0).all()
    np.testing.assert_allclose(times_shown(output / "walk_overlay.mp4"), np.arange(5) / 10)
    assert any("1 by an earlier run" in line for line in command(*arguments)[1])
    # Another rate or another frame makes another clip.
    for change in ("--fps=20", "--fps=10"):
        (folder / "f13.png").write_bytes((folder / "f12.png").read_bytes())
        printed = command(*arguments[:2], change)[1]
        assert not any("by an earlier run" in line for line in printed)


def test_a_clip_with_the_wrong_options_is_refused_in_one_line(command, tmp_path):
    (tmp_path / "frames").mkdir()
    for arguments in ([f"--clip={tmp_path / 'frames'}"], ["--fps=25", "photo.jpg"]):
        status, _, errors, _ = command(*arguments)
        assert (status, len(errors)) == (2, 1)
        assert "--fps" in errors[0]
    status, _, errors, _ = command(f"--clip={tmp_path / 'misspelt'}", "--fps=25")
    assert (status, len(errors)) == (2, 1)
    assert "misspelt" in errors[0]


@pytest.mark.parametrize("rate", [0.01, 100_000])
def test_clips_of_any_frame_rate_are_predicted(command, tmp_path, rate):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, rate) as writer:
        for number in range(4):
            writer.write(photo_with_spots((100.0 + number, 150.0)))
    status, _, errors, output = command("--outputs=npz,overlay,side,glb", path)
    assert (status, errors) == (0, [])
    times = [person.time for person in read_people(output / "clip_track_1.npz").people]
    np.testing.assert_allclose(times, np.arange(4) / rate)
    np.testing.assert_allclose(times_shown(output / "clip_overlay.mp4"), times, rtol=1e-3)
