"""Files of keypoints: COCO, OpenPose, MPII and SPIN, and files that are refused."""

import json

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.keypoints.sets import COCO17, SETS, find_set, point_index

ROWS = np.stack([np.arange(17) * 2.0 + 10, np.arange(17) * 3.0 + 20, np.full(17, 2.0)], axis=1)


def flat(rows):
    return np.asarray(rows).reshape(-1).tolist()


def dataset(*annotations, names=COCO17.points, **image):
    image = {"id": 7, "file_name": "street/a.jpg", **image}
    person = {"id": 1, "name": "person"} | ({"keypoints": list(names)} if names else {})
    entries = [{"image_id": 7, "category_id": 1, **entry} for entry in annotations]
    return {"images": [image], "categories": [person], "annotations": entries}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations_by_photograph(tmp_path):
    rows = ROWS.copy()
    rows[5, 2], rows[6] = 1, 0
    content = dataset(
        {"keypoints": flat(rows), "bbox": [10, 20, 30, 60]},
        {"keypoints": flat(ROWS), "iscrowd": 1},
        {"keypoints": flat(0 * ROWS)},
        {"keypoints": flat(ROWS), "category_id": 2},
        width=200,
        height=100,
    )
    content["images"].append({"id": 8, "file_name": "empty.jpg"})
    found = read_keypoints(write(tmp_path / "c.json", content))
    assert {name: len(people) for name, people in found.people.items()} == {
        "street/a.jpg": 1,
        "empty.jpg": 0,
    }
    (person,) = found.people["street/a.jpg"]
    assert person.set == COCO17
    np.testing.assert_array_equal(person.points[:6], ROWS[:6, :2])
    np.testing.assert_array_equal(person.confidence, [1] * 5 + [0.5, 0] + [1] * 10)
    np.testing.assert_array_equal(person.box, [10, 20, 40, 80])
    assert person.score is None
    assert found.sizes == {"street/a.jpg": (200, 100)}
    (note,) = found.notes  # the person without a known point
    assert "1 person" in note


def test_categories_name_their_points(tmp_path):
    """AIC's points are as many as LSP's."""
    names = [name.replace("_", " ").title() for name in SETS["aic14"].points]
    rows = flat(ROWS[:14])
    content = dataset({"keypoints": rows}, names=names)
    (person,) = read_keypoints(write(tmp_path / "aic.json", content)).people["street/a.jpg"]
    assert person.set.name == "aic14"
    plain = write(tmp_path / "plain.json", dataset({"keypoints": rows}, names=None))
    assert "lsp14 or aic14" in refusal(plain)
    (person,) = read_keypoints(plain, "lsp14").people["street/a.jpg"]
    assert person.set.name == "lsp14"
    own = dataset({"keypoints": flat(ROWS[:3])}, names=["l_hip", "tail", "RightHip"])
    (person,) = read_keypoints(write(tmp_path / "own.json", own)).people["street/a.jpg"]
    np.testing.assert_array_equal(person.body_points()[point_index("right_hip")], [14, 26, 1])
    assert find_set(person.set.name) == person.set  # outputs can name its points


def test_results_have_scores(tmp_path):
    rows = ROWS * [1, 1, 0.3]
    content = [
        {"image_id": 785, "category_id": 1, "keypoints": flat(rows), "score": 0.7},
        {"image_id": "b.jpg", "keypoints": flat(rows), "score": 2.9},  # AlphaPose's sum
        {"image_id": 785, "keypoints": flat(np.tile(rows[:13], (2, 1)))},
    ]
    found = read_keypoints(write(tmp_path / "r.json", content))
    first, third = found.people["785"]
    np.testing.assert_allclose(first.confidence, 0.6)
    assert first.score == 0.7
    assert third.set.name == "halpe26"
    assert found.people["b.jpg"][0].score is None
    assert read_keypoints(write(tmp_path / "none.json", [])).people == {}


