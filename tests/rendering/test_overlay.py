"""Meshes, skeletons and attention maps drawn over pictures."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pare_jax import geometry
from pare_jax.rendering import attention_maps as attention
from pare_jax.rendering import camera, overlay, skeleton_lines
from pare_jax.skeleton import JOINT_NAMES, MIRROR, PARENTS, joint_index

DISTANCE = 2 * 5000.0 / (224 * 0.8)
# The root's rotation of the figure.
FACING = np.diag([1.0, -1.0, -1.0])


def moved(points: np.ndarray, depth: float) -> np.ndarray:
    return points + np.array([0.0, 0.0, depth])


def painted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after.astype(int) - before).max(-1) > 10


def test_crop_camera_is_the_projection_of_training():
    points = np.random.default_rng(0).normal(0, 0.5, (7, 3)).astype(np.float32)
    translation = np.array([0.1, -0.2, DISTANCE], np.float32)
    for side in (64, 224, 500):
        units = np.asarray(geometry.project(points, translation))
        pixels = camera.crop_camera(side).project(points + translation)
        np.testing.assert_allclose(pixels, (units + 1) * side / 2, atol=1e-3)


def test_the_camera_of_a_part_projects_to_the_same_pixels():
    points = moved(np.random.default_rng(1).normal(0, 1, (9, 3)), 8.0)
    whole = camera.Camera(700.0, (310.0, 200.0))
    part = whole.seen_in((40.0, 25.0), 2.0)
    np.testing.assert_allclose(part.project(points), (whole.project(points) - (40, 25)) * 2)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3)])
def test_silhouette_lies_where_the_joints_project(figure, shift):
    size = 240
    translation = np.array([*shift, DISTANCE])
    view = camera.crop_camera(size)
    ground = np.full((size, size, 3), 90, np.uint8)
    picture = overlay.draw_mesh(ground, figure.vertices + translation, figure.faces, view)
    mask = painted(ground, picture)
    joints = view.project(figure.joints + translation)
    inside = np.floor(joints).astype(int)
    assert mask[inside[:, 1], inside[:, 0]].all()
    # Everything drawn is within the capsules' 5 cm of a bone.
    radius = 0.05 * view.focal_length / (DISTANCE - 0.4) + 1.5
    bones = np.full((size, size), 255, np.uint8)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            ends = [tuple(int(v) for v in np.round(joints[j] - 0.5)) for j in (parent, joint)]
            cv2.line(bones, *ends, 0, 1)
    distance = cv2.distanceTransform(bones, cv2.DIST_L2, 5)
    assert distance[mask].max() <= radius


def test_mesh_moves_with_the_camera_to_a_fraction_of_a_pixel(figure):
    """The centre of the drawn pixels follows a subpixel shift, because edges are antialiased."""
    size = 160
    ground = np.zeros((size, size, 3), np.uint8)

    def centre(shift):
        view = camera.Camera(3000.0, (80.0 + shift, 80.0))
        mesh = moved(figure.vertices, 60.0)
        picture = overlay.draw_mesh(ground, mesh, figure.faces, view, (255, 255, 255), 1.0)
        weight = picture.sum(-1).astype(float)
        return (weight.sum(0) * (np.arange(size) + 0.5)).sum() / weight.sum()

    assert centre(0.5) - centre(0.0) == pytest.approx(0.5, abs=0.08)


def test_nearer_faces_hide_farther_ones_in_any_order():
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    vertices = np.concatenate([moved(square, 5.2), moved(square * 0.5, 4.8)])
    faces = np.array([[0, 3, 2], [0, 2, 1], [4, 7, 6], [4, 6, 5]], np.int32)
    colours = np.repeat([[200.0, 0.0, 0.0], [0.0, 0.0, 200.0]], 4, axis=0)
    view = camera.Camera(150.0, (100.0, 100.0))
    ground = np.zeros((200, 200, 3), np.uint8)
    far = overlay.draw_mesh(ground, vertices, faces[:2], view, colours)
    both = overlay.draw_mesh(ground, vertices, faces, view, colours)
    swapped = overlay.draw_mesh(ground, vertices, faces[[2, 3, 0, 1]], view, colours)
    np.testing.assert_array_equal(both, swapped)
    assert painted(ground, far).sum() == pytest.approx((2 * 150 / 5.2) ** 2, rel=0.05)
    assert painted(far, both).sum() == pytest.approx((150 / 4.8) ** 2, rel=0.15)
    # Back faces hide nothing, because bodies are closed.
    turned = np.concatenate([faces[:2], faces[2:, ::-1]])
    np.testing.assert_array_equal(overlay.draw_mesh(ground, vertices, turned, view, colours), far)


def test_mesh_off_the_picture_or_behind_the_camera_draws_nothing(figure):
    ground = np.full((100, 100, 3), 50, np.uint8)
    view = camera.crop_camera(100)
    for translation in ((40.0, 0.0, 50.0), (0.0, 0.0, -50.0), (np.nan, 0.0, 50.0)):
        mesh = figure.vertices + translation
        np.testing.assert_array_equal(overlay.draw_mesh(ground, mesh, figure.faces, view), ground)


def about(axis: str, degrees: float) -> np.ndarray:
    """Return a rotation about an axis of the camera frame."""
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def side_panel(figure, turn: np.ndarray, size: int = 300) -> np.ndarray:
    """Return the side view of the figure after a turn in the camera frame."""
    vertices = moved(figure.vertices @ turn.T, 50.0)
    return overlay.side_view(vertices, figure.faces, turn @ FACING, size, size)


@pytest.mark.parametrize("yaw", [0, 90, -90, 180, 37])
def test_the_side_view_is_the_persons_left_however_the_person_faces(figure, yaw):
    """The left forearm points forward, so the view's leftmost part is at its height."""
    size = 300
    panel = side_panel(figure, about("y", yaw))
    mask = painted(np.full_like(panel, panel[0, 0]), panel)
    rows, columns = np.nonzero(mask)
    height = (figure.joints[20, 1] - figure.vertices[:, 1].min()) / np.ptp(figure.vertices[:, 1])
    leftmost = rows[columns == columns.min()].mean()
    assert (leftmost - rows.min()) / np.ptp(rows) == pytest.approx(height, abs=0.03)
    assert rows.min() > 0
    assert rows.max() < size - 1
    assert columns.min() + columns.max() == pytest.approx(size, abs=6)  # centred
    # Seen from the left, the left upper arm hides the right one: the viewer is on its side.
    left_arm = overlay.own_views(about("y", yaw) @ FACING)[0] @ about("y", yaw) @ figure.joints.T
    assert left_arm[2, joint_index("left_elbow")] < left_arm[2, joint_index("right_elbow")]


