"""People of one photograph, or of a track, in the frame of the full camera."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from pare_jax import geometry
from pare_jax.meshes.animation import rigged_glb
from pare_jax.meshes.mesh import to_viewer
from pare_jax.prediction.scene import (
    scene_focal_length,
    scene_meshes,
    scene_poses,
    scene_translation,
    track_motion,
)
from pare_jax.rendering.camera import Camera
from tests.meshes.glb_reader import Glb
from tests.prediction.made_up_people import PHOTO_SIZE, make_person, make_track, small_body

BODY = small_body()
MIDDLE = (PHOTO_SIZE[0] / 2, PHOTO_SIZE[1] / 2)


@pytest.mark.parametrize("x", [60.0, 200.0, 390.0])
@pytest.mark.parametrize("focal_length", [None, 300.0, 20_000.0])
def test_the_body_keeps_its_pixel_and_its_size(x, focal_length):
    person = make_person(BODY, x=x)
    place = scene_translation(person, PHOTO_SIZE, focal_length)
    focal_length = focal_length or scene_focal_length(PHOTO_SIZE)
    camera = Camera(focal_length, MIDDLE)
    np.testing.assert_allclose(camera.project(place), person.camera.project(person.translation))
    size = focal_length / place[2]
    assert size == pytest.approx(person.focal_length / person.translation[2])


def test_the_translation_is_that_of_the_papers():
    """The reference is `geometry.full_frame_translation`, which starts from the crop camera."""
    camera = np.array([0.8, 0.1, -0.2], np.float32)
    person = make_person(BODY, x=120.0)
    own = np.asarray(geometry.camera_translation(jnp.asarray(camera)), np.float64)
    person = dataclasses.replace(person, camera_crop=camera, translation=own)
    wanted = geometry.full_frame_translation(
        jnp.asarray(camera),
        jnp.asarray(person.crop_centre, jnp.float32),
        jnp.float32(person.crop_side),
        jnp.asarray(PHOTO_SIZE, jnp.float32),
        jnp.float32(500.0),
    )
    np.testing.assert_allclose(scene_translation(person, PHOTO_SIZE, 500.0), wanted, rtol=1e-4)


def test_people_of_one_photograph_have_different_places():
    people = [make_person(BODY, 0, x=100.0), make_person(BODY, 0, x=300.0, id=9)]
    left, right = scene_meshes(people, PHOTO_SIZE)
    assert (left.name, right.name) == ("person 0", "person 9")
    assert left.colour != right.colour
    pixels = people[0].focal_length / people[0].translation[2]
    np.testing.assert_allclose(
        right.vertices - left.vertices, [[200 / pixels, 0, 0]] * 60, atol=1e-9
    )
    assert np.array_equal(left.faces, BODY.faces)
    # Rigged, they stand at the same places in the same colours.
    glb = Glb(rigged_glb(BODY, scene_poses(people, PHOTO_SIZE)))
    nodes = [number for number, node in enumerate(glb.scene["nodes"]) if "skin" in node]
    for number, mesh in zip(nodes, (left, right), strict=True):
        assert glb.scene["nodes"][number]["name"] == mesh.name
        np.testing.assert_allclose(glb.posed(number, 0.0), to_viewer(mesh.vertices), atol=1e-5)


def test_a_track_is_a_motion_in_the_full_camera():
    people = make_track(BODY, [2, 3, 5])
    motion = track_motion(people[::-1], PHOTO_SIZE)
    assert motion.frames.tolist() == [2, 3, 5]
    assert motion.name == "person 3"
    np.testing.assert_allclose(motion.betas, people[0].betas)
    np.testing.assert_array_equal(motion.rotations[2], people[2].rotations)
    # Four pixels to the right in each frame, although the crop's camera follows the person.
    pixels = people[0].focal_length / people[0].translation[2]
    np.testing.assert_allclose(np.diff(motion.translations[:, 0]), np.array([4, 8]) / pixels)


def test_a_track_needs_frame_numbers():
    with pytest.raises(ValueError, match="frame numbers"):
        track_motion([make_person(BODY)], PHOTO_SIZE)
    with pytest.raises(ValueError, match="frames"):
        track_motion(make_track(BODY, [2, 2]), PHOTO_SIZE)
