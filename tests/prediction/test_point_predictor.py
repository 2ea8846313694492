"""Predictions of a network on keypoints: its square, its source, and input that is refused."""

import numpy as np
import pytest

from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.fitting.fitter import BodyFit
from pare_jax.keypoints.keypoints import Keypoints, box_of_keypoints
from pare_jax.keypoints.sets import BLAZEPOSE33, COCO17, point_index
from pare_jax.prediction.answers import NobodyError
from tests.prediction.predict_fakes import (
    SpotSource,
    box_about,
    coco_figure,
    make_point_predictor,
    photo_with_spots,
)


@pytest.fixture(scope="module")
def predictor():
    return make_point_predictor(load_body_model(), SpotSource())


@pytest.mark.parametrize("spot", [(90.0, 140.0), (200.5, 150.0), (371.0, 60.0)])
def test_the_pelvis_lands_between_the_hips_wherever_the_box_lies(predictor, spot):
    """Square, crop camera and projection agree; the box only says where to look."""
    image = photo_with_spots(spot)
    for offset in ((0, 0), (20, -30)):
        (person,) = predictor(image, [box_about(spot[0] + offset[0], spot[1] + offset[1])])
        np.testing.assert_allclose(person.joints_2d[0], spot, atol=1.0)
        assert person.keypoint_set == "coco17"
        assert person.keypoints.shape == (17, 3)


def test_given_keypoints_need_no_source_and_are_seen_as_given(predictor):
    alone = make_point_predictor(predictor.body)
    given = [coco_figure((120.0, 130.0)), coco_figure((300.0, 160.0))]
    people = alone(photo_with_spots(), keypoints=given)
    for person, own in zip(people, given, strict=True):
        np.testing.assert_allclose(person.joints_2d[0], own.points[[11, 12]].mean(0), atol=0.1)
        np.testing.assert_array_equal(person.keypoints[:, :2], own.points)
        # The square is around the points, not around the box.
        sides = own.points.max(0) - own.points.min(0)
        assert person.crop_side == pytest.approx(1.2 * sides.max(), rel=1e-6)
        assert (person.box[:2] < own.points.min(0)).all()
        assert (person.box[2:] > own.points.max(0)).all()
    with pytest.raises(UserError, match="keypoints"):
        alone(photo_with_spots(), [box_about(120, 130)])


def test_a_box_in_which_nobody_is_seen_is_left_out(predictor):
    image = photo_with_spots((90.0, 140.0))
    boxes = [box_about(300, 140), box_about(90, 140)]
    (person,) = predictor(image, boxes)
    np.testing.assert_array_equal(person.box, boxes[1])
    assert [crop is None for crop in predictor.crops(image, boxes)] == [True, False]
    with pytest.raises(NobodyError, match="250,50,350,230"):
        predictor.crop(image, boxes[0])


def test_depths_reach_the_network_where_they_are_known(predictor):
    world = np.full((33, 3), np.nan)
    world[25] = (0.1, 0.4, -0.25)  # left knee
    points = np.random.default_rng(0).uniform(50, 200, (33, 2))
    confidence = np.full(33, 0.7)
    confidence[26] = 0.0  # right knee
    world[26] = (0.1, 0.4, 0.5)
    keypoints = Keypoints(BLAZEPOSE33, points, confidence, world)
    rows = predictor.crop(photo_with_spots(), (10, 10, 300, 250), keypoints).points
    assert rows[:, 4].sum() == 1.0
    np.testing.assert_allclose(rows[point_index("left_knee"), 2:], (0.7, -0.25, 1.0))
    np.testing.assert_array_equal(rows[point_index("right_knee")], 0.0)
    assert np.abs(rows[:, :2]).max() <= 1.0


@pytest.mark.parametrize(
    ("points", "confidence", "shown"),
    [
        (np.full((17, 2), np.nan), np.ones(17), "0 keypoints"),
        (np.full((17, 2), 50.0), np.zeros(17), "0 keypoints"),
        (np.full((17, 2), -900.0), np.ones(17), "outside"),
    ],
)
def test_unusable_keypoints_are_refused(predictor, points, confidence, shown):
    with pytest.raises(UserError, match=shown):
        predictor(photo_with_spots(), keypoints=[Keypoints(COCO17, points, confidence)])


