"""Whole runs over photographs: interruptions, names and wrong inputs."""

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

from pare_jax.io.images import encode_png, read_image
from pare_jax.meshes.mesh import to_viewer
from pare_jax.prediction.output_names import output_names, place_of
from pare_jax.prediction.person import read_people
from pare_jax.prediction.run import command as command_module
from pare_jax.prediction.run import output_folder, photographs
from pare_jax.prediction.run.output_folder import OutputFolder
from tests.meshes.glb_reader import Glb
from tests.prediction.predict_fakes import box_about, photo_with_spots
from tests.prediction.run.folders import save_photos, spots_detector, stamps

ROOT = Path(__file__).resolve().parents[3]

_KILLED = """
import sys
from pare_jax import predict
from pare_jax.body.model import load_body_model
from pare_jax.prediction.run import command, photographs
from tests.prediction.predict_fakes import make_predictor
predictor = make_predictor(load_body_model())
command.load_predictor = lambda *_, **__: predictor
photographs._MOST_PHOTOGRAPHS = 3
sys.exit(predict.main(["predict", *sys.argv[1:]]))
"""


def test_a_killed_run_is_resumed_and_does_nothing_twice(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 14)
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
    while process.poll() is None and len(OutputFolder(output)) < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {record.name for record in OutputFolder(output)}
    assert 4 <= len(done) < 14
    before = {name: time_ for name, time_ in stamps(output).items() if name[:3] in done}
    assert not (output / "index.html").exists()

    status, printed, errors, _ = command(folder)
    assert status == 1
    assert len(errors) == 1
    assert "broken.jpg" in errors[0]
    assert {name: stamps(output)[name] for name in before} == before
    assert len(list(output.glob("p*.npz"))) == 14
    assert len([line for line in printed if " -> " in line]) == 14 - len(done)
    assert f"done: 14 photographs with 14 people ({len(done)} by an earlier run)" in printed
    page = (output / "index.html").read_text()
    assert page.count('<article class="card"') == 14
    assert "broken.jpg" in page
    # Unfinished files of the killed run are gone.
    assert {path.name[:3] for path in output.glob("p*")} == {f"p{n:02}" for n in range(14)}
    assert not list(output.glob(".*.partial"))


def test_what_changed_is_done_again_and_nothing_else(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 3)
    output = command(folder)[3]
    first = stamps(output)
    assert any("3 by an earlier run" in line for line in command(folder)[1])
    assert stamps(output) == first
    changed = photo_with_spots((30.0, 90.0), height=170, width=130)
    (folder / "p01.png").write_bytes(encode_png(changed))
    command(folder)
    again = {name for name, stamp in stamps(output).items() if first[name] != stamp}
    assert {name[:3] for name in again} == {"p01"}
    # With other outputs, files that are no longer wanted are removed.
    command("--outputs=json,glb", folder)
    assert sorted(stamps(output)) == [f"p{n:02}.{end}" for n in range(3) for end in ("glb", "json")]
    # A file that somebody removed is written again.
    (output / "p00.glb").unlink()
    command("--outputs=json,glb", folder)
    assert (output / "p00.glb").exists()


def test_what_changes_nothing_about_a_photograph_does_not_redo_it(command, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 1)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"p00.png": [box_about(60.0, 90.0)]}))
    monkeypatch.setattr(command_module, "make_detector", lambda *_: spots_detector)
    found = ["--detector=blazepose", "--threshold=0.9"]
    for given, idle, effective in (
        ([], ["--nosmooth_shape", "--outputs=npz,vertices"], found),
        ([f"--boxes={boxes}"], ["--nosmooth_camera", *found], []),
    ):
        output = command("--outputs=npz", *given, folder)[3]
        before = stamps(output)
        for option in idle:
            command("--outputs=npz", *given, option, folder)
            assert stamps(output) == before, option
        for option in effective:
            command("--outputs=npz", *given, option, folder)
            assert stamps(output) != before, option
            before = stamps(output)


