"""Maps of one person, checked with a network whose sensitive regions are known."""

import cv2
import numpy as np
import pytest

from pare_jax.crop import IMAGENET_MEAN, IMAGENET_STD, PATCH_COLOUR
from pare_jax.errors import UserError
from pare_jax.io.images import read_image
from pare_jax.sensitivity import occlusion_sensitivity, patch_grid, save_sensitivity
from pare_jax.sensitivity.heat_maps import scale_bar, scale_end
from pare_jax.sensitivity.maps import crop_sensitivity
from pare_jax.sensitivity.patches import route
from pare_jax.skeleton import JOINT_NAMES, joint_index
from tests.sensitivity.fakes import (
    MOVED,
    RED,
    REGIONS,
    SIZE,
    make_predictor,
    pixels_covered,
    red_crop,
)

PATCH, STRIDE = 6, 3


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture(scope="module")
def change(predictor):
    return crop_sensitivity(predictor, red_crop(), patch_grid(SIZE, PATCH, STRIDE))


@pytest.fixture(scope="module")
def truth(change):
    rng = np.random.default_rng(0)
    return change.baseline_joints + rng.normal(0, 0.1, (24, 3))


def test_maps_are_nonzero_exactly_where_the_patch_meets_the_region(change):
    red = (RED[0] / 255 - IMAGENET_MEAN[0]) / IMAGENET_STD[0]
    expected = np.zeros_like(change.maps)
    joints = change.baseline_joints
    for elbow, region in REGIONS.items():
        shown = np.zeros((SIZE, SIZE), bool)
        shown[region] = True
        for place in np.ndindex(*change.maps.shape[:2]):
            hidden = (pixels_covered(change.centres[place], PATCH) & shown).sum() / shown.sum()
            # The forearm turns about the elbow's vertical axis by the hidden share.
            for name in MOVED[elbow]:
                arm = joints[joint_index(name)] - joints[joint_index(elbow)]
                radius = np.hypot(arm[0], arm[2])
                moved = 2 * radius * np.sin(abs(hidden * red) / 2)
                expected[(*place, joint_index(name))] = 1000 * moved
    assert (expected > 0).any((0, 1)).sum() == 4
    np.testing.assert_array_equal(change.maps > 1e-3, expected > 0)
    np.testing.assert_allclose(change.maps, expected, atol=1e-3 * expected.max())
    np.testing.assert_allclose(change.overall, expected.sum(-1) / 24, atol=1e-3 * expected.max())


def test_with_true_joints_maps_are_errors(predictor, change, truth):
    grid = patch_grid(SIZE, PATCH, STRIDE)
    # The origin of the true joints is arbitrary.
    found = crop_sensitivity(predictor, red_crop(), grid, truth + np.array([0.3, -2.0, 7.0]))
    centred = truth - truth[0]
    expected = np.linalg.norm(change.predictions.joints - centred, axis=-1) * 1000
    np.testing.assert_allclose(found.maps, expected, atol=1e-3)
    clean = np.linalg.norm(change.baseline_joints - centred, axis=-1) * 1000
    np.testing.assert_allclose(found.baseline_errors, clean, atol=1e-3)
    np.testing.assert_allclose(found.increase, expected - clean, atol=2e-3)
    assert found.increase.min() < -1  # a patch can help
    assert (found.maps[..., 0] == 0).all()
    # If the true joints are the prediction, error and change are equal.
    same = crop_sensitivity(predictor, red_crop(), grid, change.baseline_joints)
    np.testing.assert_allclose(same.maps, change.maps, atol=1e-4)
    np.testing.assert_allclose(same.baseline_errors, 0, atol=1e-4)
    assert change.baseline_errors is None
    np.testing.assert_array_equal(change.increase, change.maps)
    with pytest.raises(ValueError, match=r"24, 3"):
        crop_sensitivity(predictor, red_crop(), grid, truth[:14])


def test_boxes_choose_what_the_network_sees(predictor, change):
    # The crop of this box, 1.2 times as large, is red; the rest of the photograph is not.
    image = np.full((200, 300, 3), 7, np.uint8)
    image[35:165, 85:215] = RED  # interpolation reads some pixels outside the crop
    found = occlusion_sensitivity(predictor, image, (100, 60, 200, 140), PATCH, STRIDE)
    np.testing.assert_allclose(found.maps, change.maps, atol=1e-3)
    np.testing.assert_array_equal(found.crop, np.broadcast_to(RED, found.crop.shape))
    whole = occlusion_sensitivity(predictor, image, patch=PATCH, stride=STRIDE)
    assert (whole.crop != found.crop).any()
    for bad in ((500, 0, 600, 90), (0, 0, 5)):
        with pytest.raises(UserError):
            occlusion_sensitivity(predictor, image, bad)
    with pytest.raises(UserError, match="uint8"):
        occlusion_sensitivity(predictor, image / 255.0)


