"""Synthetic people: the same settings give the same bytes, and the labels agree."""

import dataclasses
import multiprocessing
import re

import cv2
import numpy as np
import pytest

from data_pipelines.example import CROP_MARGIN, STORED_FIELDS
from data_pipelines.synthetic import angles, generate, scenery
from data_pipelines.synthetic.backgrounds import draw_background
from data_pipelines.synthetic.meshes import load_mesh
from data_pipelines.synthetic.settings import SPLITS, SyntheticSettings, from_mapping
from pare_jax.body.io import load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.skeleton import MIRROR, NUM_JOINTS, joint_index

SETTINGS = SyntheticSettings(train=1000, validation=1000, test=1000, test_occluded=1000)
PLAIN = dataclasses.replace(
    SETTINGS, clutter=0.0, occluders=0.0, other_people=0.0, truncation=0.0, degradation=0.0
)


def _same(first, second) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@pytest.fixture(scope="module")
def scenes():
    return [scenery.draw_scene(SETTINGS, "train", index) for index in range(60)]


@pytest.fixture(scope="module")
def plain_scenes():
    return [scenery.draw_scene(PLAIN, "train", index) for index in range(60)]


def test_examples_have_all_stored_fields():
    example = generate.generate_example(SETTINGS, "train", 0)
    assert example.keys() == STORED_FIELDS.keys()
    for name, field in STORED_FIELDS.items():
        if field.dtype in ("bytes", "str"):
            assert type(example[name]).__name__ == field.dtype, name
        else:
            assert np.asarray(example[name]).dtype == field.dtype, name
            assert np.shape(example[name]) == field.shape, name
            assert np.isfinite(example[name]).all(), name
    image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)
    parts = cv2.imdecode(np.frombuffer(example["part_labels"], np.uint8), cv2.IMREAD_UNCHANGED)
    size = SETTINGS.image_size
    assert image.shape == (size, size, 3)
    assert parts.shape == (size // 2, size // 2)
    assert parts.max() <= NUM_JOINTS


def test_same_bytes_in_any_order_and_with_any_number_of_workers():
    forwards = [generate.generate_example(SETTINGS, "train", index) for index in range(40)]
    backwards = [generate.generate_example(SETTINGS, "train", i) for i in reversed(range(40))]
    assert all(map(_same, forwards, reversed(backwards)))
    in_processes = list(generate.generate_examples(SETTINGS, "train", 0, 40, workers=2))
    assert len(in_processes) == 40
    assert all(map(_same, forwards, in_processes))
    assert _same(forwards[17], next(generate.generate_examples(SETTINGS, "train", 17, workers=1)))


def test_splits_and_seeds_share_no_person():
    shapes = []
    for split in SPLITS:
        for seed in (0, 1):
            settings = dataclasses.replace(SETTINGS, seed=seed)
            example = (generate.generate_example(settings, split, i) for i in range(4))
            shapes += [tuple(e["betas"]) for e in example]
    assert len(set(shapes)) == len(shapes)


def test_joints_2d_are_the_joints_3d_through_the_crops_camera(scenes):
    for drawn in scenes[:20]:
        joints = drawn.person.surface.joints
        photo = joints[:, :2] / joints[:, 2:] * drawn.camera.focal_length - drawn.crop.photo[:2]
        affine = drawn.crop.to_photo()
        np.testing.assert_allclose(drawn.joints_2d @ affine[:, :2].T + affine[:, 2], photo)


def test_crop_is_the_square_around_the_box_with_its_margin(plain_scenes):
    for drawn in plain_scenes[:20]:
        surface = drawn.crop.points(drawn.camera.project(drawn.person.surface.vertices))
        low, high = surface.min(0), surface.max(0)
        np.testing.assert_allclose((low + high) / 2, PLAIN.image_size / 2, atol=1e-3)
        side = (high - low).max() * BOX_SCALE * CROP_MARGIN
        np.testing.assert_allclose(side, PLAIN.image_size, rtol=1e-5)


def test_rotations_and_shape_give_the_joints(scenes):
    data = load_body_data()
    for drawn in scenes[:10]:
        person = drawn.person
        _, joints = vertices_and_joints(data, person.betas, person.rotations)
        own = person.surface.joints - person.surface.joints[0]
        np.testing.assert_allclose(own, joints - joints[0], atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(person.rotations), 1.0)
        assert np.abs(person.betas).max() <= scenery.SHAPE_LIMIT


@pytest.mark.parametrize("kind", ["full", "coarse"])
def test_a_mesh_without_clothes_is_the_body(kind):
    data, mesh = load_body_data(), load_mesh(kind)
    person = scenery.draw_scene(PLAIN, "train", 3).person
    vertices, joints = vertices_and_joints(
        data, person.betas, person.rotations, coarse=kind == "coarse"
    )
    bare = np.zeros(len(mesh.template), np.float32)
    posed = mesh.pose(person.betas, person.rotations, joints[0], bare)
    np.testing.assert_allclose(posed.vertices, vertices, atol=1e-4)


def test_normals_turn_with_the_skin_and_clothes_lie_along_them():
    mesh = load_mesh("coarse")
    rotations = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    rotations[0] = angles.about_y(0.7) @ angles.about_x(-0.4)
    place = np.array([0.1, -0.2, 5.0])
    bare, dressed = (
        mesh.pose(np.zeros(10), rotations, place, np.full(len(mesh.template), t, np.float32))
        for t in (0.0, 0.02)
    )
    np.testing.assert_allclose(bare.normals, mesh.normals.T @ rotations[0].T, atol=1e-5)
    np.testing.assert_allclose(dressed.vertices, bare.vertices + 0.02 * bare.normals, atol=1e-5)
    np.testing.assert_allclose(bare.joints[0], place)


def test_picture_shows_the_person_where_the_part_labels_are():
    """Another background changes all pixels but the person's."""
    busy = dataclasses.replace(PLAIN, clutter=1.0)
    elsewhere = []
    for index in range(12):
        drawn = scenery.draw_scene(PLAIN, "train", index)
        other = scenery.draw_scene(busy, "train", index)
        half = PLAIN.image_size // 2
        changed = (drawn.image != other.image).any(-1).reshape(half, 2, half, 2).all((1, 3))
        np.testing.assert_array_equal(drawn.part_labels, other.part_labels)
        person = (drawn.part_labels > 0).astype(np.uint8)
        inner, outer = cv2.erode(person, np.ones((3, 3))), cv2.dilate(person, np.ones((3, 3)))
        assert changed[inner > 0].mean() < 0.01
        elsewhere.append(changed[outer == 0].mean())
    assert np.mean(elsewhere) > 0.5


def test_visible_joints_are_in_the_picture_on_their_part(scenes):
    shows_person, agree = [], []
    for drawn in scenes:
        half = drawn.part_labels
        for joint in np.flatnonzero(drawn.visible):
            x, y = np.floor(drawn.joints_2d[joint] / 2).astype(int)
            assert 0 <= x < len(half)
            assert 0 <= y < len(half)
            around = half[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            shows_person.append(around.any())
            agree.append(joint + 1 in around)
    assert len(agree) > 800
    assert np.mean(shows_person) > 0.98  # the coarser labels may miss a finger
    # Hips, collars and spine joints lie near their neighbours' parts; most show their own.
    assert np.mean(agree) > 0.7


def test_hidden_joints_of_people_seen_from_the_side():
    """Seen from the left, the right shoulder and hip are behind the trunk."""
    far, near = np.zeros(2), np.zeros(2)
    for index in range(200):
        drawn = scenery.draw_scene(PLAIN, "train", index)
        turn = drawn.person.rotations[0]
        left = turn[:, 0]  # the body's left in the camera frame
        if abs(left[2]) < 0.95:
            continue
        sides = ("right", "left") if left[2] < 0 else ("left", "right")
        for total, side in zip((far, near), sides, strict=True):
            seen = drawn.visible[[joint_index(f"{side}_{n}") for n in ("shoulder", "hip")]]
            total += [seen.sum(), 2]
    assert far[1] > 20
    assert far[0] / far[1] < 0.2
    assert near[0] / near[1] > 0.7


def test_occluded_split_hides_a_part_of_everyone():
    hidden = [scenery.draw_scene(SETTINGS, "test_occluded", index).hidden for index in range(60)]
    assert np.mean(np.array(hidden) > 0.02) > 0.95
    assert 0.1 < np.mean(hidden) < 0.5
    assert max(hidden) < 0.95


def test_a_third_of_the_default_pictures_is_occluded_or_cut(scenes):
    share = np.mean([drawn.hidden > 0.03 or drawn.truncated for drawn in scenes])
    assert share > 0.25  # the mean over many more is above a third


def test_difficulties_are_switched_off_by_zero(plain_scenes):
    assert max(drawn.hidden for drawn in plain_scenes) < 0.01
    assert not any(drawn.truncated for drawn in plain_scenes)


def test_truncated_people_are_cut_and_padded_with_black():
    settings = dataclasses.replace(PLAIN, truncation=1.0)
    drawn = [scenery.draw_scene(settings, "train", index) for index in range(40)]
    cut = [d for d in drawn if d.truncated]
    assert len(cut) > 30
    for one in cut:
        outside = ~one.crop.on_photo(settings.image_size)
        assert not one.image[outside].any()
        assert not one.visible[~one.crop.shows(one.joints_2d)].any()
        assert one.visible.sum() >= 3


def test_viewpoints_cover_the_circle(plain_scenes):
    facing = np.array([drawn.person.rotations[0][:, 2] for drawn in plain_scenes])
    turn = np.arctan2(facing[:, 0], facing[:, 2])
    counts, _ = np.histogram(turn, bins=4, range=(-np.pi, np.pi))
    assert counts.min() >= 6
    narrow = dataclasses.replace(PLAIN, yaw=0.0, pitch=0.0, roll=0.0, everyday=1.0)
    for index in range(5):
        drawn = scenery.draw_scene(narrow, "train", index)
        assert drawn.person.rotations[0][2, 2] < -0.2  # towards the camera
        left, right = (drawn.joints_2d[joint_index(f"{s}_shoulder"), 0] for s in ("left", "right"))
        assert left > right  # the left of a person who faces us is on the picture's right


def test_sides_of_mirrored_pictures_swap(plain_scenes):
    """Mirrored rotations pose the mirror image of the body."""
    data = load_body_data()
    flip = np.diag([-1.0, 1.0, 1.0])
    person = plain_scenes[0].person
    _, joints = vertices_and_joints(data, person.betas, person.rotations)
    mirrored = flip @ person.rotations[list(MIRROR)] @ flip
    _, other = vertices_and_joints(data, person.betas, mirrored)
    joints, other = joints - joints[0], other - other[0]
    np.testing.assert_allclose(other, joints[list(MIRROR)] @ flip, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clutter", 1.5),
        ("clutter", "much"),
        ("train", -1),
        ("train", 2.5),
        ("image_size", 33),
        ("image_size", 16),
        ("mesh", "fine"),
        ("seed", True),
        ("seed", -1),
        ("yaw", 181.0),
        ("pitch", -1.0),
        ("roll", 46.0),
        ("focal_min", 5.0),
        ("focal_max", 20.0),  # below focal_min
        ("occluder_size", 0.0),
        ("background_folder", 3),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(UserError) as caught:
        from_mapping({name: value})
    assert repr(name) in str(caught.value)
    assert repr(value) in str(caught.value)


def test_an_unknown_setting_is_named_with_the_closest_known_one():
    with pytest.raises(UserError, match=r"'trian'.*'train'"):
        from_mapping({"trian": 3})


def test_bad_folders_splits_and_indices_are_named(tmp_path):
    missing = str(tmp_path / "no")
    settings = from_mapping({"background_folder": missing})
    with pytest.raises(UserError, match=re.escape(missing)):
        list(generate.generate_examples(settings, "train"))
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        from_mapping({"background_folder": str(tmp_path)}).digest()
    with pytest.raises(UserError, match="'tset'"):
        generate.generate_example(SETTINGS, "tset", 0)
    with pytest.raises(UserError, match="1000"):
        generate.generate_example(SETTINGS, "train", 1000)


def test_photographs_as_backgrounds(tmp_path):
    green = np.full((60, 90, 3), (0, 200, 0), np.uint8)
    cv2.imwrite(str(tmp_path / "field.png"), green)
    settings = dataclasses.replace(PLAIN, background_folder=str(tmp_path))
    drawn = scenery.draw_scene(settings, "train", 0)
    corner = drawn.image[drawn.crop.on_photo(settings.image_size)].reshape(-1, 3)
    assert ((corner == (0, 200, 0)).all(1)).mean() > 0.5
    assert settings.digest() != PLAIN.digest()
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "field.png").unlink()
    broken = dataclasses.replace(settings, seed=1)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "broken.jpg"))):
        scenery.draw_scene(broken, "train", 0)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_shrunk_photograph_does_not_alias(size, tmp_path):
    """A checkerboard of single pixels becomes nearly flat; bilinear shrinking leaves some 42."""
    board = (np.indices((480, 640)).sum(0) % 2 * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "board.png"), board)
    settings = dataclasses.replace(PLAIN, background_folder=str(tmp_path), image_size=size)
    for seed in range(8):
        background = draw_background(np.random.default_rng(seed), settings, size, horizon=0.0)
        assert background.std() < 6.0
        np.testing.assert_allclose(background.mean(), 127.5, atol=3.0)


