"""SPIN's label files: values, what is unknown, and what is skipped or refused."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines.releases.spin import OwnSpin, Spin, read_spin_labels
from pare_jax.errors import UserError
from pare_jax.keypoints.sets import OPENPOSE25, SPIN24, point_index
from pare_jax.skeleton import joint_index

NAMES = ("a/clip_001.jpg", "a/clip_002.jpg", "b/other_001.jpg")
PEOPLE = len(NAMES)
# Rows of S and part.
LEFT_WRIST, NECK, PELVIS, RIGHT_HIP, LEFT_HIP = 11, 12, 14, 2, 3


def arrays():
    """Return three people, whose 3D points lie on their 2D points."""
    rng = np.random.default_rng(0)
    places = rng.normal(0, 0.4, (PEOPLE, 24, 3))
    part = np.concatenate([100 + 100 * places[..., :2], np.ones((PEOPLE, 24, 1))], axis=2)
    part[:, NECK] = part[:, LEFT_WRIST] = 0  # unlabelled
    return {
        "imgname": np.array(NAMES),
        "center": np.full((PEOPLE, 2), 100.0),
        "scale": np.full(PEOPLE, 0.9),
        "part": part,
        "openpose": np.tile([30.0, 40.0, 0.5], (PEOPLE, 25, 1)),
        "pose": rng.normal(0, 0.5, (PEOPLE, 72)),
        "shape": rng.normal(0, 1, (PEOPLE, 10)),
        "has_smpl": np.array([1, 0, 1]),
        "S": np.concatenate([places + 3, np.ones((PEOPLE, 24, 1))], axis=2),
        "gender": np.array(["m", "f", "m"]),
    }


def write(folder, **changes):
    path = folder / "set.npz"
    np.savez(path, **{k: v for k, v in (arrays() | changes).items() if v is not None})
    return path


def test_ones_own_photographs_are_upright_and_no_sequence(tmp_path):
    """A phone's IMG_0001 and IMG_0002 show nothing in common."""
    own = OwnSpin(write(tmp_path), tmp_path)
    assert own.upright
    assert [person.group for person in own.labels.people] == [""] * PEOPLE
    assert own.labels.people[0].rotations is not None


def test_values_are_those_of_the_file(tmp_path):
    given = arrays()
    labels = read_spin_labels(write(tmp_path))
    assert not labels.skipped
    assert not labels.notes
    first, second, _ = labels.people
    assert (first.photograph, first.gender, second.gender) == (NAMES[0], "male", "female")
    assert (first.side, second.number) == (180.0, 1)
    turns = Rotation.from_rotvec(given["pose"][0].reshape(24, 3)).as_matrix()
    np.testing.assert_allclose(first.rotations, turns, atol=1e-6)
    np.testing.assert_array_equal(first.betas, given["shape"][0])
    assert second.rotations is None
    assert second.betas is None
    assert first.group == second.group != labels.people[2].group


def test_openpose_gives_only_the_points_that_part_lacks(tmp_path):
    points = read_spin_labels(write(tmp_path)).people[0].points
    wanted = SPIN24.spread(arrays()["part"][0])
    openpose = OPENPOSE25.spread(arrays()["openpose"][0])
    for name in ("right_ankle", "jaw"):
        np.testing.assert_array_equal(points[point_index(name)], wanted[point_index(name)])
    for name in ("left_wrist", "left_heel"):
        np.testing.assert_array_equal(points[point_index(name)], openpose[point_index(name)])
    assert not points[point_index("neck")].any()  # OpenPose's neck is the thorax


@pytest.mark.parametrize("pelvis", [True, False])
def test_3d_joints_are_about_the_pelvis_or_else_the_hips(tmp_path, pelvis):
    given = arrays()["S"]
    given[0, LEFT_WRIST, 3] = 0
    given[:, PELVIS, 3] = pelvis
    given[0, PELVIS, :3] += 0 if pelvis else 1e6
    person = read_spin_labels(write(tmp_path, S=given)).people[0]
    root = given[0, PELVIS] if pelvis else given[0, [LEFT_HIP, RIGHT_HIP]].mean(0)
    elbow, wrist = joint_index("left_elbow"), joint_index("left_wrist")
    np.testing.assert_allclose(person.joints_3d[elbow], (given[0, 10] - root)[:3], atol=1e-6)
    assert person.joints_3d_known[elbow] == 1
    unknown = ["pelvis", "left_hip", "spine1", "spine3", "head", "left_hand", "left_foot"]
    assert not person.joints_3d_known[[wrist, *map(joint_index, unknown)]].any()
    assert not person.joints_3d[wrist].any()


def test_3d_points_that_cannot_be_right_are_named(tmp_path):
    turned = arrays()["S"]
    turned[..., :3] = turned[..., [2, 0, 1]]
    assert "axes" in read_spin_labels(write(tmp_path, S=turned)).notes[0]
    millimetres = arrays()["S"] * [1e3, 1e3, 1e3, 1]
    labels = read_spin_labels(write(tmp_path, S=millimetres))
    assert "metres" in labels.notes[0]
    assert labels.people[0].joints_3d is None


