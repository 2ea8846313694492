"""Boxes of YOLO, MegaDetector and AlphaPose, read for photographs."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.prediction.box_files import read_all_boxes, read_boxes
from pare_jax.prediction.detection import other_formats
from pare_jax.prediction.detection.frames import read_mot
from pare_jax.prediction.detection.other_formats import read_yolo

# 200 x 100 pixels.
MEGADETECTOR = {
    "images": [
        {
            "file": "sub/a.jpg",
            "detections": [
                {"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 1]},
                {"category": "2", "conf": 0.8, "bbox": [0.1, 0.2, 0.3, 0.4]},
                {"category": "2", "conf": 0.3, "bbox": [0.5, 0.2, 0.3, 0.4]},
            ],
        },
        {"file": "sub/b.jpg", "detections": []},
    ],
    "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
    "info": {"format_version": "1.4"},
}


@pytest.fixture
def photos(tmp_path):
    found = [tmp_path / "sub" / f"{name}.jpg" for name in ("a", "b")]
    found[0].parent.mkdir()
    for path in found:
        Image.new("RGB", (200, 100)).save(path)
    return found


def read(path, photos, **options):
    """Return the boxes and scores of each photograph, and the notes."""
    notes = []
    threshold = options.pop("threshold", None)
    boxes, _ = read_all_boxes([str(path)], photos, (), threshold, notes.append, **options)
    found = [[(one.box.round(6).tolist(), one.score) for one in boxes[photo]] for photo in photos]
    return found, notes


def save(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_megadetector(tmp_path, photos):
    path = save(tmp_path / "detections.json", MEGADETECTOR)
    found, notes = read(path, photos)
    assert found == [[([20, 20, 80, 60], 0.8)], []]
    assert not notes
    found, _ = read(path, photos, threshold=0.2)
    assert found[0] == [([20, 20, 80, 60], 0.8), ([100, 20, 160, 60], 0.3)]


def test_megadetectors_categories_and_failures(tmp_path, photos):
    """The category of people is the one called "person"; without a list it is 2."""
    renamed = MEGADETECTOR | {"detection_categories": {"1": "person", "2": "animal"}}
    assert read(save(tmp_path / "a.json", renamed), photos)[0][0] == [([0, 0, 200, 100], 0.9)]
    unnamed = {"images": MEGADETECTOR["images"]}
    assert read(save(tmp_path / "b.json", unnamed), photos)[0][0] == [([20, 20, 80, 60], 0.8)]
    failed = {"file": "sub/b.jpg", "failure": "cannot open", "detections": None}
    content = MEGADETECTOR | {"images": [MEGADETECTOR["images"][0], failed]}
    found, (note,) = read(save(tmp_path / "c.json", content), photos)
    assert found[1] == []
    assert "sub/b.jpg" in note


def test_megadetectors_form_with_pixels(tmp_path, photos):
    people = [
        {"category": "person", "confidence": 0.81, "bbox": [12.0, 40.5, 96.3, 90.9]},
        {"category": "animal", "confidence": 0.93, "bbox": [0, 0, 50, 50]},
    ]
    content = [{"file": "sub/a.jpg", "detections": people}, {"file": "b.jpg", "detections": []}]
    for category in ("person", "2", 2):
        people[0]["category"] = category
        found, notes = read(save(tmp_path / "detections.json", content), photos)
        assert found == [[([12.0, 40.5, 96.3, 90.9], 0.81)], []]
        assert not notes


def yolo_folder(tmp_path, **files):
    folder = tmp_path / "labels"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_a_folder_of_yolos_files(tmp_path, photos):
    """Centre and size; another class is skipped, and a picture without a file has nobody."""
    folder = yolo_folder(tmp_path, a="0 0.25 0.4 0.3 0.4\n16 0.5 0.5 1 1 0.9\n\n")
    found, notes = read(folder, photos)
    assert [box for box, _ in found[0]] == [[20, 20, 80, 60]]
    assert math.isnan(found[0][0][1])
    assert found[1] == []
    assert not notes
    yolo_folder(tmp_path, c="0 0.5 0.5 1 1")
    assert "c" in read(folder, photos)[1][0]


def test_scores_and_ids_of_yolo(tmp_path, photos):
    lines = ["0 .5 .5 1 1 0.9", "0 .5 .5 1 1 0.4", "0 .5 .5 1 1 7", "0 .5 .5 1 1 0.8 7"]
    folder = yolo_folder(tmp_path, a="\n".join(lines))
    scores = [score for _, score in read(folder, photos)[0][0]]
    np.testing.assert_equal(scores, [0.9, math.nan, 0.8])
    assert len(read(folder, photos, threshold=0.3)[0][0]) == 4


def test_yolos_own_list_of_classes(tmp_path, photos):
    folder = yolo_folder(tmp_path, a="0 .5 .5 1 1\n1 .5 .5 .5 .5", classes="dog\nPerson\n")
    assert [box for box, _ in read(folder, photos)[0][0]] == [[50, 25, 150, 75]]
    yolo_folder(tmp_path, classes="dog\ncat\n")
    with pytest.raises(UserError, match=r"classes\.txt.*person"):
        read(folder, photos)


def test_yolos_file_of_one_photograph(tmp_path, photos):
    path = save(tmp_path / "any_name.txt", "0 0.25 0.4 0.3 0.4")
    (boxes,) = read_boxes([str(path)], photos[:1]).values()
    assert np.round(boxes, 6).tolist() == [[20, 20, 80, 60]]
    with pytest.raises(UserError, match=r"any_name\.txt"):
        read(path, photos)
    assert read(save(path, ""), photos[:1])[0] == [[]]


def test_yolos_boxes_are_of_the_upright_photograph(tmp_path, photos):
    about = Image.Exif()
    about[0x0112] = 6
    Image.new("RGB", (200, 100)).save(photos[0], exif=about)
    path = save(tmp_path / "a.txt", "0 0.5 0.25 1 0.5")
    assert read(path, photos[:1])[0][0][0][0] == [0, 0, 100, 100]


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.txt", "0 0.1 0.2 0.3 0.4\n0 1 2 3 4 5 6 7 8", "line 2"),
        ("a.txt", "0 0.1 0.2 0.3 word", "line 1"),
        ("a.txt", "0 100 50 20 30", "line 1"),
        ("a.txt", "0.5 0.1 0.2 0.3 0.4", "line 1"),
        ("a.json", MEGADETECTOR | {"annotations": []}, "annotations"),
        ("a.json", MEGADETECTOR | {"detection_categories": {"1": "dog"}}, "detection_categories"),
        ("a.json", {"images": [{"file": 5, "detections": []}]}, "file"),
        ("a.json", {"images": [{"file": "a.jpg", "detections": [{"category": "2"}]}]}, "bbox"),
        (
            "a.json",
            {"images": [{"file": "a.jpg", "detections": [{"category": "2", "bbox": [9] * 4}]}]},
            "pixels",
        ),
        ("a.json", {"images": [{"file": "z.jpg", "detections": []}]}, "z.jpg"),
        ("a.json", [{"file": "a.jpg", "detections": [{"category": "person"}]}], "confidence"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path, photos, name, content, shown):
    with pytest.raises(UserError, match=re.escape(shown)) as refusal:
        read(save(tmp_path / name, content), photos[:1])
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("reader", [read_yolo, read_mot])
def test_a_file_without_end_is_refused(monkeypatch, reader):
    monkeypatch.setattr(other_formats, "_LARGEST_TEXT", 1 << 20)
    with pytest.raises(UserError, match=r"/dev/zero.* 1 MiB"):
        reader(Path("/dev/zero"))


@pytest.mark.timeout(30, method="signal")
def test_a_pipe_among_yolos_files_is_skipped(tmp_path, photos):
    folder = yolo_folder(tmp_path, a="0 .5 .5 1 1")
    os.mkfifo(folder / "b.txt")
    assert [len(own) for own in read(folder, photos)[0]] == [1, 0]


def test_a_folder_without_labels_is_refused(tmp_path, photos):
    with pytest.raises(UserError, match="sub"):
        read(photos[0].parent, photos)


def test_alphapose(tmp_path, photos):
    """Its scores are sums over joints, so that they are not compared with a threshold."""
    pose = {"category_id": 1, "keypoints": [0.0] * 51, "score": 0.2}
    content = [
        pose | {"image_id": "a.jpg", "box": [20.5, 10, 30, 40], "idx": 3},
        pose | {"image_id": "a.jpg", "box": [1, 2, 30, 40], "score": 2.9},
    ]
    path = save(tmp_path / "alphapose-results.json", content)
    found, notes = read(path, photos)
    assert [box for box, _ in found[0]] == [[20.5, 10, 50.5, 50], [1, 2, 31, 42]]
    assert all(math.isnan(score) for _, score in found[0])
    assert found[1] == []
    assert not notes
    assert "--threshold=0.7" in read(path, photos, threshold=0.7)[1][0]


def test_alphaposes_frames_of_a_clip_keep_their_ids(tmp_path):
    clip = tmp_path / "clip.mp4"
    entry = {"category_id": 1, "keypoints": [0.0] * 51, "box": [1, 2, 30, 40], "score": 2.0}
    content = [entry | {"image_id": f"{n}.jpg", "idx": 4} for n in range(2)]
    path = save(tmp_path / "alphapose-results.json", content)
    _, of_clips = read_all_boxes([str(path)], [], [clip])
    assert {number: own[0].id for number, own in of_clips[clip].items()} == {0: 4, 1: 4}