def test_outputs_among_the_photographs_are_not_photographs(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    for _ in range(2):
        status, printed, errors, _ = command(f"--output={folder}", folder)
        assert (status, errors) == (0, [])
        assert any(line.startswith("done: 2 photographs with 2 people") for line in printed)


def test_outputs_of_an_unfinished_photograph_are_no_photographs(command, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 1)
    writes = iter([output_folder.write_together, _interrupted])
    with monkeypatch.context() as patch:
        # Interrupted between the files and the record that says they are complete.
        patch.setattr(output_folder, "write_together", lambda *args: next(writes)(*args))
        assert command(f"--output={folder}", folder)[0] == 130
    assert (folder / "p00_overlay.jpg").exists()
    assert not list(OutputFolder(folder))
    link = tmp_path / "link"
    link.symlink_to(folder)
    status, printed, _, _ = command(f"--output={folder}", link)
    assert status == 0
    assert "done: 1 photograph with 1 person" in printed


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_ends_loading_and_the_page_without_a_traceback(command, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 1)
    for step in ("load_predictor", "write_run_page"):
        with monkeypatch.context() as patch:
            patch.setattr(command_module, step, _interrupted)
            status, _, errors, _ = command(folder)
        assert (status, len(errors)) == (130, 1)


def test_a_name_that_is_not_utf8(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    odd = os.fsencode(folder) + b"/caf\xe9"
    os.rename(folder / "p00.png", odd + b".png")
    with open(odd + b"_empty.png", "wb"):
        pass
    for _ in range(2):
        status, printed, errors, output = command(folder)
        assert (status, len(errors)) == (1, 1)
        assert "caf\ufffd_empty.png: " in "\n".join(printed)
        page = (output / "index.html").read_text()
        assert ">caf\ufffd.png</h2>" in page
        assert 'href="./caf%EF%BF%BD_overlay.jpg"' in page
    assert "1 by an earlier run" in "\n".join(printed)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("no such thing")])
def test_what_cannot_be_drawn_does_not_stop_the_others(command, tmp_path, monkeypatch, error):
    def fail_for_one(run, name, *rest):
        if name == "p00":
            raise error
        return photo_files(run, name, *rest)

    photo_files = photographs.photo_files
    monkeypatch.setattr(photographs, "photo_files", fail_for_one)
    status, printed, errors, output = command("--outputs=json", save_photos(tmp_path / "photos", 2))
    assert (status, len(errors)) == (1, 1)
    assert "p00.png" in errors[0]
    assert (output / "p01.json").exists()
    assert "done: 1 photograph with 1 person" in printed


def test_a_later_run_overwrites_nothing_of_another_photograph(command, tmp_path):
    one, other = (save_photos(tmp_path / name, 1) / "p00.png" for name in ("g", "h"))
    output = command("--outputs=json", one)[3]
    before = stamps(output)
    command("--outputs=json", other)
    assert stamps(output).keys() == {"p00.json", "p00_2.json"}
    assert stamps(output)["p00.json"] == before["p00.json"]
    # Each keeps its name, whatever comes first and wherever it is named from.
    printed = command("--outputs=json", other, tmp_path / "h" / ".." / "g" / "p00.png")[1]
    assert any("2 by an earlier run" in line for line in printed)
    assert len(stamps(output)) == 2


