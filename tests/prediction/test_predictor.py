"""Predictions in Python: bodies on the pixels the network meant, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pare_jax import geometry
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.prediction import predictor as predictor_module
from pare_jax.skeleton import JOINT_NAMES
from tests.prediction.predict_fakes import SIZE, Finder, box_about, make_predictor, photo_with_spots


@pytest.fixture(scope="module")
def body():
    return load_body_model()


@pytest.fixture(scope="module")
def predictor(body):
    return make_predictor(body)


@pytest.mark.parametrize("offset", [(0, 0), (23, -31), (-15, 40)])
@pytest.mark.parametrize("spot", [(90.0, 140.0), (200.5, 150.0), (371.0, 60.0)])
def test_a_joint_lands_on_the_pixel_the_network_meant(predictor, spot, offset):
    """Wherever the box lies: crop, camera and the way back are one consistent geometry."""
    image = photo_with_spots(spot)
    box = box_about(spot[0] + offset[0], spot[1] + offset[1])
    (person,) = predictor(image, [box])
    np.testing.assert_allclose(person.joints_2d[0], spot, atol=1.0)


def test_full_frame_camera_draws_the_crop_cameras_pixels(predictor):
    image = photo_with_spots((300.0, 90.0))
    (person,) = predictor(image, [(250, 20, 360, 220)])
    assert person.crop_side == pytest.approx(1.2 * 200)
    np.testing.assert_allclose(person.crop_centre, (305, 120))
    for points in (person.joints_3d, person.vertices):
        translation = np.asarray(geometry.camera_translation(person.camera_crop))
        units = np.asarray(geometry.project(points - translation, translation), np.float64)
        affine = person.crop_to_photo
        by_crop = units @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(person.camera.project(points), by_crop, atol=2e-2)
    np.testing.assert_allclose(person.camera.project(person.joints_3d), person.joints_2d, atol=1e-6)


def test_the_person_is_the_bodys(predictor, body):
    (person,) = predictor(photo_with_spots((200.0, 150.0)))
    posed = jax.jit(body)(person.betas, person.rotations, person.translation)
    np.testing.assert_allclose(person.vertices, posed.vertices, atol=2e-5)
    np.testing.assert_allclose(person.joints_3d, posed.joints, atol=2e-5)
    assert person.pose.shape == (72,)
    turned = geometry.axis_angle_to_matrix(person.pose.reshape(24, 3))
    np.testing.assert_allclose(turned, person.rotations, atol=1e-5)
    # Left stays left: the person faces the camera, so the left hand is at the picture's right.
    left, right = (JOINT_NAMES.index(f"{side}_wrist") for side in ("left", "right"))
    assert person.joints_2d[left, 0] > person.joints_2d[right, 0]
    assert person.joints_2d[JOINT_NAMES.index("head"), 1] < person.joints_2d[0, 1]


def test_a_person_knows_its_mesh_and_the_predictors_faces_are_shared(predictor):
    image = photo_with_spots((90.0, 140.0), (300.0, 140.0))
    people = predictor(image, [box_about(90, 140), box_about(300, 140)])
    assert people[0].faces is people[1].faces is predictor.faces
    assert people[0].to_glb().startswith(b"glTF")
    assert people[0].overlay(image).shape == image.shape
    assert (people[0].id, people[0].frame, people[0].score) == (None, None, None)


def test_without_boxes_the_whole_picture_is_one_person(predictor):
    image = photo_with_spots((200.0, 150.0))
    (whole,) = predictor(image)
    (boxed,) = predictor(image, [(0, 0, 400, 300)])
    np.testing.assert_array_equal(whole.joints_2d, boxed.joints_2d)
    np.testing.assert_array_equal(whole.box, (0, 0, 400, 300))


def test_people_do_not_depend_on_their_company(predictor, monkeypatch):
    """Seven boxes take two batches, one of them padded."""
    monkeypatch.setattr(predictor_module, "MAX_BATCH", 4)
    spots = [(60.0 + 40 * i, 150.0) for i in range(7)]
    image = photo_with_spots(*spots)
    boxes = [box_about(*spot) for spot in spots]
    together = predictor(image, np.array(boxes))
    assert len(together) == 7
    for index in (0, 3, 4, 6):
        (alone,) = predictor(image, [boxes[index]])
        np.testing.assert_allclose(alone.vertices, together[index].vertices, atol=1e-4)
        np.testing.assert_array_equal(alone.box, together[index].box)
    assert predictor(image, []) == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((10, 10, 10, 50), "pixel wide or high"),
        ((0.1, 0.2, 0.8, 0.9), "boxes are in pixels"),
        ((50, 50, 10, 90), "swapped"),
        ((10, 90, 50, 20), "swapped"),
        ((400, 10, 500, 50), "outside the picture, which is 400 x 300"),
        ((-90, 10, 0, 50), "outside"),
        ((0, 0, 1e300, 50), "20 times as large as the picture"),
        ((-1e5, 0, 1e5, 50), "20 times as large as the picture"),
        ((10, np.nan, 50, 50), "not finite"),
        ((10, 10, np.inf, 50), "not finite"),
        ((10, 10, 50), "not four numbers"),
        ("abcd", "not four numbers"),
        (None, "not four numbers"),
        ([[1, 2, 3, 4]], "not four numbers"),
    ],
)
def test_bad_boxes(predictor, box, reason):
    with pytest.raises(UserError, match=reason):
        predictor(photo_with_spots(), [(10, 10, 50, 90), box])


def test_a_box_may_reach_beyond_the_picture(predictor):
    (person,) = predictor(photo_with_spots((14.0, 150.0)), [(-40, 60, 50, 240)])
    np.testing.assert_allclose(person.joints_2d[0], (14, 150), atol=1.0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 100), np.uint8),
        np.zeros((100, 100, 4), np.uint8),
        np.zeros((100, 100, 3), np.float32),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
)
def test_bad_pictures(predictor, image):
    with pytest.raises(UserError):
        predictor(image)


def test_a_diverged_network_is_named(body):
    broken = Finder()
    broken.scale[...] = jnp.float32(np.nan)
    with pytest.raises(UserError, match="not finite"):
        predictor_module.Predictor(broken, body, SIZE)(photo_with_spots())


def test_person_is_saved_whole_or_not_at_all(predictor, tmp_path):
    (person,) = predictor(photo_with_spots((200.0, 150.0)))
    person.save(tmp_path / "person.npz")
    with np.load(tmp_path / "person.npz") as saved:
        np.testing.assert_allclose(saved["vertices"][0], person.vertices)
        assert saved["attention"].shape == (1, 16, 16, 24)
        np.testing.assert_array_equal(saved["faces"], predictor.faces)
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        person.save(tmp_path / "taken.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["person.npz", "taken.npz"]


def test_several_pictures_at_once_are_each_as_if_alone(predictor, monkeypatch):
    """Batches run across pictures; the answers come back to where they belong."""
    monkeypatch.setattr(predictor_module, "MAX_BATCH", 4)
    pictures = [
        photo_with_spots((100.0, 150.0), (300.0, 150.0)),
        photo_with_spots(height=200, width=120),
        photo_with_spots((60.0, 90.0), height=200, width=120),
        photo_with_spots((200.0, 150.0), (90.0, 120.0), (310.0, 170.0)),
    ]
    boxes = [
        [box_about(100, 150), box_about(300, 150)],
        [],
        None,
        [box_about(200, 150), box_about(90, 120), box_about(310, 170)],
    ]
    together = predictor.batch(pictures, boxes)
    assert [len(people) for people in together] == [2, 0, 1, 3]
    for picture, own, people in zip(pictures, boxes, together, strict=True):
        for alone, person in zip(predictor(picture, own), people, strict=True):
            np.testing.assert_allclose(alone.vertices, person.vertices, atol=1e-4)
            np.testing.assert_array_equal(alone.box, person.box)
    assert [len(people) for people in predictor.batch(pictures)] == [1, 1, 1, 1]
    with pytest.raises(UserError, match="pictures: 4, lists of boxes: 1; give one list"):
        predictor.batch(pictures, [None])


def test_posing_again_what_was_predicted_changes_nothing(predictor):
    image = photo_with_spots((100.0, 150.0), (300.0, 150.0), (200.0, 90.0))
    people = predictor(image, [box_about(x, y) for x, y in ((100, 150), (300, 150), (200, 90))])
    stacked = [
        np.stack([getattr(person, name) for person in people])
        for name in ("betas", "rotations", "translation", "box")
    ]
    for person, again in zip(people, predictor.pose(*stacked), strict=True):
        for name in ("vertices", "joints_3d", "joints_2d", "pose", "camera_crop", "crop_centre"):
            before, after = getattr(person, name), getattr(again, name)
            np.testing.assert_allclose(after, before, atol=2e-4, err_msg=name)
        assert again.focal_length == person.focal_length
        assert again.attention is None
