"""EFT's fits: rotations and betas of people in photographs that are found by name."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines.releases.eft import Eft
from pare_jax.errors import UserError
from tests.data_pipelines.releases.red_pictures import (
    annotation,
    assert_red,
    coco_file,
    examples_of,
    write_picture,
)

POSE = Rotation.random(24, np.random.default_rng(0)).as_matrix()
BETAS = np.linspace(-1, 1, 10)


def entry(**changes):
    own = {
        "parm_pose": POSE.tolist(),
        "parm_shape": BETAS.tolist(),
        "parm_cam": [0.9, 0.0, 0.0],
        "bbox_scale": 0.5,
        "bbox_center": [60.0, 40.0],
        "joint_validity_openpose18": [True] * 18,
        "smpltype": "smpl",
        "annotId": 1,
        "imageName": "p.jpg",
    }
    return own | changes


def dataset_of(folder, *entries, **options):
    write_picture(folder / "images" / "train2014" / "p.jpg", quality=95)
    file = folder / "COCO2014-Part-ver01.json"
    file.write_text(json.dumps({"ver": 0.1, "data": entries}))
    return Eft(file, folder / "images", held_out=0, **options)


def test_a_fit_gives_pose_and_shape_in_its_square_and_no_points(tmp_path):
    ((example,), skipped) = examples_of(dataset_of(tmp_path, entry()))
    assert not skipped
    np.testing.assert_allclose(example["rotations"], POSE, atol=1e-6)
    np.testing.assert_allclose(example["betas"], BETAS, atol=1e-6)
    assert example["pose_weight"] == example["betas_weight"] == 1
    assert not example["points_2d_weight"].any()
    assert not example["joints_2d_weight"].any()
    side = 1.5 * 0.5 * 200
    expected = [[side / 384, 0, 60 - side / 2], [0, side / 384, 40 - side / 2]]
    np.testing.assert_allclose(example["crop_to_photo"], expected, rtol=1e-5)


def test_annotations_of_coco_give_the_points_of_their_people(tmp_path):
    labels = coco_file(tmp_path / "coco.json", ["p.jpg"], [annotation(1, 0)])
    dataset = dataset_of(tmp_path, entry(), entry(annotId=2), labels=labels)
    (first, second), _ = examples_of(dataset)
    assert_red(first)
    assert first["pose_weight"] == 1
    assert not second["points_2d_weight"].any()
    with pytest.raises(UserError, match=r"coco\.json"):
        dataset_of(tmp_path, entry(annotId=3), labels=labels).check()
    # The same number in another photograph is another person.
    labels = coco_file(tmp_path / "coco.json", ["other.jpg"], [annotation(1, 0)])
    with pytest.raises(UserError, match=r"coco\.json"):
        dataset_of(tmp_path, entry(), labels=labels).check()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parm_pose": (2 * POSE).tolist()}, "not a rotation matrix"),
        ({"parm_pose": (-POSE).tolist()}, "not a rotation matrix"),
        ({"parm_pose": POSE[:23].tolist()}, "parm_pose is not 24 matrices"),
        ({"parm_shape": [0.0] * 300}, "parm_shape is not 10 numbers"),
        ({"parm_shape": [float("nan")] * 10}, "betas not finite"),
        ({"bbox_scale": 0}, "square not finite or empty"),
        ({"bbox_center": None}, "bbox_center or bbox_scale is missing"),
        ({"bbox_center": [5000, 40]}, "square outside the photograph"),
        # The stored crop, which has a margin, reaches into the photograph; the network's does not.
        ({"bbox_center": [180, 40]}, "square outside the photograph"),
        ({"imageName": 3}, "no image name"),
        ({"imageName": ["p.jpg"], "annotId": 1}, "no image name"),
        ({"imageName": "away.jpg"}, "picture missing"),
        ({"smpltype": "smplx"}, "body model is not SMPL"),
        ({"annotId": 1}, "annotation id is used twice"),
    ],
)
def test_fits_that_cannot_be_used_are_skipped_with_the_reason(tmp_path, changes, reason):
    dataset = dataset_of(tmp_path, entry(), entry(annotId=2) | changes)
    examples, skipped = examples_of(dataset)
    assert [example["person"] for example in examples] == [1]
    assert list(skipped) == [reason]


@pytest.mark.parametrize("text", ["{", '{"data": 3}', "[]"])
def test_a_file_that_is_not_efts_is_refused(tmp_path, text):
    (tmp_path / "fits.json").write_text(text)
    with pytest.raises(UserError, match=r"fits\.json"):
        Eft(tmp_path / "fits.json", tmp_path).check()