def test_a_photograph_is_shown_in_place_and_mirrored_in_half_of_the_pictures(tmp_path):
    """A ramp keeps its slope: between 0.4 and 1 of the shorter side, either way round."""
    ramp = np.tile(np.linspace(0, 240, 240).astype(np.uint8), (120, 1))
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp)
    settings = dataclasses.replace(PLAIN, background_folder=str(tmp_path))
    slopes = []
    for seed in range(40):
        row = draw_background(np.random.default_rng(seed), settings, 60, horizon=0.0)[30, :, 0]
        slopes.append((float(row[50]) - float(row[10])) / 40)
    assert 10 <= np.sum(np.array(slopes) > 0) <= 30
    np.testing.assert_array_less(0.7, np.abs(slopes))
    np.testing.assert_array_less(np.abs(slopes), 2.1)


def test_different_settings_have_different_digests():
    digests = {
        dataclasses.replace(SETTINGS, **change).digest()
        for change in ({}, {"seed": 1}, {"clutter": 0.41}, {"train": 999})
    }
    assert len(digests) == 4
    assert from_mapping({"yaw": 180}).digest() == SyntheticSettings().digest()


def test_a_killed_worker_is_reported_and_does_not_block():
    examples = generate.generate_examples(SETTINGS, "train", 0, 1000, workers=2)
    next(examples)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(UserError, match="--workers"):
        list(examples)


def test_no_examples_need_no_process():
    assert list(generate.generate_examples(SETTINGS, "train", 5, 5, workers=2)) == []
