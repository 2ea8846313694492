"""Images and labels move together from the stored crop to the network's crop."""

import types

import cv2
import numpy as np
import pytest

from data_pipelines import transforms
from data_pipelines.reading.input_pipeline import assemble_batch
from data_pipelines.transforms import Placement
from pare_jax.errors import UserError
from pare_jax.skeleton import MIRROR, NUM_JOINTS, PARENTS, joint_index

PLACEMENTS = {
    "plain": (1.0, 0.0, False),
    "scaled": (1.25, 0.0, False),
    "turned": (0.95, 35.0, False),
    "mirrored": (1.0, 0.0, True),
    "everything": (1.1, -28.0, True),
}


def placement_of(name, count=1):
    scale, degrees, mirror = PLACEMENTS[name]
    return Placement(
        np.full(count, scale), np.full(count, np.deg2rad(degrees)), np.full(count, mirror)
    )


def grid_joints(side):
    """Return 24 points well inside the network's crop, none symmetric to another."""
    x, y = np.meshgrid(np.linspace(0.32, 0.67, 6), np.linspace(0.34, 0.65, 4))
    return (np.stack([x.ravel(), y.ravel()], -1) * side).astype(np.float32)


def blob_image(centre, side):
    """Draw a soft white blob with its centroid at `centre`; (0, 0) is the image's corner."""
    pixels = np.arange(side) + 0.5
    squared = (pixels[None, :] - centre[0]) ** 2 + (pixels[:, None] - centre[1]) ** 2
    bright = 255 * np.exp(-squared / (2 * (side / 60) ** 2))
    return np.repeat(bright[..., None], 3, axis=-1).astype(np.uint8)