def test_openpose_folder(tmp_path):
    rows = np.tile(ROWS, (2, 1))[:25] * [1, 1, 0.4]
    person = {"pose_keypoints_2d": flat(rows), "pose_keypoints_3d": []}
    write(tmp_path / "a_keypoints.json", {"people": [person, {"pose_keypoints_2d": []}]})
    write(tmp_path / "b_keypoints.json", {"people": []})
    write(tmp_path / "c_keypoints.json", {"people": [{"pose_keypoints": flat(rows[:18])}]})
    found = read_keypoints(tmp_path)
    sets = {name: [one.set.name for one in people] for name, people in found.people.items()}
    assert sets == {"a": ["openpose25"], "b": [], "c": ["openpose18"]}
    alone = read_keypoints(tmp_path / "a_keypoints.json")
    np.testing.assert_allclose(alone.people["a"][0].points, rows[:, :2])


def test_damaged_files_of_an_openpose_folder_are_left_out(tmp_path):
    whole = tmp_path / "a_keypoints.json"
    write(whole, {"people": [{"pose_keypoints_2d": flat(np.tile(ROWS, (2, 1))[:25])}]})
    (tmp_path / "cut_keypoints.json").write_text(whole.read_text()[:20])
    found = read_keypoints(tmp_path)
    assert list(found.people) == ["a"]
    assert any("cut_keypoints.json" in note for note in found.notes)
    whole.unlink()
    with pytest.raises(UserError, match=r"cut_keypoints\.json"):
        read_keypoints(tmp_path)


def test_mpii_counts_pixels_from_their_corner(tmp_path):
    entry = {"image": "m.jpg", "joints": ROWS[:16, :2].tolist(), "joints_vis": [0] + [1] * 15}
    (person,) = read_keypoints(write(tmp_path / "m.json", [entry])).people["m.jpg"]
    assert person.set.name == "mpii16"
    np.testing.assert_array_equal(person.points[1:], ROWS[1:16, :2] - 0.5)
    np.testing.assert_array_equal(person.confidence, [0] + [1] * 15)


@pytest.mark.parametrize("kind", [str, bytes, object])
def test_spin_file_with_3d_points(tmp_path, kind):
    part = np.tile(ROWS, (2, 1))[:24] * [1, 1, 0.5]
    world = np.random.default_rng(0).normal(size=(24, 4))
    world[:, 3] = 1
    world[12, 3] = 0
    names = np.array(["x/a.jpg", "b.jpg"], dtype=kind)
    openpose = np.tile(part[:1], (2, 25, 1))
    path = tmp_path / "s.npz"
    np.savez(
        path,
        imgname=names,
        part=np.array([part, 0 * part]),
        S=np.array([world, world]),
        openpose=openpose,
    )
    found = read_keypoints(path)
    (person,) = found.people["x/a.jpg"]
    assert person.set.name == "spin24"
    np.testing.assert_array_equal(person.points, part[:, :2])
    assert person.world is not None
    known = np.arange(24) != 12
    hips = world[2:4, :3].mean(0)
    np.testing.assert_allclose(person.world[known], world[known, :3] - hips)
    assert np.isnan(person.world[12]).all()
    (other,) = found.people["b.jpg"]  # no point of its `part` is known
    assert other.set.name == "openpose25"
    assert other.world is None
    (person,) = read_keypoints(path, "openpose25").people["x/a.jpg"]
    assert person.set.name == "openpose25"


def test_spin_file_of_17_points_needs_a_set(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, imgname=np.array(["a.jpg"]), part=ROWS[None])
    assert "mpi_inf_3dhp17" in refusal(path)
    (person,) = read_keypoints(path, "mpi_inf_3dhp17").people["a.jpg"]
    assert person.set.points[0] == "head_top"


def test_points_that_are_no_places_are_unknown(tmp_path):
    rows = ROWS.copy()
    rows[3, 0], rows[4, 1], rows[5, 0] = np.nan, np.inf, 1e300
    content = [{"image_id": "a.jpg", "keypoints": flat(rows)}]
    found = read_keypoints(write(tmp_path / "r.json", content))
    (person,) = found.people["a.jpg"]
    assert np.flatnonzero(person.confidence == 0).tolist() == [3, 4, 5]
    assert np.isfinite(person.points).all()
    (note,) = found.notes
    assert "3 points" in note


