"""The command with a network on keypoints: sources, files of keypoints, hidden people."""

import json

import cv2
import numpy as np
import pytest

from pare_jax.body.model import load_body_model
from pare_jax.fitting.fitter import BodyFit
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.person import read_people
from pare_jax.prediction.run import command as command_module
from tests.prediction.predict_fakes import (
    SpotSource,
    box_about,
    coco_figure,
    make_point_predictor,
    photo_with_spots,
    run_predict,
)


@pytest.fixture(scope="module")
def points():
    return make_point_predictor(load_body_model(), SpotSource())


@pytest.fixture
def command(points, monkeypatch, tmp_path, capsys):
    """Run the command on photo.png, with spots at (90, 140) and (300, 140), or on other inputs."""
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: points)
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), photo_with_spots((90.0, 140.0), (300.0, 140.0))[..., ::-1])

    def run(*arguments, inputs=(photo,)):
        status, printed, errors = run_predict(tmp_path / "out", [*arguments, *inputs], capsys)
        return status, printed, errors, tmp_path / "out"

    return run


def results_of(*figures, score=0.9):
    """Return COCO's results with figures in photo.png."""
    return [
        {
            "image_id": "photo.png",
            "category_id": 1,
            "score": score,
            "keypoints": np.column_stack([one.points, one.confidence]).ravel().tolist(),
        }
        for one in figures
    ]


def test_people_come_from_a_file_of_keypoints(command, points, tmp_path, monkeypatch):
    monkeypatch.setattr(points, "source", None)
    file = tmp_path / "keypoints.json"
    figures = coco_figure((110.0, 150.0)), coco_figure((280.0, 130.0), size=1.0)
    file.write_text(json.dumps(results_of(*figures)))
    status, _, errors, output = command(f"--keypoints={file}", "--outputs=npz,json,keypoints")
    assert (status, errors) == (0, [])
    people = read_people(output / "photo.npz").people
    for person, figure in zip(people, figures, strict=True):
        np.testing.assert_allclose(person.keypoints[:, :2], figure.points, atol=1e-3)
        np.testing.assert_allclose(person.joints_2d[0], figure.points[[11, 12]].mean(0), atol=0.1)
    described = json.loads((output / "photo.json").read_text())["people"][0]["keypoints"]
    assert described["set"] == "coco17"
    assert described["points"]["left_hip"]["confidence"] == 0.9
    assert (output / "photo_keypoints.jpg").exists()


def test_a_file_of_other_photographs_and_boxes_beside_it_are_refused(command, tmp_path):
    file = tmp_path / "keypoints.json"
    file.write_text(json.dumps(results_of(coco_figure((110.0, 150.0)))).replace("photo", "other"))
    status, _, errors, _ = command(f"--keypoints={file}")
    assert status == 2
    assert "other.png" in errors[-1]
    status, _, errors, _ = command(f"--keypoints={file}", "--boxes=10,10,90,90")
    assert status == 2
    assert "--boxes" in errors[-1]


def test_a_given_box_in_which_nobody_is_seen_is_reported(command):
    boxes = [box_about(90, 140), box_about(200, 140, 40, 40)]
    given = ["--boxes=" + ",".join(map(str, box)) for box in boxes]
    status, _, errors, output = command("--outputs=npz", *given)
    assert status == 1
    assert "180,120,220,160" in errors[0]
    assert len(read_people(output / "photo.npz").people) == 1


def test_a_picture_without_a_person_is_no_failure(command, tmp_path):
    empty = tmp_path / "empty.png"
    cv2.imwrite(str(empty), photo_with_spots())
    status, printed, errors, _ = command("--outputs=npz,page", inputs=[empty])
    assert (status, errors) == (0, [])
    assert "no person found" in printed


@pytest.fixture
def walk(tmp_path):
    """A clip of a person who is hidden in frames 4 to 7, and the flag of the boxes."""
    clip, boxes = tmp_path / "clip.mp4", []
    with VideoWriter(clip, 20) as writer:
        for number in range(12):
            at = 60.0 + 10 * number, 140.0
            hidden = 4 <= number < 8
            writer.write(photo_with_spots(*[at] * (not hidden)))
            boxes.append([box_about(*at, 80, 180)])
    (tmp_path / "boxes.json").write_text(json.dumps({"clip.mp4": boxes}))
    return clip, f"--boxes={tmp_path / 'boxes.json'}"


