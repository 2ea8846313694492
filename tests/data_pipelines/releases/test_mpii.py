"""The MPII reader on small releases: which people become examples, and their labels."""

import pickle
import types

import cv2
import numpy as np
import pytest

from data_pipelines.example import STORED_FIELDS
from data_pipelines.reading.input_pipeline import train_batches
from data_pipelines.reading.sample_order import sample_uniforms
from data_pipelines.releases.mpii import Mpii, held_out
from data_pipelines.releases.mpii_annotations import AnnotatedImage
from data_pipelines.releases.release import STORED_SIDE, Skipped
from data_pipelines.transforms import apply_affine, random_placement
from pare_jax.errors import UserError
from pare_jax.skeleton import JOINT_NAMES, MPII_TO_SMPL, joint_index
from tests.data_pipelines.releases.mpii_release import (
    FIGURE,
    NOTHING,
    SCALE,
    cells,
    image,
    person,
    point,
    read,
    structs,
    write_release,
)

SIDE = 1.5 * 1.25 * 200 * SCALE  # of the stored crop, in the photograph
WITHOUT_LABEL = {"pelvis", "spine1", "spine2", "spine3", "head", "left_foot", "right_foot"} | {
    f"{side}_{part}" for side in ("left", "right") for part in ("collar", "hand")
}


def in_photo(example):
    return apply_affine(example["crop_to_photo"], example["joints_2d"])


def test_a_person_becomes_an_example(tmp_path):
    write_release(tmp_path, [image("one.jpg", person())])
    (example,), skipped = read(tmp_path)
    assert skipped == []
    assert example.keys() == STORED_FIELDS.keys()
    for name, field in STORED_FIELDS.items():
        if field.dtype in ("float32", "int32"):
            assert example[name].shape == field.shape, name
            assert example[name].dtype == field.dtype, name
    assert (example["sequence"], example["person"], example["frame"]) == ("one.jpg", 0, 0)
    assert (example["gender"], example["part_labels"]) == ("neutral", b"")
    for name in ("joints_3d", "joints_3d_weight", "pose_weight", "betas", "betas_weight"):
        assert not example[name].any(), name
    np.testing.assert_array_equal(example["rotations"], np.tile(np.eye(3), (24, 1, 1)))
    assert cv2.imdecode(np.frombuffer(example["image"], np.uint8), 1).shape == (384, 384, 3)
    # The head's box has a diagonal of 25 px.
    assert example["head_size"] == pytest.approx(0.6 * 25 * STORED_SIDE / SIDE)


def test_the_crop_is_newells(tmp_path):
    write_release(tmp_path, [image("one.jpg", person())])
    (example,), _ = read(tmp_path)
    corners = apply_affine(example["crop_to_photo"], np.array([[0.0, 0], [STORED_SIDE] * 2]))
    np.testing.assert_allclose(corners.mean(0), [153, 120 + 15 * SCALE], atol=1e-4)
    np.testing.assert_allclose(corners[1] - corners[0], SIDE, rtol=1e-5)


def test_joints_are_mapped_by_name(tmp_path):
    write_release(tmp_path, [image("one.jpg", person())])
    (example,), _ = read(tmp_path)
    for mpii_id, joint in MPII_TO_SMPL:
        np.testing.assert_allclose(in_photo(example)[joint], FIGURE[mpii_id], atol=1e-3)
    hips = FIGURE[[2, 3]].mean(0)
    np.testing.assert_allclose(in_photo(example)[joint_index("pelvis")], hips, atol=1e-3)
    unknown = {
        name for name, w in zip(JOINT_NAMES, example["joints_2d_weight"], strict=True) if not w
    }
    assert unknown == WITHOUT_LABEL - {"pelvis"}
    assert not example["joints_2d"][example["joints_2d_weight"] == 0].any()
    np.testing.assert_array_equal(example["visible_weight"], example["joints_2d_weight"])
    np.testing.assert_array_equal(example["visible"], example["joints_2d_weight"])
    top = apply_affine(example["crop_to_photo"], example["head_top"][None])[0]
    np.testing.assert_allclose(top, FIGURE[9], atol=1e-3)
    assert example["head_top_weight"] == 1


def test_joints_lie_on_the_pixels_before_and_after_augmentation(tmp_path):
    """The photograph has a white disc on each left joint and a black one on the right ones."""
    write_release(tmp_path, [image("one.jpg", person())])
    (example,), _ = read(tmp_path)
    stored = cv2.imdecode(np.frombuffer(example["image"], np.uint8), 0)
    discs = {name: joint for joint, name in enumerate(JOINT_NAMES) if name[:4] in ("left", "righ")}
    discs = {n: j for n, j in discs.items() if example["joints_2d_weight"][j]}
    assert len(discs) == 12

    def check(picture, joints, mirrored):
        for name, joint in discs.items():
            x, y = np.floor(joints[joint]).astype(int)
            assert (picture[y, x] > 200) == (name.startswith("left") != mirrored), name
            assert abs(int(picture[y, x]) - 120) > 80, name

    check(stored, example["joints_2d"], mirrored=False)
    augment = types.SimpleNamespace(scale=0.2, rotation=20.0, flip=0.5)
    sources = [([example], 1.0)]
    batch = next(train_batches(sources, batch_size=12, image_size=192, seed=1, augment=augment))
    mirrored = random_placement(sample_uniforms(1, 0, 12), augment).mirror
    assert 0 < mirrored.sum() < 12
    for picture, joints, mirror in zip(batch["image"], batch["joints_2d"], mirrored, strict=True):
        check(picture.mean(-1), (joints + 1) * 96, mirror)


