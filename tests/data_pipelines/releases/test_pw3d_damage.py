"""3DPW's reader on damaged releases: each skipped person has a reason, nothing raises."""

import shutil

import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS
from data_pipelines.releases.pw3d import Pw3d
from tests.data_pipelines.releases import small_pw3d
from tests.data_pipelines.releases.small_pw3d import (
    FRAMES,
    make_fields,
    read_all,
    read_one,
    write_sequence,
)
from tests.io import legacy_pickle_writer as legacy


def test_a_joint_far_outside_is_a_mistake(tmp_path):
    fields = make_fields(people=1, frames=1)
    turn = fields["cam_poses"][0, :3, :3]
    fields["jointPositions"][0].reshape(24, 3)[5] += turn.T @ [90.0, 0, 0]
    examples, skipped = read_one(tmp_path, fields)
    assert not examples
    assert [(one.reason, one.broken) for one in skipped] == [
        ("joint far outside the photograph", True)
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img_frame_ids": [[1, 2], 3]}, "sequence's array lengths disagree"),
        ({"poses": np.float64(3)}, None),
    ],
)
def test_fields_of_wrong_shapes_do_not_raise(tmp_path, change, reason):
    examples, skipped = read_one(tmp_path, make_fields(people=1, frames=1) | change)
    assert not examples
    assert reason in (None, *(one.reason for one in skipped))
    assert all(one.broken for one in skipped)


def _unlink(path, _):
    path.unlink()


def _cut_in_half(path, raw):
    path.write_bytes(raw[: len(raw) // 2])


def _cut_and_fill(path, raw):
    path.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) // 2))


def _no_picture(path, _):
    path.write_text("no picture")


def _empty(path, _):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_unlink, "picture missing"),
        (_cut_in_half, "picture cut short"),
        (_cut_and_fill, "picture cut short"),
        (_no_picture, "picture is no JPEG"),
        (_empty, "picture is no JPEG"),
    ],
)
def test_broken_pictures_are_counted(tmp_path, damage, reason):
    write_sequence(tmp_path, "train", "walk_00", make_fields())
    before = Pw3d(tmp_path).units("train")
    path = tmp_path / "imageFiles" / "walk_00" / "image_00001.jpg"
    damage(path, path.read_bytes())
    dataset = Pw3d(tmp_path)
    examples, skipped = read_all(dataset)
    assert {int(example["frame"]) for example in examples} == {0, 2, 3}
    assert [(item.what, item.reason, item.broken) for item in skipped] == [
        (f"walk_00 frame 1 person {person}", reason, True) for person in range(2)
    ]
    assert any("image_00001.jpg" in line for line in dataset.check())
    assert dataset.units("train") != before  # so that a replaced file is read again


def test_a_picture_with_bytes_after_its_end_is_complete(tmp_path):
    write_sequence(tmp_path, "train", "walk_00", make_fields())
    path = tmp_path / "imageFiles" / "walk_00" / "image_00001.jpg"
    path.write_bytes(path.read_bytes() + b"\0" * 40 + b"written by a camera")
    examples, skipped = read_all(Pw3d(tmp_path))
    assert (len(examples), skipped) == (2 * FRAMES, [])
    assert not any("walk_00" in line for line in Pw3d(tmp_path).check())


def _change(name, person=None, frame=None, value=np.nan):
    def change(fields):
        if person is None:
            fields[name] = value(fields[name]) if callable(value) else value
        elif frame is None:
            was = fields[name][person]
            fields[name][person] = value(was) if callable(value) else value
        else:
            fields[name][person][frame].flat[3] = value

    return change


_NOT_FINITE = "annotation is not finite"
_DISAGREE = "person's array lengths disagree"