def test_a_failure_leaves_what_an_earlier_run_finished(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    (photo,) = folder.iterdir()
    output = tmp_path / "out"
    assert command(photo)[0] == 0
    before = stamps(output)
    made = {name for name in before if name.startswith(f"{photo.stem}.")}
    assert made
    assert command("--boxes=1,2,3", photo)[0] == 2
    photo.unlink()
    assert command(photo)[0] == 2
    after = stamps(output)
    assert {name: after[name] for name in made} == {name: before[name] for name in made}


def test_a_full_disk_takes_nothing_that_an_earlier_run_finished(command, tmp_path, monkeypatch):
    folder = save_photos(tmp_path / "photos", 1)
    output = command("--outputs=npz,json,page", folder)[3]
    before = stamps(output)
    write = Path.write_bytes

    def full(path, content):
        if ".ply" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for _ in range(2):
            status, _, errors, _ = command("--outputs=npz,json,ply,page", folder)
            assert (status, len(errors)) == (2, 1)
            assert "No space left" in errors[0]
            assert stamps(output) == before
            assert (output / "index.html").read_text().count('<article class="card"') == 1
    printed = command("--outputs=npz,json,page", folder)[1]
    assert any("1 by an earlier run" in line for line in printed)
    assert stamps(output) == before
    assert command("--outputs=npz,ply", folder)[0] == 0
    assert stamps(output).keys() == {"p00.npz", "p00.ply"}


def test_names_do_not_collide_with_those_of_a_clips_people():
    clip, photo = Path("clip.mp4"), Path("clip_track_1.jpg")
    assert output_names([clip, photo]) == ["clip", "clip_track_1_2"]
    assert output_names([photo, clip]) == ["clip_track_1", "clip_2"]
    held = {"clip_track_1": place_of(photo), "clip_2": place_of(clip)}
    assert output_names([clip, photo], held) == ["clip_2", "clip_track_1"]
    many = [Path(f"{number}/x.jpg") for number in range(5000)]
    assert len(set(output_names(many))) == 5000


def test_ctrl_c_leaves_what_is_done(command, stopped_after, tmp_path):
    folder = save_photos(tmp_path / "photos", 20)
    with stopped_after(8):
        status, _, errors, output = command(folder)
    assert status == 130
    assert len(errors) == 1
    assert command(folder)[0] == 0
    assert len(list(output.glob("p*.npz"))) == 20


def test_a_photograph_of_nobody_is_listed_and_no_failure(command, monkeypatch, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    monkeypatch.setattr(command_module, "make_detector", lambda *_: lambda image: [])
    status, printed, errors, output = command("--detector=blazepose", folder)
    assert (status, errors) == (0, [])
    assert any("no person found ->" in line for line in printed)
    assert any(line.startswith("no person found in 1: ") and "--boxes" in line for line in printed)
    assert "Nobody was found" in (output / "index.html").read_text()


def test_json_names_the_photograph_without_its_folder(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    output = command("--outputs=json", folder)[3]
    assert json.loads((output / "p00.json").read_text())["photo"] == "p00.png"


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
    for wrong in ("png", "page", ""):
        status, _, errors, _ = command(f"--outputs={wrong}", photo)
        assert (status, len(errors)) == (2, 1)
        assert f"--outputs={wrong}" in errors[0] or "--outputs is empty" in errors[0]


def test_the_glb_is_rigged_and_posed_as_the_vertices(command, tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode_png(photo_with_spots((100.0, 150.0), (300.0, 150.0))))
    boxes = ["--boxes=" + ",".join(map(str, box_about(x, 150))) for x in (100.0, 300.0)]
    output = command("--outputs=npz,glb", *boxes, photo)[3]
    found = read_people(output / "a.npz")
    glb = Glb((output / "a.glb").read_bytes())
    nodes = [number for number, node in enumerate(glb.scene["nodes"]) if "skin" in node]
    assert [glb.scene["nodes"][number]["name"] for number in nodes] == ["person 0", "person 1"]
    for number, person, place in zip(nodes, found.people, found.full_translations, strict=True):
        wanted = to_viewer(person.vertices.astype(np.float64) - person.translation + place)
        np.testing.assert_allclose(glb.posed(number, 0.0), wanted, atol=1e-4)


# Wrong pictures and detectors.


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
    # A huge JPEG is reduced on reading; results are in pixels of its file.
    huge = read_people(output / "huge.npz")
    assert huge.photo_size == (20_000, 12_000)
    np.testing.assert_allclose(huge.people[0].box, (0, 0, 20_000, 12_000), rtol=1e-3)
    assert max(read_image(output / "huge_overlay.jpg").shape[:2]) < 2400
    assert "failed: 3" in printed
    assert any(line.startswith(f"  {tmp_path / 'empty.jpg'}: ") for line in printed)


def test_an_onnx_file_that_is_no_detector(command, tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode_png(photo_with_spots()))
    broken = tmp_path / "broken.onnx"
    broken.write_text("hello")
    for detector in (broken, tmp_path / "none.onnx", "yolo"):
        status, _, errors, output = command(f"--detector={detector}", photo)
        assert (status, len(errors)) == (2, 1)
        assert str(detector) in errors[0]
        assert not output.exists()


def test_scores_of_boxes_that_were_given_are_kept(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    names = sorted(path.name for path in folder.iterdir())
    boxes = [{"file_name": name, "bbox": [10, 10, 80, 150]} for name in names]
    boxes[0]["score"] = 0.75
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    status, _, _, output = command(f"--boxes={tmp_path}/boxes.json", "--outputs=npz", folder)
    assert status == 0
    scores = [read_people(output / f"{name[:-4]}.npz").people[0].score for name in names]
    assert scores == [0.75, None]