def test_a_track_is_interpolated_where_its_person_is_hidden(command, walk):
    clip, boxes = walk
    status, _, errors, output = command(boxes, "--outputs=npz,json", inputs=[clip])
    assert (status, errors) == (0, [])
    people = read_people(output / "clip_track_1.npz").people
    assert [person.frame for person in people] == list(range(12))
    steps = np.diff([person.joints_2d[0, 0] for person in people])
    assert steps.min() > 2.0  # keeps walking, also while hidden
    assert steps.max() < 20.0
    assert people[2].keypoints[11, 2] == pytest.approx(0.9)
    assert people[5].keypoints is None


def test_a_refined_track_has_the_fits_shape_and_is_interpolated_too(
    command, points, walk, monkeypatch
):
    """The fit is a stand-in that raises everybody, and loses the camera of hidden frames."""

    def raised(seen, start, **_):
        count = len(seen)
        known = (seen[..., 2] > 0).any(1)
        camera = np.array(start.camera) + np.array([0.0, 0.0, -0.2])
        camera[~known] = 50.0
        arrays = np.array(start.rotations), np.full((count, 10), 0.5), camera
        error = np.where(known, 0.01, np.inf)
        return BodyFit(*arrays, np.zeros(count), error, seen[..., 2] < 0, np.ones(count, bool))

    monkeypatch.setattr("pare_jax.prediction.refinement.refine", raised)
    monkeypatch.setattr("pare_jax.prediction.refinement.fit_clip", raised)
    monkeypatch.setattr(command_module, "load_predictor", lambda *_, **__: points.with_refinement())
    clip, boxes = walk
    status, _, errors, output = command(boxes, "--refine", "--outputs=npz,json", inputs=[clip])
    assert (status, errors) == (0, [])
    people = read_people(output / "clip_track_1.npz").people
    assert [person.frame for person in people] == list(range(12))
    np.testing.assert_allclose([person.betas for person in people], 0.5, atol=1e-5)
    steps = np.diff([person.joints_2d[0, 0] for person in people])
    assert 2.0 < steps.min() < steps.max() < 20.0
    assert people[2].fit_error == pytest.approx(0.01)
    assert people[5].fit_error is None


@pytest.mark.parametrize(("name", "left_hip"), [("rtmpose.onnx", 140.0), ("blazepose", 150.0)])
def test_the_source_that_is_named_sees_the_detected_people(command, monkeypatch, name, left_hip):
    """The detector has keypoints of its own, ten pixels lower."""
    own = coco_figure((90.0, 150.0))
    found = [Detection(np.array(box_about(90, 140), float), 0.9, keypoints=own)]
    monkeypatch.setattr(command_module, "make_detector", lambda *_: lambda image: found)
    status, _, _, output = command("--detector=whole", f"--keypoints={name}", "--outputs=npz")
    assert status == 0
    (person,) = read_people(output / "photo.npz").people
    expected = coco_figure((90.0, left_hip)).points[11]
    np.testing.assert_allclose(person.keypoints[11, :2], expected, atol=1.5)


def test_keypoints_outside_the_photograph_are_named_as_keypoints_once(command, tmp_path):
    file = tmp_path / "keypoints.json"
    file.write_text(json.dumps(results_of(coco_figure((9000.0, 9000.0)))))
    status, printed, errors, _ = command(f"--keypoints={file}")
    assert status == 2
    (line,) = errors
    assert "none of its keypoints" in line
    assert "box" not in line
    assert "none of its" not in printed


def test_an_empty_file_of_keypoints_gives_no_advice_on_detectors(command, tmp_path):
    file = tmp_path / "keypoints.json"
    file.write_text("[]")
    status, printed, _, _ = command(f"--keypoints={file}", "--outputs=json")
    assert status == 0
    assert "no person found in 1" in printed
    assert "--detector" not in printed


def test_a_set_without_a_file_of_keypoints_is_refused(command):
    status, _, errors, _ = command("--keypoint_set=coco17")
    assert status == 2
    (line,) = errors
    assert "--keypoint_set=coco17" in line


def test_attention_of_a_network_without_it_is_refused_alone_and_noted_beside_others(
    command, points, monkeypatch
):
    monkeypatch.setattr(type(points), "has_attention", False)
    status, _, errors, _ = command("--outputs=attention")
    assert (status, len(errors)) == (2, 1)
    assert "--outputs=attention" in errors[0]
    status, _, errors, _ = command("--outputs=attention,json")
    assert (status, len(errors)) == (0, 1)
    assert "--outputs=attention" in errors[0]
    assert command("--outputs=json")[2] == []
