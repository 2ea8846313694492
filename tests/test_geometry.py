"""Rotations against scipy in float64, cameras against formulas, gradients near singularities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax import geometry


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def _axes(rng, count):
    axes = rng.normal(size=(count, 3))
    # Include the coordinate axes, where components of the quaternion vanish.
    axes[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


ANGLES = {
    "zero": [0.0],
    "tiny": [1e-30, 1e-12, 1e-7, 1e-5],
    # Near 1e-3 the code switches from the series to the formula.
    "small": [9.9e-4, 1e-3, 1.01e-3, 1e-2],
    "ordinary": [0.1, 0.7, 1.5, 2.5, 3.0],
    "half turn": [np.pi - 1e-2, np.pi - 1e-4, np.pi - 1e-6, np.pi],
    "more than half a turn": [3.5, 5.0, 2 * np.pi - 1e-3, 7.0, 20.0],
}


@pytest.mark.parametrize("kind", ANGLES)
def test_axis_angle_to_matrix_agrees_with_scipy(rng, kind):
    for angle in ANGLES[kind]:
        vectors = (angle * _axes(rng, 50)).astype(np.float32)
        expected = Rotation.from_rotvec(vectors.astype(np.float64)).as_matrix()
        matrices = geometry.axis_angle_to_matrix(vectors)
        # A float32 angle has a relative error of 1e-7.
        np.testing.assert_allclose(matrices, expected, atol=5e-7 * max(1, angle / np.pi))


@pytest.mark.parametrize("kind", ["zero", "tiny", "small", "ordinary", "half turn"])
def test_axis_angle_round_trip(rng, kind):
    for angle in ANGLES[kind]:
        vectors = (angle * _axes(rng, 50)).astype(np.float32)
        matrices = geometry.axis_angle_to_matrix(vectors)
        back = np.asarray(geometry.matrix_to_axis_angle(matrices))
        assert np.isfinite(back).all()
        assert (np.linalg.norm(back, axis=1) < np.pi + 1e-6).all()
        if angle < 3.1:
            # The off-diagonal elements keep a small angle at full relative precision.
            np.testing.assert_allclose(back, vectors, atol=1e-6, rtol=1e-5)
        # At half a turn v and -v are the same rotation.
        np.testing.assert_allclose(geometry.axis_angle_to_matrix(back), matrices, atol=2e-6)


def test_matrix_to_axis_angle_agrees_with_scipy(rng):
    rotation = Rotation.random(2000, random_state=rng)
    vectors = geometry.matrix_to_axis_angle(rotation.as_matrix().astype(np.float32))
    error = (Rotation.from_rotvec(np.asarray(vectors, np.float64)).inv() * rotation).magnitude()
    assert error.max() < 2e-6


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-6, 1e-3, 1.0, np.pi])
def test_gradients_of_axis_angle_match_differences(rng, angle):
    vector = (angle * _axes(rng, 7)[6]).astype(np.float32)
    jacobian = jax.jacobian(geometry.axis_angle_to_matrix)(jnp.asarray(vector))
    vector = vector.astype(np.float64)
    step = 1e-5
    expected = np.stack(
        [
            (
                Rotation.from_rotvec(vector + step * unit).as_matrix()
                - Rotation.from_rotvec(vector - step * unit).as_matrix()
            )
            / (2 * step)
            for unit in np.eye(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(jacobian, expected, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-20, 1e-6, 1e-3, 1.0, 3.1])
def test_gradients_of_matrix_to_axis_angle_are_finite(rng, angle):
    vectors = jnp.asarray(angle * _axes(rng, 12), jnp.float32)

    def there_and_back(vector):
        return geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(vector))

    jacobians = jax.vmap(jax.jacobian(there_and_back))(vectors)
    np.testing.assert_allclose(jacobians, np.broadcast_to(np.eye(3), (12, 3, 3)), atol=1e-3)


def test_sixd_is_row_major_three_by_two():
    sixd = jnp.array([1.0, 10.0, 2.0, 20.0, 2.0, -30.0])
    first, second = np.array([1.0, 2.0, 2.0]), np.array([10.0, 20.0, -30.0])
    b1 = first / 3
    b2 = second - b1 @ second * b1
    b2 /= np.linalg.norm(b2)

    matrix = geometry.sixd_to_matrix(sixd)

    expected = np.stack([b1, b2, np.cross(b1, b2)], axis=1)
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    np.testing.assert_allclose(geometry.matrix_to_sixd(jnp.eye(3)), [1, 0, 0, 1, 0, 0])


def test_sixd_round_trips_and_always_yields_rotations(rng):
    rotations = Rotation.random(500, random_state=rng).as_matrix().astype(np.float32)
    sixd = geometry.matrix_to_sixd(rotations)
    np.testing.assert_allclose(geometry.sixd_to_matrix(sixd), rotations, atol=1e-6)

    matrices = np.asarray(geometry.sixd_to_matrix(rng.normal(size=(500, 6)).astype(np.float32)))
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(np.swapaxes(matrices, 1, 2) @ matrices, identity, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)


@pytest.mark.parametrize("sixd", [[0.0] * 6, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [1e-20] * 6])
def test_sixd_without_a_rotation_has_finite_values_and_gradients(sixd):
    sixd = jnp.array(sixd)
    assert jnp.isfinite(geometry.sixd_to_matrix(sixd)).all()
    assert jnp.isfinite(jax.jacobian(geometry.sixd_to_matrix)(sixd)).all()


def test_camera_translation_agrees_with_the_formula():
    camera = jnp.array([0.9, 0.1, -0.2])
    depth = 2 * 5000 / (224 * 0.9 + 1e-9)
    np.testing.assert_allclose(geometry.camera_translation(camera), [0.1, -0.2, depth], rtol=1e-6)
    np.testing.assert_allclose(
        geometry.camera_translation(camera, focal_length=1000.0, image_size=256)[2],
        2 * 1000 / (256 * 0.9 + 1e-9),
        rtol=1e-6,
    )


def test_projection_agrees_with_pixels(rng):
    points = rng.normal(size=(5, 30, 3)).astype(np.float32)
    translation = np.array([[0.1, 0.2, 40.0]] * 5, np.float32)
    moved = (points + translation[:, None]).astype(np.float64)
    pixels = 5000 * moved[..., :2] / moved[..., 2:] + 112
    projected = geometry.project(points, translation)
    np.testing.assert_allclose(projected, pixels / 112 - 1, atol=1e-5)


def test_scale_is_crop_half_sides_a_metre():
    # Weak perspective: s (x + tx) to first order in the body's depth over its distance.
    points = jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    camera = jnp.array([0.8, 0.05, 0.1])
    projected = geometry.project(points, geometry.camera_translation(camera))
    np.testing.assert_allclose(projected, 0.8 * (points[:, :2] + camera[1:]), atol=1e-6)


def test_full_camera_and_crop_camera_show_the_person_in_the_same_place(rng):
    points = 0.5 * rng.normal(size=(3, 24, 3)).astype(np.float32)
    points[:, 0] = 0
    camera = np.array([[0.9, 0.1, -0.05], [0.7, 0.0, 0.2], [1.1, -0.1, 0.0]], np.float32)
    side = np.array([300.0, 520.0, 80.0], np.float32)
    picture = np.array([1920.0, 1080.0], np.float32)
    focal = np.asarray(geometry.full_frame_focal_length(side))
    in_crop = geometry.project(points, geometry.camera_translation(camera))
    for shift in ([0.0, 0.0], [200.0, -100.0]):
        centre = np.broadcast_to(picture / 2 + np.float32(shift), (3, 2))
        translation = geometry.full_frame_translation(camera, centre, side, picture, focal)
        moved = np.asarray(points + translation[:, None], np.float64)
        pixels = focal[:, None, None] * moved[..., :2] / moved[..., 2:] + picture / 2
        error = np.abs(pixels - (centre[:, None] + in_crop * side[:, None, None] / 2)).max(-1)
        # The root is at the same pixel. Away from the photograph's centre, other points shift by
        # their depth relative to the root over its distance: the cameras' directions differ.
        parallax = max(map(abs, shift)) * np.abs(points[..., 2]) / np.asarray(translation)[:, 2:]
        assert (error <= 1.1 * parallax + 0.01).all()


def test_any_leading_axes(rng):
    vectors = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
    matrices = geometry.axis_angle_to_matrix(vectors)
    assert matrices.shape == (2, 3, 4, 3, 3)
    assert geometry.matrix_to_axis_angle(matrices).shape == (2, 3, 4, 3)
    assert geometry.sixd_to_matrix(geometry.matrix_to_sixd(matrices)).shape == matrices.shape
    np.testing.assert_allclose(
        geometry.axis_angle_to_matrix(vectors[1, 2, 3]), matrices[1, 2, 3], atol=1e-7
    )