@pytest.mark.parametrize(
    ("turn", "lies"),
    [
        (about("x", 90), True),  # on the back, the head away from the camera
        (about("x", -90), True),
        (about("z", 90) @ about("y", 90), True),  # on the back, across the picture
        (about("z", 90), False),  # on one side, or seen from above and facing sideways
        (about("z", -90), False),
        (about("z", 20), False),  # leaning
    ],
)
def test_a_person_who_lies_is_seen_in_profile(figure, turn, lies):
    """The forearm at the left shows a profile; the body is as long as it is, not foreshortened."""
    side, back = overlay.own_views(turn @ FACING)
    for view in (side, back):
        np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(view) == pytest.approx(1)
    left, up, front = (side @ turn @ FACING).T
    assert left[2] < -0.85  # towards the viewer
    assert np.hypot(*up[:2]) > 0.85  # the body's length lies in the panel
    assert np.hypot(*front[:2]) > 0.85
    assert (abs(up[0]) > abs(up[1])) == lies
    assert (back @ turn @ FACING)[2, 2] > 0.85  # the front is away from the viewer


def test_views_of_an_unknown_root_are_those_of_a_person_who_faces_the_camera(figure):
    unknown = overlay.own_views(np.full((3, 3), np.nan))
    np.testing.assert_array_equal(unknown, overlay.own_views(FACING))


def test_skeleton_colours_tell_left_from_right(figure):
    """Blue, the left side of a person who faces the camera, is in the picture's right half."""
    size = 200
    ground = np.zeros((size, size, 3), np.uint8)
    joints = camera.crop_camera(size).project(moved(figure.joints, DISTANCE))
    picture = skeleton_lines.draw_skeleton(ground, joints)

    def columns_of(colour):
        return np.nonzero(np.abs(picture.astype(int) - colour).max(-1) < 4)[1]

    assert len(columns_of(skeleton_lines.LEFT)) > 50
    assert columns_of(skeleton_lines.LEFT).min() > size / 2
    assert columns_of(skeleton_lines.RIGHT).max() < size / 2
    for joint, name in enumerate(JOINT_NAMES):
        mirrored = skeleton_lines.joint_colour(MIRROR[joint])
        assert (skeleton_lines.joint_colour(joint) == mirrored) == ("_" not in name)
        column, row = np.floor(joints[joint]).astype(int)
        assert picture[row, column].any(), name


def test_skeleton_skips_joints_that_are_not_finite(figure):
    joints = np.full((24, 2), np.nan)
    ground = np.zeros((50, 50, 3), np.uint8)
    np.testing.assert_array_equal(skeleton_lines.draw_skeleton(ground, joints), ground)
    joints[[1, 4]] = [(10, 10), (30, 1e9)]
    assert skeleton_lines.draw_skeleton(ground, joints, width=2)[10, 10].any()


