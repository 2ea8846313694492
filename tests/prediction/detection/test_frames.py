"""Box files matched to the frames of clips, and MOT Challenge's lines."""

import json
import math
import re
from pathlib import Path

import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.box_files import read_all_boxes
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.detection.frames import read_mot

CLIP = Path("films/clip.mp4")
OTHER = Path("films/other.mp4")
PHOTO = Path("photo.jpg")


def frames_of(tmp_path, content, clips=(CLIP,), photos=(), name="boxes.json", threshold=0.0):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    notes = []
    of_photos, of_clips = read_all_boxes([str(path)], photos, clips, threshold, notes.append)
    return of_photos, of_clips, notes


def entry(**about):
    return {"bbox": [10, 20, 30, 40], "category_id": 1, **about}


@pytest.mark.parametrize(
    "names",
    [
        ("clip/000000.jpg", "clip/000012.jpg"),
        ("train/clip/img1/000000.jpg", "train/clip/img1/000012.jpg"),
        ("clip.mp4/0.png", "clip.mp4/12.png"),
        ("clip_0000.jpg", "clip_0012.jpg"),
        ("clip-0.jpg", "clip-12.jpg"),
        ("000000.jpg", "000012.jpg"),
        (0, 12),
    ],
)
def test_names_and_numbers_of_frames(tmp_path, names):
    key = "image_id" if isinstance(names[0], int) else "file_name"
    content = [entry(**{key: name}) for name in names]
    _, of_clips, notes = frames_of(tmp_path, content)
    assert sorted(of_clips[CLIP]) == [0, 12]
    assert of_clips[CLIP][12][0].box.tolist() == [10, 20, 40, 60]
    assert not notes


def test_plain_numbers_are_no_frames_of_several_clips(tmp_path):
    content = [entry(file_name="clip/3.jpg"), entry(file_name="5.jpg"), entry(file_name="x/5.jpg")]
    _, of_clips, (_, note) = frames_of(tmp_path, content, clips=(CLIP, OTHER))
    assert list(of_clips[CLIP]) == [3]
    assert of_clips[OTHER] == {}
    assert "5.jpg, x/5.jpg" in note


def test_photographs_and_clips_in_one_file(tmp_path):
    content = [entry(file_name="photo.jpg"), entry(file_name="clip_4.jpg")]
    of_photos, of_clips, notes = frames_of(tmp_path, content, photos=(PHOTO,))
    assert [list(one.box) for one in of_photos[PHOTO]] == [[10, 20, 40, 60]]
    assert list(of_clips[CLIP]) == [4]
    assert len(notes) == 1
    assert "clip_4.jpg" in notes[0]


@pytest.mark.parametrize(("key", "first"), [("frame_id", 0), ("frame_index", 0), ("frame_id", 1)])
def test_datasets_of_clips_list_video_and_frame(tmp_path, key, first):
    """CocoVID counts frames from 0, but converters of MOT's data count from 1."""
    images = [
        {"id": 10 * video + n, "video_id": video, key: n + first, "file_name": f"{video}/{n}.jpg"}
        for video in (1, 2)
        for n in range(5)
    ]
    annotations = [
        {"image_id": 12, "bbox": [1, 1, 5, 5], "category_id": 1, "instance_id": 7},
        {"image_id": 24, "bbox": [2, 2, 5, 5], "category_id": 1, "instance_id": 8},
    ]
    videos = [{"id": 1, "name": "val/clip"}, {"id": 2, "file_name": "other.mp4"}]
    content = {"images": images, "annotations": annotations, "videos": videos}
    _, of_clips, notes = frames_of(tmp_path, content, clips=(CLIP, OTHER))
    found = {clip: {n: own for n, own in of_clips[clip].items() if own} for clip in of_clips}
    assert list(found[CLIP]) == [2]
    assert list(found[OTHER]) == [4]
    assert [one.id for one in found[CLIP][2]] == [7]
    assert all(math.isnan(one.score) for one in found[CLIP][2])
    # Only where frames do not begin with 0, the first one's number is said.
    named = [("1/0.jpg", "frame 0 of clip.mp4"), ("2/0.jpg", "frame 0 of other.mp4")]
    for note, words in zip(notes, named if first else [], strict=True):
        assert all(word in note for word in words)


