"""The occlusion table, checked with a network whose sensitive regions are known."""

import csv
import io
import json

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.sensitivity import occlusion_table
from pare_jax.sensitivity.maps import crop_sensitivity
from pare_jax.sensitivity.occlusion_errors import COLUMNS, REGIONS, ROWS
from pare_jax.sensitivity.patches import PatchGrid
from pare_jax.skeleton import JOINT_NAMES, joint_index
from tests.sensitivity.fakes import MOVED, SIZE, make_predictor, red_crop
from tests.sensitivity.fakes import REGIONS as SEEN

PATCH = 8
# The joint placed in the left elbow's region; all other joints lie outside both regions.
OVER_THE_REGION = "right_knee"
FAR = (28.0, 28.0)


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


def make_batch(count=3, seed=0):
    """Return labelled people with random 3D joints; one 2D joint is in the left elbow's region."""
    rng = np.random.default_rng(seed)
    positions = np.tile(np.array(FAR), (count, 24, 1))
    rows, columns = SEEN["left_elbow"]
    middle = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
    positions[:, joint_index(OVER_THE_REGION)] = middle
    return {
        "image": np.tile(red_crop(), (count, 1, 1, 1)),
        "joints_2d": (positions / (SIZE / 2) - 1).astype(np.float32),
        "joints_2d_weight": np.ones((count, 24), np.float32),
        "joints_3d": rng.normal(0, 0.3, (count, 24, 3)).astype(np.float32),
        "joints_3d_weight": np.ones(count, np.float32),
        "sample_weight": np.ones(count, np.float32),
    }


def test_only_joints_that_depend_on_the_hidden_region_lose_accuracy(predictor):
    batch = make_batch()
    table = occlusion_table(predictor, [batch], PATCH)
    assert (table.people, table.patch, table.image_size) == (3, PATCH, SIZE)
    assert table.counts.tolist() == [3] * 24
    # The same from each person's map, with a grid of one position over the region.
    expected = np.zeros((24, 24))
    clean = np.zeros(24)
    grid = OnePosition(SIZE, PATCH, SIZE)
    for image, joints in zip(batch["image"], batch["joints_3d"], strict=True):
        found = crop_sensitivity(predictor, image, grid, joints)
        expected[joint_index(OVER_THE_REGION)] += found.increase[0, 0] / 3
        clean += found.baseline_errors / 3
    np.testing.assert_allclose(table.increase, expected, atol=1e-2)
    np.testing.assert_allclose(table.clean, clean, rtol=1e-4)
    np.testing.assert_allclose(table.overall, expected.mean(1), atol=1e-2)
    affected = np.abs(table.increase) > 0.05
    assert {tuple(cell) for cell in np.argwhere(affected)} == {
        (joint_index(OVER_THE_REGION), joint_index(name)) for name in MOVED["left_elbow"]
    }


class OnePosition(PatchGrid):
    """A single position, in the middle of the left elbow's region."""

    @property
    def centres(self):
        rows, columns = SEEN["left_elbow"]
        middle = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
        return np.array([[middle]], np.float32)


def test_batches_and_padding_do_not_matter(predictor):
    whole = make_batch(5)
    first = {name: value[:3] for name, value in whole.items()}
    second = {name: value[[3, 4, 4]] for name, value in whole.items()}
    second["sample_weight"] = np.array([1, 1, 0], np.float32)
    counts = []
    table = occlusion_table(predictor, [first, second], PATCH, batch_size=7, advance=counts.append)
    expected = occlusion_table(predictor, [whole], PATCH)
    assert table.people == 5
    assert counts == [3, 2]
    np.testing.assert_allclose(table.increase, expected.increase, atol=1e-2)
    np.testing.assert_allclose(table.clean, expected.clean, rtol=1e-4)


def test_joints_outside_the_crop_or_unlabelled_do_not_count(predictor):
    batch = make_batch(4)
    head, knee, hip = (joint_index(name) for name in ("head", OVER_THE_REGION, "left_hip"))
    batch["joints_2d"][:, head] = 1.2  # out of the crop
    batch["joints_2d_weight"][:, hip] = 0
    batch["joints_2d_weight"][1:, knee] = 0
    batch["joints_3d_weight"][3] = 0
    batch["joints_3d"][3] = 0
    table = occlusion_table(predictor, [batch], PATCH)
    assert table.people == 3
    assert (table.counts[head], table.counts[hip], table.counts[knee]) == (0, 0, 1)
    assert np.isnan(table.increase[[head, hip]]).all()
    first = {name: value[:1] for name, value in batch.items()}
    alone = occlusion_table(predictor, [first], PATCH)
    np.testing.assert_allclose(table.increase[knee], alone.increase[knee], atol=1e-2)
    # A table with gaps is written, with empty cells.
    assert " -" in table.text()
    described = json.loads(table.json("made_up/test"))
    assert described["patch_over"]["head"]["increase_mm"]["neck"] is None
    assert table.picture().ndim == 3
    rows = {row["patch_over"]: row for row in csv.DictReader(io.StringIO(table.csv()))}
    assert rows["head"]["neck"] == ""
    assert rows["head"]["people"] == "0"


def test_people_without_labels_are_refused(predictor):
    batch = make_batch()
    batch["joints_3d_weight"][:] = 0
    with pytest.raises(UserError, match="3D and 2D joints"):
        occlusion_table(predictor, [batch], PATCH)


def test_every_joint_has_a_row_and_all_but_the_origin_a_column():
    assert sorted(ROWS) == sorted(JOINT_NAMES)
    assert sorted((*COLUMNS, "pelvis")) == sorted(JOINT_NAMES)


def test_written_tables_agree(predictor):
    table = occlusion_table(predictor, [make_batch()], PATCH)
    knee, hand = joint_index(OVER_THE_REGION), joint_index("left_hand")
    rows = {row["patch_over"]: row for row in csv.DictReader(io.StringIO(table.csv()))}
    assert list(rows) == [*ROWS, "none"]
    described = json.loads(table.json("made_up/test"))
    assert described["dataset"] == "made_up/test"
    for name in COLUMNS:
        joint = joint_index(name)
        value = table.increase[knee, joint]
        assert float(rows[OVER_THE_REGION][name]) == pytest.approx(value, abs=0.006)
        found = described["patch_over"][OVER_THE_REGION]["increase_mm"][name]
        assert found == pytest.approx(value, abs=1e-3)
        assert float(rows["none"][name]) == pytest.approx(table.clean[joint], abs=0.006)
    assert float(rows[OVER_THE_REGION]["all"]) == pytest.approx(table.overall[knee], abs=0.006)
    # Mean over all rows of the right leg and all columns of the left arm.
    names = list(REGIONS)
    leg = [joint_index(name) for name in REGIONS["right leg"]]
    arm = [joint_index(name) for name in REGIONS["left arm"]]
    block = table.increase[np.ix_(leg, arm)].mean()
    regions = table.regions()
    assert regions[names.index("right leg"), names.index("left arm")] == pytest.approx(block)
    assert described["regions_increase_mm"]["right leg"]["left arm"] == pytest.approx(
        block, abs=1e-3
    )
    text = table.text().splitlines()
    assert max(map(len, text)) <= 120
    (line,) = [line for line in text if line.startswith(OVER_THE_REGION.replace("_", " "))]
    numbers = [int(word) for word in line.split()[2:-1]]
    assert numbers[COLUMNS.index("left_hand")] == round(table.increase[knee, hand])
    assert len(numbers) == len(COLUMNS)
