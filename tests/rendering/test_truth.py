"""Labels drawn over crops: the fitted camera, and whether the mesh covers the person."""

import cv2
import numpy as np
import pytest

from data_pipelines.reading import input_pipeline
from data_pipelines.synthetic.generate import generate_example
from data_pipelines.synthetic.settings import from_mapping
from data_pipelines.transforms import Placement
from pare_jax.body.io import load_body_data
from pare_jax.rendering.camera import Camera, fit_camera
from pare_jax.rendering.truth import draw_truth
from pare_jax.skeleton import JOINT_NAMES

SIDE = 224


@pytest.fixture(name="points")
def points_fixture():
    points = np.random.default_rng(0).normal(0, [0.3, 0.6, 0.2], (24, 3))
    return points - points[0]


def test_a_camera_with_perspective_is_recovered(points):
    camera, place = Camera(900.0, (-150.0, 420.0)), np.array([0.4, -0.2, 3.5])
    pixels = camera.project(points + place)
    found, where = fit_camera(points, pixels.astype(np.float32))
    assert found.focal_length == pytest.approx(900, rel=1e-3)
    np.testing.assert_allclose(found.principal_point, (-150, 420), atol=2)
    np.testing.assert_allclose(where, place, atol=0.01)
    np.testing.assert_allclose(found.project(points + where), pixels, atol=1e-3)


def test_a_view_without_perspective_gets_a_camera_far_away(points):
    pixels = 100 * points[:, :2] + (112, 90)
    found, where = fit_camera(points, pixels)
    np.testing.assert_allclose(found.project(points + where), pixels, atol=1.0)


def test_no_camera_fits_inverted_or_degenerate_points(points):
    assert fit_camera(points, -100 * points[:, :2]) is None
    assert fit_camera(np.zeros((24, 3)), np.zeros((24, 2))) is None
    assert fit_camera(points, np.full((24, 2), np.nan)) is None
    assert fit_camera(points[:4], points[:4, :2]) is None


@pytest.fixture(name="example", scope="module")
def example_fixture():
    settings = from_mapping({"image_size": SIDE, "clutter": 0.0, "occluders": 0.0})
    return generate_example(settings, "train", 0)


def drawn(labels, joints_2d):
    """Draw the labels over black; return the mask of drawn pixels, and the picture."""
    picture = draw_truth(
        np.zeros((SIDE, SIDE, 3), np.uint8),
        load_body_data(),
        labels["betas"],
        labels["rotations"],
        labels["joints_3d"],
        joints_2d,
    )
    return picture.max(-1) > 24, picture.astype(int)


def check(labels, joints_2d, parts):
    """Compare the drawn mesh with the example's part labels."""
    mask, picture = drawn(labels, joints_2d)
    parts = cv2.resize(parts, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    person = (parts > 0) & (parts < 255)
    # Not all of it: clothes and hair are larger than the body, and part labels are coarser.
    assert (mask & person).sum() > 0.75 * (mask | person).sum()
    for side, channel, other in (("left_", 2, 0), ("right_", 0, 2)):
        own = [joint + 1 for joint, name in enumerate(JOINT_NAMES) if name.startswith(side)]
        inside = np.isin(parts, own) & mask
        assert inside.sum() > 100
        assert np.mean(picture[inside][:, channel] > picture[inside][:, other] + 10) > 0.6


def test_the_mesh_covers_the_person_with_the_right_sides(example):
    parts = cv2.imdecode(np.frombuffer(example["part_labels"], np.uint8), cv2.IMREAD_UNCHANGED)
    check(example, example["joints_2d"], parts)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_the_mesh_covers_the_person_after_augmentation(example, mirror, degrees):
    placement = Placement(np.array([1.1]), np.deg2rad([degrees]), np.array([mirror]))
    batch = input_pipeline.assemble_batch([([example], 0)], placement, SIDE)
    labels = {name: value[0] for name, value in batch.items()}
    check(labels, (labels["joints_2d"] + 1) * (SIDE / 2), labels["part_labels"])