def same_names():
    """Return a dataset of two clips of two frames, whose images have the same names."""
    images = [
        {"id": 10 * video + n, "video_id": video, "frame_id": n, "file_name": f"{n:06}.jpg"}
        for video in (1, 2)
        for n in range(2)
    ]
    annotations = [
        {"image_id": image["id"], "bbox": [image["id"], 1, 5, 5], "category_id": 1}
        for image in images
    ]
    videos = [{"id": 1, "name": "clip"}, {"id": 2, "name": "other"}]
    return {"images": images, "annotations": annotations, "videos": videos}


def test_frames_of_several_clips_may_have_the_same_names(tmp_path):
    for clips in [(CLIP, OTHER), (OTHER, CLIP), (CLIP,), (OTHER,)]:
        _, of_clips, notes = frames_of(tmp_path, same_names(), clips=clips)
        lefts = {
            clip: {n: [one.box[0] for one in own] for n, own in frames.items()}
            for clip, frames in of_clips.items()
        }
        expected = {CLIP: {0: [10], 1: [11]}, OTHER: {0: [20], 1: [21]}}
        assert lefts == {clip: expected[clip] for clip in clips}
        assert not notes


def test_a_photograph_that_matches_several_images_is_refused(tmp_path):
    photo = Path("shots/000001.jpg")
    with pytest.raises(UserError, match=re.escape(str(photo))):
        frames_of(tmp_path, same_names(), clips=(CLIP,), photos=(photo,))


def test_ids_are_used_if_every_box_has_one(tmp_path):
    content = [
        entry(image_id=0, track_id=3, score=0.3),
        entry(image_id=0, track_id=0),
        entry(image_id=1, track_id=3),
    ]
    _, of_clips, _ = frames_of(tmp_path, content, threshold=0.5)
    assert [one.id for one in of_clips[CLIP][0]] == [3, 0]
    assert of_clips[CLIP][0][0].score == 0.3  # the tracker decides about scores
    content.append(entry(image_id=1, track_id=-1))
    _, of_clips, _ = frames_of(tmp_path, content)
    assert {one.id for own in of_clips[CLIP].values() for one in own} == {None}
    _, _, (note,) = frames_of(tmp_path, content)
    assert "1 box without an id" in note
    content[1:] = [entry(image_id=0, track_id=3)]
    with pytest.raises(UserError, match=r"boxes\.json.* frame 0 .* id 3"):
        frames_of(tmp_path, content)


@pytest.mark.parametrize("number", [7, 7.0, "7", "7.0", " 07"])
def test_ids_may_be_decimals_and_text(tmp_path, number):
    """Tables with gaps have columns of decimals, and some programs write text."""
    content = [entry(image_id=n, track_id=number) for n in range(3)]
    _, of_clips, notes = frames_of(tmp_path, content)
    assert [one.id for own in of_clips[CLIP].values() for one in own] == [7, 7, 7]
    assert not notes


@pytest.mark.parametrize("number", [7.5, "person 7", [7], True, -3, 2**40, float("inf")])
def test_ids_that_are_not_understood_are_said(tmp_path, number):
    content = [entry(image_id=n, track_id=number) for n in range(3)]
    _, of_clips, (note,) = frames_of(tmp_path, content)
    assert {one.id for own in of_clips[CLIP].values() for one in own} == {None}
    assert "boxes.json" in note
    assert "3 boxes" in note


@pytest.mark.parametrize("number", [None, -1, -1.0, "-1", "", float("nan")])
def test_boxes_may_have_no_id(tmp_path, number):
    _, of_clips, notes = frames_of(tmp_path, [entry(image_id=0, track_id=number)])
    assert [one.id for one in of_clips[CLIP][0]] == [None]
    assert not notes


