"""Groups that share a weight by size, missing datasets, and what a run keeps of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import common, final, pare
from configs.common import get_base
from data_pipelines import datasets, mixture
from data_pipelines.reading import storage
from data_pipelines.reading.sample_order import CYCLE, Mixture
from pare_jax.errors import UserError
from pare_jax.training import config as config_lib

TRAIN = (("h36m", 0.3), ("mpi", 0.1), (("lsp", "mpii"), 0.6))
PEOPLE = {"h36m": 500, "mpi": 40, "lsp": 10, "mpii": 30}


def weights(people):
    return {one.name: one.weight for one in mixture.resolve(TRAIN, people)}


def without(*names):
    return {name: number for name, number in PEOPLE.items() if name not in names}


def test_a_group_shares_its_weight_by_size():
    assert weights(PEOPLE) == pytest.approx({"h36m": 0.3, "mpi": 0.1, "lsp": 0.15, "mpii": 0.45})


def test_a_missing_member_leaves_its_part_to_its_group_and_a_missing_entry_to_all():
    assert weights(without("lsp", "mpi")) == {"h36m": 0.3, "mpii": 0.6}
    lines = mixture.describe(TRAIN, mixture.resolve(TRAIN, without("lsp", "mpi")), "in data")
    table, (of_entry, of_group) = lines[1:3], lines[3:]
    assert [line.split()[:4] for line in table] == [
        ["h36m", "500", "33.3", "%"],
        ["mpii", "30", "66.7", "%"],
    ]
    assert "mpi is missing in data" in of_entry
    assert "10 %" in of_entry
    assert "lsp is missing in data: the 60 % go to mpii" in of_group
    assert "60 %" in of_group
    with pytest.raises(UserError, match="h36m, mpi, lsp, mpii"):
        mixture.resolve(TRAIN, {})
    assert mixture.describe((("a", 1.0),), mixture.resolve((("a", 1.0),), {"a": 5}), "") == []


def test_a_small_share_is_kept_exactly_by_a_longer_cycle():
    small = Mixture([1.0, 0.0002], seed=3)
    datasets_at, draws = small.draws(0, 2 * small.cycle)
    assert small.cycle == 10 * CYCLE
    assert (datasets_at == 1).sum() == 4
    assert list(draws[datasets_at == 1]) == [0, 1, 2, 3]
    assert Mixture([0.999, 0.001], seed=3).cycle == CYCLE
    with pytest.raises(UserError, match="1e-09"):
        Mixture([1.0, 1e-9], seed=3)


def test_the_stream_of_a_mixture_with_ordinary_shares_is_that_of_before():
    """Runs that began before cycles could be longer must go on with the same samples."""
    owners, draws = Mixture([0.6, 0.4], seed=5).draws(990, 20)
    assert "".join(map(str, owners)) == "00011000001101101000"
    assert list(draws[:4]) == [592, 593, 594, 398]


class Split(list):
    """Examples in memory, with a path as stored splits have."""

    path, split = Path("somewhere"), "train"

    def names(self):
        return None

    def fingerprint(self):
        return f"{len(self)} examples"

    def without_part_labels(self):
        return self


@pytest.fixture
def load(make_record, monkeypatch, tmp_path):
    """Return a function that loads a config; the datasets that are there are given by size."""

    def run(config, **people):
        def open_split(config, name, split, workdir):
            if name not in people:
                raise storage.MissingDatasetError([name], config.data.root)
            if split == "validation" and name == "lsp":
                raise storage.MissingSplitError("no split 'validation' in lsp")
            return Split(make_record(seed, parts=False) for seed in range(people[name]))

        monkeypatch.setattr(datasets, "_open", open_split)
        return datasets.load(config, tmp_path)

    return run


@pytest.fixture
def config():
    config = get_base()
    config.image_size, config.batch_size, config.eval.batch_size = 64, 4, 4
    config.data.train, config.data.missing = TRAIN, "share"
    config.data.eval = ("h36m/validation", "lsp/validation", "mpii/validation")
    return config


def test_missing_sets_are_said_and_their_share_goes_to_the_others(load, config, tmp_path):
    data = load(config, lsp=3, mpii=9)
    assert list(data.held_out.evals) == ["mpii/validation"]
    text = "\n".join(data.notes)
    assert "h36m is missing" in text
    assert "h36m/validation, lsp/validation are missing" in text
    assert "mpii/validation chooses the best checkpoint" in text
    kept = json.loads((tmp_path / "mixture.json").read_text())["sets"]
    assert {one["name"]: one["weight"] for one in kept} == pytest.approx(
        {"lsp": 0.15, "mpii": 0.45}
    )
    config.data.eval = ("lsp/validation",)
    with pytest.raises(UserError, match="lsp/validation"):
        load(config, lsp=3, mpii=9)
    config.data.missing, config.data.eval = "refuse", ("mpii/validation",)
    with pytest.raises(storage.MissingDatasetError, match="h36m"):
        load(config, lsp=3, mpii=9)


def test_a_resumed_run_has_the_mixture_it_began_with(load, config, tmp_path):
    first = load(config, lsp=3, mpii=9)
    # Nothing is trained yet: the mixture is that of today.
    assert "mpi " in "\n".join(load(config, lsp=3, mpii=9, mpi=5).notes)
    first = load(config, lsp=3, mpii=9)
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    again = load(config, lsp=3, mpii=9, mpi=5, h36m=40)
    for ours, theirs in zip(*(next(data.train(4)).items() for data in (first, again)), strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1], err_msg=ours[0])
    assert again.steps_per_epoch == first.steps_per_epoch
    assert any("h36m" in line and "since the run began" in line for line in again.notes)
    with pytest.raises(UserError, match="lsp") as caught:
        load(config, mpii=9, mpi=5)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any("lsp has 4 people" in line for line in load(config, lsp=4, mpii=9).notes)
    (tmp_path / "mixture.json").write_text('{"sets": [3]}')
    with pytest.raises(UserError, match=r"mixture\.json"):
        load(config, lsp=3, mpii=9)


@pytest.mark.parametrize("module", [pare, final])
def test_an_experiment_can_be_trained_on_the_published_mixture(module):
    config = module.get_config("mixture")
    config_lib.validate(config)
    assert config.data.train == common.PARE_MIXTURE
    # A run reads its config from JSON, where tuples are lists.
    stored = json.loads(json.dumps(config_lib.plain(config)))
    assert config_lib.completed(stored, get_base()).data.train == common.PARE_MIXTURE
    with pytest.raises(UserError, match="mixtures"):
        module.get_config("mixtures")


def test_a_config_lists_the_names_of_groups(config):
    assert config_lib.dataset_names(TRAIN) == ["h36m", "mpi", "lsp", "mpii"]
    config.data.train = ((("synthetic",), 1.0),)
    assert config_lib.warning_of(config) == config_lib.SYNTHETIC_ALONE
