"""Box files in COCO's forms and the plain form, matched to photographs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.box_files import read_boxes
from pare_jax.prediction.detection.coco import match_photos

PHOTOS = [Path("shots/a.jpg"), Path("shots/000000000139.jpg"), Path("b.png")]


def boxes_of(tmp_path, content, **options):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    notes = []
    boxes = read_boxes([str(path)], PHOTOS, warn=notes.append, **options)
    return [np.array(boxes[photo]).tolist() for photo in PHOTOS], notes


def test_detections_by_file_name_and_by_number(tmp_path):
    content = [
        {"file_name": "a.jpg", "bbox": [10, 20, 30, 40], "category_id": 1, "score": 0.9},
        {"image_id": 139, "bbox": [1, 2, 3, 4], "category_id": 1, "score": 0.4},
        {"image_id": 139, "bbox": [5, 5, 5, 5], "category_id": 18, "score": 0.9},
    ]
    boxes, notes = boxes_of(tmp_path, content, threshold=0.4)
    assert boxes == [[[10, 20, 40, 60]], [[1, 2, 4, 6]], []]
    assert not notes
    # The default threshold is that of ONNX detectors.
    assert boxes_of(tmp_path, content)[0] == [[[10, 20, 40, 60]], [], []]
    assert boxes_of(tmp_path, content, threshold=0.0)[0] == boxes
    del content[1]["score"]
    assert boxes_of(tmp_path, content)[0] == boxes


def test_dataset_with_its_own_categories(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "train/a.jpg"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "bbox": [0, 0, 5, 6], "category_id": 3},
            {"image_id": 7, "bbox": [0, 0, 9, 9], "category_id": 1},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 3, "name": "person"}],
    }
    boxes, notes = boxes_of(tmp_path, content)
    assert boxes == [[[0, 0, 5, 6]], [], []]
    assert not notes


def test_crowds_are_skipped(tmp_path):
    one = {"image_id": 7, "bbox": [0, 0, 5, 6], "category_id": 1, "iscrowd": 0}
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [one, one | {"iscrowd": 1}, one | {"iscrowd": 1, "image_id": 8}],
    }
    boxes, notes = boxes_of(tmp_path, content)
    assert boxes == [[[0, 0, 5, 6]], [], []]
    assert not notes


def test_a_superscript_digit_is_not_a_number():
    photo = Path("shots/\N{SUPERSCRIPT TWO}.jpg")
    assert match_photos(Path("boxes.json"), {"2": [1]}, [photo]) == ({}, ["2"])


def matched(names, *photos):
    """Return the name that each photograph matches."""
    named = {name: name for name in names}
    found, _ = match_photos(Path("boxes.json"), named, [Path(photo) for photo in photos])
    return [found.get(Path(photo)) for photo in photos]


@pytest.mark.parametrize(
    ("names", "photos"),
    [
        (["img.png"], ["x/img.png", "y/img.png"]),
        (["u/img.png"], ["x/img.png", "y/img.png"]),
        (["z/x/img.png"], ["1/x/img.png", "2/x/img.png"]),
        (["img"], ["img.png", "img.jpg"]),
        (["139"], ["139.jpg", "x/000000000139.jpg"]),
        (["u/img.png", "v/img.png"], ["x/img.png"]),
        (["u/img.png", "v\\img.png"], ["img.png"]),
    ],
)
def test_ambiguous_names_are_refused(names, photos):
    with pytest.raises(UserError, match=r"boxes\.json") as refusal:
        matched(names, *photos)
    assert all(photo in str(refusal.value) for photo in photos)
    assert "\n" not in str(refusal.value)


def test_the_name_that_shares_most_folders_with_the_path_counts():
    assert matched(["a.png", "x/a.png"], "a.png", "x/a.png") == ["a.png", "x/a.png"]
    assert matched(["a.png", "x/a.png"], "1/x/a.png", "1/y/a.png") == ["x/a.png", "a.png"]
    assert matched(["train/a.png", "val/a.png"], "1/val/a.png") == ["val/a.png"]
    assert matched(["val/a.png", "train/a.png"], "1/train/a.png", "1/val/a.png") == [
        "train/a.png",
        "val/a.png",
    ]
    assert matched(["z/a.png", "a.png"], "x/a.png") == ["a.png"]
    assert matched(["a.png", "/data/a.png"], "/data/a.png", "/a.png") == ["/data/a.png", "a.png"]


@pytest.mark.parametrize(
    "content", [{"img.png": [[1, 2, 30, 40]]}, [{"file_name": "img.png", "bbox": [1, 2, 30, 40]}]]
)
def test_boxes_are_not_given_to_two_photographs(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    photos = [Path("x/img.png"), Path("y/img.png")]
    with pytest.raises(UserError, match=r"x/img\.png.*y/img\.png"):
        read_boxes([str(path)], photos)


def test_names_that_match_no_photograph_are_reported(tmp_path):
    content = [{"file_name": name, "bbox": [0, 0, 5, 5]} for name in ("a.jpg", "c.jpg", "d.jpg")]
    _, (note,) = boxes_of(tmp_path, content)
    assert "c.jpg, d.jpg" in note
    assert "\n" not in note
    plain = {name: [[0, 0, 5, 5]] for name in ("a.jpg", "000000000139.jpg", "b.png", "e.jpg")}
    boxes, (note,) = boxes_of(tmp_path, plain)
    assert boxes == [[[0, 0, 5, 5]]] * 3
    assert "e.jpg" in note


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3]}], "entry 0"),
        ([{"file_name": "a.jpg"}], "bbox"),
        ([{"bbox": [1, 2, 3, 4]}], "image_id"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3, 4], "category_id": 2}], "category_id"),
        ([{"file_name": "z.jpg", "bbox": [1, 2, 3, 4]}], "z.jpg"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3, 4]}, 5], "boxes.json"),
        ({"images": [{"id": 1}], "annotations": []}, "file_name"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}], "annotations": []}, "entry 0"),
        ([{"image_id": [1], "bbox": [1, 2, 3, 4]}], "image_id"),
        ([{"file_name": {}, "bbox": [1, 2, 3, 4]}], "file_name"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": [1]}], "category_id"),
        ({"a.jpg": 5}, "boxes.json"),
        ({"a.jpg": []}, str(PHOTOS[1])),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, shown):
    with pytest.raises(UserError, match=re.escape(shown)) as refusal:
        boxes_of(tmp_path, content)
    assert "boxes.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_nested_too_deep_is_refused(tmp_path):
    (tmp_path / "boxes.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UserError, match=r"boxes\.json"):
        read_boxes([str(tmp_path / "boxes.json")], PHOTOS)


def test_a_file_without_boxes_means_nobody(tmp_path):
    photos = [Path("a.jpg"), Path("b.jpg")]
    for content in ([], {"images": [], "annotations": [], "categories": []}):
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        assert read_boxes([str(tmp_path / "boxes.json")], photos) == {path: [] for path in photos}


@pytest.mark.parametrize(
    ("values", "shown"), [(["1,2,3,4", "FILE"], "boxes.json"), ([""], "--boxes=")]
)
def test_files_mixed_with_boxes_and_empty_values_are_refused(tmp_path, values, shown):
    file = tmp_path / "boxes.json"
    file.write_text("[]")
    with pytest.raises(UserError, match=re.escape(shown)):
        read_boxes([value.replace("FILE", str(file)) for value in values], [Path("a.jpg")])
