"""Networks that predict NaN: sometimes, or always."""

import json

import numpy as np
import pytest

from pare_jax.body.model import load_body_model
from pare_jax.io.images import encode_png
from pare_jax.prediction.person import read_people
from pare_jax.prediction.run import command as command_module
from pare_jax.prediction.run.output_folder import OutputFolder
from tests.prediction.predict_fakes import BLUE, box_about, make_predictor, photo_with_spots
from tests.prediction.run.folders import boxes_of_clip, save_clip, save_photos


@pytest.fixture
def with_one_bad_person(tmp_path):
    """Make photographs; the network predicts NaN for the only person of one, and in one of two."""
    folder = save_photos(tmp_path / "photos", 3)
    (folder / "alone.png").write_bytes(encode_png(photo_with_spots((200.0, 150.0), colour=BLUE)))
    both = photo_with_spots((100.0, 150.0))
    blue = photo_with_spots((300.0, 150.0), colour=BLUE)
    both[:, 200:] = blue[:, 200:]
    (folder / "both.png").write_bytes(encode_png(both))
    boxes = {f"p{n:02}.png": [[30, 40, 90, 140]] for n in range(3)}
    boxes["alone.png"] = [box_about(200, 150)]
    boxes["both.png"] = [box_about(100, 150), box_about(300, 150)]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    return folder, f"--boxes={path}"


def test_nan_leaves_out_that_person_only(command, with_one_bad_person):
    folder, boxes = with_one_bad_person
    status, printed, errors, output = command(boxes, folder)
    assert status == 1
    alone, both = sorted(errors)
    assert "alone.png" in alone
    assert "both.png: 1 person of 2 " in both
    assert "failed: 2" in printed
    assert "done: 4 photographs with 4 people" in printed
    (person,) = read_people(output / "both.npz").people
    assert person.joints_2d[0, 0] == pytest.approx(100, abs=2)
    assert not list(output.glob("alone*"))
    # A photograph without any result is tried again, the others are done.
    printed = command(boxes, folder)[1]
    assert any("4 by an earlier run" in line for line in printed)


@pytest.fixture
def diverged(command, monkeypatch):
    nobody = make_predictor(load_body_model(), scale=np.nan)
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: nobody)
    return command


def test_a_network_that_predicts_nobody_is_one_error(diverged, tmp_path):
    folder = save_photos(tmp_path / "photos", 20)
    status, printed, errors, output = diverged(folder)
    assert (status, printed, len(errors)) == (2, [], 1)
    assert "WORKDIR/checkpoints/STEP" in errors[0]
    assert not len(OutputFolder(output))
    assert not list(output.glob("p*"))


def test_with_clips_it_is_one_error_as_well(diverged, tmp_path):
    content, names = {}, [f"clip{number}.mp4" for number in range(3)]
    for name in names:
        content[name] = boxes_of_clip(save_clip(tmp_path / name, frames=4))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(content))
    status, _, errors, _ = diverged(f"--boxes={boxes}", *(tmp_path / name for name in names))
    assert (status, len(errors)) == (2, 1)
    assert "WORKDIR/checkpoints/STEP" in errors[0]
