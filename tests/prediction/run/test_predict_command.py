"""The command: photographs and boxes in, files out, one line for each failure."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import pare_jax
from configs import common
from pare_jax.body.io import FREE_BODY
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.io.images import cut_crop, encode_png, read_image
from pare_jax.models import build_model
from pare_jax.models.inference import normalise
from pare_jax.prediction.output_names import output_names
from pare_jax.prediction.run import command as command_module
from pare_jax.skeleton import JOINT_NAMES
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.config import SYNTHETIC_ALONE
from pare_jax.training.step import create_state
from pare_jax.training.trained_run import load_model
from pare_jax.training.workdir import write_config
from tests.prediction.predict_fakes import (
    SIZE,
    box_about,
    make_predictor,
    photo_with_spots,
    run_predict,
)


@pytest.fixture(scope="module")
def body():
    return load_body_model()


@pytest.fixture(scope="module")
def predictor(body):
    return make_predictor(body)


@pytest.fixture
def command(predictor, monkeypatch, tmp_path, capsys):
    """Run the command; gives exit status, printed text, lines on stderr and output folder."""
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: predictor)
    output = tmp_path / "out"

    def run(*arguments):
        return *run_predict(output, arguments, capsys), output

    return run


def written(output: Path) -> list[str]:
    there = output.iterdir() if output.exists() else []
    return sorted(path.name for path in there if path.name != ".predictions")


def save(path: Path, picture: np.ndarray) -> Path:
    path.write_bytes(encode_png(picture))
    return path


def test_command_writes_everything_about_a_photo(command, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    status, _, errors, output = command(photo)
    assert (status, errors) == (0, [])
    assert written(output) == [
        "index.html",
        "photo.json",
        "photo.npz",
        "photo_attention.jpg",
        "photo_overlay.jpg",
    ]
    with np.load(output / "photo.npz") as found:
        assert found["vertices"].shape == (1, len(np.asarray(load_body_model().weights)), 3)
        assert found["faces"].max() == found["vertices"].shape[1] - 1
        assert found["joint_names"].tolist() == list(JOINT_NAMES)
        joints = found["joints_2d"][0]
    described = json.loads((output / "photo.json").read_text())
    assert described["photo_size_px"] == [400, 300]
    (person,) = described["people"]
    for joint, name in enumerate(JOINT_NAMES):
        np.testing.assert_allclose(person["joints"][name]["photo_px"], joints[joint], atol=0.06)
    # The overlay is the photo with the mesh where the joints are, and a side view beside it.
    overlay = read_image(output / "photo_overlay.jpg")
    assert overlay.shape[0] == 300
    assert overlay.shape[1] > 400
    change = overlay[:, :400].astype(int) - read_image(photo)
    changed = (np.abs(change) > 25).any(-1)  # more than JPEG changes
    for name in ("pelvis", "left_knee", "right_ankle", "head"):
        column, row = joints[JOINT_NAMES.index(name)].astype(int)
        assert changed[row, column], name


def test_several_people_and_repeated_boxes(command, tmp_path):
    photo = save(tmp_path / "two.png", photo_with_spots((100.0, 150.0), (300.0, 150.0)))
    boxes = [",".join(map(str, box_about(x, 150.0))) for x in (100.0, 300.0)]
    status, _, _, output = command(photo, f"--boxes={boxes[0]}", f"--boxes={boxes[1]}")
    assert status == 0
    assert [n for n in written(output) if "attention" in n] == [
        "two_attention_0.jpg",
        "two_attention_1.jpg",
    ]
    with np.load(output / "two.npz") as found:
        np.testing.assert_allclose(found["joints_2d"][:, 0], [(100, 150), (300, 150)], atol=1.0)


def test_box_files(command, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        save(folder / name, photo_with_spots((200.0, 150.0)))
    (folder / "notes.txt").write_text("not a picture")
    named = tmp_path / "boxes.json"
    named.write_text(json.dumps({"a.png": [box_about(200, 150)], str(folder / "b.png"): []}))
    status, _, errors, output = command(folder, f"--boxes={named}")
    assert (status, errors) == (0, [])
    counts = {n: len(json.loads((output / f"{n}.json").read_text())["people"]) for n in "ab"}
    assert counts == {"a": 1, "b": 0}
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([box_about(200, 150), box_about(210, 150)]))
    assert command(folder / "a.png", f"--boxes={listed}")[0] == 0
    assert "a_attention_1.jpg" in written(output)


def test_bad_pictures_and_boxes_do_not_stop_the_others(command, tmp_path):
    good = save(tmp_path / "good.png", photo_with_spots((200.0, 150.0)))
    one = save(tmp_path / "one.png", photo_with_spots()[:1, :1])
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    status, _, errors, output = command(text, tmp_path / "missing.jpg", one, good)
    assert status == 1
    assert [line.split(":")[0] for line in errors] == ["error"] * 3
    assert all(name in " ".join(errors) for name in ("text.jpg", "missing.jpg", "one.png"))
    assert {name.split(".")[0].split("_")[0] for name in written(output)} == {"good", "index"}
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"good.png": [[500, 10, 600, 90], list(box_about(200, 150))]}))
    status, _, errors, output = command(good, f"--boxes={boxes}")
    assert (status, len(errors)) == (1, 1)
    assert "good.png" in errors[0]


def test_nothing_done_is_status_2_and_nothing_written(command, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    status, _, errors, output = command(text)
    assert (status, len(errors), written(output)) == (2, 1, [])
    photo = save(tmp_path / "photo.png", photo_with_spots())
    status, _, errors, output = command(photo, "--boxes=10,10,10,40")
    assert status == 2
    assert written(output) == []


@pytest.mark.parametrize(
    ("arguments", "offender"),
    [
        ([], "--help"),
        (["--boxs=1,2,3,4", "{photo}"], "boxs"),
        (["--weights=best", "{photo}"], "weights"),
        (["--boxes=1,2,three,4", "{photo}"], "1,2,three,4"),
        (["--boxes=nowhere.json", "{photo}"], "nowhere.json"),
        (["--boxes={broken}", "{photo}"], "broken.json"),
        (["--boxes={wrong}", "{photo}"], "wrong.json"),
        (["--boxes={other}", "{photo}"], "other.json"),
        (["--boxes=1,2,30,40", "{photo}", "{photo}2"], "--boxes"),
        (["{empty}"], "empty"),
        (["--output={photo}", "{photo}"], "photo.png is a file"),
    ],
)
def test_usage_errors_are_one_line(command, tmp_path, arguments, offender):
    names = {"photo": save(tmp_path / "photo.png", photo_with_spots())}
    for name, text in (("broken", "{"), ("wrong", '{"a": 3}'), ("other", '{"b.png": []}')):
        names[name] = tmp_path / f"{name}.json"
        names[name].write_text(text)
    (tmp_path / "photo.png2").write_bytes(names["photo"].read_bytes())
    names["empty"] = tmp_path / "empty"
    names["empty"].mkdir()
    status, _, errors, _ = command(*(a.format(**names) for a in arguments))
    assert status == 2
    assert len(errors) == 1
    assert offender in errors[0]


def test_help(command):
    status, printed, errors, _ = command("--help")
    assert (status, errors) == (0, [])
    assert "--boxes" in printed
    assert "python -m pare_jax.predict" in printed


def test_names_of_outputs_do_not_collide():
    photos = [Path("a/x.jpg"), Path("b/x.jpg"), Path("x_2.png"), Path("x.png")]
    names = output_names(photos)
    assert len(set(names)) == 4
    assert names[0] == "x"


def test_a_network_without_attention_has_no_attention_sheet(body, command, tmp_path, monkeypatch):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    plain = make_predictor(body, attention=False)
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: plain)
    output = command("--outputs=npz,json,overlay,attention", photo)[3]
    assert written(output) == ["photo.json", "photo.npz", "photo_overlay.jpg"]
    with np.load(output / "photo.npz") as found:
        assert "attention" not in found


def test_files_that_belong_together_are_all_there_or_none(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "out"))):
        write_together(tmp_path / "out", {"a.npz": b"1", "nowhere/b.npz": b"2"})
    assert written(tmp_path / "out") == []


def test_overlay_of_a_large_photo_is_reduced(command, tmp_path):
    image = cv2.resize(photo_with_spots((200.0, 150.0)), (3200, 2400))
    photo = save(tmp_path / "large.png", image)
    output = command(photo)[3]
    overlay = read_image(output / "large_overlay.jpg")
    assert overlay.shape[0] == 1200
    with np.load(output / "large.npz") as found:
        np.testing.assert_allclose(found["joints_2d"][0, 0], (1600, 1200), atol=30)


# A network as training leaves it.


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = common.get_base()
    config.image_size = SIZE
    config.model.backbone = "resnet18"
    config.model.backbone_width = 8
    config.model.branch_features = 16
    config.model.shape_features = 8
    config.model.num_blocks = 2
    if "dtype" not in config.model:
        config.model.dtype = "float32"
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, config)
    # Filled with numbers instead of initialised, which would compile a program for every shape.
    shapes = nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
    random = np.random.default_rng(0)
    state = create_state(shapes, optax.identity(), average=False)

    def fill(leaf):
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        values = random.normal(0, fan_in**-0.5, leaf.shape) if leaf.ndim > 1 else 1.0
        return np.broadcast_to(values, leaf.shape).astype(leaf.dtype)

    state = jax.tree.map(fill, state)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state)
    checkpoints.close()
    return folder


def run_command(*arguments) -> subprocess.CompletedProcess:
    code = (
        "import sys; from pare_jax import predict;"
        "status = predict.main(sys.argv);"
        "print('loaded:', sorted({'tensorflow', 'torch'} & set(sys.modules)));"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_on_a_checkpoint_needs_no_tensorflow(workdir, tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    whole = "--detector=whole"
    done = run_command(f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}", whole, photo)
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
    assert len(written(tmp_path / "out")) == 5


def test_loaded_predictor_predicts_like_the_network(workdir):
    image = photo_with_spots((200.0, 150.0))
    (person,) = pare_jax.load_predictor(workdir)(image, [box_about(200.0, 150.0)])
    _, module = load_model(workdir)
    crop = cut_crop(image, np.array([200.0, 150.0]), 1.2 * 180, SIZE)
    expected = nnx.jit(lambda network, images: network(images))(module, normalise(crop[None]))
    for name, values in (
        ("betas", expected.betas),
        ("camera_crop", expected.camera),
        ("rotations", expected.rotations),
        ("attention", expected.attention),
    ):
        np.testing.assert_allclose(getattr(person, name), values[0], atol=1e-4, err_msg=name)
    assert person.attention.shape == (8, 8, 24)
    np.testing.assert_allclose(person.attention.sum((0, 1)), 1.0, atol=1e-4)


def test_a_body_model_can_be_named(workdir, tmp_path, capsys):
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    moved, output = tmp_path / "moved.npz", tmp_path / "out"
    arguments = [f"--checkpoint={workdir}", f"--body={moved}", photo]
    status, _, errors = run_predict(output, arguments, capsys)
    assert (status, len(errors)) == (2, 1)
    assert str(moved) in errors[0]
    shutil.copy(FREE_BODY, moved)
    for before in ("", " (1 by an earlier run)"):
        status, printed, errors = run_predict(output, arguments, capsys)
        # The run's config names synthetic people alone: said once on stderr.
        assert (status, errors) == (0, [f"warning: {SYNTHETIC_ALONE}"])
        assert f"done: 1 photograph with 1 person{before}\n" in printed
    assert f"body {moved}" in (output / "index.html").read_text()


def test_the_page_shows_a_predictors_warning_at_its_top(command, predictor, monkeypatch, tmp_path):
    first = save(tmp_path / "first.png", photo_with_spots((200.0, 150.0)))
    second = save(tmp_path / "second.png", photo_with_spots((200.0, 150.0)))
    monkeypatch.setattr(predictor, "warning", "a sentence with <b>")
    _, _, errors, output = command(first)
    assert errors == ["warning: a sentence with <b>"]
    top = (output / "index.html").read_text().partition("<main")[0]
    assert "Warning: a sentence with &lt;b&gt;." in top
    assert "<dt>Warning" not in top
    # A later run with another network has no warning, except for what the first one made.
    monkeypatch.setattr(predictor, "warning", None)
    _, _, errors, output = command(second)
    assert errors == []
    top, _, cards = (output / "index.html").read_text().partition("<main")
    assert "a sentence" not in top
    assert cards.count("Warning: a sentence with &lt;b&gt;") == 1


def test_a_folder_without_a_run_is_one_line(tmp_path):
    photo = save(tmp_path / "photo.png", photo_with_spots())
    done = run_command(f"--checkpoint={tmp_path}", f"--output={tmp_path / 'out'}", photo)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr
    assert written(tmp_path / "out") == []


def test_missing_weights_are_refused(workdir):
    with pytest.raises(UserError, match="averaged"):
        pare_jax.load_predictor(workdir, "swa")
    with pytest.raises(UserError, match="best"):
        pare_jax.load_predictor(workdir, "best")


def test_last_weights_that_replace_averaged_ones_are_said(workdir):
    lines = []
    pare_jax.load_predictor(workdir, say=lines.append)
    (line,) = lines
    assert str(workdir) in line
    assert "no averaged weights" in line
    pare_jax.load_predictor(workdir, "last", say=lines.append)
    assert lines == [line]


def test_the_crops_scale_is_the_runs_or_a_flag(workdir, tmp_path, capsys):
    """Outputs of another scale are made again."""
    photo = save(tmp_path / "photo.png", photo_with_spots((200.0, 150.0)))
    box = ",".join(map(str, box_about(200, 150)))
    arguments = [f"--checkpoint={workdir}", f"--boxes={box}", photo]
    output = tmp_path / "out"
    for scale, before in ((1.5, ""), (1.5, " (1 by an earlier run)"), (None, "")):
        flag = [] if scale is None else [f"--crop_scale={scale}"]
        status, printed, _ = run_predict(output, [*flag, *arguments], capsys)
        assert status == 0
        assert f"done: 1 photograph with 1 person{before}\n" in printed
        # The run's weights are not averaged yet.
        assert "its last ones are used" in printed
        with np.load(output / "photo.npz") as content:
            np.testing.assert_allclose(content["crop_side"], 180 * (scale or 1.2))
        assert ("crops of 1.5 times" in (output / "index.html").read_text()) == (scale == 1.5)
    status, _, errors = run_predict(output, ["--crop_scale=0", *arguments], capsys)
    assert (status, len(errors)) == (2, 1)
    assert "crop_scale" in errors[0]


def test_attention_sheets_of_an_earlier_run_are_removed(command, tmp_path):
    spots = [(100.0, 150.0), (300.0, 150.0)]
    photo = save(tmp_path / "photo.png", photo_with_spots(*spots))
    boxes = ["--boxes=" + ",".join(map(str, box_about(*spot))) for spot in spots]
    output = command(*boxes, photo)[3]
    (output / "photo_attention_notes.jpg").write_bytes(b"the user's own")
    command(boxes[0], photo)
    sheets = [name for name in written(output) if "attention" in name]
    assert sheets == ["photo_attention.jpg", "photo_attention_notes.jpg"]