def test_one_sure_point_among_unsure_ones_is_enough(predictor):
    unsure = coco_figure((120.0, 130.0))
    confidence = np.full(17, 0.2)
    confidence[0] = 0.9
    unsure = Keypoints(COCO17, unsure.points, confidence)
    (person,) = predictor(photo_with_spots(), keypoints=[unsure])
    np.testing.assert_allclose(person.joints_2d[0], unsure.points[[11, 12]].mean(0), atol=0.1)
    alone = Keypoints(COCO17, unsure.points, np.eye(17)[0])
    given = [box_about(120, 130)] * 2
    assert len(predictor(photo_with_spots(), given, keypoints=[unsure, alone])) == 1


def test_people_of_many_photographs_go_through_one_network_in_order(predictor):
    image = photo_with_spots((90.0, 140.0), (300.0, 140.0))
    boxes = [box_about(90, 140), box_about(200, 140), box_about(300, 140)]
    together = predictor.batch([image, image], [boxes, []])
    assert [len(people) for people in together] == [2, 0]
    for person, at in zip(together[0], (90.0, 300.0), strict=True):
        assert person.joints_2d[0, 0] == pytest.approx(at, abs=1.0)


def test_posing_again_keeps_each_persons_square(predictor):
    image = photo_with_spots((90.0, 140.0))
    (person,) = predictor(image, [box_about(100, 150)])
    rows = [np.asarray(getattr(person, n))[None] for n in ("betas", "rotations", "translation")]
    square = np.array([[*person.crop_centre, person.crop_side]])
    (again,) = predictor.pose(*rows, person.box[None], square)
    np.testing.assert_allclose(again.joints_2d, person.joints_2d, atol=1e-3)


def test_refined_bodies_have_the_fits_pose_and_verdict(predictor, monkeypatch):
    """The fit is a stand-in that moves everybody by a metre and ignores the nose."""
    given = {}

    def moved(points, start, *, body):
        given["points"] = points
        count = len(points)
        camera = np.array(start.camera)
        camera[:, 1] += 1.0
        ignored = np.zeros(points.shape[:2], bool)
        ignored[:, point_index("nose")] = True
        arrays = np.array(start.rotations), np.array(start.betas), camera
        return BodyFit(*arrays, np.zeros(count), np.full(count, 0.5), ignored, np.ones(count, bool))

    monkeypatch.setattr("pare_jax.prediction.refinement.refine", moved)
    image = photo_with_spots((90.0, 140.0), (300.0, 140.0))
    boxes = [box_about(90, 140), box_about(300, 140)]
    plain = predictor(image, boxes)
    for before, after in zip(plain, predictor.with_refinement()(image, boxes), strict=True):
        step = after.joints_3d - before.joints_3d
        np.testing.assert_allclose(step, np.tile([1.0, 0.0, 0.0], (24, 1)), atol=1e-4)
        assert after.fit_error == 0.5
        assert "0.500" in after.fit_problems
        assert after.fit_ignored.tolist() == [True] + [False] * 16
        assert before.fit_error is None
    # The points are in units of each person's square.
    known = given["points"][..., 2] > 0
    assert np.abs(given["points"][known][:, :2]).max() == pytest.approx(1 / 1.2, abs=0.01)


def test_a_box_apart_from_its_keypoints_is_not_theirs():
    points = np.random.default_rng(0).uniform(100, 200, (17, 2))
    near, apart = np.array([90.0, 90, 180, 210]), np.array([300.0, 90, 400, 210])
    boxes = [
        box_of_keypoints(Keypoints(COCO17, points, np.ones(17), box=box)) for box in (near, apart)
    ]
    np.testing.assert_array_equal(boxes[0], near)
    assert (boxes[1][:2] < points.min(0)).all()
    assert (boxes[1][2:] > points.max(0)).all()
    assert (boxes[1] < 230).all()


def test_points_at_one_place_are_one_known_point():
    points = np.full((17, 2), 300.0) + np.linspace(0, 0.3, 17)[:, None]
    assert Keypoints(COCO17, points, np.ones(17)).known == 1
