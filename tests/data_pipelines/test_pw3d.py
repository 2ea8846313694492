"""3DPW's reader: labels against the definitions, pictures under them, and every kind of damage."""

import shutil

import cv2
import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS, STORED_PARTS_STRIDE
from data_pipelines.pw3d import Pw3d
from data_pipelines.raw import STORED_SIDE
from pare_jax.body.gendered import find_bodies
from pare_jax.body.io import FREE_BODY, load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.errors import UserError
from tests.body import legacy_pickle_writer as legacy
from tests.data_pipelines import small_pw3d
from tests.data_pipelines.small_pw3d import FRAMES, make_fields, reference, write_sequence


def read_all(dataset, split="train"):
    results = [dataset.read(unit) for unit in dataset.units(split)]
    examples = [example for result in results for example in result.examples]
    return examples, [item for result in results for item in result.skipped]


def read_one(tmp_path, fields, **options):
    write_sequence(tmp_path, "train", "walk_00", fields, **options)
    return read_all(Pw3d(tmp_path))


def decode(example, name="image"):
    flags = cv2.IMREAD_COLOR_RGB if name == "image" else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(example[name], np.uint8), flags)


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
            continue  # dots that run into each other
        column, row = int(x) - 7, int(y) - 7
        window = np.clip(picture[row : row + 15, column : column + 15], 0, None)
        window[window < 20] = 0
        rows, columns = np.indices(window.shape) + 0.5
        centre = [(columns * window).sum(), (rows * window).sum()] / window.sum()
        np.testing.assert_allclose(np.add(centre, (column, row)), (x, y), atol=0.2)
        found += 1
    assert found > 3


def test_beyond_the_photograph_it_is_black(tmp_path):
    fields = make_fields(people=1, frames=1)
    fields["cam_intrinsics"][0, 2] -= 190  # the person stands at the left edge
    (example,), _ = read_one(tmp_path, fields)
    picture, corner = decode(example), example["crop_to_photo"]
    edge = round(float(-corner[0, 2] / corner[0, 0]))
    assert 20 < edge < STORED_SIDE - 20
    assert picture[:, : edge - 3].max() < 12
    inside = np.arange(STORED_SIDE) * corner[1, 1] + corner[1, 2]
    assert picture[(inside > 5) & (inside < 350), edge + 4 :].min() > 45


def test_what_the_protocol_leaves_out_is_not_broken(tmp_path):
    fields = make_fields()
    fields["campose_valid"][0][1] = 0
    fields["poses2d"][1][2] = 0
    fields["jointPositions"][0][1] = np.nan  # nobody's fault where the camera is not trusted
    (tmp_path / "imageFiles" / "walk_00").mkdir(parents=True)
    examples, skipped = read_one(tmp_path, fields)
    assert len(examples) == 2 * FRAMES - 2
    assert [(item.what, item.reason, item.broken) for item in skipped] == [
        ("walk_00 frame 1 person 0", "camera pose not valid", False),
        ("walk_00 frame 2 person 1", "person not detected", False),
    ]


def test_who_leaves_the_photograph_gives_no_example(tmp_path):
    fields = make_fields(people=2, frames=1)
    turn = fields["cam_poses"][0, :3, :3]
    joints = fields["jointPositions"][0].reshape(24, 3)
    joints[0] += turn.T @ [3.0, 0, 0]  # one joint outside: part of the person is seen
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
def test_fields_of_strange_shapes_are_no_traceback(tmp_path, change, reason):
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
    assert any("1 of 4 pictures missing" in x or "1 pictures broken" in x for x in dataset.check())
    assert dataset.units("train") != before  # so that a mended file is read again


def test_a_picture_with_bytes_behind_its_end_is_whole(tmp_path):
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
        *[("cut_00", "sequence file unreadable")] * FRAMES,  # its pictures tell how much is lost
        ("evil_00", "sequence file refused, it carries code"),
        ("list_00", "sequence file is not 3DPW's"),
    ]
    lines = dataset.check()
    assert [line.partition(": ")[2] for line in lines] == [
        "sequence file unreadable",
        "sequence file refused, it carries code",
        "sequence file is not 3DPW's",
    ]


