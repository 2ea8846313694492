"""A folder of photographs and clips, with a file of keypoints or with BlazePose's finds."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipelines.releases import folder as folder_module
from data_pipelines.releases.folder import EVERY, Folder
from pare_jax.errors import UserError
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import COCO17
from tests.data_pipelines.releases.red_pictures import (
    HEIGHT,
    WIDTH,
    annotation,
    assert_red,
    coco_file,
    coco_points,
    examples_of,
    picture,
    write_picture,
)

ON_ITS_SIDE = 6  # a phone held upright: the picture is stored turned by a quarter


def write_turned(path):
    """Write a picture that is stored on its side, with the tag that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = ON_ITS_SIDE
    picture().transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def test_keypoints_of_a_turned_phone_picture_are_right_upright_and_as_stored(tmp_path):
    write_turned(tmp_path / "p.jpg")
    upright = coco_file(tmp_path / "upright.json", ["p.jpg"], [annotation(1, 0)])
    rows = coco_points()
    rows[:, :2] = np.column_stack([rows[:, 1], WIDTH - rows[:, 0]])
    entry = annotation(1, 0, keypoints=rows.ravel().tolist(), bbox=[10, 20, 60, 80])
    stored = coco_file(tmp_path / "stored.json", ["p.jpg"], [entry], size=(HEIGHT, WIDTH))
    for labels in (upright, stored):
        ((example,), skipped) = examples_of(Folder(tmp_path, labels, held_out=0))
        assert not skipped
        assert_red(example)
        np.testing.assert_allclose(example["crop_to_photo"][:, 2], [60 - 72, 40 - 72], atol=1e-4)


def test_keypoints_of_a_larger_copy_are_scaled_and_those_of_another_picture_skipped(tmp_path):
    write_picture(tmp_path / "deep" / "p.png")
    rows = coco_points() * [2, 2, 1]
    entry = annotation(1, 0, keypoints=rows.ravel().tolist(), bbox=[40, 20, 160, 120])
    labels = coco_file(tmp_path / "l.json", ["p.png"], [entry], size=(2 * WIDTH, 2 * HEIGHT))
    ((example,), _) = examples_of(Folder(tmp_path, labels, held_out=0))
    assert_red(example)
    assert example["sequence"] == "deep/p.png"
    labels = coco_file(tmp_path / "l.json", ["p.png"], [entry], size=(50, 300))
    dataset = Folder(tmp_path, labels, held_out=0)
    assert dataset.labels.skipped[0].reason == "keypoints of another picture"


def test_keypoints_of_other_photographs_are_refused_with_the_file_and_the_first_name(tmp_path):
    write_picture(tmp_path / "p.png")
    labels = coco_file(tmp_path / "l.json", ["away.png"], [annotation(1, 0)])
    with pytest.raises(UserError, match=r"l\.json.*away\.png"):
        Folder(tmp_path, labels).check()


def openpose_file(folder, name):
    rows = np.zeros((25, 3))
    rows[7] = *(90.0, 30.0), 1.0  # left wrist
    rows[1] = *(50.0, 20.0), 1.0
    rows[8] = *(55.0, 60.0), 0.5
    content = {"people": [{"pose_keypoints_2d": rows.ravel().tolist()}]}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}_keypoints.json").write_text(json.dumps(content))


def write_clip(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for _ in range(frames):
        writer.write(np.asarray(picture())[..., ::-1])
    writer.release()


def test_frames_of_a_clip_are_one_group_and_close_ones_are_left_out(tmp_path):
    write_clip(tmp_path / "walk.mp4", 26)
    write_picture(tmp_path / "p.jpg", quality=95)
    write_picture(tmp_path / "alone.jpg")
    for frame in (3, 4, 3 + EVERY, 25, 99):
        openpose_file(tmp_path / "points", f"walk_{frame:012d}")
    openpose_file(tmp_path / "points", "p")
    dataset = Folder(tmp_path, tmp_path / "points", held_out=0)
    units = dataset.units("train")
    assert [[photo.path for photo in unit.photographs] for unit in units] == [
        ["p.jpg"],
        ["walk.mp4"],
    ]
    examples, skipped = examples_of(dataset)
    assert [(example["sequence"], example["frame"]) for example in examples] == [
        *(("p.jpg", 0), ("walk.mp4", 3), ("walk.mp4", 3 + EVERY), ("walk.mp4", 25))
    ]
    for example in examples:
        assert_red(example)
    assert "frame 99" in skipped["frame missing in the clip"]
    assert any("alone.jpg" in line for line in dataset.notes())


class OnePerson:
    """Stands for BlazePose: finds the person of `coco_points` in every picture."""

    def find(self, image):
        rows = coco_points()
        assert image.shape == (HEIGHT, WIDTH, 3)
        return [Keypoints(COCO17, rows[:, :2], rows[:, 2] / 2.0, score=0.9)]


def test_without_labels_people_are_found_in_upright_pictures_and_in_every_tenth_frame(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(folder_module.blazepose_files, "missing", lambda: None)
    monkeypatch.setattr(folder_module, "load_blazepose", OnePerson)
    write_clip(tmp_path / "walk.mp4", 2 * EVERY + 1)
    write_turned(tmp_path / "p.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    dataset = Folder(tmp_path, held_out=0)
    examples, skipped = examples_of(dataset)
    assert [(example["sequence"], example["frame"]) for example in examples] == [
        *(("p.jpg", 0), ("walk.mp4", 0), ("walk.mp4", EVERY), ("walk.mp4", 2 * EVERY))
    ]
    for example in examples:
        assert_red(example)
    assert list(skipped.values()) == ["broken.jpg"]


def test_without_blazepose_a_folder_needs_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module.blazepose_files, "missing", lambda: "pip install it")
    with pytest.raises(UserError, match="pip install it"):
        Folder(tmp_path)
    with pytest.raises(UserError, match=r"away\.json"):
        Folder(tmp_path, tmp_path / "away.json")
