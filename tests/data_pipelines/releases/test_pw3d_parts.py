"""3DPW's part labels: the mesh in its crop, and the body files they need."""

import shutil

import numpy as np
import pytest

from data_pipelines.example import STORED_PARTS_STRIDE
from data_pipelines.releases.pw3d import Pw3d
from data_pipelines.releases.release import STORED_SIDE
from pare_jax.body.gendered import find_bodies
from pare_jax.body.io import FREE_BODY, load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.errors import UserError
from tests.body.small_bodies import random_body_fields
from tests.data_pipelines.releases import small_pw3d
from tests.data_pipelines.releases.small_pw3d import decode, make_fields, read_all, write_sequence


@pytest.fixture(name="bodies")
def bodies_fixture(tmp_path):
    folder = tmp_path / "bodies"
    folder.mkdir()
    for name in ("SMPL_MALE.npz", "basicModel_f_lbs_10_207_0_v1.0.0.npz"):
        shutil.copy(FREE_BODY, folder / name)
    return folder


def standing(fields, data):
    """Pose everybody with the joints of `data`, upright and one behind the other."""
    people, frames = len(fields["poses"]), len(fields["cam_poses"])
    fields["cam_poses"][:] = np.eye(4)
    for person in range(people):
        fields["poses"][person][:] = 0
        fields["poses"][person][:, 0] = np.pi
        fields["betas"][person][:] = 0
        rotations = np.tile(np.eye(3), (24, 1, 1))
        rotations[0] = np.diag([1.0, -1, -1])
        vertices, joints = vertices_and_joints(data, np.zeros(10), rotations)
        place = np.array([0.0, 0, 4.0 + 2 * person]) - joints[0]
        fields["jointPositions"][person][:] = np.tile((joints + place).ravel(), (frames, 1))
    return vertices + place


def test_part_labels_are_the_mesh(tmp_path, bodies):
    fields = make_fields(people=1, frames=1)
    data = load_body_data(FREE_BODY)
    vertices = standing(fields, data)
    write_sequence(tmp_path, "train", "walk_00", fields)
    (example,), _ = read_all(Pw3d(tmp_path, find_bodies([bodies])))
    labels = decode(example, "part_labels")
    assert labels.shape == (STORED_SIDE // STORED_PARTS_STRIDE,) * 2
    assert example["parts_weight"] == 1
    pixels = vertices @ fields["cam_intrinsics"].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    affine = example["crop_to_photo"].astype(np.float64)
    pixels = (pixels - affine[:, 2]) / affine[0, 0]
    assert example["head_top_weight"] == 1
    np.testing.assert_allclose(example["head_top"], pixels[data.head_top], atol=1e-2)
    np.testing.assert_allclose(example["head_top"][1], pixels[:, 1].min(), atol=1.0)
    pixels /= STORED_PARTS_STRIDE
    rows, columns = np.nonzero(labels)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
        [*pixels.min(0), *pixels.max(0)],
        atol=1.0,
    )
    for joint in (4, 5, 18, 19):  # knees and elbows lie in the middle of their limbs
        column, row = (example["joints_2d"][joint] / STORED_PARTS_STRIDE).astype(int)
        parents = {4: 1, 5: 2, 18: 16, 19: 17}
        assert labels[row, column] in (joint + 1, parents[joint] + 1)


def test_people_in_front_hide_parts_and_the_edge_cuts_them(tmp_path, bodies):
    fields = make_fields(people=2, frames=1)
    standing(fields, load_body_data(FREE_BODY))
    fields["cam_intrinsics"][0, 2] = 20  # the left half of everyone is beyond the photograph
    write_sequence(tmp_path, "train", "walk_00", fields)
    front, behind = read_all(Pw3d(tmp_path, find_bodies([bodies])))[0]
    # People without a body file do not hide others.
    alone = read_all(Pw3d(tmp_path, {"female": find_bodies([bodies])["female"]}))[0][1]
    seen = []
    for example in (front, behind, alone):
        labels = decode(example, "part_labels")
        seen.append((labels > 0).sum())
        affine = example["crop_to_photo"]
        x = (np.arange(labels.shape[1]) + 0.5) * STORED_PARTS_STRIDE * affine[0, 0] + affine[0, 2]
        assert not labels[:, x < 0].any()
    assert min(seen[0], seen[2]) > 500
    assert seen[1] < 0.5 * seen[2]  # arms are visible beside the person in front


