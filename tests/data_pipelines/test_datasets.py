"""What a run is given of its data: streams, lengths, the best constant, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.common import get_base
from data_pipelines import datasets
from pare_jax.errors import UserError
from pare_jax.skeleton import PART_UNKNOWN


class Split(list):
    """Examples in memory that know where they would lie."""

    path, split = Path("somewhere"), "train"

    def names(self):
        return None


@pytest.fixture
def load(make_record, monkeypatch, tmp_path):
    """Return a function that loads a config whose datasets are made up, by name."""

    def run(config, **made_up):
        monkeypatch.setattr(datasets, "_open", lambda config, name, split: made_up[name])
        config.data.train = tuple(
            (name, weight) for name, weight in zip(made_up, (0.7, 0.3), strict=False)
        )
        config.data.eval = tuple(f"{name}/test" for name in made_up)
        return datasets.load(config, tmp_path)

    return run


@pytest.fixture
def config():
    config = get_base()
    config.image_size, config.batch_size, config.eval.batch_size = 64, 4, 4
    return config


def test_streams_lengths_and_the_mean_of_the_mixture(load, config, make_record, tmp_path):
    first = Split(make_record(seed) for seed in range(9))
    second = Split(make_record(seed) for seed in range(100, 107))
    second[0]["joints_3d_weight"] = np.float32(0)
    data = load(config, first=first, second=second)
    assert data.steps_per_epoch == 4
    assert next(data.train(0))["image"].shape == (4, 64, 64, 3)
    assert [len(list(data.evals[f"{name}/test"]())) for name in ("first", "second")] == [3, 2]
    means = [np.mean([one["joints_3d"] for one in split], 0) for split in (first, second[1:])]
    np.testing.assert_allclose(data.mean_joints, 0.7 * means[0] + 0.3 * means[1], atol=1e-6)
    # Kept for the next time, as long as the mixture stays the same.
    kept = json.loads((tmp_path / "train_statistics.json").read_text())
    kept["mean_joints"][0][0] = 7.0
    (tmp_path / "train_statistics.json").write_text(json.dumps(kept))
    assert load(config, first=first, second=second).mean_joints[0, 0] == 7.0
    assert load(config, first=first).mean_joints[0, 0] != 7.0


def test_a_part_loss_without_part_labels_is_refused(load, config, make_record):
    without = Split(make_record(seed, parts=False) for seed in range(8))
    load(config, first=without)
    config.loss.parts = 60.0
    with pytest.raises(UserError, match=r"config\.loss\.parts needs part labels"):
        load(config, first=without)
    load(config, first=without, second=Split(make_record(seed) for seed in range(8)))


def test_part_labels_are_decoded_for_a_part_loss_only(load, config, make_record):
    with_labels = Split(make_record(seed) for seed in range(8))
    unused = next(load(config, first=with_labels).train(0))
    config.loss.parts = 60.0
    used = next(load(config, first=with_labels).train(0))
    assert (unused["part_labels"] == PART_UNKNOWN).all()
    assert not unused["parts_weight"].any()
    assert (used["part_labels"] != PART_UNKNOWN).any()
    assert used["parts_weight"].all()
    for name in sorted(used.keys() - {"part_labels", "parts_weight"}):
        np.testing.assert_array_equal(unused[name], used[name], err_msg=name)
