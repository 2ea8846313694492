"""`scripts/measure_photos.py`: labels, scores, methods, detections, and the sheet of the worst."""

import importlib
import json
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax.errors import UserError
from pare_jax.io.images import encode_png, read_image
from pare_jax.keypoints.sets import COCO17, LIMB_POINTS, MPII16, NUM_BODY_POINTS, SPIN24
from pare_jax.prediction.detection import Detection
from pare_jax.rendering.camera import Camera

LIMBS = list(LIMB_POINTS)
BOX = [20.0, 10.0, 40.0, 80.0]  # x, y, width, height


@pytest.fixture(name="script")
def script_fixture(monkeypatch):
    """Return a function that imports a module of the scripts as they import each other."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module


def upright(script, box=BOX):
    """Return COCO's keypoints of the upright figure in a box."""
    corners = np.array([*box[:2], box[0] + box[2], box[1] + box[3]])
    person = script("photo_labels").PhotoPerson(Path(), "", corners, None)
    (answer,) = script("photo_methods").upright_figure(np.zeros((1, 1, 3), np.uint8), [person])
    rows = np.nan_to_num(answer.points[list(COCO17.indices)])
    return np.concatenate([rows, 2.0 * (rows.sum(1, keepdims=True) > 0)], 1)


def labels(folder, *people, name="labels.json", box=BOX):
    """Write a photograph and COCO annotations of the people's keypoints; return the file's path."""
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(encode_png(np.full((100, 80, 3), 90, np.uint8)))
    entries = [
        {"image_id": 1, "category_id": 1, "bbox": box, "keypoints": rows.reshape(-1).tolist()}
        for rows in people
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.points)}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [category],
        "annotations": entries,
    }
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def rows_of(text):
    """Return the table's numbers by the name of the row."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] in ("street", "all")}


def test_a_method_that_is_right_has_100_percent(script, tmp_path, capsys):
    path = labels(tmp_path / "street", upright(script))
    sheet = tmp_path / "worst.png"
    main = script("measure_photos").main
    assert main([path, "--method=figure", "--method=keypoints", f"--sheet={sheet}"]) == 0
    text = capsys.readouterr().out
    assert text.count("100.0") == 8
    assert rows_of(text)["street"] == ["1", "100.0", "100.0", "-", "-", "0"]
    assert read_image(sheet).shape[0] > 320


def test_joints_count_alike_and_people_with_few_are_left_out(script, tmp_path, capsys):
    right = upright(script)
    wrong = right.copy()
    wrong[11:, 0] += 9.0  # hips, knees, ankles: within 0.2 of some 60 pixels, not within 0.1
    few = right.copy()
    few[7:, 2] = 0
    path = labels(tmp_path / "street", right, wrong, few)
    assert script("measure_photos").main([path]) == 0
    assert rows_of(capsys.readouterr().out)["all"][:3] == ["2", "75.0", "100.0"]


def test_a_detector_is_measured_on_all_labelled_boxes(script, tmp_path, capsys):
    whole = labels(tmp_path / "street", upright(script), box=[2, 2, 78, 97])
    small = labels(tmp_path / "far", upright(script))
    assert script("measure_photos").main([whole, small, "--detector=whole"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["street"] == ["1", "1", "1.00", "0.00"]
    assert rows["all"] == ["2", "2", "0.50", "0.50"]


def test_each_detection_finds_one_person(script):
    counts = script("photo_scores").detection_counts
    people = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10]])
    found = [Detection(np.array(box), 0.9) for box in ([0.0, 0, 10, 10], [1.0, 0, 11, 10])]
    assert counts(people, found) == (2, 0)
    assert counts(people[:1], found) == (1, 1)
    assert counts(people[:0], found) == (0, 2)
    assert counts(people, []) == (0, 0)


def person_of(script, own_set, points, world=None):
    labelled = script("photo_labels")
    keypoints = labelled.Keypoints(own_set, points[:, :2], points[:, 2], world)
    return labelled.PhotoPerson(Path("a.png"), "", np.zeros(4), keypoints)


def test_points_are_right_within_a_share_of_the_extent(script):
    scores = script("photo_scores")
    points = np.random.default_rng(0).uniform(0, 100, (16, 3))
    points[:, 2] = 1
    points[10, 2] = 0  # the right wrist has no label
    points[:2, :2] = [0, 0], [200, 50]
    person = person_of(script, MPII16, points)
    answer = person.points[:, :2].astype(float)
    answer[LIMBS[0]] += [0, 19]
    answer[LIMBS[1]] += [21, 0]
    answer[LIMBS[2]] = np.nan
    found = scores.limb_hits([person], [scores.PhotoAnswer(answer)], 0.1)[0]
    expected = np.ones(12)
    expected[[1, 2]] = 0
    expected[5] = np.nan
    np.testing.assert_array_equal(found, expected)
    assert scores.percent(found[None]) == pytest.approx(100 * 9 / 11)
    assert scores.percent(scores.limb_hits([person], [None], 0.1)) == 0
    # The head is 30 pixels long: joints are right within 15.
    points[8, :2], points[9, :2] = [50, 50], [50, 20]
    found = scores.head_hits([person], [scores.PhotoAnswer(answer)])[0]
    assert found[0] == 0
    coco = person_of(script, COCO17, np.ones((17, 3)) * np.arange(1, 18)[:, None])
    assert np.isnan(scores.head_hits([coco], [scores.PhotoAnswer(answer)])).all()


def test_3d_errors_are_aligned_over_the_points_that_both_have(script):
    scores, rng = script("photo_scores"), np.random.default_rng(1)
    world = rng.normal(size=(24, 3))
    person = person_of(script, SPIN24, np.ones((24, 3)), world)
    turned = 1.3 * SPIN24.spread(world, np.nan) @ Rotation.random(rng=rng).as_matrix().T + 2
    turned[LIMBS[3]] = np.nan
    answer = scores.PhotoAnswer(np.zeros((NUM_BODY_POINTS, 2)), turned)
    assert scores.aligned_error(person, answer) == pytest.approx(0, abs=1e-2)
    turned[LIMBS[4]] += 0.5
    assert scores.aligned_error(person, answer) > 10
    turned[LIMBS[:8]] = np.nan
    assert np.isnan(scores.aligned_error(person, answer))
    assert np.isnan(scores.aligned_error(person, None))


@pytest.mark.parametrize("on_keypoints", [True, False])
def test_bodies_are_predicted_in_the_boxes_from_the_sources_keypoints(
    script, monkeypatch, on_keypoints
):
    methods, asked = script("photo_methods"), []
    placed = np.random.default_rng(2).normal(size=(NUM_BODY_POINTS, 3)).astype(np.float32)
    known = np.arange(NUM_BODY_POINTS) != 3
    body = types.SimpleNamespace(known=known, place=lambda *_: (placed, None))
    monkeypatch.setattr(methods, "body_points", lambda _: body)
    predicted = types.SimpleNamespace(
        rotations=np.zeros((24, 3, 3)),
        betas=np.zeros(10),
        translation=np.array([0.1, 0.2, 9.0]),
        camera=Camera(500.0, (40.0, 50.0)),
    )

    def predict(image, boxes, keypoints=None):
        asked.append((boxes, keypoints))
        return [predicted] * len(boxes)

    predict.body_data, predict.refine = 1, None
    predict.input = types.SimpleNamespace(needs_keypoints=on_keypoints)
    first, second = (person_of(script, COCO17, upright(script)) for _ in range(2))
    method = methods.NetworkMethod(predict, lambda image, people: [None, people[1].keypoints])
    nobody, found = method(np.zeros((9, 9, 3), np.uint8), [first, second])
    box = [0.0] * 4
    assert asked == [([box], [second.keypoints]) if on_keypoints else ([box, box], None)]
    assert (nobody is None) == on_keypoints
    pixels = predicted.camera.project(placed + predicted.translation)
    np.testing.assert_allclose(found.points[known], pixels[known])
    np.testing.assert_array_equal(np.isnan(found.world).any(1), ~known)


def test_bad_flags_and_labels_are_named(script, tmp_path, capsys):
    path = labels(tmp_path / "street", upright(script))
    twice = labels(tmp_path / "street", upright(script), name="again.json")
    for flags, culprit in (
        ([path, "--method=magic"], "--method=magic"),
        ([path, "--method=keypoints", "--keypoints=magic"], "'magic'"),
        ([path, twice], "again.json"),
        ([path, f"--photos={tmp_path / 'nowhere'}"], "nowhere"),
        ([f"{path}=coco71"], "coco71"),
        ([labels(tmp_path / "far", upright(script) * [1, 1, 0.0] + [0, 0, 0])], "labels.json"),
    ):
        assert script("measure_photos").main(flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("measure_photos: ")
        assert culprit in line


def test_a_predictor_without_a_body_is_refused(script):
    predictor = types.SimpleNamespace(body_data=None)
    with pytest.raises(UserError, match="body"):
        script("photo_methods").NetworkMethod(predictor, None)
