"""Positions of patches, the pixels they cover, and predictions with patches."""

import numpy as np
import pytest
from flax import nnx

from pare_jax.body.model import body_from_data
from pare_jax.crop import IMAGENET_MEAN, IMAGENET_STD, PATCH_COLOUR
from pare_jax.errors import UserError
from pare_jax.io.images import cut_crop
from pare_jax.models import build_model
from pare_jax.prediction.predictor import Predictor
from pare_jax.sensitivity.heat_maps import paint_patch
from pare_jax.sensitivity.patches import (
    NO_PATCH,
    covered,
    patch_grid,
    predict_with_patches,
)
from tests.fakes import tiny_config
from tests.prediction.made_up_people import small_body
from tests.sensitivity.fakes import SIZE, Elbows, make_predictor, pixels_covered, red_crop


@pytest.fixture(scope="module")
def tiny():
    """Return a small random network before folding, its body, and its predictor."""
    config = tiny_config()
    module = build_model(config.model, rngs=nnx.Rngs(3))
    module.eval()
    body = body_from_data(small_body())
    return module, body, Predictor(module, body, config.image_size)


def random_crop(seed=0, side=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_grid_of_the_usual_size():
    grid = patch_grid(224)
    assert (grid.patch, grid.stride, grid.count) == (40, 8, 28)
    assert grid.centres.shape == (28, 28, 2)
    np.testing.assert_array_equal(grid.centres[0, 0], [4, 4])
    np.testing.assert_array_equal(grid.centres[2, 5], [44, 20])  # x, y
    np.testing.assert_array_equal(grid.centres[-1, -1], [220, 220])


@pytest.mark.parametrize(("size", "patch", "stride"), [(32, 7, 5), (64, 11, 3), (32, 32, 32)])
def test_grids_cover_the_crop_and_are_symmetric(size, patch, stride):
    grid = patch_grid(size, patch, stride)
    np.testing.assert_allclose(grid.axis + grid.axis[::-1], size)
    assert grid.axis.min() > 0
    assert grid.axis.min() <= stride / 2
    if patch >= stride:
        hidden = np.asarray(covered(grid.centres.reshape(-1, 2), float(patch), size))
        assert hidden.any(0).all()


@pytest.mark.parametrize(
    ("patch", "stride", "name"), [(33, 8, "patch 33"), (0, 8, "patch 0"), (8, 0, "stride 0")]
)
def test_patches_that_do_not_fit_are_refused(patch, stride, name):
    with pytest.raises(UserError, match=rf"{name} .* 32 ") as caught:
        patch_grid(32, patch, stride)
    assert "\n" not in str(caught.value)


def test_covered_pixels_are_those_of_the_reference():
    centres = np.array([(16, 16), (0.5, 31), (10.5, 3.25), (31.9, 0), (40, 10), NO_PATCH])
    for patch in (1, 6, 7):
        hidden = np.asarray(covered(centres.astype(np.float32), float(patch), SIZE))
        for centre, found in zip(centres, hidden, strict=True):
            np.testing.assert_array_equal(found, pixels_covered(centre, patch))
        assert hidden[0].sum() == patch**2
        assert not hidden[-1].any()


def test_drawn_patches_agree_with_the_networks():
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    for centre in ((16, 16), (2, 30.5), (31, 1)):
        shown = (paint_patch(crop, np.array(centre), 7) == PATCH_COLOUR).all(-1)
        np.testing.assert_array_equal(shown, pixels_covered(centre, 7))
    np.testing.assert_allclose(PATCH_COLOUR, 255 * np.array(IMAGENET_MEAN), atol=0.5)


@pytest.mark.parametrize(("size", "stride", "side"), [(32, 4, 96), (64, 5, 50)])
def test_values_are_interpolated_between_positions(size, stride, side):
    grid = patch_grid(size, 8, stride)
    for axis in (0, 1):
        spread = grid.spread(grid.centres[..., axis], side)
        # Centres interpolate to the pixel's own coordinate, up to the outermost centres.
        pixel = (np.arange(side) + 0.5) * size / side
        expected = np.clip(pixel, grid.axis[0], grid.axis[-1])
        row = spread[side // 3] if axis == 0 else spread[:, side // 3]
        # OpenCV interpolates in steps of 1/32.
        np.testing.assert_allclose(row, expected, atol=stride / 32)


def test_predictions_agree_with_crops_painted_by_hand(tiny):
    module, body, predictor = tiny
    crops = np.stack([random_crop(0), random_crop(1)])
    which = np.array([0, 1, 1, 0, 1])
    centres = np.array([(16, 16), (2, 30), (9.5, 20), NO_PATCH, (31, 16)], np.float32)
    found = predict_with_patches(predictor, crops, which, centres, 9, batch_size=3)
    pictures = (crops[which] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    for picture, centre in zip(pictures, centres, strict=True):
        picture[pixels_covered(centre, 9)] = 0.0
    prediction = nnx.jit(lambda network, x: network(x))(module, pictures.astype(np.float32))
    joints = np.asarray(body.joints(prediction.betas, prediction.rotations))
    np.testing.assert_allclose(found.joints, joints - joints[:, :1], atol=2e-5)
    np.testing.assert_allclose(found.rotations, prediction.rotations, atol=2e-5)
    np.testing.assert_allclose(found.camera, prediction.camera, atol=2e-5)
    np.testing.assert_allclose(found.betas, prediction.betas, atol=2e-5)


def test_the_batch_size_does_not_change_predictions(tiny):
    predictor = tiny[2]
    centres = patch_grid(SIZE, 8, 8).centres.reshape(-1, 2)
    which = np.zeros(len(centres), int)
    counts = {}
    predictions = {}
    for size in (5, 16, 100):
        counts[size] = []
        predictions[size] = predict_with_patches(
            predictor, random_crop()[None], which, centres, 8, size, counts[size].append
        )
    for size in (5, 100):
        for one, other in zip(predictions[size], predictions[16], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert counts == {5: [5, 5, 5, 1], 16: [16], 100: [16]}


def test_a_patch_outside_the_crop_changes_nothing(tiny):
    _, _, predictor = tiny
    picture = random_crop(side=64)
    (person,) = predictor(picture, [(5, 8, 50, 60)])
    crop = cut_crop(picture, person.crop_centre, person.crop_side, SIZE)
    centres = np.array([NO_PATCH, (-9, 4), (16, SIZE + 5)], np.float32)
    found = predict_with_patches(predictor, crop[None], np.zeros(3, int), centres, 8)
    for joints in found.joints:
        np.testing.assert_allclose(joints, person.joints_3d - person.joints_3d[0], atol=2e-5)


def test_predictions_of_nan_are_refused():
    with pytest.raises(UserError, match="finite"):
        predict_with_patches(
            make_predictor(np.nan), red_crop()[None], np.zeros(2, int), np.zeros((2, 2)), 4
        )


def test_one_program_is_compiled_for_all_patches_of_a_predictor():
    class CountedElbows(Elbows):
        traces = 0

        def __call__(self, images):
            type(self).traces += 1
            return super().__call__(images)

    predictor = Predictor(CountedElbows(), body_from_data(small_body()), SIZE)
    for patch in (4, 7):
        centres = np.zeros((70, 2))
        predict_with_patches(predictor, red_crop()[None], np.zeros(70, int), centres, patch)
    assert CountedElbows.traces == 1