@pytest.mark.parametrize(
    ("spoil", "hides"),
    [
        (lambda fields: fields["poses2d"][0].fill(0), True),
        (lambda fields: fields["poses2d"][0].fill(np.nan), True),
        (lambda fields: fields["campose_valid"][0].fill(0), False),
        (lambda fields: fields["poses"][0].fill(np.nan), False),
        (lambda fields: fields["betas"][0].fill(np.inf), False),
    ],
)
def test_people_without_an_example_hide_others_if_their_annotation_is_valid(
    tmp_path, bodies, spoil, hides
):
    fields = make_fields(people=2, frames=1)
    standing(fields, load_body_data(FREE_BODY))
    write_sequence(tmp_path / "both", "train", "walk_00", fields)
    spoil(fields)
    write_sequence(tmp_path / "spoilt", "train", "walk_00", fields)
    _, behind = read_all(Pw3d(tmp_path / "both", find_bodies([bodies])))[0]
    (left,), ((problem),) = read_all(Pw3d(tmp_path / "spoilt", find_bodies([bodies])))
    assert problem.what == "walk_00 frame 0 person 0"
    assert (left["part_labels"] == behind["part_labels"]) == hides
    if not hides:
        seen, hidden = ((decode(one, "part_labels") > 0).sum() for one in (left, behind))
        assert seen > hidden


def test_bodies_are_found_by_name(tmp_path, bodies):
    found = find_bodies([bodies])
    assert sorted(found) == ["female", "male"]
    shutil.copy(FREE_BODY, bodies / "SMPL_NEUTRAL.npz")
    (bodies / "SMPL_MALE.pkl").write_text("read later than the .npz")
    assert find_bodies([bodies])["male"].name == "SMPL_MALE.npz"
    assert sorted(find_bodies([bodies / "SMPL_NEUTRAL.npz"])) == ["neutral"]
    small_pw3d.make_folder(tmp_path / "raw")
    with pytest.raises(UserError, match="--body"):
        Pw3d(tmp_path / "raw", find_bodies([bodies / "SMPL_NEUTRAL.npz"]))
    with pytest.raises(UserError, match="SMPL_FEMALE"):
        find_bodies([tmp_path / "raw"])
    with pytest.raises(UserError, match=r"nowhere"):
        find_bodies([tmp_path / "nowhere"])


def test_bodies_of_different_meshes_are_refused_in_one_line(tmp_path, bodies):
    small_pw3d.make_folder(tmp_path / "raw")
    np.savez(bodies / "SMPL_MALE.npz", **random_body_fields())
    with pytest.raises(UserError, match=r"SMPL_MALE.npz has \d+ vertices") as caught:
        Pw3d(tmp_path / "raw", find_bodies([bodies]))
    assert "\n" not in str(caught.value)


def test_people_of_a_gender_without_a_body_have_no_part_labels(tmp_path, bodies):
    small_pw3d.make_folder(tmp_path / "raw")
    dataset = Pw3d(tmp_path / "raw", find_bodies([bodies / "SMPL_MALE.npz"]))
    (note,) = dataset.notes()
    assert "female" in note
    assert " male" not in note
    (note,) = Pw3d(tmp_path / "raw").notes()
    assert " male" in note
    assert "female" in note
    for example in read_all(dataset)[0]:
        assert example["parts_weight"] == (example["gender"] == "male")
        assert bool(example["part_labels"]) == (example["gender"] == "male")
    assert Pw3d(tmp_path / "raw", find_bodies([bodies])).notes() == []
