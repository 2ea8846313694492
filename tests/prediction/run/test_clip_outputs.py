"""Outputs of a clip: every file of every person, reruns and failures."""

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from pare_jax.body.model import load_body_model
from pare_jax.io.images import read_image
from pare_jax.io.media import Clip, FrameReader
from pare_jax.io.video import VideoWriter
from pare_jax.meshes.mesh import to_viewer
from pare_jax.prediction.person import read_people
from pare_jax.prediction.run import clips, track_files
from pare_jax.prediction.run import command as command_module
from pare_jax.prediction.scene import scene_translation
from pare_jax.prediction.tracking import given_tracks
from tests.meshes.glb_reader import Glb
from tests.prediction.predict_fakes import BLUE, box_about, make_predictor, photo_with_spots
from tests.prediction.run.folders import boxes_of_clip, save_clip

EVERYTHING = "--outputs=npz,json,overlay,attention,side,obj,ply,glb,vertices,page"


@pytest.fixture
def clip(tmp_path):
    """A clip of two people in twelve frames, and the option that says where they are."""
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"clip.mp4": boxes_of_clip(save_clip(path))}))
    return f"--boxes={boxes}", path


def about_track(output, number):
    return sorted(path.name for path in output.glob(f"clip_track_{number}*"))


def frames_of(path):
    capture = cv2.VideoCapture(path if isinstance(path, bytes) else str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, rate


def test_every_output_is_there_for_each_person(command, clip):
    status, printed, errors, output = command(EVERYTHING, *clip)
    assert (status, errors) == (0, [])
    for number in (1, 2):
        name = f"clip_track_{number}"
        endings = [".glb", ".json", ".npz", "_attention.jpg", "_obj", "_ply"]
        endings.append("_side.mp4")
        assert about_track(output, number) == sorted(name + ending for ending in endings)
        for kind in ("obj", "ply"):
            meshes = sorted(path.name for path in (output / f"{name}_{kind}").iterdir())
            assert meshes == [f"{frame:06}.{kind}" for frame in range(12)]
        frames, rate = frames_of(output / f"{name}_side.mp4")
        assert (len(frames), rate) == (12, 20)
    page = (output / "index.html").read_text()
    assert page.count("<summary>Attention, person") == 2
    assert page.count("<summary>From the person's left and from behind, person") == 2
    assert any("clip_track_2_ply/" in line for line in printed)


def test_meshes_and_the_animation_are_the_bodies_of_the_frames(command, clip):
    output = command("--outputs=npz,vertices,glb,obj", *clip)[3]
    track = read_people(output / "clip_track_1.npz")
    glb = Glb((output / "clip_track_1.glb").read_bytes())
    (node,) = [number for number, node in enumerate(glb.scene["nodes"]) if "skin" in node]
    (animation,) = glb.scene["animations"]
    clock = glb.accessor(animation["samplers"][0]["input"])[:, 0]
    for person, time in zip(track.people, clock, strict=True):
        in_scene = scene_translation(person, track.photo_size) - person.translation
        wanted = to_viewer(person.vertices + in_scene)
        # The free body has no pose correctives, so that its skin is all of it.
        np.testing.assert_allclose(glb.posed(node, float(time)), wanted, atol=2e-5)
        text = (output / "clip_track_1_obj" / f"{person.frame:06}.obj").read_text()
        lines = [line.split()[1:4] for line in text.splitlines() if line.startswith("v ")]
        np.testing.assert_allclose(np.array(lines, float), wanted, atol=1e-5)


def test_the_view_from_the_side_stays_at_one_scale(command, tmp_path):
    """A person who comes nearer fills the same crop, and the body stays as large in the video."""
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    sizes = [60 + 8 * number for number in range(6)]
    with VideoWriter(path, 10) as writer:
        for _ in sizes:
            writer.write(photo_with_spots((200.0, 150.0)))
    around = [[box_about(200, 150, size, 2 * size)] for size in sizes]
    boxes.write_text(json.dumps({"clip.mp4": around}))
    output = command("--outputs=side", f"--boxes={boxes}", path)[3]
    frames, _ = frames_of(output / "clip_track_1_side.mp4")
    drawn = [np.abs(frame[30:480].astype(int) - frame[-1, 0]).max(-1) > 40 for frame in frames]
    tops = [int(np.flatnonzero(rows.any(1))[0]) for rows in drawn]
    assert np.ptp(tops) <= 2
    assert np.ptp([rows.sum() for rows in drawn]) < 0.02 * drawn[0].sum()


def test_the_side_video_keeps_the_clips_clock_while_a_person_is_missing(command, clip, tmp_path):
    """A given id that is missing for longer than a gap is filled stands still meanwhile."""
    content = [
        {"image_id": frame, "bbox": [30.0, 40.0, 60, 100], "track_id": 9} for frame in (1, 2, 8, 9)
    ]
    boxes = tmp_path / "given.json"
    boxes.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "given_tracks", _with_short_gaps)
        output = command("--outputs=npz,side,obj", f"--boxes={boxes}", clip[1])[3]
    people = read_people(output / "clip_track_9.npz").people
    assert [person.frame for person in people] == [1, 2, 8, 9]
    assert len(list((output / "clip_track_9_obj").iterdir())) == 4
    with FrameReader(Clip(output / "clip_track_9_side.mp4")) as reader:
        times = [frame.time for frame in reader]
    np.testing.assert_allclose(times, np.array([0, 1, 7, 8]) / 20, atol=1e-4)


