"""The scripts that measure and draw: their flags and their output for small inputs."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.body.io import FREE_BODY, load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.keypoints.body_points import body_points
from pare_jax.keypoints.sets import COCO17
from pare_jax.rendering.skeleton_lines import LEFT, RIGHT
from pare_jax.rendering.text import PAPER
from pare_jax.skeleton import joint_index

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(name="script")
def script_fixture(monkeypatch):
    """Return a function that imports a script as `python FILE` would."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def test_compare_metrics_prints_every_metric_close_to_its_definition(capsys):
    compare_metrics = importlib.import_module("scripts.compare_metrics")
    compare_metrics.main(["--poses=2", "--seed=3"])
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| metric | unit | random | all zero |")
    assert head.count("|") == rule.count("|")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == list(compare_metrics.UNITS)
    for row in cells:
        assert all(float(cell) < 1e-3 for cell in row[2:] if cell != "-"), row


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--photographs=63"], "--photographs"),
        (["--photo=64"], "--photo=64"),
        (["--seconds=long"], "--seconds"),
    ],
)
def test_benchmark_input_refuses_bad_flags(script, capsys, flags, name):
    with pytest.raises(SystemExit) as ended:
        script("benchmark_input").main(flags)
    assert ended.value.code == 2
    assert name in capsys.readouterr().err


def test_benchmark_input_names_a_folder_that_is_no_release(script, tmp_path, capsys):
    assert script("benchmark_input").main([f"--raw-pw3d={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark_input: ")
    assert str(tmp_path) in line


def test_benchmark_input_prints_what_was_measured(script, capsys):
    module = script("benchmark_input")
    part = module.Prepared(
        *("pw3d", Path("raw"), Path("data"), 100, 150),
        photograph_bytes=590e3,
        crop_bytes=49e3,
        read_seconds=2.0,
        write_seconds=0.1,
    )
    module._print_preparing([part, dataclasses.replace(part, name="mpii")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith(("pw3d", "mpii"))] == [
        [name, "100", "150", "590", "49", "50", "1500"] for name in ("pw3d", "mpii")
    ]
    # 51,000 photographs at 50 a second, and 74,600 people at 1,500.
    assert "17.0 min of one core to read, 0.8 min to write" in "".join(lines)
    module._print_row("ours", module.Speed(450.0, 900.0), module.Speed(50.0, 60.0))
    module._print_row("theirs", module.Speed(50.0, 60.0), None)
    ours, theirs = capsys.readouterr().out.splitlines()
    assert ours.split() == ["ours", "450", "900", "9.0x", "15.0x"]
    assert theirs.split() == ["theirs", "50", "60"]
    assert theirs.index("50") == ours.index("450") + 1


def test_people_of_made_up_releases_are_drawn_where_their_labels_are(script):
    """Joints project to where they are drawn, and the posed body is near them."""
    releases, data = script("made_up_releases"), load_body_data()
    settings = SyntheticSettings(image_size=256, truncation=0.0)
    corner = np.array([1500.0, 60.0])  # far from the optical axis
    for index in range(4):
        scene = draw_scene(settings, "train", index)
        person = releases._place(scene, corner)
        intrinsics = np.array([[1960.0, 0, 960], [0, 1960, 540], [0, 0, 1]])
        pixels = person.joints @ intrinsics.T
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], person.pixels, atol=1e-6)
        np.testing.assert_allclose(person.pixels, scene.joints_2d + corner)
        _, joints = vertices_and_joints(data, person.betas, person.rotations)
        posed = (joints - joints[0] + person.joints[0]) @ intrinsics.T
        off = np.linalg.norm(posed[:, :2] / posed[:, 2:] - person.pixels, axis=1)
        assert off.max() < 0.08 * np.ptp(person.pixels, axis=0).max()


def test_made_up_releases_overwrite_nothing(script, tmp_path, capsys):
    (tmp_path / "MPII").mkdir()
    assert script("made_up_releases").main([f"--output={tmp_path}"]) == 2
    assert str(tmp_path / "MPII") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["MPII"]


def test_a_contact_sheet_has_the_skeletons_colours(script, tmp_path, capsys):
    sheet = script("draw_contact_sheet")
    path = tmp_path / "sheet.png"
    flags = [f"--output={path}", "--side=64", "--columns=2", "--set=image_size=64"]
    assert sheet.main([*flags, "--count=3"]) == 0
    assert f"{path}: 3 people of synthetic/train" in capsys.readouterr().out
    picture = cv2.imread(str(path))[..., ::-1]
    # Three people, two a row: each below a title, which is closer to it than to the row above.
    title, gap = 30, 16
    assert picture.shape == (2 * (title + 64) + gap, 2 * 128 + 4, 3)
    assert (picture[-64:, -128:] == PAPER).all()
    assert (picture[title + 64 : title + 64 + gap] == PAPER).all()
    marked = picture[title : title + 64, 64:128].reshape(-1, 3).astype(int)
    for colour in (LEFT, RIGHT):
        assert np.abs(marked - colour).sum(1).min() < 40
    assert sheet.main([*flags, "--count=0"]) == 2
    assert "--count=0" in capsys.readouterr().err


