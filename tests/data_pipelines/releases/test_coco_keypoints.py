"""COCO's keypoint annotations: a file, the release, and what is wrong in them."""

import numpy as np
import pytest

from data_pipelines.releases.coco_keypoints import Coco
from pare_jax.errors import UserError
from pare_jax.keypoints.sets import COCO17
from pare_jax.skeleton import joint_index
from tests.data_pipelines.releases.red_pictures import (
    LEFT_WRIST,
    WRIST,
    annotation,
    assert_red,
    coco_file,
    coco_points,
    examples_of,
    write_picture,
)


def dataset_of(folder, *annotations, names=("p.jpg",), **options):
    """Return the dataset of one COCO file with one picture."""
    write_picture(folder / "images" / "p.jpg", quality=95)
    file = coco_file(folder / "labels.json", names, annotations)
    return Coco(file, folder / "images", held_out=0, **options)


def test_a_left_wrist_is_where_it_was_annotated_in_crop_and_photograph(tmp_path):
    rows = coco_points()
    rows[COCO17.points.index("left_knee"), 2] = 1
    rows[COCO17.points.index("right_knee")] = 0
    dataset = dataset_of(tmp_path, annotation(7, 0, keypoints=rows.ravel().tolist()))
    ((example,), skipped) = examples_of(dataset)
    assert not skipped
    assert_red(example)
    affine = example["crop_to_photo"]
    place = affine[:, :2] @ example["points_2d"][LEFT_WRIST] + affine[:, 2]
    np.testing.assert_allclose(place, WRIST, atol=1e-3)
    # The square is 1.2 times the longer side of the box, the stored crop 1.5 times that.
    assert affine[0, 0] == pytest.approx(1.2 * 1.5 * 80 / 384)
    joints = [joint_index(name) for name in ("left_wrist", "left_knee", "right_knee", "neck")]
    np.testing.assert_allclose(example["joints_2d_weight"][joints], [1, 0.5, 0, 0])
    np.testing.assert_allclose(example["joints_2d"][joints[0]], example["points_2d"][LEFT_WRIST])
    np.testing.assert_allclose(example["visible"][joints], [1, 0, 0, 0])
    np.testing.assert_allclose(example["visible_weight"][joints], [1, 1, 0, 0])
    assert (example["person"], example["sequence"], example["pose_weight"]) == (7, "p.jpg", 0)


@pytest.mark.parametrize(
    ("changes", "reason", "broken"),
    [
        ({"iscrowd": 1}, "crowd", False),
        ({"keypoints": [0] * 51}, "no keypoints annotated", False),
        ({"keypoints": [5, 5, 2] + [0] * 48}, "fewer than two keypoints annotated", False),
        ({"keypoints": [float("nan")] * 51}, "point not finite", True),
        ({"keypoints": [5, 5, 3] * 17}, "visibility is not 0, 1 or 2", True),
        ({"keypoints": [1, 2, 2]}, "keypoints are not 3 numbers for each of 17 points", True),
        ({"id": 1}, "annotation id is used twice", True),
        ({"image_id": 5}, "photograph not listed in the file", True),
        ({"id": [2]}, "annotation id is no number", True),
        ({"image_id": 1}, "picture missing", True),
        ({"bbox": [500, 500, 9, 9], "keypoints": [500, 500, 2] * 17}, "fewer than", False),
        ({"bbox": [900, 0, 9, 9], "keypoints": [900, 5, 2, 905, 9, 2] + [0] * 45}, "square", True),
    ],
)
def test_people_who_cannot_be_used_are_skipped_with_the_reason(tmp_path, changes, reason, broken):
    entries = annotation(1, 0), annotation(2, 0) | changes
    dataset = dataset_of(tmp_path, *entries, names=("p.jpg", "away.jpg"))
    results = [dataset.read(unit) for unit in dataset.units("train")]
    assert [example["person"] for result in results for example in result.examples] == [1]
    (item,) = [item for result in results for item in result.skipped]
    assert item.reason.startswith(reason)
    assert item.broken is broken
    assert str(entries[1]["id"]) in item.what


def test_a_file_of_another_copy_of_the_photographs_is_not_used(tmp_path):
    write_picture(tmp_path / "p.jpg")
    file = coco_file(tmp_path / "labels.json", ["p.jpg"], [annotation(1, 0)], size=(240, 160))
    examples, skipped = examples_of(Coco(file, tmp_path, held_out=0))
    assert not examples
    assert list(skipped) == ["photograph of another size than its labels say"]


def test_the_release_keeps_its_own_splits(tmp_path):
    release = tmp_path / "COCO"
    for part, names in (("train", ["1.jpg", "2.jpg"]), ("val", ["3.jpg"])):
        for name in names:
            write_picture(release / f"{part}2017" / name)
        entries = [annotation(10 * number + 1, number) for number in range(len(names))]
        coco_file(release / f"annotations/person_keypoints_{part}2017.json", names, entries)
    dataset = Coco(release)
    names = {
        split: [example["sequence"] for example in examples_of(dataset, split)[0]]
        for split in dataset.splits
    }
    assert names == {
        "train": ["train2017/1.jpg", "train2017/2.jpg"],
        "validation": ["val2017/3.jpg"],
    }


def test_photographs_of_another_set_are_refused(tmp_path):
    dataset = dataset_of(tmp_path, annotation(1, 0), names=("away.jpg",))
    with pytest.raises(UserError, match=r"away\.jpg"):
        dataset.check()


def test_a_check_names_missing_photographs_and_broken_labels(tmp_path):
    entries = annotation(1, 0), annotation(2, 1), annotation(1, 0)
    lines = dataset_of(tmp_path, *entries, names=("p.jpg", "away.jpg")).check()
    assert "away.jpg" in lines[0]
    assert "annotation 1" in lines[1]


@pytest.mark.parametrize("text", ["{", "[]", '{"annotations": [3]}', '{"annotations": []}'])
def test_a_file_that_is_no_annotations_is_refused(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UserError, match=r"labels\.json"):
        Coco(tmp_path / "labels.json", tmp_path).check()


def test_a_folder_without_annotations_and_a_file_without_photographs_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"person_keypoints_train2017\.json"):
        Coco(tmp_path).check()
    file = coco_file(tmp_path / "labels.json", [], [])
    with pytest.raises(UserError, match="--images"):
        Coco(file)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_share_held_out_is_chosen_by_photograph(tmp_path, share):
    names = [f"{number}.jpg" for number in range(200)]
    entries = [annotation(2 * n + k, n) for n in range(200) for k in (0, 1)]
    write_picture(tmp_path / "0.jpg")
    file = coco_file(tmp_path / "labels.json", names, entries)
    dataset = Coco(file, tmp_path, held_out=share)
    sizes = {
        split: [len(photo.people) for unit in dataset.units(split) for photo in unit.photographs]
        for split in dataset.splits
    }
    assert len(sizes["validation"]) == pytest.approx(200 * share, abs=20 if 0 < share < 1 else 0)
    assert sum(map(len, sizes.values())) == 200
    assert {*sizes["train"], *sizes["validation"]} == {2}