@pytest.mark.parametrize(
    ("change", "reason", "count"),
    [
        (_change("poses", 0, 2), _NOT_FINITE, 1),
        (_change("jointPositions", 0, 2, np.inf), _NOT_FINITE, 1),
        (_change("poses2d", 0, 2), _NOT_FINITE, 1),
        (_change("betas", 0, None, np.full(10, np.nan)), _NOT_FINITE, FRAMES),
        (_change("jointPositions", 0, None, np.zeros((0, 72))), "person without joints", FRAMES),
        (_change("jointPositions", None, None, lambda v: [None, v[1]]), "person without joints", 4),
        (_change("poses", 0, None, np.zeros((0,))), "person without pose", FRAMES),
        (_change("betas", 0, None, np.zeros(4)), "person without betas", FRAMES),
        (_change("genders", 0, None, "x"), "person of unknown gender", FRAMES),
        (_change("poses", 0, None, lambda v: v[:-1]), _DISAGREE, FRAMES),
        (_change("jointPositions", 0, None, lambda v: v[:, :-3]), _DISAGREE, FRAMES),
        (_change("campose_valid", 0, None, np.ones(9)), _DISAGREE, FRAMES),
        (_change("poses2d", 0, None, lambda v: v[:2]), _DISAGREE, FRAMES),
        (_change("cam_poses", 2, None, np.nan), _NOT_FINITE, 2),
        (_change("cam_poses", 2, None, np.zeros((4, 4))), "camera pose is no rotation", 2),
        (_change("cam_poses", 2, 2, -9.0), "joint behind the camera", 2),
        (
            _change("img_frame_ids", None, None, np.arange(9)),
            "sequence's array lengths disagree",
            4,
        ),
        (
            _change("cam_intrinsics", None, None, np.eye(2)),
            "sequence file has no cam_intrinsics",
            4,
        ),
        (
            _change("cam_intrinsics", None, None, lambda v: v * [1, 1, np.nan]),
            "sequence file's cam_intrinsics is not finite",
            4,
        ),
        (_change("cam_poses", None, None, "none"), "sequence file has no cam_poses", 4),
        (lambda fields: fields.pop("cam_poses"), "sequence file lacks cam_poses", 4),
    ],
)
def test_broken_annotations_are_counted(tmp_path, change, reason, count):
    fields = make_fields()
    write_sequence(tmp_path, "train", "walk_00", fields)
    change(fields)
    small_pw3d.write_pickle(tmp_path / "sequenceFiles" / "train" / "walk_00.pkl", fields)
    dataset = Pw3d(tmp_path)
    examples, skipped = read_all(dataset)
    assert [item.reason for item in skipped] == [reason] * count
    assert all(item.broken for item in skipped)
    expected = 0 if reason.startswith("sequence") else 2 * FRAMES - count
    assert len(examples) == expected
    for example in examples:
        for name, field in STORED_FIELDS.items():
            if field.dtype == "float32":
                assert np.isfinite(example[name]).all(), name
    assert any(reason in line for line in dataset.check())


def test_a_joint_behind_the_camera_is_broken(tmp_path):
    fields = make_fields(people=1)
    camera = fields["cam_poses"][1]
    behind = camera[:3, :3].T @ (np.array([0, 0, -1.0]) - camera[:3, 3])
    fields["jointPositions"][0][1][:3] = behind
    fields["jointPositions"][0][2] = np.tile(fields["jointPositions"][0][2][:3], 24)
    examples, skipped = read_one(tmp_path, fields)
    reasons = ["joint behind the camera", "joints all in one place"]
    assert [item.reason for item in skipped] == reasons
    assert len(examples) == 2


def test_unreadable_and_hostile_sequence_files(tmp_path):
    root = small_pw3d.make_folder(tmp_path / "raw")
    train = root / "sequenceFiles" / "train"
    raw = (train / "train_walk_00.pkl").read_bytes()
    (train / "cut_00.pkl").write_bytes(raw[: len(raw) // 2])
    touched = tmp_path / "touched"
    call = legacy.call("os", "system", legacy.text(f"touch {touched}"))
    (train / "evil_00.pkl").write_bytes(legacy.legacy_pickle(call))
    (train / "list_00.pkl").write_bytes(legacy.legacy_pickle(b"]"))
    shutil.copytree(root / "imageFiles" / "train_walk_00", root / "imageFiles" / "cut_00")
    dataset = Pw3d(root)
    examples, skipped = read_all(dataset)
    assert len(examples) == 2 * FRAMES
    assert not touched.exists()
    counts = [(item.what.split()[0], item.reason) for item in skipped]
    assert counts == [
        *[("cut_00", "sequence file unreadable")] * FRAMES,  # one for each picture
        ("evil_00", "sequence file refused, it asks for os.system"),
        ("list_00", "sequence file is not 3DPW's"),
    ]
    lines = dataset.check()
    assert [line.partition(": ")[2] for line in lines] == [
        "sequence file unreadable",
        "sequence file refused, it asks for os.system",
        "sequence file is not 3DPW's",
    ]