def _with_short_gaps(frames, settings, times):
    return given_tracks(frames, dataclasses.replace(settings, max_gap=0.15), times)


def test_the_sheet_shows_the_frame_with_most_of_the_person(command, tmp_path, monkeypatch):
    path, boxes = tmp_path / "walk.mp4", tmp_path / "walk.json"
    save_clip(path)
    around = [[60.0 + 4 * n, 40.0, 60.0, 100.0] for n in range(12)]
    around[3] = [0.0, -700.0, 100.0, 760.0]  # the largest, but little of it is in the picture
    around[7] = [48.0, 30.0, 80.0, 130.0]
    content = [{"image_id": n, "bbox": box, "track_id": 4} for n, box in enumerate(around)]
    boxes.write_text(json.dumps(content))
    shown = []
    draw = track_files.attention_picture
    monkeypatch.setattr(
        track_files,
        "attention_picture",
        lambda crop, person, *rest: shown.append(person.frame) or draw(crop, person, *rest),
    )
    assert command("--outputs=attention", f"--boxes={boxes}", path)[0] == 0
    assert shown == [7]


def test_a_network_without_attention_has_no_sheets_of_tracks(command, clip, monkeypatch):
    plain = make_predictor(load_body_model(), attention=False)
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: plain)
    status, _, errors, output = command("--outputs=json,attention", *clip)
    assert (status, errors) == (0, [])
    assert about_track(output, 1) == ["clip_track_1.json"]


def test_a_rerun_leaves_no_earlier_files_and_writes_missing_ones(command, clip, tmp_path):
    output = command("--outputs=obj,side,json", *clip)[3]
    folder = output / "clip_track_1_obj"
    (folder / "notes.txt").write_text("the user's own")
    # A mesh that somebody removed is written again.
    (folder / "000003.obj").unlink()
    for before in (False, True):
        printed = command("--outputs=obj,side,json", *clip)[1]
        assert (folder / "000003.obj").exists()
        assert any("1 by an earlier run" in line for line in printed) == before
    # With fewer frames and one person less, their files are removed.
    fewer = tmp_path / "fewer.json"
    around = [own[:1] for own in boxes_of_clip([(60.0 + 4 * n, 90.0) for n in range(5)])]
    fewer.write_text(json.dumps({"clip.mp4": around}))
    command("--outputs=obj,json", f"--boxes={fewer}", clip[1])
    assert about_track(output, 1) == ["clip_track_1.json", "clip_track_1_obj"]
    assert about_track(output, 2) == []
    meshes = sorted(path.name for path in folder.iterdir())
    assert meshes == [*(f"{frame:06}.obj" for frame in range(5)), "notes.txt"]
    command("--outputs=json", f"--boxes={fewer}", clip[1])
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_only_what_changes_a_clip_redoes_it(command, clip):
    for option, again in (("", True), ("--detector=whole", False), ("--nosmooth_shape", True)):
        printed = command("--outputs=json", *filter(None, [option]), *clip)[1]
        assert any("1 by an earlier run" in line for line in printed) != again, option


def test_meshes_that_cannot_be_written_leave_nothing_behind(command, clip, monkeypatch):
    def full(meshes, suffix):
        raise MemoryError

    monkeypatch.setattr(track_files, "mesh_bytes", full)
    status, _, errors, output = command("--outputs=json,obj", *clip)
    assert (status, len(errors)) == (2, 1)
    assert about_track(output, 1) == []


