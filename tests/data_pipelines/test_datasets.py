"""The data of a run: streams, lengths, the mean pose, and refusals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from configs.common import get_base
from data_pipelines import datasets
from data_pipelines.reading import storage
from pare_jax.errors import UserError
from pare_jax.skeleton import PART_UNKNOWN


class Split(list):
    """Examples in memory, with a path as stored splits have."""

    path, split = Path("somewhere"), "train"

    def names(self):
        return None

    def fingerprint(self):
        return f"{len(self)} examples"

    def without_part_labels(self):
        missing = {"part_labels": b"", "parts_weight": np.float32(0)}
        return Split(example | missing for example in self)


def pretend(monkeypatch, made_up):
    """Replace all prepared datasets by these, for training and evaluation."""

    def open_split(config, name, split, workdir):
        if name not in made_up:
            raise storage.MissingDatasetError([name], config.data.root)
        return made_up[name]

    monkeypatch.setattr(datasets, "_open", open_split)


@pytest.fixture
def load(make_record, monkeypatch, tmp_path):
    """Return a function that loads a config whose datasets are made up, by name."""

    def run(config, **made_up):
        pretend(monkeypatch, made_up)
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


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("data.synthetic.validation", 0, "config.data.synthetic.validation"),
        ("data.synthetic.occluders", 2.0, "occluders"),
        ("data.synthetic.focal", 3.0, "focal"),
        ("data.eval", ("synthetic/testing",), "testing"),
    ],
)
def test_a_bad_synthetic_setting_is_named(config, key, value, named):
    datasets.check_config(config)
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict({key: value})
        if key.endswith("focal"):
            config.data.synthetic.focal = value
    with pytest.raises(UserError, match=re.escape(named)) as caught:
        datasets.check_config(config)
    assert "\n" not in str(caught.value)


def test_synthetic_settings_are_checked_only_where_synthetic_people_are_used(config):
    config.data.synthetic.train = 0
    config.data.train, config.data.eval = (("pw3d", 1.0),), ("pw3d/test",)
    datasets.check_config(config)


def test_streams_lengths_and_the_mean_of_the_mixture(load, config, make_record, tmp_path):
    first = Split(make_record(seed) for seed in range(9))
    second = Split(make_record(seed) for seed in range(100, 107))
    second[0]["joints_3d_weight"] = np.float32(0)
    data = load(config, first=first, second=second)
    assert data.steps_per_epoch == 4
    assert next(data.train(0))["image"].shape == (4, 64, 64, 3)
    assert [len(list(data.held_out.evals[f"{name}/test"]())) for name in ("first", "second")] == [
        3,
        2,
    ]
    means = [np.mean([one["joints_3d"] for one in split], 0) for split in (first, second[1:])]
    np.testing.assert_allclose(
        data.held_out.mean_joints, 0.7 * means[0] + 0.3 * means[1], atol=1e-6
    )
    # The kept mean is used again for the same mixture only.
    kept = json.loads((tmp_path / "train_statistics.json").read_text())
    kept["mean_joints"][0][0] = 7.0
    (tmp_path / "train_statistics.json").write_text(json.dumps(kept))
    assert load(config, first=first, second=second).held_out.mean_joints[0, 0] == 7.0
    assert load(config, first=first).held_out.mean_joints[0, 0] != 7.0


def test_without_3d_joints_there_is_no_mean_pose(load, config, make_record, tmp_path):
    only_2d = Split(make_record(seed, joints_3d_weight=np.float32(0)) for seed in range(9))
    for _ in range(2):  # measured, then read from the workdir
        mean = load(config, only_2d=only_2d).held_out.mean_joints
        assert mean.shape == (24, 3)
        assert np.isnan(mean).all()
        text = (tmp_path / "train_statistics.json").read_text()
        json.loads(text, parse_constant=pytest.fail)  # valid JSON, without NaN


def test_a_part_loss_without_part_labels_is_refused(load, config, make_record):
    without = Split(make_record(seed, parts=False) for seed in range(8))
    load(config, first=without)
    config.loss.parts = 60.0
    with pytest.raises(UserError, match=r"config\.loss\.parts"):
        load(config, first=without)
    load(config, first=without, second=Split(make_record(seed) for seed in range(8)))


def without_labels(records, *kept):
    for record in records:
        for name in ("joints_3d", "pose", "betas", "parts", "head_top", "joints_2d"):
            if name not in kept:
                record[f"{name}_weight"] = record[f"{name}_weight"] * np.float32(0)
    return Split(records)


def test_a_split_that_no_metric_can_measure_is_refused_before_training(load, config, make_record):
    records = [make_record(seed) for seed in range(400)]
    load(config, own=without_labels(records, "joints_2d"))
    config.eval.protocol = "j14"
    load(config, own=without_labels(records, "joints_2d"))
    without_labels(records)
    with pytest.raises(UserError, match="own/test"):
        load(config, own=Split(records))
    # Not among those that are looked at first.
    records[77]["joints_2d_weight"][:2] = 1
    load(config, own=Split(records))
    records[77]["joints_2d_weight"][:2] = 0
    records[77]["joints_3d_weight"] = np.float32(1)
    with pytest.raises(UserError, match="j14"):
        load(config, own=Split(records))
    config.eval.protocol = "smpl24"
    load(config, own=Split(records))


def test_an_evaluation_reads_the_mean_pose_that_training_kept(
    load, config, make_record, tmp_path, monkeypatch
):
    first = Split(make_record(seed) for seed in range(9))
    second = Split(make_record(seed) for seed in range(100, 107))
    mean = load(config, first=first, second=second).held_out.mean_joints
    trained = config.copy_and_resolve_references()
    kept = (tmp_path / "train_statistics.json").read_bytes()
    # Another mixture on the command line, on a machine without training sets.
    config.data.train = (("absent", 1.0),)
    config.data.eval = ("held_out/test",)
    pretend(monkeypatch, {"held_out": second})
    data = datasets.load_held_out(config, tmp_path, trained)
    np.testing.assert_array_equal(data.mean_joints, mean)
    assert len(list(data.evals["held_out/test"]())) == 2
    assert (tmp_path / "train_statistics.json").read_bytes() == kept


@pytest.mark.parametrize("damage", [None, "", "{}", '{"sources": [], "mean_joints": [1]}'])
def test_a_missing_mean_pose_is_measured_again_on_the_trained_mixture(
    load, config, make_record, tmp_path, monkeypatch, capsys, damage
):
    first = Split(make_record(seed) for seed in range(9))
    mean = load(config, first=first).held_out.mean_joints
    trained = config.copy_and_resolve_references()
    path = tmp_path / "train_statistics.json"
    kept = path.read_bytes()
    path.unlink() if damage is None else path.write_text(damage)
    config.data.train = (("other", 1.0),)
    other = Split(make_record(seed) for seed in range(50, 59))
    pretend(monkeypatch, {"other": other})
    config.data.eval = ("other/test",)
    unknown = datasets.load_held_out(config, tmp_path, trained).mean_joints
    assert np.isnan(unknown).all()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    pretend(monkeypatch, {"first": first, "other": other})
    data = datasets.load_held_out(config, tmp_path, trained)
    np.testing.assert_allclose(data.mean_joints, mean, atol=1e-7)
    assert path.read_bytes() == kept


def test_prepared_datasets_may_be_moved(load, config, make_record, tmp_path):
    first = Split(make_record(seed) for seed in range(9))
    config.data.root, first.path = str(tmp_path / "one"), tmp_path / "one" / "first"
    load(config, first=first)
    kept = (tmp_path / "train_statistics.json").read_bytes()
    config.data.root, first.path = str(tmp_path / "two"), tmp_path / "two" / "first"
    load(config, first=first)
    assert (tmp_path / "train_statistics.json").read_bytes() == kept


def test_all_datasets_that_are_missing_are_named_at_once(config, tmp_path, monkeypatch):
    config.data.root = str(tmp_path)
    config.data.train = (("synthetic", 0.5), ("pw3d", 0.3), ("mpii", 0.2))
    config.data.eval = ("pw3d/test", "mpii/validation", "synthetic/test")
    monkeypatch.setattr(datasets.builder, "prepare", lambda *_: pytest.fail("drew people"))
    with pytest.raises(UserError) as caught:
        datasets.load(config, tmp_path)
    (line,) = str(caught.value).splitlines()
    for name in ("mpii", "pw3d"):
        assert str(tmp_path / name) in line
        assert f"prepare --dataset={name} --source=RAW --output={tmp_path}" in line
        assert line.count(f"--dataset={name}") == 1
    assert "--config=configs/quickstart.py" in line


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


def test_the_device_cache_counts_damaged_examples_and_is_refused_early(
    load, config, make_record, monkeypatch
):
    """Evaluations and the end of a run give the number; only decoding finds this damage."""
    records = Split(make_record(seed) for seed in range(7))
    records.append(make_record(image=b"\xff\xd8nothing"))
    config.data.cache, config.batch_size = "device", 8
    data = load(config, first=records)
    assert data.held_out.skipped() == {"train in somewhere": {7}}
    assert any("7 crops" in note for note in data.notes)
    # Before data is opened, which may render people for an hour.
    monkeypatch.setattr(datasets, "_processes", lambda: {"process_index": 0, "process_count": 2})
    with pytest.raises(UserError, match=r"config\.data\.cache.*--num_processes=1"):
        load(config)


def test_batches_have_exactly_the_fields_that_are_read(load, config, make_record):
    data = load(config, first=Split(make_record(seed) for seed in range(8)))
    both = {
        *("image", "joints_2d", "joints_2d_weight", "head_top", "head_top_weight"),
        *("joints_3d", "joints_3d_weight", "rotations", "pose_weight", "betas", "betas_weight"),
        *("joints_3d_known", "rotations_known"),
    }
    of_training = {"part_labels", "parts_weight", "points_2d", "points_2d_weight"}
    of_evaluation = {"head_size", "visible", "visible_weight", "gender", "sample_weight"}
    assert next(data.train(0)).keys() == both | of_training
    assert next(iter(data.held_out.evals["first/test"]())).keys() == both | of_evaluation