def test_the_mesh_under_a_patch_is_that_of_the_prediction(predictor, change):
    body = predictor.body
    position = (2, 7)
    alone = body(change.predictions.betas[position], change.predictions.rotations[position])
    ours = change.vertices([(0, 0), position])[1]
    # All vertices are translated alike, by the camera.
    moved = ours - np.asarray(alone.vertices)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-4)
    assert moved[0, 2] > 10
    assert np.abs(ours - change.vertices()).max() > 1e-2


def test_saved_maps_can_be_read(change, predictor, truth, tmp_path):
    save_sensitivity(change, tmp_path / "new" / "maps.npz")
    with np.load(tmp_path / "new" / "maps.npz") as found:
        np.testing.assert_allclose(found["maps"], change.maps, atol=1e-3)
        np.testing.assert_array_equal(found["centres"], change.centres)
        assert (found["patch"], found["stride"], found["image_size"]) == (PATCH, STRIDE, SIZE)
        assert tuple(found["joint_names"]) == JOINT_NAMES
        assert found["baseline_joints"].shape == (24, 3)
        assert "baseline_errors" not in found
    grid = patch_grid(SIZE, PATCH, 8)
    found = crop_sensitivity(predictor, red_crop(), grid, truth)
    save_sensitivity(found, tmp_path / "truth.npz")
    with np.load(tmp_path / "truth.npz") as found:
        assert found["baseline_errors"].shape == (24,)
    with pytest.raises(UserError, match=r"maps\.txt"):
        save_sensitivity(change, tmp_path / "maps.txt")


def test_the_sheet_is_bright_where_the_patch_matters(change, tmp_path):
    save_sensitivity(change, tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png").astype(int)
    # The grid of joints is the lower four of the sheet's five rows of cells.
    cell, gap = 192, 4
    top = sheet.shape[0] - 4 * (cell + 21) - 3 * gap

    def colourful(name):
        row, column = divmod(joint_index(name), 6)
        y, x = top + row * (cell + 21 + gap), column * (cell + gap)
        picture = sheet[y : y + cell, x : x + cell]
        return np.ptp(picture, axis=-1) > 40

    assert not colourful("pelvis").any()
    assert not colourful("left_knee").any()
    bright = colourful("left_hand")
    rows, columns = REGIONS["left_elbow"]
    to_cell = cell / SIZE
    middle = [(s.start + s.stop) / 2 * to_cell for s in (rows, columns)]
    found = np.argwhere(bright).mean(0)
    np.testing.assert_allclose(found, middle, atol=6)


def test_the_clip_has_a_frame_for_each_position_of_its_route(predictor, tmp_path):
    found = crop_sensitivity(predictor, red_crop(), patch_grid(SIZE, 12, 12))
    save_sensitivity(found, tmp_path / "clip.mp4")
    video = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    frames = [frame for _ in range(20) if (frame := video.read()[1]) is not None]
    assert len(frames) == len(route(found.grid)) == 9
    # The patch starts at the top left; the mesh does not reach the upper edge.
    cell = 384 // 3
    for number in range(3):
        centre = frames[number][10, cell // 2 :: cell][:3, ::-1].astype(int)
        grey = np.abs(centre - PATCH_COLOUR).max(-1) < 30
        assert grey.tolist() == [column == number for column in range(3)]


@pytest.mark.parametrize(("size", "patch", "stride"), [(224, 40, 8), (64, 11, 2), (32, 32, 32)])
def test_routes_cover_the_crop_and_are_short(size, patch, stride):
    grid = patch_grid(size, patch, stride)
    positions = route(grid)
    assert 1 <= len(positions) <= 120
    hidden = np.zeros((size, size), bool)
    for position in positions:
        low = np.clip(np.round(grid.centres[position] - patch / 2), 0, None).astype(int)
        high = np.round(grid.centres[position] + patch / 2).astype(int)
        hidden[low[1] : high[1], low[0] : high[0]] = True
    assert hidden.all()
    # Back and forth: no jump from the end of a row to the start of the next.
    steps = np.abs(np.diff(np.array(positions), axis=0)).max(initial=0)
    assert steps <= max(grid.count / 4, 1)


def test_a_scale_says_and_more_only_if_values_exceed_it():
    whole, same, cut = (scale_bar(192, 300.0, largest) for largest in (263.0, 300.0, 301.0))
    np.testing.assert_array_equal(whole, same)
    rows, columns = np.nonzero((whole != cut).any(-1))
    # One line below the top number, beside the colours.
    assert 12 < rows.min() < rows.max() < 40
    assert columns.min() > 24
    assert columns.max() < whole.shape[1] - 1


def test_scales_end_at_round_numbers():
    assert [scale_end(np.array([v])) for v in (0, 3, 41, 62, 100, 480, 801)] == [
        *(1.0, 3.0, 50.0, 80.0, 100.0, 500.0, 1000.0)
    ]
    # A single extreme position does not darken the rest.
    assert scale_end(np.r_[np.full(999, 50.0), 5000.0]) == 50.0
