"""Predictions in Python: geometry, batches, programs compiled, and input that is refused."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pare_jax import geometry
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.prediction import network_programs
from pare_jax.prediction import predictor as predictor_module
from pare_jax.prediction.loading import load_predictor
from pare_jax.skeleton import JOINT_NAMES
from pare_jax.training.config import SYNTHETIC_ALONE
from pare_jax.training.workdir import write_config
from tests.body.small_bodies import random_body_fields
from tests.evaluation.compilations import compiled_programs
from tests.fakes import tiny_config
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
    """Crop, camera and projection agree, wherever the box lies."""
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


def test_vertices_and_joints_are_those_of_the_body_model(predictor, body):
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


def test_people_share_the_predictors_faces_and_can_be_drawn_and_saved(predictor):
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


def test_a_prediction_does_not_depend_on_the_other_people_of_its_batch(predictor, monkeypatch):
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
    ("box", "shown"),
    [
        ((10, 10, 10, 50), "10,10,10,50"),
        ((0.1, 0.2, 0.8, 0.9), "0.1,0.2,0.8,0.9"),
        ((50, 50, 10, 90), "50,50,10,90"),
        ((10, 90, 50, 20), "10,90,50,20"),
        ((400, 10, 500, 50), "400 x 300"),
        ((-90, 10, 0, 50), "-90,10,0,50"),
        ((0, 0, 1e300, 50), "400 x 300"),
        ((-1e5, 0, 1e5, 50), "-100000,0,100000,50"),
        ((10, np.nan, 50, 50), "10,nan,50,50"),
        ((10, 10, np.inf, 50), "10,10,inf,50"),
        ((10, 10, 50), "(10, 10, 50)"),
        ("abcd", "abcd"),
        (None, "None"),
        ([[1, 2, 3, 4]], "[[1, 2, 3, 4]]"),
    ],
)
def test_bad_boxes_are_refused_with_their_numbers(predictor, box, shown):
    with pytest.raises(UserError, match=re.escape(shown)) as refusal:
        predictor(photo_with_spots(), [(10, 10, 50, 90), box])
    assert "\n" not in str(refusal.value)


def test_a_box_may_reach_beyond_the_picture(predictor):
    (person,) = predictor(photo_with_spots((14.0, 150.0)), [(-40, 60, 50, 240)])
    np.testing.assert_allclose(person.joints_2d[0], (14, 150), atol=1.0)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.zeros((100, 100), np.uint8), "(100, 100)"),
        (np.zeros((100, 100, 4), np.uint8), "(100, 100, 4)"),
        (np.zeros((100, 100, 3), np.float32), "float32"),
        (np.zeros((1, 2, 3), np.uint8), "2 x 1"),
        (np.zeros((0, 0, 3), np.uint8), "0 x 0"),
    ],
)
def test_arrays_that_are_no_photograph_are_refused(predictor, image, shown):
    with pytest.raises(UserError, match=re.escape(shown)):
        predictor(image)


def test_outputs_that_are_not_finite_are_refused(body):
    diverged = Finder()
    diverged.scale[...] = jnp.float32(np.nan)
    with pytest.raises(UserError, match="WORKDIR/checkpoints/STEP"):
        predictor_module.Predictor(diverged, body, SIZE)(photo_with_spots())


def test_person_is_saved_whole_or_not_at_all(predictor, tmp_path):
    (person,) = predictor(photo_with_spots((200.0, 150.0)))
    person.save(tmp_path / "person.npz")
    with np.load(tmp_path / "person.npz") as saved:
        np.testing.assert_allclose(saved["vertices"][0], person.vertices)
        assert saved["attention"].shape == (1, 16, 16, 24)
        np.testing.assert_array_equal(saved["faces"], predictor.faces)
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        person.save(tmp_path / "taken.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["person.npz", "taken.npz"]


def test_photographs_predicted_together_give_the_same_people_as_alone(predictor, monkeypatch):
    """Batches hold people of several photographs; each photograph gets its own people."""
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
    with pytest.raises(UserError, match=r"4.*1"):
        predictor.batch(pictures, [None])


def test_posing_the_predicted_parameters_gives_the_predicted_person(predictor):
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


class Counted:
    """A static attribute of a network that counts how often its graph is hashed."""

    hashes = 0

    def __hash__(self):
        Counted.hashes += 1
        return 0


def test_calls_of_one_batch_size_compile_once_and_never_hash_the_graph(body):
    network = Finder()
    network.counted = Counted()
    predictor = predictor_module.Predictor(network, body, SIZE)
    box = box_about(200, 150)
    with compiled_programs() as programs:
        predictor(photo_with_spots(), [box])
        Counted.hashes = 0
        hash(nnx.graphdef(predictor.network))
        assert Counted.hashes == 1
        for _ in range(3):
            predictor(photo_with_spots(), [box])
        assert Counted.hashes == 1
        predictor(photo_with_spots(), [box] * 3)
        predictor(photo_with_spots(), [box] * 4)
    assert programs.count("predict_people") == 2  # for 1 person, and for 3 or 4


def test_a_call_is_dispatched_in_less_than_half_a_millisecond(predictor):
    crops = [predictor.crop(photo_with_spots(), box_about(200, 150))]
    predictor.start(crops).wait()
    seconds = []
    for _ in range(100):
        start = time.perf_counter()
        pending = predictor.start(crops)
        seconds.append(time.perf_counter() - start)
        pending.wait()
    # The fastest call, because others wait for a processor on a busy machine.
    assert min(seconds) < 0.5e-3


def test_the_program_takes_the_body_model_as_an_argument(body):
    """As a constant, the free body's 12,272 vertices would take megabytes of every program."""
    program = network_programs.NetworkProgram(Finder(), holds_weights=True)
    for count in (1, 2):
        lowered = program.lower(body, np.zeros((count, SIZE, SIZE, 3), np.uint8))
        assert len(lowered.as_text()) < 1e6