def centroid(weights):
    pixels = np.arange(len(weights)) + 0.5
    return np.array([weights.sum(0) @ pixels, weights.sum(1) @ pixels]) / weights.sum()


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize(("side", "image_size"), [(96, 64), (192, 128), (384, 64)])
def test_joint_labels_follow_the_pixels(name, side, image_size, make_record, encode):
    joints = grid_joints(side)
    records = [
        make_record(side=side, joints_2d=joints, image=encode(".jpg", blob_image(j, side)))
        for j in joints
    ]
    readings = [(records, index) for index in range(NUM_JOINTS)]
    batch = assemble_batch(readings, placement_of(name, NUM_JOINTS), image_size)
    mirrored = PLACEMENTS[name][2]
    for joint in range(NUM_JOINTS):
        # In a mirrored image the left knee's label is where the right knee was drawn.
        drawn = MIRROR[joint] if mirrored else joint
        found = centroid(np.maximum(batch["image"][drawn, ..., 0].astype(float) - 20, 0))
        labelled = (batch["joints_2d"][drawn, joint] + 1) * image_size / 2
        assert np.abs(found - labelled).max() < 0.25, (joint, found, labelled)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_part_labels_follow_the_joints(name, make_record, encode):
    side, image_size = 384, 224
    joints = grid_joints(side)
    labels = np.zeros((side // 2, side // 2), np.uint8)
    for joint, (x, y) in enumerate(joints / 2 - 0.5):
        centre = tuple(round(float(v) * 16) for v in (x, y))
        cv2.circle(labels, centre, 6 * 16, joint + 1, -1, shift=4)
    record = make_record(side=side, joints_2d=joints, part_labels=encode(".png", labels))
    batch = assemble_batch([([record], 0)], placement_of(name), image_size)
    for joint in range(NUM_JOINTS):
        found = centroid((batch["part_labels"][0] == joint + 1).astype(float))
        labelled = (batch["joints_2d"][0, joint] + 1) * image_size / 8
        assert np.abs(found - labelled).max() < 0.5, (joint, found, labelled)


def test_nominal_crop_is_the_stored_pixels(make_record):
    record = make_record(side=96)
    stored = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    batch = assemble_batch([([record], 0)], transforms.identity_placement(1), 64)
    np.testing.assert_array_equal(batch["image"][0], stored[16:80, 16:80])


def test_shrinking_averages_instead_of_skipping(make_record, encode):
    """A one-pixel checkerboard becomes even grey, without a pattern from aliasing."""
    side = 384
    board = np.indices((side, side)).sum(0) % 2 * 255
    picture = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    record = make_record(side=side, image=encode(".jpg", picture))
    batch = assemble_batch([([record], 0)], placement_of("turned"), 64)
    assert np.abs(batch["image"].astype(float) - 127.5).max() < 12


@pytest.mark.parametrize("name", PLACEMENTS)
def test_3d_moves_as_the_image_does(name, make_record):
    """Under an orthographic camera, moved 3D joints project onto the moved 2D joints."""
    side, image_size, pixels_per_metre = 96, 64, 15.0
    record = make_record(side=side)
    record["joints_2d"] = record["joints_3d"][:, :2] * pixels_per_metre + side / 2
    batch = assemble_batch([([record], 0)], placement_of(name), image_size)
    zoom = image_size * 1.5 / side / PLACEMENTS[name][0]
    projected = batch["joints_3d"][0, :, :2] * pixels_per_metre * zoom / (image_size / 2)
    np.testing.assert_allclose(projected, batch["joints_2d"][0], atol=1e-5)
    depths = record["joints_3d"][:, 2]
    expected = depths[list(MIRROR)] if PLACEMENTS[name][2] else depths
    np.testing.assert_allclose(batch["joints_3d"][0, :, 2], expected, atol=1e-6)


def symmetric_rest_joints():
    rng = np.random.default_rng(3)
    rest = rng.normal(0, 0.3, (NUM_JOINTS, 3))
    rest = (rest + rest[list(MIRROR)] * [-1, 1, 1]) / 2
    return rest - rest[0]


def forward_kinematics(rotations, rest):
    turned, places = [rotations[0]], [rest[0]]
    for joint in range(1, NUM_JOINTS):
        parent = PARENTS[joint]
        places.append(places[parent] + turned[parent] @ (rest[joint] - rest[parent]))
        turned.append(turned[parent] @ rotations[joint])
    return np.stack(places)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_head_keeps_its_size_beside_the_joints(name, make_record):
    record = make_record(side=192)
    batch = assemble_batch([([record], 0)], placement_of(name), 64)
    # Mirroring renames the joints but keeps how far they spread.
    spread = [np.linalg.norm(j - j.mean(0)) for j in (record["joints_2d"], batch["joints_2d"][0])]
    assert batch["head_size"].shape == (1,)
    expected = record["head_size"] * spread[1] / spread[0]
    np.testing.assert_allclose(batch["head_size"][0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_top_of_the_head_moves_as_the_joints_do(name, make_record):
    head = joint_index("head")  # a joint that mirroring does not rename
    record = make_record(side=192)
    record["head_top"] = record["joints_2d"][head]
    unknown = record | {"head_top_weight": np.float32(0)}
    batch = assemble_batch([([record, unknown], i) for i in (0, 1)], placement_of(name, 2), 64)
    np.testing.assert_allclose(batch["head_top"][0], batch["joints_2d"][0, head], atol=1e-6)
    np.testing.assert_array_equal(batch["head_top"][1], 0)
    np.testing.assert_array_equal(batch["head_top_weight"], [1, 0])


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_weight_of_visibility_stays_with_its_joint(name, make_record):
    record = make_record(side=192)
    batch = assemble_batch([([record], 0)], placement_of(name), 64)
    whose = list(MIRROR) if PLACEMENTS[name][2] else list(range(NUM_JOINTS))
    np.testing.assert_array_equal(batch["visible_weight"][0], record["visible_weight"][whose])


@pytest.mark.parametrize("name", PLACEMENTS)
def test_moved_rotations_pose_the_moved_body(name, make_record):
    rest = symmetric_rest_joints()
    record = make_record()
    record["joints_3d"] = forward_kinematics(record["rotations"], rest).astype(np.float32)
    batch = assemble_batch([([record], 0)], placement_of(name), 64)
    posed = forward_kinematics(batch["rotations"][0].astype(np.float64), rest)
    np.testing.assert_allclose(posed, batch["joints_3d"][0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(batch["rotations"]), 1, atol=1e-5)


def test_mirroring_twice_changes_nothing(make_record):
    record = make_record()
    names = ("joints_2d", "joints_2d_weight", "joints_3d", "rotations", "visible", "visible_weight")
    labels = {name: record[name][None] for name in names}
    always = np.array([True])
    once = transforms.mirror_labels(labels, always)
    twice = transforms.mirror_labels(once, always)
    for name in names:
        np.testing.assert_array_equal(twice[name], labels[name])
    assert not np.allclose(once["rotations"], labels["rotations"])


def test_joints_outside_the_crop_are_invisible_but_known(make_record):
    record = make_record(visible=np.ones(NUM_JOINTS, np.float32))
    record["joints_2d"][4] = [2.0, 48.0]
    batch = assemble_batch([([record], 0)], transforms.identity_placement(1), 64)
    assert batch["visible"][0, 4] == 0
    assert batch["visible"][0].sum() == NUM_JOINTS - 1
    assert batch["joints_2d_weight"][0, 4] == 1
    np.testing.assert_allclose(batch["joints_2d"][0, 4], [(2 - 16) / 32 - 1, 0], atol=1e-6)


def test_missing_labels_are_not_moved(make_record):
    """An example with 2D joints alone, one of them missing, gets no other values."""
    identity = np.tile(np.eye(3, dtype=np.float32), (NUM_JOINTS, 1, 1))
    record = make_record(
        parts=False,
        rotations=identity,
        pose_weight=np.float32(0),
        joints_3d=np.zeros((NUM_JOINTS, 3), np.float32),
        joints_3d_weight=np.float32(0),
    )
    record["joints_2d"][1], record["joints_2d_weight"][1] = 0, 0
    batch = assemble_batch([([record], 0)], placement_of("everything"), 64)
    np.testing.assert_array_equal(batch["rotations"][0], identity)
    assert not batch["joints_3d"].any()
    assert not batch["joints_2d"][0, MIRROR[1]].any()
    assert batch["joints_2d_weight"][0, MIRROR[1]] == 0
    assert (batch["part_labels"] == 255).all()


def test_random_placement_has_the_settings_spread():
    settings = types.SimpleNamespace(scale=0.2, rotation=20.0, flip=0.3)
    placement = transforms.random_placement(np.random.default_rng(0).random((20000, 4)), settings)
    assert 0.8 <= placement.crop_scale.min() < 0.801
    assert 1.199 < placement.crop_scale.max() <= 1.2
    assert np.rad2deg(np.abs(placement.rotation).max()) == pytest.approx(40.0)
    assert 17 < np.rad2deg(placement.rotation.std()) < 20
    assert placement.mirror.mean() == pytest.approx(0.3, abs=0.01)
    still = types.SimpleNamespace(scale=0.0, rotation=0.0, flip=0.0)
    placement = transforms.random_placement(np.random.default_rng(0).random((9, 4)), still)
    assert (placement.crop_scale == 1).all()
    assert (placement.rotation == 0).all()
    assert not placement.mirror.any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image": b""}, "stored crop"),
        ({"image": b"\xff\xd8\xff\xe0\x00\x10"}, "stored crop"),
        ({"image": b"GIF89a" * 9}, "stored crop"),
        ({"part_labels": b"nonsense"}, "part labels"),
    ],
)
def test_broken_examples_are_named(change, named, make_record):
    good, bad = make_record(), make_record(**change)
    with pytest.raises(UserError, match=f"example 1 of .*{named}"):
        assemble_batch([([good, bad], 0), ([good, bad], 1)], placement_of("plain", 2), 64)


def test_images_that_are_not_square_or_truncated(make_record, encode):
    wide = encode(".jpg", np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(transforms.BadExampleError, match="48x32"):
        transforms.stored_side(wide)
    head = make_record()["image"]
    head = head[: head.index(b"\xff\xda")]
    with pytest.raises(transforms.BadExampleError, match="stored crop"):
        transforms.warp_image(head, np.eye(2, 3), np.empty((96, 96, 3), np.uint8))