@pytest.mark.parametrize(("first", "shown"), [(0, None), (1, "frame 1"), (30, "frame 30")])
def test_the_frame_of_the_first_box_is_said_if_it_is_not_0(tmp_path, first, shown):
    """ffmpeg numbers frames from 1, most other programs from 0."""
    content = [entry(file_name=f"clip/{first + n:06}.jpg") for n in range(3)]
    _, of_clips, notes = frames_of(tmp_path, content)
    assert sorted(of_clips[CLIP]) == [first, first + 1, first + 2]
    assert len(notes) == (shown is not None)
    assert all(f"{first:06}.jpg" in note and shown in note for note in notes)


@pytest.mark.parametrize(
    "names",
    [
        ("000007.png", "000012.png"),
        ("walk/000007.png", "walk/000012.png"),
        ("000007.jpg.png", "000012"),  # the first names no frame
        ("7", "12"),
        (7, 12),
    ],
)
def test_images_of_a_folder_of_frames_are_found_by_their_files_names(tmp_path, names):
    """000007.png is the second frame if 000003.png is the first."""
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in (3, 7, 12):
        (folder / f"{number:06}.png").write_bytes(b"")
    key = "image_id" if isinstance(names[0], int) else "file_name"
    content = [entry(**{key: name}) for name in names]
    _, of_clips, notes = frames_of(tmp_path, content, clips=(folder,))
    assert sorted(of_clips[folder]) == ([2] if "jpg" in str(names) else [1, 2])
    assert len(notes) == ("jpg" in str(names))


def test_lines_of_mot(tmp_path):
    lines = (
        "1,2,10,20,30,40,1,1,0.5\n1,3,1,1,5,5,0,1,1\n\n3,2,11,20,30,40,1,1,1\n4,9,0,0,9,9,1,3,1\n"
    )
    _, of_clips, _ = frames_of(tmp_path, lines, name="gt.txt")
    assert sorted(of_clips[CLIP]) == [0, 2]
    (one,) = of_clips[CLIP][0]
    assert (one.id, one.box.tolist()) == (2, [10, 20, 40, 60])
    assert math.isnan(one.score)
    detections = tmp_path / "det.txt"
    detections.write_text("2,-1,10.5,20,30,40,0.75,-1,-1,-1\n")
    assert read_mot(detections)[1] == [Detection(pytest.approx([10.5, 20, 40.5, 60]), 0.75)]


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        ("1,2,3\n", 1, ""),
        ("1,2,10,20,30,40,1\nframe 2\n", 2, ""),
        ("0,2,10,20,30,40,1\n", 1, "frame 0"),
        ("1,-1,10,20,30,40,27.5\n", 1, "score 27.5"),
        ("1,-1,10,20,30,40\n", 1, "score nan"),
        ("inf,2,10,20,30,40,1\n", 1, ""),
        ("1,2147483647,1,1,5,5,1\n1,2147483648,1,1,5,5,1\n", 2, "2147483648"),
        ("1,1e300,10,20,30,40,1\n", 1, "1e+300"),
        ("2147483648,2,10,20,30,40,1\n", 1, "2147483648"),
    ],
)
def test_bad_lines_are_refused_in_one_line(tmp_path, content, line, shown):
    with pytest.raises(UserError, match=rf"mot\.txt: line {line} .*{re.escape(shown)}") as refusal:
        frames_of(tmp_path, content, name="mot.txt")
    assert "\n" not in str(refusal.value)


def test_boxes_of_other_clips_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"mot\.txt"):
        frames_of(tmp_path, "1,2,10,20,30,40,1\n", clips=(CLIP, OTHER), name="mot.txt")
    with pytest.raises(UserError, match=r"third/1\.jpg"):
        frames_of(tmp_path, [entry(file_name="third/1.jpg")], clips=(CLIP, OTHER))


def test_a_mark_of_utf8_before_the_first_line_is_skipped(tmp_path):
    """Spreadsheets write it."""
    path = tmp_path / "boxes.csv"
    path.write_text("2,-1,10,20,30,40,0.5\n", encoding="utf-8-sig")
    assert read_mot(path) == {1: [Detection(pytest.approx([10, 20, 40, 60]), 0.5)]}


def test_mot_files_may_have_a_header_line(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("Frame,id,left,top,width,height,score\n2,-1,10,20,30,40,0.5\n")
    assert read_mot(path) == {1: [Detection(pytest.approx([10, 20, 40, 60]), 0.5)]}