def test_a_drawing_that_fails_leaves_the_files_of_an_earlier_run(command, clip, monkeypatch):
    output = command("--outputs=npz,overlay,obj", *clip)[3]

    def files():
        paths = [path for path in output.rglob("*") if ".predictions" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in paths}

    def fail(*_):
        raise MemoryError

    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(clips, "draw_people", fail)
        status, _, errors, _ = command("--outputs=npz,overlay,obj,ply,json", *clip)
        assert (status, len(errors)) == (2, 1)
        assert files() == before
        # They are still done with the settings that made them.
        printed = command("--outputs=npz,overlay,obj", *clip)[1]
        assert any("1 by an earlier run" in line for line in printed)
    assert command("--outputs=npz,json", *clip)[0] == 0
    names = sorted(path.name for path in files())
    assert names == [f"clip_track_{n}.{kind}" for n in (1, 2) for kind in ("json", "npz")]


def test_boxes_that_were_given_have_no_score(command, clip, tmp_path):
    around = boxes_of_clip([(60.0 + 4 * n, 90.0) for n in range(12)])
    around[5] = around[5][:1]
    boxes = tmp_path / "gap.json"
    boxes.write_text(json.dumps({"clip.mp4": around}))
    output = command("--outputs=npz,json", f"--boxes={boxes}", clip[1])[3]
    # Between two sightings there is no box, which is known: 0.
    for number, wanted in ((1, [None] * 12), (2, [None] * 5 + [0.0] + [None] * 6)):
        people = read_people(output / f"clip_track_{number}.npz").people
        assert [person.score for person in people] == wanted
        described = json.loads((output / f"clip_track_{number}.json").read_text())["people"]
        assert [person["score"] for person in described] == wanted
        with np.load(output / f"clip_track_{number}.npz") as arrays:
            assert np.isnan(arrays["score"]).tolist() == [score is None for score in wanted]
        betas = [person.betas for person in people]
        assert np.isfinite(betas).all()


def test_given_ids_and_boxes_beyond_the_end(command, clip, tmp_path):
    places = boxes_of_clip([(60.0 + 4 * n, 90.0) for n in range(12)])
    # The two swap places, which no tracker would do.
    lines = []
    for frame, own in enumerate(places):
        for number, (x0, y0, x1, y1) in zip((5, 8) if frame < 6 else (8, 5), own, strict=True):
            lines.append(f"{frame + 1},{number},{x0},{y0},{x1 - x0},{y1 - y0},1,-1,-1,-1")
    lines.append("99,5,10,10,30,40,1,-1,-1,-1")
    boxes = tmp_path / "tracks.txt"
    boxes.write_text("\n".join(lines))
    status, _, errors, output = command("--outputs=npz", f"--boxes={boxes}", clip[1])
    assert (status, len(errors)) == (1, 1)
    assert "1 box " in errors[0]
    assert "frame 11" in errors[0]
    rows = [person.joints_2d[0, 1] for person in read_people(output / "clip_track_5.npz").people]
    assert (np.array(rows[:5]) < 150).all()
    assert (np.array(rows[7:]) > 150).all()
    assert (output / "clip_track_8.npz").exists()


def test_a_prediction_that_is_not_finite_leaves_that_person_out_of_that_frame(command, tmp_path):
    path, boxes = tmp_path / "clip.mp4", tmp_path / "boxes.json"
    places = [(60.0 + 4 * number, 90.0) for number in range(12)]
    with VideoWriter(path, 20) as writer:
        for number, (x, y) in enumerate(places):
            picture = photo_with_spots((x, y), (340.0 - x, y + 110.0))
            if number in (4, 5):
                blue = photo_with_spots((x, y + 30), colour=BLUE)
                picture = np.where((blue == BLUE).all(-1, keepdims=True), blue, picture)
            writer.write(picture)
    boxes.write_text(json.dumps({"clip.mp4": boxes_of_clip(places)}))
    status, printed, errors, output = command(
        "--outputs=npz,overlay,attention,side", f"--boxes={boxes}", path
    )
    assert (status, len(errors)) == (1, 1)
    assert "2 frames" in errors[0]
    assert "done: 1 clip with 2 people" in printed
    frames = [person.frame for person in read_people(output / "clip_track_1.npz").people]
    assert frames == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert len(read_people(output / "clip_track_2.npz").people) == 12
    assert read_image(output / "clip_track_1_attention.jpg").shape[2] == 3


def test_an_output_whose_name_is_not_utf8(command, clip, tmp_path):
    output = tmp_path / os.fsdecode(b"caf\xe9")
    status, printed, errors, _ = command(f"--output={output}", *clip)
    assert (status, errors) == (0, [])
    assert "done: 1 clip with 2 people" in printed
    frames, _ = frames_of(os.fsencode(output / "clip_overlay.mp4"))
    assert len(frames) == 12
    assert "clip.mp4" in (output / "index.html").read_text()