def test_a_program_that_holds_its_weights_predicts_the_same_and_takes_none(body):
    inputs = photo_with_spots((20.0, 40.0))[None, :SIZE, :SIZE]
    plain, held = (
        network_programs.NetworkProgram(Finder(), holds_weights=held) for held in (False, True)
    )
    expected = plain(body, inputs)
    for name, found in held(body, inputs).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)
    arguments = [len(jax.tree.leaves(p.lower(body, inputs).args_info)) for p in (plain, held)]
    assert arguments[0] > arguments[1]
    # For several people both take the weights, so that one copy serves all.
    both = np.concatenate([inputs, inputs])
    assert len(jax.tree.leaves(held.lower(body, both).args_info)) == arguments[0]


@pytest.fixture
def run_with_body(tmp_path, monkeypatch):
    """A run whose body model is tmp_path/body.npz; its network is a stand-in."""
    np.savez(tmp_path / "body.npz", **random_body_fields())
    config = tiny_config()
    config.body_model = str(tmp_path / "body.npz")
    workdir = tmp_path / "run"
    workdir.mkdir()
    write_config(workdir, config)
    monkeypatch.setattr("pare_jax.prediction.loading.load_model", lambda *_: (config, Finder()))
    return workdir


def test_the_body_model_of_a_run_may_move(run_with_body, tmp_path):
    vertices = load_predictor(run_with_body).body.num_vertices
    assert vertices == 60
    moved = (tmp_path / "body.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(UserError) as refusal:
        load_predictor(run_with_body)
    message = str(refusal.value)
    assert "\n" not in message
    for shown in (tmp_path / "body.npz", run_with_body, "--body=FILE"):
        assert str(shown) in message
    assert load_predictor(run_with_body, body=moved).body.num_vertices == 60


def test_a_predictor_has_the_warning_of_its_runs_config(run_with_body):
    assert load_predictor(run_with_body).warning == SYNTHETIC_ALONE


def test_another_body_model_than_the_runs_is_refused(run_with_body, tmp_path):
    np.savez(tmp_path / "other.npz", **random_body_fields(seed=1))
    with pytest.raises(UserError, match=re.escape(str(run_with_body))):
        load_predictor(run_with_body, body=tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"absent\.npz"):
        load_predictor(run_with_body, body=tmp_path / "absent.npz")
