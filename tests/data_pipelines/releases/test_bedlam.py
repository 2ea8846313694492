"""BEDLAM's and AGORA's label files: the pose without hands, 2D joints, scenes, turned pictures."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines.releases.bedlam import Bedlam, read_bedlam_labels
from pare_jax.errors import UserError
from pare_jax.keypoints.sets import OPENPOSE25, point_index
from pare_jax.skeleton import joint_index

NAME = "seq_000000/seq_000000_0000.png"
WIDTH, HEIGHT = 96, 160


def arrays(points=127):
    rng = np.random.default_rng(1)
    places = rng.uniform(20, 90, (2, points, 2))
    return {
        "imgname": np.array([NAME, NAME]),
        "center": np.full((2, 2), 50.0),
        "scale": np.full(2, 0.4),
        "pose_cam": rng.normal(0, 0.5, (2, 165)),
        "shape": np.ones((2, 11)),
        "gtkps": np.concatenate([places, np.ones((2, points, 1))], axis=2),
        "cam_int": np.tile([[500.0, 0, WIDTH / 2], [0, 500.0, HEIGHT / 2], [0, 0, 1]], (2, 1, 1)),
        "cam_ext": np.tile(np.eye(4), (2, 1, 1)),
        "trans_cam": np.tile([0.0, 0.0, 5.0], (2, 1)),
        "gender": np.array(["female", "neutral"]),
    }


def write(path, points=127, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    given = arrays(points) | changes
    np.savez(path, **{name: value for name, value in given.items() if value is not None})
    return path


def test_body_pose_is_kept_and_shape_and_hands_are_left_out(tmp_path):
    labels = read_bedlam_labels(write(tmp_path / "scene.npz"))
    person = labels.people[0]
    assert not labels.skipped
    assert not labels.notes
    turns = Rotation.from_rotvec(arrays()["pose_cam"][0, :66].reshape(22, 3)).as_matrix()
    np.testing.assert_allclose(person.rotations[:22], turns, atol=1e-6)
    np.testing.assert_array_equal(person.rotations[22:], np.tile(np.eye(3), (2, 1, 1)))
    assert person.rotations_known.tolist() == [1] * 22 + [0] * 2
    assert person.betas is None
    assert person.joints_3d is None
    assert person.gender == "female"


@pytest.mark.parametrize(("points", "first"), [(22, 0), (24, 0), (127, 0), (171, 44)])
def test_smpl_x_points_become_smpls_joints(tmp_path, points, first):
    person = read_bedlam_labels(write(tmp_path / "scene.npz", points)).people[0]
    given = arrays(points)["gtkps"][0]
    np.testing.assert_array_equal(person.joints_2d[:22], given[first : first + 22])
    assert not person.joints_2d[22:].any()
    own = joint_index("left_wrist")
    np.testing.assert_array_equal(person.points[point_index("left_wrist")], given[first + own])
    # Annotators click on the skin, so a hip is not SMPL's joint.
    assert not person.points[point_index("left_hip")].any()
    heel = person.points[point_index("right_heel")]
    if points < 76:
        assert not heel.any()
    else:
        np.testing.assert_array_equal(heel, given[first + 65])


def test_25_points_are_openposes(tmp_path):
    person = read_bedlam_labels(write(tmp_path / "scene.npz", 25)).people[0]
    np.testing.assert_allclose(person.points, OPENPOSE25.spread(arrays(25)["gtkps"][0]))
    assert person.joints_2d is None


def test_the_smpl_version_has_smpls_shape_and_hands(tmp_path):
    pose = np.full((2, 72), 0.1)
    path = write(tmp_path / "scene.npz", 45, pose_cam=pose, shape=np.full((2, 10), 0.5))
    person = read_bedlam_labels(path).people[0]
    assert person.rotations_known.all()
    assert person.joints_2d[:, 2].all()
    assert person.betas.tolist() == [0.5] * 10


MISTAKES = {
    "pose is not finite": {"pose_cam": np.full((2, 66), [[np.nan], [0.1]])},
    "scale is not above 0": {"scale": np.array([0.0, 1.0])},
    "person behind the camera": {"trans_cam": np.array([[0, 0, -5.0], [0, 0, 5.0]])},
    "unknown gender": {"gender": np.array(["cat", "male"])},
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_a_person_with_a_mistake_is_skipped_and_named(tmp_path, reason):
    labels = read_bedlam_labels(write(tmp_path / "scene.npz", **MISTAKES[reason]))
    assert [item.reason for item in labels.skipped] == [reason]
    assert [person.number for person in labels.people] == [1]


REFUSED = {
    "pose_cam": {"pose_cam": None},
    "65": {"pose_cam": np.zeros((2, 65))},
    "gtkps has 33 points": {"gtkps": np.zeros((2, 33, 3))},
    "gtkps has 4 numbers": {"gtkps": np.zeros((2, 127, 4))},
    "cam_int": {"cam_int": np.zeros((2, 4))},
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_file_with_wrong_arrays_is_refused(tmp_path, word):
    with pytest.raises(UserError, match=word):
        read_bedlam_labels(write(tmp_path / "scene.npz", **REFUSED[word]))


def test_scenes_with_the_same_names_keep_their_own_photographs(tmp_path):
    for shade, scene in ((50, "one"), (150, "two")):
        path = tmp_path / "images" / scene / "png" / NAME
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
        write(tmp_path / "labels" / f"{scene}.npz")
    dataset = Bedlam(tmp_path / "labels", tmp_path / "images", held_out=0.0)
    assert not dataset.check()
    assert "2 sequences" in dataset.notes()[-1]
    (unit,) = dataset.units("train")
    examples = dataset.read(unit).examples
    assert [example["sequence"].split("/")[0] for example in examples] == ["one"] * 2 + ["two"] * 2
    shades = [
        cv2.imdecode(np.frombuffer(example["image"], np.uint8), 0)[192, 192] for example in examples
    ]
    assert np.abs(np.subtract(shades, [50, 50, 150, 150])).max() < 5


def test_a_picture_stored_on_its_side_is_turned(tmp_path):
    picture = np.random.default_rng(2).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    picture = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    path = write(tmp_path / "scene.npz")
    crops = []
    for folder, stored in (("upright", picture), ("turned", np.rot90(picture, 1))):
        (tmp_path / folder / NAME).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / NAME), stored)
        dataset = Bedlam(path, tmp_path / folder, held_out=0.0)
        example = dataset.read(dataset.units("train")[0]).examples[0]
        crops.append(cv2.imdecode(np.frombuffer(example["image"], np.uint8), 1).astype(float))
    np.testing.assert_allclose(*crops, atol=3)


def test_photographs_of_another_size_than_the_cameras_are_skipped(tmp_path):
    (tmp_path / "images" / NAME).parent.mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / NAME), np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    dataset = Bedlam(write(tmp_path / "scene.npz"), tmp_path / "images", held_out=0.0)
    result = dataset.read(dataset.units("train")[0])
    assert not result.examples
    assert {item.reason for item in result.skipped} == {
        "photograph of another size than its labels say"
    }


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no \.npz"):
        Bedlam(tmp_path, tmp_path).check()