@pytest.mark.parametrize("kind", ["bytes", "objects"])
def test_names_are_read_as_bytes_and_objects(tmp_path, kind):
    names = np.array([name.encode() for name in NAMES], object if kind == "objects" else None)
    people = read_spin_labels(write(tmp_path, imgname=names)).people
    assert [person.photograph for person in people] == list(NAMES)


def broken(name, row, value):
    values = arrays()[name].astype(object if value is None else float)
    values[row] = value
    return {name: values}


MISTAKES = {
    "scale is not above 0": broken("scale", 1, 0),
    "centre or scale is not finite": broken("center", 1, np.nan),
    "pose is not finite": broken("pose", 2, np.inf),
    "shape is not finite": broken("shape", 2, np.nan),
    "unknown gender": {"gender": np.array(["m", "f", "cat"])},
    "name of the photograph is no text": {"imgname": np.array([*NAMES[:2], 7], object)},
    "listed twice": {
        name: np.concatenate([values[:2], values[:1]]) for name, values in arrays().items()
    },
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_a_person_with_a_mistake_is_skipped_and_named(tmp_path, reason):
    labels = read_spin_labels(write(tmp_path, **MISTAKES[reason]))
    (skipped,) = labels.skipped
    assert skipped.reason == reason
    assert len(labels.people) == PEOPLE - 1
    assert "set.npz" in skipped.what


def test_the_pose_of_a_person_without_one_may_be_anything(tmp_path):
    assert not read_spin_labels(write(tmp_path, **broken("pose", 1, np.nan))).skipped


@pytest.mark.parametrize("count", [11, 300])
def test_a_shape_that_is_not_smpls_is_left_out_and_named(tmp_path, count):
    labels = read_spin_labels(write(tmp_path, shape=np.zeros((PEOPLE, count))))
    assert labels.people[0].betas is None
    assert labels.people[0].rotations is not None
    assert str(count) in labels.notes[0]


def test_points_that_are_not_finite_are_unknown(tmp_path):
    part = arrays()["part"]
    part[0, 0, 0] = np.nan
    labels = read_spin_labels(write(tmp_path, part=part, openpose=None))
    assert not labels.people[0].points[point_index("right_ankle")].any()
    assert "1 point of part" in labels.notes[0]


REFUSED = {
    "imgname": {"imgname": None},
    "pose_cam": {"pose_cam": np.zeros((PEOPLE, 66))},
    "no labels": {"part": None, "openpose": None, "pose": None, "S": None},
    "scale": {"scale": np.ones(2)},
    "center": {"center": None},
    "part": {"part": np.full((PEOPLE, 24, 3), "x")},
    "pose": {"pose": np.zeros((PEOPLE, 66))},
    "gender": {"gender": np.array(["m"])},
    "mpi_inf_3dhp17": {"part": np.ones((PEOPLE, 17, 3))},
    "nobody": {"imgname": np.array([], str)},
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_file_with_wrong_arrays_is_refused_in_one_line(tmp_path, word):
    with pytest.raises(UserError, match=word) as refused:
        read_spin_labels(write(tmp_path, **REFUSED[word]))
    assert "\n" not in str(refused.value)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_the_file_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    path = write(tmp_path, imgname=np.array([Hostile(marker)] * PEOPLE, object))
    with pytest.raises(UserError, match="open"):
        read_spin_labels(path)
    assert not marker.exists()


def test_people_are_joined_to_photographs_and_sequences_stay_whole(tmp_path):
    for name in NAMES[:2]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.full((200, 200, 3), 99, np.uint8))
    # Of the third person the photograph is missing; the second's centre is far outside.
    dataset = Spin(write(tmp_path, **broken("center", 1, 1e4)), tmp_path / "images", held_out=1.0)
    assert "2 sequences" in dataset.notes()[-1]
    assert not dataset.units("train")
    (unit,) = dataset.units("validation")
    result = dataset.read(unit)
    (example,) = result.examples
    assert [item.reason for item in result.skipped] == [
        "square outside the photograph",
        "picture missing",
    ]
    to_photo = example["crop_to_photo"]
    ankle = example["points_2d"][point_index("right_ankle")]
    np.testing.assert_allclose(
        to_photo[:, :2] @ ankle + to_photo[:, 2], arrays()["part"][0, 0, :2], atol=1e-3
    )
    assert example["pose_weight"] == example["betas_weight"] == example["joints_3d_weight"] == 1


def test_a_set_of_other_points_must_be_named(tmp_path):
    path = write(tmp_path, part=np.ones((PEOPLE, 17, 3)), S=None)
    points = read_spin_labels(path, "mpi_inf_3dhp17").people[0].points
    assert points[point_index("head_top"), 2] == 1
    with pytest.raises(UserError, match="h36m18"):
        Spin(path, tmp_path, keypoint_set="h36m18")