def test_a_folder_that_is_not_3dpw_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path} is not 3DPW: looked for sequenceFiles"):
        Pw3d(tmp_path)
    small_pw3d.make_folder(tmp_path)
    shutil.rmtree(tmp_path / "sequenceFiles" / "validation")
    dataset = Pw3d(tmp_path)
    assert dataset.splits == ("train", "test")
    assert dataset.check() == [f"no sequences in {tmp_path}/sequenceFiles/validation"]
    shutil.rmtree(tmp_path / "imageFiles")
    with pytest.raises(UserError, match="imageFiles"):
        Pw3d(tmp_path)


def test_long_sequences_are_read_in_runs(tmp_path):
    fields = make_fields(people=1, frames=130, size=(64, 36))
    write_sequence(tmp_path, "train", "walk_00", fields, size=(64, 36))
    dataset = Pw3d(tmp_path)
    assert [(unit.start, unit.stop) for unit in dataset.units("train")] == [(0, 100), (100, 130)]
    assert [int(e["frame"]) for e in read_all(dataset)[0]] == list(range(130))
    described = dataset.side_files()["sequences.json"]["train"]["walk_00"]
    assert described == {"people": 1, "frames": 130, "image_size": (64, 36), "genders": ["male"]}


@pytest.fixture(name="bodies")
def bodies_fixture(tmp_path):
    folder = tmp_path / "bodies"
    folder.mkdir()
    for name in ("SMPL_MALE.npz", "basicModel_f_lbs_10_207_0_v1.0.0.npz"):
        shutil.copy(FREE_BODY, folder / name)
    return folder


def standing(fields, data):
    """Give everyone a body's own joints, upright before the camera and one behind the other."""
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
    # Whose body is not known hides nobody.
    alone = read_all(Pw3d(tmp_path, {"female": find_bodies([bodies])["female"]}))[0][1]
    seen = []
    for example in (front, behind, alone):
        labels = decode(example, "part_labels")
        seen.append((labels > 0).sum())
        affine = example["crop_to_photo"]
        x = (np.arange(labels.shape[1]) + 0.5) * STORED_PARTS_STRIDE * affine[0, 0] + affine[0, 2]
        assert not labels[:, x < 0].any()
    assert min(seen[0], seen[2]) > 500
    assert seen[1] < 0.5 * seen[2]  # arms look out beside the one in front


def test_bodies_are_found_by_name(tmp_path, bodies):
    found = find_bodies([bodies])
    assert sorted(found) == ["female", "male"]
    shutil.copy(FREE_BODY, bodies / "SMPL_NEUTRAL.npz")
    (bodies / "SMPL_MALE.pkl").write_text("read later than the .npz")
    assert find_bodies([bodies])["male"].name == "SMPL_MALE.npz"
    assert sorted(find_bodies([bodies / "SMPL_NEUTRAL.npz"])) == ["neutral"]
    small_pw3d.make_folder(tmp_path / "raw")
    with pytest.raises(UserError, match="male and the female SMPL"):
        Pw3d(tmp_path / "raw", find_bodies([bodies / "SMPL_NEUTRAL.npz"]))
    with pytest.raises(UserError, match="SMPL_FEMALE"):
        find_bodies([tmp_path / "raw"])
    with pytest.raises(UserError, match=r"nowhere"):
        find_bodies([tmp_path / "nowhere"])


def test_without_a_gender_its_people_have_no_parts(tmp_path, bodies):
    small_pw3d.make_folder(tmp_path / "raw")
    dataset = Pw3d(tmp_path / "raw", find_bodies([bodies / "SMPL_MALE.npz"]))
    (note,) = dataset.notes()
    assert "no female SMPL" in note
    for example in read_all(dataset)[0]:
        assert example["parts_weight"] == (example["gender"] == "male")
        assert bool(example["part_labels"]) == (example["gender"] == "male")
    assert Pw3d(tmp_path / "raw", find_bodies([bodies])).notes() == []
