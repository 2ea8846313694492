"""Inputs of a run: missing files, files that runs wrote, and boxes beside detectors."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from pare_jax import predict
from pare_jax.io import media as sources_module
from pare_jax.io.images import encode_png
from pare_jax.prediction.run import command as command_module
from pare_jax.prediction.run.output_folder import OutputFolder
from tests.prediction.predict_fakes import box_about, photo_with_spots
from tests.prediction.run.folders import save_photos, spots_detector, stamps

SPOT = photo_with_spots((200.0, 150.0))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(SPOT))
    return path


def summary(printed):
    return printed[[line.startswith("done: ") for line in printed].index(True) :]


# Files that runs wrote.


@pytest.mark.parametrize("way", ["folder", "pattern", "named"])
def test_files_of_another_run_are_skipped_with_a_note(command, tmp_path, way):
    folder = save_photos(tmp_path / "photos", 2)
    inside = folder / "found"
    assert command(f"--output={inside}", folder)[0] == 0
    # The user's own pictures beside them are photographs.
    (inside / "own.png").write_bytes(encode_png(SPOT))
    named = {
        "folder": [folder, inside],
        "pattern": [folder / "**" / "*.[pj][np]g"],
        "named": [*sorted(folder.glob("*.png")), *sorted(inside.glob("*.jpg")), inside / "own.png"],
    }[way]
    status, printed, errors, _ = command(*named)
    assert (status, len(errors)) == (0, 1)
    assert errors[0].startswith("note: 4 files ")
    assert str(inside / "p00_overlay.jpg") in errors[0]
    assert summary(printed) == ["done: 3 photographs with 3 people"]


def test_only_files_of_a_run_are_one_line(command, tmp_path):
    inside = tmp_path / "found"
    command(f"--output={inside}", save_photos(tmp_path / "photos", 1))
    for output in (tmp_path / "out", inside):
        status, _, errors, _ = command(f"--output={output}", inside)
        assert (status, len(errors)) == (2, 1)
        assert str(inside) in errors[0]


def test_a_photograph_is_done_once_however_often_it_is_named(command, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 2)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    named = [folder, tmp_path / "link" / "p00.png", "link", "photos/p01.png", "photos/../link"]
    for before in ("", " (2 by an earlier run)"):
        status, printed, errors, output = command(*named, "photos/no.png", "link/no.png")
        assert (status, len(errors)) == (1, 1)
        assert summary(printed)[0] == f"done: 2 photographs with 2 people{before}"
        assert sorted(path.name for path in output.glob("*.npz")) == ["p00.npz", "p01.npz"]


# Missing inputs.


def test_missing_inputs_do_not_stop_the_others(command, tmp_path, photo):
    (tmp_path / "empty").mkdir()
    missing = [tmp_path / "x*.jpg", tmp_path / "empty", tmp_path / "no.jpg", tmp_path / "no.mp4"]
    status, printed, errors, output = command(*missing, photo, "webcam:x")
    assert status == 1
    assert summary(printed)[:2] == ["done: 1 photograph with 1 person", "failed: 5"]
    page = (output / "index.html").read_text()
    for name in ("x*.jpg", "empty", "no.jpg", "no.mp4", "webcam:x"):
        (line,) = [line for line in errors if name in line]
        assert line.startswith("error: ")
        assert f"{name}</b>: " in page


def test_no_network_is_loaded_without_inputs(command, tmp_path, monkeypatch):
    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr("pare_jax.prediction.run.command.load_predictor", load)
    status, printed, errors, output = command(tmp_path / "x*.jpg", tmp_path / "no.jpg")
    assert (status, printed, len(errors)) == (2, [], 2)
    assert not output.exists()


def test_boxes_of_a_missing_photograph(command, tmp_path, photo):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.png": [box_about(200, 150)], "no.png": [[1, 2, 30, 40]]}))
    status, printed, errors, _ = command(f"--boxes={boxes}", photo, tmp_path / "no.png")
    assert (status, len(errors)) == (1, 1)
    assert "no.png" in errors[0]
    assert summary(printed)[0] == "done: 1 photograph with 1 person"
    # A box without a photograph's name could belong to the missing one.
    status, _, errors, _ = command("--boxes=1,2,30,40", photo, tmp_path / "no.png")
    assert status == 2
    assert "--boxes" in errors[-1]


def fake_cameras(monkeypatch, listed, opening):
    class Capture:
        def __init__(self, number, *_):
            self.number = number

        def isOpened(self):
            return self.number in opening

    monkeypatch.setattr(sources_module.cv2, "VideoCapture", Capture)
    monkeypatch.setattr(sources_module, "_camera_numbers", lambda: listed)


@pytest.mark.parametrize(
    ("listed", "opening", "named"),
    [([0, 1, 2], [0, 2], ["webcam:0", "webcam:2"]), ([], [], []), ([0], [], [])],
)
def test_a_missing_camera_is_answered_with_the_existing_ones(
    command, monkeypatch, listed, opening, named
):
    fake_cameras(monkeypatch, listed, opening)
    status, _, errors, _ = command("webcam:7")
    assert (status, len(errors)) == (2, 1)
    assert re.findall(r"webcam:\d", errors[0]) == ["webcam:7", *named]


def test_a_file_called_like_a_camera_is_a_file(command, tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    os.rename(photo, "webcam:front")
    assert command("webcam:front")[0] == 0
    for name in ("webcam", "webcam:", "webcam:-1", "Webcam:0"):
        status, _, errors, _ = command(name)
        assert (status, len(errors)) == (2, 1)
        assert f"error: {name} " in errors[0]


# Boxes.


@pytest.mark.parametrize("form", [lambda box: box, lambda box: {"a.png": box}])
def test_four_numbers_alone_are_one_box(command, tmp_path, photo, form):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(form(box_about(200, 150))))
    status, _, errors, output = command(f"--boxes={boxes}", photo)
    assert (status, errors) == (0, [])
    described = json.loads((output / "a.json").read_text())
    assert described["people"][0]["box_px"] == list(box_about(200, 150))
    boxes.write_text(json.dumps(form([1, 2, 3, 4, 5, 6, 7, 8])))
    status, _, errors, _ = command(f"--boxes={boxes}", photo)
    assert (status, len(errors)) == (2, 1)
    assert "boxes.json" in errors[0]


def test_flags_without_effect_beside_boxes_give_a_note(command, monkeypatch, tmp_path, photo):
    monkeypatch.setattr(command_module, "make_detector", lambda *_: spots_detector)
    typed = "--boxes=150,60,250,240"
    status, _, errors, _ = command(typed, "--detector=blazepose", photo)
    assert (status, len(errors)) == (0, 1)
    assert errors[0].startswith("note: --detector=blazepose ")
    listed = tmp_path / "boxes.json"
    listed.write_text("[[150, 60, 250, 240]]")
    for boxes in (typed, f"--boxes={listed}"):
        (note,) = command(boxes, "--threshold=0.9", photo)[2]
        assert note.startswith("note: ")
        assert "--threshold=0.9" in note
    assert command(typed, photo)[2] == []
    (note,) = command("--threshold=0.9", photo)[2]
    assert "--threshold=0.9" in note
    # Detections have scores.
    found = {"file_name": "a.png", "bbox": [150, 60, 100, 180], "score": 0.5}
    listed.write_text(json.dumps([found]))
    status, printed, errors, _ = command(f"--boxes={listed}", "--threshold=0.9", photo)
    assert (status, errors) == (0, [])
    assert any("no person found" in line for line in printed)


# The user's own files with the names of outputs.


def test_files_that_no_run_wrote_are_never_overwritten(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    own = {"p00_overlay.jpg": encode_png(SPOT), "p00_2.json": b"{}", "index.html": b"<p>mine"}
    for name, content in own.items():
        (folder / name).write_bytes(content)
    output = f"--output={folder}"
    status, printed, errors, _ = command(output, "--outputs=npz,json,overlay,page", folder)
    assert (status, len(errors)) == (1, 1)
    assert str(folder / "index.html") in errors[0]
    # The user's own overlay is a photograph like any other.
    assert summary(printed)[0] == "done: 3 photographs with 3 people"
    assert {name: (folder / name).read_bytes() for name in own} == own
    assert {"p00_3.json", "p00_3_overlay.jpg", "p01.json"} <= stamps(folder).keys()
    before = stamps(folder)
    assert any("3 by an earlier run" in line for line in command(output, *_same(folder))[1])
    assert stamps(folder) == before
    (folder / "index.html").unlink()
    for _ in range(2):  # a run's page is replaced
        assert command(output, *_same(folder))[0] == 0


def _same(folder: Path):
    return "--outputs=npz,json,overlay,page", folder


@pytest.mark.parametrize(
    ("file", "taken"),
    [
        ("x.glb", {"x"}),
        ("x_side.jpg", {"x"}),
        ("x_overlay.webm", {"x"}),
        ("x_attention.jpg", {"x"}),
        ("x_attention_12.jpg", {"x"}),
        ("x_track_3.npz", {"x", "x_track_3"}),
        ("x.jpg", set()),
        ("x_attention_notes.jpg", set()),
        ("notes.txt", set()),
    ],
)
def test_names_avoid_the_users_files(tmp_path, file, taken):
    (tmp_path / file).write_bytes(b"")
    for name in ("x", "x_track_3"):
        chosen = OutputFolder(tmp_path).names_for([Path(f"{name}.png")])
        assert chosen == [f"{name}_2" if name in taken else name]


def test_a_file_that_came_later_is_not_overwritten_either(command, tmp_path, photo):
    output = command("--outputs=json", photo)[3]
    (output / "a_overlay.jpg").write_bytes(b"mine")
    status, _, errors, _ = command("--outputs=json,overlay", photo)
    assert (status, len(errors)) == (2, 1)
    assert str(output / "a_overlay.jpg") in errors[0]
    assert (output / "a_overlay.jpg").read_bytes() == b"mine"
    assert (output / "a.json").exists()


def test_files_of_a_damaged_record_count_as_the_users(command, photo):
    output = command("--outputs=json", photo)[3]
    (output / ".predictions" / "a.json").write_text("{")
    (output / "a.json").write_text("before")
    for before in ("", " (1 by an earlier run)"):
        status, printed, _, _ = command("--outputs=json", photo)
        assert (status, summary(printed)) == (0, [f"done: 1 photograph with 1 person{before}"])
        assert sorted(path.name for path in output.glob("a*.json")) == ["a.json", "a_2.json"]
    assert (output / "a.json").read_text() == "before"


def test_without_blazepose_each_picture_is_one_person(
    predictor, monkeypatch, tmp_path, capsys, photo
):
    """One line says so; boxes, or a detector that is named, need no such line."""
    monkeypatch.setenv("PARE_JAX_CACHE", str(tmp_path / "nothing"))  # without BlazePose
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: predictor)
    output = tmp_path / "out"
    argv = ["predict", "--checkpoint=run", f"--output={output}", "--outputs=json", str(photo)]
    assert predict.main(argv) == 0
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("note: ")
    assert "--boxes" in note
    assert "--detector" in note
    described = json.loads((output / "a.json").read_text())
    assert described["people"][0]["box_px"] == [0, 0, *described["photo_size_px"]]
    for flag in ("--detector=whole", "--boxes=150,60,250,240"):
        assert predict.main([*argv, flag]) == 0
        assert capsys.readouterr().err == ""


def test_a_folders_other_pictures_are_counted_and_named(command, tmp_path, photo):
    folder = tmp_path / "DCIM"
    folder.mkdir()
    shutil.copy(photo, folder / "IMG_1.png")
    for name in ("IMG_2.CR2", "IMG_3.CR2", "notes.txt"):
        (folder / name).write_bytes(b"x")
    status, printed, errors, _ = command("--outputs=json", folder)
    assert (status, len(errors)) == (1, 1)
    assert "2 raw photographs" in errors[0]
    assert "IMG_2.CR2, IMG_3.CR2" in errors[0]
    assert "JPEG" in errors[0]
    assert "failed: 1" in printed
    (folder / "IMG_1.png").unlink()
    status, _, errors, _ = command("--outputs=json", folder)
    assert (status, len(errors)) == (2, 1)


def test_a_box_file_for_another_size_fails_only_its_photograph(command, tmp_path, photo):
    other = tmp_path / "b.png"
    shutil.copy(photo, other)
    sizes = {"a.png": (400, 300), "b.png": (300, 301)}
    images = [
        {"id": n, "file_name": name, "width": width, "height": height}
        for n, (name, (width, height)) in enumerate(sizes.items())
    ]
    people = [{"image_id": n, "category_id": 1, "bbox": [150, 60, 100, 180]} for n in (0, 1)]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": images, "annotations": people}))
    status, _, errors, output = command("--outputs=json", f"--boxes={boxes}", photo, other)
    assert (status, len(errors)) == (1, 1)
    assert "b.png" in errors[0]
    assert "300 x 301" in errors[0]
    assert (output / "a.json").exists()
    assert command("--outputs=json", f"--boxes={boxes}", other)[0] == 2