def test_attention_is_brightest_where_it_is_largest():
    crop = np.full((64, 64, 3), 128, np.uint8)
    maps = np.zeros((16, 16, 24), np.float32)
    for joint in range(24):
        maps[joint // 4 + 2, joint % 4 + 8, joint] = 1.0
    for name in ("left_wrist", "head"):
        joint = joint_index(name)
        heat = attention.draw_attention(crop, maps[..., joint]).astype(int).sum(-1)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert (row // 4, column // 4) == (joint // 4 + 2, joint % 4 + 8)


def test_even_attention_has_no_colour():
    crop = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    heat = attention.draw_attention(crop, np.full((16, 16), 1 / 256))
    np.testing.assert_array_equal(heat[..., 0], heat[..., 2])


def test_attention_sheet_shows_every_joint_once():
    crop = np.full((64, 64, 3), 128, np.uint8)
    maps = np.full((8, 8, 24), 1 / 64, np.float32)
    sheet = attention.attention_sheet(crop, maps, columns=6, cell=96)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 6 * 100 - 4
    assert sheet.shape[0] > 4 * 96
    few = attention.attention_sheet(crop, maps, joints=("head", "pelvis"), cell=96)
    assert few.shape[1] == 2 * 100 - 4


@pytest.mark.parametrize("side", [64, 224, 300])
def test_sample_panel_has_a_cell_for_each_picture(figure, side):
    image = np.full((side, side, 3), 70, np.uint8)
    mesh = moved(figure.vertices, DISTANCE)
    plain = overlay.sample_panel(image, mesh, figure.faces, FACING, cell=112)
    assert plain.shape[1] == 3 * 116 - 4
    maps = np.full((14, 14, 24), 1 / 196, np.float32)
    shown = ("head", "left_foot")
    full = overlay.sample_panel(image, mesh, figure.faces, FACING, maps, shown, cell=112)
    assert full.shape[1] == 5 * 116 - 4
    np.testing.assert_array_equal(full[:, : plain.shape[1]], plain)
    assert painted(plain[:112, :112], plain[:112, 116:228]).any()


@pytest.mark.parametrize("yaw", [0, 120])
def test_side_and_back_view_turns_the_body_and_keeps_its_scale(figure, yaw):
    size, turn = 300, about("y", yaw)
    vertices = moved(figure.vertices @ turn.T, 50.0)
    sheet = overlay.side_and_back_view(vertices, figure.faces, turn @ FACING, size, size)
    side, back = sheet[:size, :size], sheet[:size, size + 4 :]
    mask = (
        painted(np.full_like(side, side[0, 0]), side),
        painted(np.full_like(back, back[0, 0]), back),
    )
    heights = [np.ptp(np.nonzero(m.any(1))[0]) for m in mask]
    assert abs(heights[0] - heights[1]) <= 2
    # The left forearm points forward, so only the right arm reaches far sideways: to the right
    # from behind.
    columns = np.nonzero(mask[1].any(0))[0]
    spine = np.nonzero(mask[1][round(size * 0.6)])[0].mean()
    assert columns.max() - spine > 1.2 * (spine - columns.min())
    assert mask[1].any(0).sum() > 1.5 * mask[0].any(0).sum()


def test_bounds_set_the_scale_and_the_centre(figure):
    size, view = 300, overlay.side_and_back_view
    body = np.asarray(figure.vertices)
    around = overlay.bounds_in_views(body, FACING)
    alone = view(body, figure.faces, FACING, size, size)
    again = view(body, figure.faces, FACING, size, size, bounds=around)
    np.testing.assert_array_equal(again, alone)
    # With bounds of twice the height, upwards, the body is half as large, in the lower half.
    around[:, 0, 1] -= np.ptp(around[:, :, 1], axis=1)
    small = view(body, figure.faces, FACING, size, size, bounds=around)
    for column in (0, size + 4):
        panels = [sheet[:size, column : column + size] for sheet in (alone, small)]
        rows = [np.nonzero(painted(p, np.full_like(p, p[0, 0])).any(1))[0] for p in panels]
        assert np.ptp(rows[1]) == pytest.approx(np.ptp(rows[0]) / 2, abs=3)
        assert rows[1].min() == pytest.approx(size / 2, abs=5)


def test_views_of_empty_or_nan_meshes_are_empty(figure):
    for vertices in (np.zeros((0, 3)), np.full((4, 3), np.nan)):
        panel = overlay.side_view(vertices, figure.faces[:0], FACING, 40, 30)
        assert panel.shape == (40, 30, 3)
        assert (panel == panel[0, 0]).all()