def disc_centre(picture, place):
    """Return the centroid of the white disc about `place`, in continuous coordinates."""
    x, y = np.floor(place).astype(int)
    window = picture[y - 20 : y + 21, x - 20 : x + 21].astype(float)
    weights = np.clip(window - 180, 0, None)
    pixels = np.arange(-20, 21) + 0.5
    return np.array([weights.sum(0) @ pixels, weights.sum(1) @ pixels]) / weights.sum() + [x, y]


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_joints_are_exact_at_full_and_reduced_decoding(scale, tmp_path):
    """A joint is at the centre of its disc, to a fraction of a pixel."""
    wrist, place = 15, np.array([1086.0, 720.0])
    at = structs({"x": place[0] + 30.5, "y": place[1] + 20.5})
    one = person([point(wrist, place)], scale=scale, objpos=at)
    write_release(tmp_path, [image("one.jpg", one)])
    large = np.full((1440, 1920, 3), 90, np.uint8)
    centre = np.round((place - 0.5) * 16).astype(int).tolist()
    cv2.circle(large, centre, int(12 * scale) * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    path = str(tmp_path / "images" / "one.jpg")
    cv2.imwrite(path, large, [cv2.IMWRITE_JPEG_QUALITY, 95])
    (example,), _ = read(tmp_path)
    stored = cv2.imdecode(np.frombuffer(example["image"], np.uint8), 0)
    joint = example["joints_2d"][joint_index("left_wrist")]
    np.testing.assert_allclose(disc_centre(stored, joint), joint, atol=0.15)


@pytest.mark.parametrize(
    ("seen", "expected", "weight"),
    [
        (1.0, 1, 1),
        (0.0, 0, 1),
        ("1", 1, 1),
        ("0", 0, 1),
        (np.uint8(1), 1, 1),
        (NOTHING, 0, 0),
        ("", 0, 0),
    ],
)
def test_visibility_is_a_number_a_string_or_missing(seen, expected, weight, tmp_path):
    points = [point(joint, seen=seen) for joint in range(16)]
    write_release(tmp_path, [image("one.jpg", person(points))])
    (example,), _ = read(tmp_path)
    known = example["joints_2d_weight"] > 0
    assert (example["visible_weight"][known] == weight).all()
    assert not example["visible_weight"][~known].any()
    assert (example["visible"][known] == expected).all()
    assert not example["visible"][~known].any()


def test_missing_joints_have_weight_0(tmp_path):
    """Without a hip there is no pelvis either; one joint lacks its visibility."""
    order = [15, 3, 9, 0, 8, 12]
    points = [point(j, seen=NOTHING if j == 8 else float(j != 0)) for j in order]
    write_release(tmp_path, [image("one.jpg", person(points))])
    (example,), _ = read(tmp_path)
    names = {JOINT_NAMES[joint] for joint in np.flatnonzero(example["joints_2d_weight"])}
    assert names == {"left_wrist", "left_hip", "right_ankle", "neck", "right_shoulder"}
    seen = {JOINT_NAMES[joint] for joint in np.flatnonzero(example["visible"])}
    assert seen == {"left_wrist", "left_hip", "right_shoulder"}
    known = {JOINT_NAMES[joint] for joint in np.flatnonzero(example["visible_weight"])}
    assert known == names - {"neck"}
    np.testing.assert_allclose(in_photo(example)[joint_index("neck")], FIGURE[8], atol=1e-3)
    assert example["head_top_weight"] == 1


def test_a_missing_head_top_has_weight_0(tmp_path):
    points = [point(joint) for joint in range(16) if joint != 9]
    write_release(tmp_path, [image("one.jpg", person(points), person([point(9)]))])
    (without, only), _ = read(tmp_path)
    assert without["head_top_weight"] == 0
    assert not without["head_top"].any()
    assert only["head_top_weight"] == 1
    assert not only["joints_2d_weight"].any()


def test_people_without_labels_are_skipped_and_counted(tmp_path):
    no_label = [point(7), point(6)]
    images = [
        image("several.jpg", person(), person([]), person(scale=NOTHING)),
        image("more.jpg", person(objpos=NOTHING), person(no_label), person(x1=NOTHING)),
        image("nobody.jpg"),
        image("bare.jpg", rect=structs({"x1": 1.0, "y1": 1.0, "x2": 5.0, "y2": 9.0})),
        image("test.jpg", rect=structs({"scale": 1.0, "objpos": structs({"x": 9.0, "y": 9.0})})),
    ]
    write_release(tmp_path, images, is_train=[1, 1, 1, 1, 0])
    examples, skipped = read(tmp_path)
    found = {(e["sequence"], int(e["person"])): e["head_size"] for e in examples}
    assert found.keys() == {("several.jpg", 0), ("more.jpg", 2)}
    assert found["more.jpg", 2] == 0  # the head's box lacks a side
    assert sorted(skipped, key=lambda s: s.what) == [
        Skipped("bare.jpg person 0", "no joints annotated", broken=False),
        Skipped("more.jpg person 0", "no position annotated", broken=False),
        Skipped("more.jpg person 1", "no joints annotated", broken=False),
        Skipped("nobody.jpg", "nobody annotated", broken=False),
        Skipped("several.jpg person 1", "no joints annotated", broken=False),
        Skipped("several.jpg person 2", "no scale annotated", broken=False),
    ]


def test_people_outside_mpiis_evaluation_have_head_size_0(tmp_path):
    images = [
        image("some.jpg", person(), person([]), person(), person()),
        image("none.jpg", person()),
        image("test.jpg", person()),
    ]
    single = cells([2, 3], [], [1])
    write_release(tmp_path, images, is_train=[1, 1, 0], single_person=single)
    examples, _ = read(tmp_path)
    found = {(e["sequence"], int(e["person"])): e for e in examples}
    counted = {name for name, example in found.items() if example["head_size"] > 0}
    assert found.keys() == {("some.jpg", 0), ("some.jpg", 2), ("some.jpg", 3), ("none.jpg", 0)}
    assert counted == {("some.jpg", 2)}
    for example in examples:  # all are trained on
        assert example["joints_2d_weight"].sum() == 14
        assert example["head_top_weight"] == 1


@pytest.mark.parametrize("release", [{}, {"single_person": NOTHING}])
def test_without_single_person_everybody_counts(release, tmp_path):
    write_release(tmp_path, [image("one.jpg", person(), person())], **release)
    assert all(example["head_size"] > 0 for example in read(tmp_path)[0])


def test_a_joint_just_outside_the_photograph_is_known_but_hidden(tmp_path):
    write_release(tmp_path, [image("one.jpg", person([point(3), point(4, (150.0, 250.0))]))])
    (example,), skipped = read(tmp_path)
    knee = joint_index("left_knee")
    assert skipped == []
    assert example["joints_2d_weight"][knee] == 1
    assert example["visible"][knee] == 0
    assert example["visible"][joint_index("left_hip")] == 1
    np.testing.assert_allclose(in_photo(example)[knee], [150, 250], atol=1e-3)


def test_splits_share_no_image_and_are_stable(tmp_path):
    names = [f"{number:09d}.jpg" for number in range(300)]
    shares = [held_out(AnnotatedImage(name, None, (), ())) for name in names]
    chosen = dict(zip(names, shares, strict=True))
    assert 0.05 < np.mean(shares) < 0.15
    one = person([point(3)])
    write_release(tmp_path, [image(name, one, one) for name in names[:70]])
    dataset = Mpii(tmp_path)
    found = {
        split: [photo.name for unit in dataset.units(split) for photo in unit.photographs]
        for split in dataset.splits
    }
    assert found["validation"] == [name for name in names[:70] if chosen[name]]
    assert found["train"] == [name for name in names[:70] if not chosen[name]]
    assert found["validation"]
    # Fixed for all versions: else prepared splits would mix.
    assert [name for name, held in chosen.items() if held][:3] == [
        "000000014.jpg",
        "000000039.jpg",
        "000000058.jpg",
    ]
    with pytest.raises(UserError, match=r"'test'.*train, validation"):
        dataset.units("test")


def test_splits_share_no_video(tmp_path):
    one = person([point(3)])
    images = [image(f"{n}.jpg", one, video=float(1 + n % 40)) for n in range(120)]
    write_release(tmp_path, images)
    dataset = Mpii(tmp_path)
    found = {
        split: [photo.video for unit in dataset.units(split) for photo in unit.photographs]
        for split in dataset.splits
    }
    assert sorted(found["train"] + found["validation"]) == sorted(3 * list(range(1, 41)))
    assert set(found["train"]).isdisjoint(found["validation"])
    assert sorted(set(found["validation"])) == [8, 9]  # fixed for all versions


def test_units_are_small_and_read_the_same_in_another_process(tmp_path):
    write_release(tmp_path, [image(f"{n}.jpg", person(), person()) for n in range(40)])
    dataset = Mpii(tmp_path)
    units = dataset.units("train")
    assert len(units) == 2
    # A worker gets the dataset without its annotations and never reads them.
    sent = pickle.dumps((dataset, units[0]))
    assert len(pickle.dumps(dataset)) < 2000
    assert len(sent) < 100_000
    (tmp_path / "mpii_human_pose_v1_u12_2" / "mpii_human_pose_v1_u12_1.mat").unlink()
    there, unit = pickle.loads(sent)
    for ours, theirs in zip(dataset.read(unit).examples, there.read(unit).examples, strict=True):
        assert ours["image"] == theirs["image"]
        np.testing.assert_array_equal(ours["joints_2d"], theirs["joints_2d"])
