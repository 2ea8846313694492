"""Mean errors by sequence and by the share of hidden joints."""

import numpy as np
import pytest

from pare_jax.evaluation.hidden_joints import by_hidden_share, hidden_share
from pare_jax.evaluation.sequences import SampleName, SplitNames, by_sequence

NAN = np.nan


def names_of(*samples):
    return SplitNames([SampleName(*sample) for sample in samples])


def test_each_sequence_is_averaged_over_its_measured_samples():
    names = names_of(("b", 0, 0), ("a", 0, 0), ("b", 1, 0), ("a", 0, 7))
    values = {
        "mpjpe": np.array([1.0, 20.0, 3.0, NAN]),
        "pve": np.array([NAN, 5.0, NAN, 7.0]),
    }
    assert by_sequence(values, names) == {
        "a": {"count": 1, "mpjpe": 20.0, "pve": 6.0},
        "b": {"count": 2, "mpjpe": 2.0, "pve": None},
    }


@pytest.mark.parametrize(
    "samples",
    [
        [("synthetic/0", 0, 0), ("synthetic/1", 0, 0)],
        [("photo", 0, 0), ("photo", 1, 0), ("other photo", 0, 0)],
        [("the only one", 0, 0), ("the only one", 0, 1)],
        [],
    ],
)
def test_photographs_and_a_single_sequence_have_no_means(samples):
    values = {"mpjpe": np.ones(len(samples))}
    assert by_sequence(values, names_of(*samples)) == {}


def test_bins_of_hidden_joints_hold_every_sample_once():
    rng = np.random.default_rng(0)
    visible = (rng.random((500, 24)) > rng.random((500, 1)) * 0.9).astype(float)
    visible[7, 3] = NAN
    mpjpe = rng.uniform(10, 200, 500)
    mpjpe[11] = NAN
    share = hidden_share(visible)
    assert np.isnan(share[7])
    table = by_hidden_share(mpjpe, 2 * mpjpe, share)
    assert sum(row["count"] for row in table) == 498
    for number, row in enumerate(table):
        inside = (share >= row["from"]) & (share < row["to"])
        if number == len(table) - 1:
            inside |= share == row["to"]
        inside &= np.isfinite(mpjpe)
        assert inside.sum() == row["count"]
        assert row["mpjpe"] == pytest.approx(mpjpe[inside].mean())
        assert row["mean_pose_mpjpe"] == pytest.approx(2 * mpjpe[inside].mean())


def test_no_samples_and_no_mean_pose_give_no_numbers():
    unknown = np.full(3, NAN)
    assert by_hidden_share(unknown, unknown, unknown) == []
    (row,) = by_hidden_share(np.ones(3), unknown, np.zeros(3))
    assert row["mean_pose_mpjpe"] is None
    assert row["count"] == 3