def test_a_batch_is_drawn_with_the_datasets_of_its_people(script, tmp_path, capsys):
    config, path = SCRIPTS.parent / "configs" / "quickstart.py", tmp_path / "batch.png"
    settings = {"train": 4, "validation": 0, "test": 2, "test_occluded": 0, "image_size": 48}
    options = [f"--config={config}", f"--output={path}", "--side=64", "--config.batch_size=3"]
    options += [f"--config.data.synthetic.{name}={value}" for name, value in settings.items()]
    options += [f"--config.data.root={tmp_path}", "--config.data.eval=('synthetic/test',)"]
    draw = script("draw_batch")
    assert draw.main(["draw_batch", *options, "--columns=2"]) == 0
    assert f"{path}: 3 people" in capsys.readouterr().out
    picture = cv2.imread(str(path))[..., ::-1]
    assert picture.shape == (2 * (30 + 64) + 16, 2 * 128 + 4, 3)
    mesh = picture[30 : 30 + 64, 64:128].reshape(-1, 3).astype(int)
    for colour in (LEFT, RIGHT):
        assert np.abs(mesh - colour).sum(1).min() < 60
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["batch.png"]
    assert draw.main(["draw_batch", *options, "--output=batch.gif"]) == 2
    assert "batch.gif" in capsys.readouterr().err


def test_a_neutral_figure_loses_details_of_every_shape_and_keeps_its_joints(script):
    """A dent of 3 cm in the belly and one in a shape direction are smoothed away."""
    with np.load(FREE_BODY) as arrays:
        body = dict(arrays)
    belly = np.linalg.norm(body["v_template"] - [0, 0.095, 0.123], axis=1) < 0.015
    hands = np.abs(body["v_template"][:, 0]) > 0.3
    dented = body | {name: body[name].copy() for name in ("v_template", "shapedirs")}
    dented["v_template"][belly, 2] -= 0.03
    dented["shapedirs"][belly, 2, 4] += 0.03
    neutral = script("neutral_figure").neutral_figure(dented)
    for name in ("v_template", "shapedirs"):
        joints = [
            b["J_regressor"].astype(float) @ b[name].reshape(12272, -1) for b in (dented, neutral)
        ]
        np.testing.assert_allclose(*joints, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(neutral[name][hands], body[name][hands])
        assert np.abs(neutral[name] - body[name])[belly, 2].max() < 0.004, name
    assert ((neutral["weights"] > 0).sum(1) <= 4).all()
    np.testing.assert_allclose(neutral["weights"].sum(1), 1, atol=1e-6)


def test_simulated_boxes_are_written_and_counted(script, monkeypatch, tmp_path, capsys):
    measure_clip = script("measure_clip")
    boxes = np.tile(np.array([10.0, 20.0, 50.0, 140.0]), (5, 2, 1))
    seen = np.tile([1.0, 0.0], (5, 1))  # the second person is fully hidden
    truth, output = tmp_path / "clip.npz", tmp_path / "boxes.json"
    np.savez(truth, boxes=boxes, seen=seen)
    monkeypatch.setattr(sys, "argv", ["measure_clip", f"--truth={truth}", f"--boxes={output}"])
    assert measure_clip.main() == 0
    written = json.loads(output.read_text())
    # The key is the clip's name without suffix, as `pare_jax.predict` expects.
    assert list(written) == ["clip"]
    count = sum(len(frame) for frame in written["clip"])
    assert len(written["clip"]) == 5
    assert 1 <= count <= 5
    line = capsys.readouterr().out
    assert f"{count} boxes" in line
    assert str(output) in line

    monkeypatch.setattr(sys, "argv", ["measure_clip", f"--truth={truth}"])
    assert measure_clip.main() == 2
    assert "--boxes=FILE" in capsys.readouterr().err


def test_measure_finetuning_draws_people_from_above_with_points_at_their_joints(script, tmp_path):
    measure = script("measure_finetuning")
    settings = SyntheticSettings(image_size=96, occluders=0.0, truncation=0.0)
    look = measure.LOOKS["ceiling"]
    measure.draw_part(tmp_path, "train", look, settings, body_points(load_body_data()), 3)
    labels = np.load(tmp_path / "train.npz")
    drawn = dataclasses.replace(settings, seed=1, **look.changes)
    ankle, knee = (COCO17.points.index(f"left_{name}") for name in ("ankle", "knee"))
    for name, points in zip(labels["imgname"], labels["part"], strict=True):
        scene = draw_scene(drawn, "train", int(Path(name).stem))
        up = scene.camera.rotation[:, 1]
        assert np.degrees(np.arcsin(-up[2])) >= look.pitch
        for point, joint in ((ankle, "left_ankle"), (knee, "left_knee")):
            place = scene.joints_2d[joint_index(joint)]
            assert np.linalg.norm(points[point, :2] - place) < 3
    coco = json.loads((tmp_path / "train.json").read_text())
    rows = np.array([one["keypoints"] for one in coco["annotations"]]).reshape(3, 17, 3)
    np.testing.assert_allclose(rows[..., :2], labels["part"][..., :2], atol=0.01)
