"""Finding people and following them, with stand-ins and with the real networks."""

import numpy as np
import pytest

from data_pipelines.synthetic.scenery import draw_scene
from data_pipelines.synthetic.settings import SyntheticSettings
from pare_jax.keypoints.blazepose_files import load_blazepose
from pare_jax.keypoints.overlap import overlap
from pare_jax.keypoints.squares import square_of
from pare_jax.skeleton import joint_index
from tests.keypoints.blazepose_fakes import FakeLiteRt, needs_files, picture_of

UPRIGHT, LYING = ((150.0, 160.0), (150.0, 80.0)), ((150.0, 160.0), (230.0, 160.0))


@pytest.mark.parametrize(("hips", "top"), [UPRIGHT, LYING])
def test_landmarks_are_in_the_photographs_pixels_and_axes(network, hips, top):
    (found,) = network.find(picture_of((hips, top)))
    np.testing.assert_allclose(found.points[0], np.add(hips, -0.4 * _aside(hips, top)), atol=1.5)
    np.testing.assert_allclose(found.points[32], np.add(top, 0.4 * _aside(hips, top)), atol=1.5)
    # The stand-in's metres are pixels of its turned crop about the hips.
    np.testing.assert_allclose(
        found.world[:, :2], (found.points - hips) * 256 / 200 / 100, atol=0.02
    )
    assert found.confidence.min() > 0.99
    x0, y0, x1, y1 = found.box
    assert (found.points.min(0) > (x0, y0)).all()
    assert (found.points.max(0) < (x1, y1)).all()


def _aside(hips, top):
    x, y = np.subtract(top, hips)
    return np.array([-y, x])


def test_small_people_are_found_in_tiles_and_once_each(network):
    small = [((x, 100.0), (x, 62.0)) for x in (60.0, 200.0, 330.0)]
    found = network.find(picture_of(*small))
    np.testing.assert_allclose(sorted(k.points[16, 0] for k in found), [60, 200, 330], atol=1.5)
    assert all(0.5 <= one.score <= 1 for one in found)
    assert network.find(picture_of()) == []


def test_one_large_person_needs_no_tiles(network):
    network.find(picture_of(((200.0, 270.0), (200.0, 10.0))))
    assert FakeLiteRt.calls == 2
    FakeLiteRt.calls = 0
    network.find(picture_of())
    assert FakeLiteRt.calls > 6


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (9000, 120)])
def test_pictures_of_any_shape_are_searched_in_few_tiles(network, shape):
    assert network.find(np.full((*shape, 3), 90, np.uint8)) == []
    assert FakeLiteRt.calls <= 1 + 64


def test_people_are_looked_for_in_given_boxes(network):
    left, right = ((80.0, 150.0), (80.0, 90.0)), ((260.0, 190.0), (320.0, 190.0))
    boxes = [np.array(box, float) for box in ((230, 130, 350, 250), (40, 60, 120, 180))]
    nobody = np.array([150.0, 20.0, 200.0, 60.0])
    found = network.look(picture_of(left, right), [*boxes, nobody])
    assert found[2] is None
    for one, (hips, top), box in zip(found, (right, left), boxes, strict=False):
        np.testing.assert_allclose(one.points[16], np.add(hips, top) / 2, atol=1.5)
        np.testing.assert_array_equal(one.box, box)


def test_a_person_is_followed_from_frame_to_frame_until_lost(network):
    square = square_of(np.array(UPRIGHT[0]), np.array(UPRIGHT[1]))
    for step in (10.0, 20.0, 30.0):
        hips, top = (150.0 + step, 160.0), (150.0 + 2 * step, 80.0)
        (seen,) = network.follow(picture_of((hips, top)), [square])
        np.testing.assert_allclose(seen.square.centre, hips, atol=1.5)
        square = seen.square
    assert network.follow(picture_of(), [square]) == [None]


LIMBS = [
    f"{side}_{name}"
    for side in ("left", "right")
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]


@needs_files
def test_the_real_networks_see_a_drawn_person_in_2d_and_3d():
    network = load_blazepose()
    settings = SyntheticSettings(
        image_size=512, mesh="full", seed=5, other_people=0.0, occluders=0.0, truncation=0.0
    )
    scene = draw_scene(settings, "test", 1)
    true = scene.person.surface.joints
    pixels = scene.crop.points(scene.camera.project(true))
    (found,) = network.find(scene.image)
    rows = [found.set.points.index(name) for name in LIMBS]
    joints = [joint_index(name) for name in LIMBS]
    extent = np.ptp(pixels, axis=0).max()
    errors = np.hypot(*(found.points[rows] - pixels[joints]).T)
    assert errors.max() < 0.1 * extent
    outline = scene.crop.points(scene.camera.project(scene.person.surface.vertices))
    assert overlap(found.box, np.concatenate([outline.min(0), outline.max(0)])) > 0.75
    # World points have the camera's axes: a mirrored or turned axis is off by 0.3 m and more.
    hips = true[[joint_index("left_hip"), joint_index("right_hip")]].mean(0)
    assert np.linalg.norm(found.world[rows] - (true[joints] - hips), axis=1).mean() < 0.15
    # The same person lying: everything turns with the picture.
    (lying,) = network.find(np.ascontiguousarray(np.rot90(scene.image)))
    np.testing.assert_allclose(lying.points[:, 0], found.points[:, 1], atol=12)
    np.testing.assert_allclose(lying.points[:, 1], 512 - found.points[:, 0], atol=12)
    np.testing.assert_allclose(lying.world[:, 0], found.world[:, 1], atol=0.12)
    np.testing.assert_allclose(lying.world[:, 1], -found.world[:, 0], atol=0.12)
    (given,) = network.look(scene.image, [found.box])
    np.testing.assert_allclose(given.points[rows], found.points[rows], atol=0.06 * extent)
