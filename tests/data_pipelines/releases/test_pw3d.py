"""3DPW's reader: labels against their definitions and against the pictures."""

import re
import shutil

import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS
from data_pipelines.releases.pw3d import Pw3d
from data_pipelines.releases.release import STORED_SIDE
from pare_jax.errors import UserError
from tests.data_pipelines.releases import small_pw3d
from tests.data_pipelines.releases.small_pw3d import (
    FRAMES,
    decode,
    make_fields,
    read_all,
    read_one,
    reference,
    write_sequence,
)


def to_photo(example, points):
    affine = example["crop_to_photo"].astype(np.float64)
    return points.astype(np.float64) @ affine[:, :2].T + affine[:, 2]


def test_labels_follow_their_definitions(tmp_path):
    fields = make_fields(betas=300)
    examples, skipped = read_one(tmp_path, fields)
    assert not skipped
    assert [(e["frame"], e["person"]) for e in examples] == [
        (frame, person) for frame in range(FRAMES) for person in range(2)
    ]
    for example in examples:
        assert example.keys() == STORED_FIELDS.keys()
        person, frame = int(example["person"]), int(example["frame"])
        rotations, joints, pixels = reference(fields, person, frame)
        np.testing.assert_allclose(example["rotations"], rotations, atol=1e-6)
        np.testing.assert_allclose(example["joints_3d"], joints - joints[0], atol=1e-6)
        np.testing.assert_allclose(to_photo(example, example["joints_2d"]), pixels, atol=1e-3)
        np.testing.assert_allclose(example["betas"], fields["betas"][person][:10], rtol=1e-6)
        assert example["gender"] == ("male", "female")[person]
        assert example["sequence"] == "walk_00"
        assert example["joints_2d_weight"].tolist() == [1.0] * 24
        assert example["visible_weight"].tolist() == [0.0] * 24
        assert example["parts_weight"] == example["head_top_weight"] == 0
        low, high = pixels.min(0), pixels.max(0)
        corners = to_photo(example, np.array([[0, 0], [STORED_SIDE, STORED_SIDE]]))
        np.testing.assert_allclose(corners.mean(0), (low + high) / 2, atol=1e-3)
        np.testing.assert_allclose(np.diff(corners, axis=0), 1.8 * (high - low).max(), rtol=1e-5)


@pytest.mark.parametrize("size", [(640, 360), (1080, 1920), (1501, 1003)])
def test_dots_lie_under_their_joints(tmp_path, size):
    # The larger pictures are decoded at half their size.
    fields = make_fields(people=1, frames=1, size=size, reach=0.6)
    (example,), _ = read_one(tmp_path, fields, size=size, dots=1)
    picture = decode(example)[..., 0].astype(np.float64) - 60
    assert picture.shape == (STORED_SIDE, STORED_SIDE)
    joints = example["joints_2d"].astype(np.float64)
    found = 0
    for index, (x, y) in enumerate(joints):
        others = np.delete(joints, index, axis=0)
        if np.abs(others - (x, y)).max(1).min() < 16:
            continue  # overlapping dots
        column, row = int(x) - 7, int(y) - 7
        window = np.clip(picture[row : row + 15, column : column + 15], 0, None)
        window[window < 20] = 0
        rows, columns = np.indices(window.shape) + 0.5
        centre = [(columns * window).sum(), (rows * window).sum()] / window.sum()
        np.testing.assert_allclose(np.add(centre, (column, row)), (x, y), atol=0.2)
        found += 1
    assert found > 3


def test_the_crop_is_black_outside_the_photograph(tmp_path):
    fields = make_fields(people=1, frames=1)
    fields["cam_intrinsics"][0, 2] -= 190  # the person stands at the left edge
    (example,), _ = read_one(tmp_path, fields)
    picture, corner = decode(example), example["crop_to_photo"]
    edge = round(float(-corner[0, 2] / corner[0, 0]))
    assert 20 < edge < STORED_SIDE - 20
    assert picture[:, : edge - 3].max() < 12
    inside = np.arange(STORED_SIDE) * corner[1, 1] + corner[1, 2]
    assert picture[(inside > 5) & (inside < 350), edge + 4 :].min() > 45


def test_people_excluded_by_the_protocol_are_not_broken(tmp_path):
    fields = make_fields()
    fields["campose_valid"][0][1] = 0
    fields["poses2d"][1][2] = 0
    fields["jointPositions"][0][1] = np.nan  # no fault if the camera pose is not valid
    (tmp_path / "imageFiles" / "walk_00").mkdir(parents=True)
    examples, skipped = read_one(tmp_path, fields)
    assert len(examples) == 2 * FRAMES - 2
    assert [(item.what, item.reason, item.broken) for item in skipped] == [
        ("walk_00 frame 1 person 0", "camera pose not valid", False),
        ("walk_00 frame 2 person 1", "person not detected", False),
    ]


def test_a_person_outside_the_photograph_gives_no_example(tmp_path):
    fields = make_fields(people=2, frames=1)
    turn = fields["cam_poses"][0, :3, :3]
    joints = fields["jointPositions"][0].reshape(24, 3)
    joints[0] += turn.T @ [3.0, 0, 0]  # one joint outside: the rest of the person is visible
    fields["jointPositions"][1].reshape(24, 3)[:] += turn.T @ [30.0, 0, 0]
    examples, (skipped,) = read_one(tmp_path, fields)
    assert (skipped.what, skipped.reason) == ("walk_00 frame 0 person 1", "outside the photograph")
    assert not skipped.broken
    (example,) = examples
    assert example["person"] == 0
    np.testing.assert_allclose(
        to_photo(example, example["joints_2d"]), reference(fields, 0, 0)[2], rtol=1e-4, atol=0.01
    )
    assert np.isfinite(example["joints_2d"]).all()


def test_a_folder_that_is_not_3dpw_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))}.*sequenceFiles.*imageFiles"):
        Pw3d(tmp_path)
    small_pw3d.make_folder(tmp_path)
    shutil.rmtree(tmp_path / "sequenceFiles" / "validation")
    dataset = Pw3d(tmp_path)
    assert dataset.splits == ("train", "test")
    (problem,) = dataset.check()
    assert f"{tmp_path}/sequenceFiles/validation" in problem
    shutil.rmtree(tmp_path / "imageFiles")
    with pytest.raises(UserError, match="imageFiles"):
        Pw3d(tmp_path)


def test_long_sequences_are_several_units(tmp_path):
    fields = make_fields(people=1, frames=130, size=(64, 36))
    write_sequence(tmp_path, "train", "walk_00", fields, size=(64, 36))
    dataset = Pw3d(tmp_path)
    assert [(unit.start, unit.stop) for unit in dataset.units("train")] == [(0, 100), (100, 130)]
    assert [int(e["frame"]) for e in read_all(dataset)[0]] == list(range(130))
    described = dataset.side_files()["sequences.json"]["train"]["walk_00"]
    assert described == {"people": 1, "frames": 130, "image_size": (64, 36), "genders": ["male"]}
