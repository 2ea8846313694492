"""Sizes that a dataset gives, compared with the photographs and clips."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.prediction.box_files import read_all_boxes, read_boxes
from tests.io.oriented_pictures import STORED


def save_photo(path, size=(600, 400), orientation=1, box=(300, 50, 500, 350)):
    """Write a photograph that is black but for a white box, stored as a phone does."""
    shown = np.zeros((size[1], size[0], 3), np.uint8)
    x0, y0, x1, y1 = box
    shown[y0:y1, x0:x1] = 255
    picture, turn = Image.fromarray(shown), STORED[orientation]
    about = Image.Exif()
    about[0x0112] = orientation
    stored = picture if turn is None else picture.transpose(turn)
    stored.save(path, exif=about)
    return np.array(stored)


def read(tmp_path, size, box, name="photo.png", **options):
    """Return the boxes that a dataset gives for a photograph of a size, and the notes."""
    image = {"id": 1, "file_name": name, "width": size[0], "height": size[1]}
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [int(value) for value in box]}
    content = {"images": [image], "annotations": [person]}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    notes = []
    photo = tmp_path / name
    boxes = read_boxes([str(path)], [photo], warn=notes.append, **options)
    return np.round(boxes[photo], 3).tolist(), notes


def test_boxes_of_the_same_size_are_taken_as_they_are(tmp_path):
    save_photo(tmp_path / "photo.png")
    assert read(tmp_path, (600, 400), (300, 50, 200, 300)) == ([[300, 50, 500, 350]], [])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_on_the_stored_pixels_are_turned_as_the_picture(tmp_path, orientation):
    """The box is that of the white pixels; the right answer is the same for all orientations.

    Where the orientation keeps the sides, sizes cannot tell: boxes are the upright picture's.
    """
    stored = save_photo(tmp_path / "photo.png", orientation=orientation)
    shows = orientation >= 5
    rows, columns = np.nonzero(stored[..., 0])
    own = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    size = (stored.shape[1], stored.shape[0])
    boxes, notes = read(tmp_path, size, own if shows else (300, 50, 200, 300))
    assert boxes == [[300, 50, 500, 350]]
    assert len(notes) == (orientation > 1)
    assert all("photo.png" in note and "EXIF" in note for note in notes)
    # Boxes drawn on the upright picture need no change and no note where its size differs.
    if shows:
        assert read(tmp_path, (600, 400), (300, 50, 200, 300)) == ([[300, 50, 500, 350]], [])


@pytest.mark.parametrize("size", [(1200, 800), (300, 200), (333, 222), (37, 25), (599, 399)])
def test_boxes_of_a_resized_copy_are_scaled_with_a_note(tmp_path, size):
    save_photo(tmp_path / "photo.png")
    boxes, (note,) = read(tmp_path, size, (0, 0, size[0] // 2, size[1]))
    np.testing.assert_allclose(boxes, [[0, 0, size[0] // 2 * 600 / size[0], 400]], atol=1e-3)
    assert f"{size[0]} x {size[1]}" in note
    assert "600 x 400" in note


def test_boxes_of_a_resized_copy_of_the_stored_pixels(tmp_path):
    save_photo(tmp_path / "photo.png", orientation=6)
    # Half of 50, 100, 350, 300 in the 400 x 600 pixels as stored.
    boxes, notes = read(tmp_path, (200, 300), (25, 50, 150, 100))
    assert boxes == [[300, 50, 500, 350]]
    assert len(notes) == 2


@pytest.mark.parametrize(("size", "orientation"), [((400, 600), 1), ((600, 300), 6), ((1, 9), 1)])
def test_other_sizes_are_refused_with_both(tmp_path, size, orientation):
    save_photo(tmp_path / "photo.png", orientation=orientation)
    with pytest.raises(UserError, match=r"photo\.png") as refusal:
        read(tmp_path, size, (0, 0, 9, 9))
    assert f"{size[0]} x {size[1]}" in str(refusal.value)
    assert "600 x 400" in str(refusal.value)
    assert "boxes.json" in str(refusal.value)


@pytest.mark.parametrize("size", [(0, 400), ("wide", 400), (-600, 400)])
def test_sizes_that_are_none_are_refused(tmp_path, size):
    save_photo(tmp_path / "photo.png")
    with pytest.raises(UserError, match=re.escape(repr(size[0]))):
        read(tmp_path, size, (0, 0, 9, 9))


def test_a_photograph_that_cannot_be_read_is_reported_later(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"hello")
    assert read(tmp_path, (600, 400), (1, 2, 3, 4)) == ([[1, 2, 4, 6]], [])


def test_frames_of_a_clip_are_compared_as_well(tmp_path):
    clip = tmp_path / "clip.avi"
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(clip), cv2.CAP_FFMPEG, code, 25.0, (64, 48))
    for _ in range(2):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    path, notes, wrong = tmp_path / "boxes.json", [], []
    for size in ((128, 96), (48, 64)):
        images = [
            {"id": n, "file_name": f"clip/{n}.jpg", "width": size[0], "height": size[1]}
            for n in (0, 1)
        ]
        people = [{"image_id": n, "category_id": 1, "bbox": [10, 20, 30, 40]} for n in (0, 1)]
        path.write_text(json.dumps({"images": images, "annotations": people}))
        _, of_clips = read_all_boxes(
            [str(path)], [], [clip], None, notes.append, (), lambda *about: wrong.append(about)
        )
        if size == (128, 96):
            assert [own[0].box.tolist() for own in of_clips[clip].values()] == [[5, 10, 20, 30]] * 2
            assert not wrong
    assert len(notes) == 1
    assert notes[0].count("clip.avi") == 1
    assert of_clips == {}
    ((path, reason),) = wrong
    assert path == clip
    assert "48 x 64" in reason
    assert "64 x 48" in reason
