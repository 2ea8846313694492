"""Whole runs of the command: interruptions, clips, cameras, and whatever is wrong as input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.images import encode_png, read_image
from pare_jax.people import read_people
from pare_jax.predicting import command as command_module
from pare_jax.predicting import live
from pare_jax.sources import Frame
from pare_jax.video import VideoWriter
from tests.predict_fakes import box_about, make_predictor, photo_with_spots

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(load_body_model())


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Runs the command: exit status, lines on stdout, lines on stderr, the output folder."""
    monkeypatch.setattr(command_module, "load_predictor", lambda path, weights: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        argv = ["predict", "--checkpoint=run", f"--output={output}", "--detector=whole"]
        status = predict.main([*argv, *map(str, arguments)])
        printed = capsys.readouterr()
        # How far a slow machine is, is said now and then.
        errors = [line for line in printed.err.splitlines() if not line.endswith(" left")]
        return status, printed.out.splitlines(), errors, output

    return run


def save_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        picture = photo_with_spots((60.0 + number, 90.0), height=160, width=120)
        (folder / f"p{number:02}.png").write_bytes(encode_png(picture))
    return folder


def save_clip(path: Path, frames: int = 12, speed: float = 4.0) -> list[tuple[float, float]]:
    """Two people who walk towards each other on two heights; returns the first one's places."""
    places = [(60.0 + speed * number, 90.0) for number in range(frames)]
    with VideoWriter(path, 20) as writer:
        for x, y in places:
            writer.write(photo_with_spots((x, y), (340.0 - x, y + 110.0)))
    return places


def boxes_of_clip(places) -> list[list[tuple[float, ...]]]:
    return [[box_about(x, y, 60, 100), box_about(340.0 - x, y + 110.0, 60, 100)] for x, y in places]


def stamps(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.glob("p*")}


_KILLED = """
import sys
from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.predicting import command, photos
from tests.predict_fakes import make_predictor
predictor = make_predictor(load_body_model())
command.load_predictor = lambda path, weights: predictor
photos._UNDER_WAY = 4
sys.exit(predict.main(["predict", *sys.argv[1:]]))
"""


def test_a_killed_run_goes_on_and_does_nothing_twice(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 24)
    (folder / "broken.jpg").write_text("not a picture")
    output = tmp_path / "out"
    arguments = ["--checkpoint=run", f"--output={output}", "--detector=whole", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = output / ".predictions"
    while process.poll() is None and len(list(records.glob("p*.json"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.stem for path in records.glob("p*.json")}
    assert 5 <= len(done) < 24
    before = {name: time_ for name, time_ in stamps(output).items() if name[:3] in done}
    assert not (output / "index.html").exists()

    status, printed, errors, _ = command(folder)
    assert status == 1
    assert len(errors) == 1
    assert "broken.jpg" in errors[0]
    assert {name: stamps(output)[name] for name in before} == before
    assert len(list(output.glob("p*.npz"))) == 24
    told = [line for line in printed if " -> " in line]
    assert len(told) == 24 - len(done)
    assert f"done: 24 photographs with 24 people ({len(done)} of them before)" in printed
    page = (output / "index.html").read_text()
    assert page.count('<article class="card"') == 24
    assert "broken.jpg" in page
    # Files that were being written when it was killed do not stay for long.
    assert {path.name[:3] for path in output.glob("p*")} == {f"p{n:02}" for n in range(24)}


def test_what_changed_is_done_again_and_nothing_else(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 3)
    output = command(folder)[3]
    first = stamps(output)
    assert any("3 of them before" in line for line in command(folder)[1])
    assert stamps(output) == first
    changed = photo_with_spots((30.0, 90.0), height=170, width=130)
    (folder / "p01.png").write_bytes(encode_png(changed))
    command(folder)
    again = {name for name, stamp in stamps(output).items() if first[name] != stamp}
    assert {name[:3] for name in again} == {"p01"}
    # Other outputs are another wish; what is no longer wanted goes.
    command("--outputs=json,glb", folder)
    assert sorted(stamps(output)) == [f"p{n:02}.{end}" for n in range(3) for end in ("glb", "json")]
    # A file that somebody removed is written again.
    (output / "p00.glb").unlink()
    command("--outputs=json,glb", folder)
    assert (output / "p00.glb").exists()


def test_outputs_among_the_photographs_are_not_photographs(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    for _ in range(2):
        status, printed, errors, _ = command(f"--output={folder}", folder)
        assert (status, errors) == (0, [])
        assert any(line.startswith("done: 2 photographs with 2 people") for line in printed)


def test_ctrl_c_leaves_what_is_done(command, predictor, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 20)
    calls = []
    start = predictor.start

    def interrupted(crops, pad_to=0):
        calls.append(len(crops))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return start(crops, pad_to)

    monkeypatch.setattr(predictor, "start", interrupted)
    status, _, errors, output = command(folder)
    assert status == 130
    assert errors == ["interrupted: run the same command again, and it goes on from here"]
    monkeypatch.setattr(predictor, "start", start)
    assert command(folder)[0] == 0
    assert len(list(output.glob("p*.npz"))) == 20


def test_nobody_in_a_photograph_is_said_and_no_failure(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    status, printed, errors, output = command("--detector=hog", folder)
    assert (status, errors) == (0, [])
    assert any("no person found ->" in line for line in printed)
    assert any(
        line.startswith("no person found in 1: ") and "hog misses" in line for line in printed
    )
    assert "Nobody was found" in (output / "index.html").read_text()


def test_each_output_has_its_switch(command, tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode_png(photo_with_spots((100.0, 150.0), (300.0, 150.0))))
    boxes = ["--boxes=" + ",".join(map(str, box_about(x, 150))) for x in (100.0, 300.0)]
    for output, files in (
        ("npz", ["a.npz"]),
        ("json", ["a.json"]),
        ("overlay", ["a_overlay.jpg"]),
        ("attention", ["a_attention_0.jpg", "a_attention_1.jpg"]),
        ("side", ["a_side.jpg"]),
        ("obj", ["a.obj"]),
        ("ply", ["a.ply"]),
        ("glb", ["a.glb"]),
        ("npz,page", ["a.npz", "index.html"]),
    ):
        folder = tmp_path / output
        assert command(f"--output={folder}", f"--outputs={output}", *boxes, photo)[0] == 0
        assert sorted(path.name for path in folder.iterdir() if path.suffix) == files
    for wrong, reason in (("png", "none of"), ("page", "needs npz"), ("", "nothing to write")):
        status, _, errors, _ = command(f"--outputs={wrong}", photo)
        assert (status, len(errors)) == (2, 1)
        assert reason in errors[0]


# Clips.


@pytest.mark.parametrize("given", [True, False])
def test_a_clip_becomes_tracks_and_a_video(command, tmp_path, given, monkeypatch):
    clip = tmp_path / "clip.webm"
    places = save_clip(clip)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.webm": boxes_of_clip(places)}))
    arguments = [f"--boxes={boxes}"] if given else []
    if not given:
        monkeypatch.setattr(command_module, "make_detector", lambda name, threshold: _spots)
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
    assert not list((output / ".predictions").glob("clip-*"))
    assert '<article class="card"' in (output / "index.html").read_text()


def _spots(image):
    """Detections of the red discs."""
    from pare_jax.detection import Detection

    red = (image[..., 0].astype(int) - image[..., 1] > 100).astype(np.uint8)
    count, _, _, centres = cv2.connectedComponentsWithStats(red)
    boxes = [np.array(box_about(*centres[n], 60, 100)) for n in range(1, count)]
    return [Detection(box, 0.9) for box in boxes]


def test_a_clip_goes_on_where_it_was_stopped(command, predictor, tmp_path, monkeypatch):
    from pare_jax.predicting import chunks, clips

    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(clips, "CHUNK", 4)
    clip = tmp_path / "clip.webm"
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.webm": boxes_of_clip(save_clip(clip))}))
    command(f"--output={tmp_path / 'whole'}", f"--boxes={boxes}", clip)
    start, crops = predictor.start, []

    def killed(batch, pad_to=0):
        crops.append(len(batch))
        if sum(crops) > 16:
            raise KeyboardInterrupt
        return start(batch, pad_to)

    monkeypatch.setattr(predictor, "start", killed)
    assert command(f"--boxes={boxes}", clip)[0] == 130
    kept = list((tmp_path / "out" / ".predictions").glob("clip-*/people_*.npz"))
    assert len(kept) == 2
    crops.clear()
    monkeypatch.setattr(
        predictor, "start", lambda batch, pad_to=0: crops.append(len(batch)) or start(batch, pad_to)
    )
    status, _, _, output = command(f"--boxes={boxes}", clip)
    assert status == 0
    assert sum(crops) == 8  # two people in the four frames that were left
    for number in (1, 2):
        one, other = (
            read_people(folder / f"clip_track_{number}.npz").people
            for folder in (tmp_path / "whole", output)
        )
        for before, after in zip(one, other, strict=True):
            np.testing.assert_allclose(before.joints_3d, after.joints_3d, atol=1e-4)


def test_smoothing_has_its_switches(command, tmp_path):
    clip = tmp_path / "clip.webm"
    places = save_clip(clip)
    shaken = boxes_of_clip([(x + 9 * (-1) ** n, y) for n, (x, y) in enumerate(places)])
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.webm": shaken}))

    def jitter(*switches):
        folder = tmp_path / "-".join(["run", *switches])
        command(f"--output={folder}", "--outputs=npz", *switches, f"--boxes={boxes}", clip)
        people = read_people(folder / "clip_track_1.npz").people
        # Where the body stands, by a camera that all frames share.
        sizes = [person.focal_length / person.translation[2] for person in people]
        return np.abs(np.diff(sizes, n=2)).mean(), people

    _, steady = jitter()
    raw, people = jitter("--nosmooth_camera")
    assert raw >= 0
    assert any(
        np.abs(a.translation - b.translation).max() > 1e-4
        for a, b in zip(steady, people, strict=True)
    )


def test_clips_that_are_broken_do_not_stop_the_others(command, tmp_path):
    good = tmp_path / "good.webm"
    save_clip(good)
    cut = tmp_path / "cut.webm"
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
    assert printed.count("could not be done: " + str(len(errors))) == 1


def test_boxes_of_clips_are_lists_for_each_frame(command, tmp_path):
    clip = tmp_path / "clip.webm"
    save_clip(clip, frames=4)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.webm": [[1, 2, 30, 40]]}))
    status, _, errors, _ = command(f"--boxes={boxes}", clip)
    assert (status, len(errors)) == (2, 1)
    assert "for each of its frames" in errors[0]
    bad = [[box_about(60, 90), (10, 10, 10, 40)]] * 4
    boxes.write_text(json.dumps({"clip.webm": bad}))
    status, printed, errors, _ = command("--outputs=npz", f"--boxes={boxes}", clip)
    assert (status, len(errors)) == (1, 1)
    assert "4 boxes cannot be used" in errors[0]
    assert "done: 1 clip with 1 person" in printed


# Cameras.


class _Camera:
    """Stands in for a camera whose user presses Ctrl-C after some frames."""

    size = (400, 300)

    def __init__(self, source, start=0):
        if source.index:
            raise UserError(f"there is no camera {source.index} on this machine; try webcam:0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for number in range(6):
            time.sleep(0.08)
            yield Frame(number, number / 30, photo_with_spots((100.0 + 4 * number, 150.0)))
        raise KeyboardInterrupt


def test_a_camera_is_followed_until_ctrl_c(command, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "FrameReader", _Camera)
    monkeypatch.setattr(command_module, "make_detector", lambda name, threshold: _spots)
    status, printed, errors, output = command("webcam:0", "webcam:7")
    assert status == 1
    assert len(errors) == 1
    assert "no camera 7" in errors[0]
    assert "done: 1 clip with 1 person" in printed
    people = read_people(output / "webcam0_track_1.npz").people
    assert 3 <= len(people) <= 6
    assert (np.diff([person.frame for person in people]) > 0).all()
    assert len(list(output.glob("webcam0_overlay.*"))) == 1


# Pictures and detectors that are not as they should be.


def test_pictures_of_every_kind(command, tmp_path):
    spot = photo_with_spots((200.0, 150.0))
    kinds = {}
    Image.fromarray(spot).convert("CMYK").save(tmp_path / "cmyk.jpg")
    deep = (spot[..., 0].astype(np.uint16)) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    frames = [Image.fromarray(spot), Image.fromarray(255 - spot)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(encode_png(spot)[:900])
    Image.new("L", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.new("L", (20_000, 12_000)).save(tmp_path / "huge.jpg", quality=30)
    status, printed, errors, output = command("--outputs=npz,json,overlay", tmp_path)
    assert status == 1
    kinds = {path.stem for path in output.glob("*.npz")}
    assert kinds == {"cmyk", "deep", "moving", "small", "huge"}
    assert {line.split(": ")[1].split("/")[-1].split(" ")[0] for line in errors} == {
        "empty.jpg",
        "cut.png",
        "huge.png",
    }
    assert all(line.startswith("error: ") for line in errors)
    # A huge JPEG is read reduced, and told of in its file's own pixels.
    huge = read_people(output / "huge.npz")
    assert huge.photo_size == (20_000, 12_000)
    np.testing.assert_allclose(huge.people[0].box, (0, 0, 20_000, 12_000), rtol=1e-3)
    assert max(read_image(output / "huge_overlay.jpg").shape[:2]) < 2400
    assert "could not be done: 3" in printed
    assert f"  {tmp_path / 'empty.jpg'}: is empty; expected an image" in printed


def test_an_onnx_file_that_is_no_detector(command, tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode_png(photo_with_spots()))
    broken = tmp_path / "broken.onnx"
    broken.write_text("hello")
    for detector, reason in (
        (broken, "broken.onnx"),
        (tmp_path / "none.onnx", "none.onnx"),
        ("yolo", "unknown detector"),
    ):
        status, _, errors, output = command(f"--detector={detector}", photo)
        assert (status, len(errors)) == (2, 1)
        assert reason in errors[0]
        assert not output.exists()