def test_people_are_moved_into_the_photograph_that_is_there(tmp_path):
    far = ROWS + np.array([500, 0, 0])
    content = dataset({"keypoints": flat(ROWS)}, {"keypoints": flat(far)}, width=200, height=100)
    found = read_keypoints(write(tmp_path / "c.json", content))
    photo = tmp_path / "a.jpg"
    (person,), (note,) = found.people_of("street/a.jpg", photo, (100, 50))
    np.testing.assert_allclose(person.points, ROWS[:, :2] / 2)
    assert "1 person" in note
    # Stored on its side; 200 x 100 becomes 100 x 200, turned clockwise.
    (person,), _ = found.people_of("street/a.jpg", photo, (100, 200), orientation=6)
    np.testing.assert_allclose(person.points, np.stack([100 - ROWS[:, 1], ROWS[:, 0]], 1))
    for size in ((100, 100), (100, 200)):
        with pytest.raises(UserError, match="200 x 100"):
            found.people_of("street/a.jpg", photo, size)
    content = dataset({"keypoints": flat(far)})
    outside = read_keypoints(write(tmp_path / "o.json", content))
    with pytest.raises(UserError, match=r"a\.jpg"):
        outside.people_of("street/a.jpg", photo, (200, 100))


def refusal(path, set_name=None) -> str:
    with pytest.raises(UserError) as caught:
        read_keypoints(path, set_name)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


UNUSABLE = {
    "wrong number": (dataset({"keypoints": flat(ROWS[:16])}), "17"),
    "odd number": ([{"image_id": 1, "keypoints": [1, 2, 3, 4]}], "entry 0"),
    "no set has it": ([{"image_id": 1, "keypoints": flat(ROWS[:7])}], "7 points"),
    "text": ([{"image_id": 1, "keypoints": "many"}], "entry 0"),
    "huge numbers": ([{"image_id": 1, "keypoints": [10**400] * 51}], "entry 0"),
    "boxes alone": ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "entry 0"),
    "no image": ([{"keypoints": flat(ROWS)}], "image_id"),
    "list as image": (dataset({"keypoints": flat(ROWS), "image_id": []}), "image_id"),
    "instances": (dataset({"bbox": [1, 2, 3, 4]}, names=None), "keypoints"),
    "all unknown": (dataset({"keypoints": flat(0 * ROWS)}), "1 person"),
    "scores as visibilities": (dataset({"keypoints": flat(ROWS / 4)}), "annotation 0"),
    "an animal's names": (dataset({"keypoints": flat(ROWS)}, names=["tail", "horn"]), "tail"),
    "names that are none": (dataset({"keypoints": flat(ROWS)}, names=[1, 2]), "names"),
    "an object": ({"photo.jpg": [[1, 2, 3, 4]]}, "OpenPose"),
    "OpenPose's hands": ({"people": [{"hand_left_keypoints_2d": [1, 2, 3]}]}, "pose_keypoints_2d"),
    "no list of people": ({"people": 3}, "people"),
    "MPII without image": ([{"image": 3, "joints": [], "joints_vis": []}], "image"),
    "MPII of other flags": (
        [{"image": "m.jpg", "joints": [[1, 2]] * 16, "joints_vis": [1]}],
        "joints_vis",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_files_of_other_content_are_refused(tmp_path, name):
    content, culprit = UNUSABLE[name]
    assert culprit in refusal(write(tmp_path / "f.json", content))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "text.json").write_text("hello")
    refusal(tmp_path / "text.json")
    refusal(tmp_path / "nowhere.json")
    refusal(tmp_path)  # a folder without OpenPose's files
    (tmp_path / "text.npz").write_text("hello")
    refusal(tmp_path / "text.npz")
    good = write(tmp_path / "c.json", dataset({"keypoints": flat(ROWS)}))
    with pytest.raises(UserError, match="coco71"):
        read_keypoints(good, "coco71")
    assert "halpe26" in refusal(good, "halpe26")


@pytest.mark.parametrize(
    ("arrays", "culprit"),
    [
        ({"part": ROWS[None]}, "imgname"),
        ({"imgname": np.array(["a.jpg"]), "pose": np.zeros((1, 72))}, "openpose"),
        ({"imgname": np.array(["a.jpg"]), "part": ROWS}, "(17, 3)"),
        ({"imgname": np.array(["a.jpg"]), "part": np.array([["x"]])}, "part"),
    ],
)
def test_spin_files_of_other_arrays_are_refused(tmp_path, arrays, culprit):
    np.savez(tmp_path / "s.npz", **arrays)
    assert culprit in refusal(tmp_path / "s.npz")
