"""Batches cropped on the devices are those of the tf.data stream."""

import itertools
import types

import jax
import numpy as np
import pytest

from configs.common import get_base
from data_pipelines.reading import device_cache
from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.reading.input_pipeline import train_batches
from pare_jax import sharding
from pare_jax.errors import UserError
from pare_jax.models import resnet
from pare_jax.skeleton import PART_UNKNOWN
from pare_jax.training.losses import fields_to_read
from tests.evaluation.compilations import compiled_programs
from tests.fakes import FakeData, tiny_config, train_on

AUGMENT = types.SimpleNamespace(scale=0.25, rotation=30.0, flip=0.5)
SETTINGS = {"batch_size": 8, "image_size": 64, "seed": 5, "augment": AUGMENT}


@pytest.fixture(scope="module")
def sources(make_source):
    """Two datasets with crops of two sizes; one of them has no part labels."""
    other = make_source(5, side=120, parts=False)
    other[2] |= {"pose_weight": np.float32(0), "head_top_weight": np.float32(0)}
    return [(make_source(11), 0.7), (other, 0.3)]


def taken(stream, count):
    return [jax.device_get(batch) for batch in itertools.islice(stream, count)]


@pytest.fixture(scope="module")
def both(sources):
    """Return some batches by both ways."""
    cached, _ = device_cache.cached_batches(sources, **SETTINGS, part_labels=True)
    return taken(cached(0), 6), list(itertools.islice(train_batches(sources, **SETTINGS), 6))


def test_labels_are_those_of_the_host(both):
    for batch, expected in zip(*both, strict=True):
        assert set(batch) == set(fields_to_read())
        for name in set(batch) - {"image", "part_labels"}:
            assert batch[name].dtype == expected[name].dtype, name
            np.testing.assert_allclose(batch[name], expected[name], atol=2e-6, err_msg=name)


def test_images_are_those_of_the_host_but_for_interpolation(both):
    """OpenCV rounds places to 1/32 pixel."""
    for batch, expected in zip(*both, strict=True):
        assert batch["image"].dtype == np.uint8
        error = np.abs(batch["image"].astype(float) - expected["image"])
        assert error.mean() < 0.5
        # Edges are the crop's: some of these images have black corners.
        assert np.quantile(error, 0.99) <= 4
        assert ((batch["image"] == 0) == (expected["image"] == 0)).mean() > 0.98


def test_part_labels_are_those_of_the_host(both):
    """Noise in place of labels: a place that is wrong by a pixel would change 24 of 25."""
    for batch, expected in zip(*both, strict=True):
        assert (batch["part_labels"] == expected["part_labels"]).mean() > 0.98
        missing = batch["parts_weight"] == 0
        assert np.all(batch["part_labels"][missing] == PART_UNKNOWN)
    assert any(batch["part_labels"][0].any() for batch in both[0])


def test_resuming_gives_the_same_bytes(sources, both):
    cached, _ = device_cache.cached_batches(sources, **SETTINGS, part_labels=True)
    for batch, expected in zip(taken(cached(4), 2), both[0][4:], strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)


def test_each_epoch_has_every_example_once(make_source):
    source = make_source(12, parts=False)
    settings = SETTINGS | {"batch_size": 4}
    cached, note = device_cache.cached_batches([(source, 1.0)], **settings, part_labels=False)
    batches = taken(cached(0), 6)
    stored = np.stack([record["betas"] for record in source])
    found = np.concatenate([batch["betas"] for batch in batches])
    indices = (found[:, None] == stored).all(-1).argmax(1)
    for epoch in np.split(indices, 2):
        assert sorted(epoch) == list(range(12))
    assert np.all(batches[0]["part_labels"] == PART_UNKNOWN)
    assert "12 crops" in note


class StoredList(list):
    """A split with a name, as stored ones have."""

    path, split = "", "train"


def with_damage(source, make_record, path, *indices):
    """Return a split with records at some indices that cannot be decoded."""
    bad = make_record(image=b"\xff\xd8nothing")
    split = StoredList(bad if index in indices else each for index, each in enumerate(source))
    split.path = path
    return split


@pytest.mark.parametrize("place", [0, 3, 10])
def test_damaged_examples_are_named_once_and_replaced_as_on_the_host(
    sources, make_record, capsys, place
):
    """The first gives the size, the last is replaced by the first; both sets have a damaged one."""
    (one, weight), (other, share) = sources
    broken = [
        (with_damage(one, make_record, "one", place), weight),
        (with_damage(other, make_record, "other", 4), share),
    ]
    settings, ours, theirs = SETTINGS | {"part_labels": True}, DamagedExamples(), DamagedExamples()
    cached, note = device_cache.cached_batches(broken, **settings, damaged=ours)
    said = capsys.readouterr().err.splitlines()
    batches = taken(cached(0), 6)
    host = list(itertools.islice(train_batches(broken, **SETTINGS, damaged=theirs), 6))
    assert said == sorted(capsys.readouterr().err.splitlines())
    assert len(said) == 2
    assert f"example {place} of train in one" in said[0]
    assert ours.found() == theirs.found() == {"train in one": {place}, "train in other": {4}}
    assert "14 crops" in note
    for batch, expected in zip(batches, host, strict=True):
        for name in set(batch) - {"image", "part_labels"}:
            np.testing.assert_allclose(batch[name], expected[name], atol=2e-6, err_msg=name)
        error = np.abs(batch["image"].astype(float) - expected["image"])
        assert error.mean(axis=(1, 2, 3)).max() < 1
        assert (batch["part_labels"] == expected["part_labels"]).mean() > 0.98


def test_many_damaged_examples_are_refused_as_on_the_host(sources, make_record):
    broken = [(with_damage(sources[0][0], make_record, "one", 0, 7), 1.0)]
    with pytest.raises(UserError, match=r"2 of the 11 .*example 7 of train in one"):
        device_cache.cached_batches(broken, **SETTINGS, part_labels=True)


def test_batches_are_split_over_the_devices(sources):
    cached, _ = device_cache.cached_batches(sources, **SETTINGS, part_labels=True)
    mesh = sharding.make_mesh()
    for value in next(cached(0)).values():
        assert value.sharding.is_equivalent_to(sharding.batch_sharding(mesh), value.ndim)


def test_a_training_set_that_does_not_fit_is_refused(sources, monkeypatch):
    monkeypatch.setattr(device_cache, "available_memory", lambda: 1e6 * jax.device_count())
    with pytest.raises(UserError, match=r"data\.cache.*GB.*0\.0 GB"):
        device_cache.cached_batches(sources, **SETTINGS, part_labels=True)


def test_crops_that_shrink_by_two_are_refused(make_source):
    settings = SETTINGS | {"image_size": 32}
    with pytest.raises(UserError, match=r"96 pixels.*image_size 32"):
        device_cache.cached_batches([(make_source(2), 1.0)], **settings, part_labels=False)


def test_an_augmentation_of_the_host_alone_is_refused():
    augment = get_base().augment
    device_cache.check_augmentations(augment)
    with pytest.raises(UserError, match=r"augment\.blur"):
        device_cache.check_augmentations([*augment, "blur"])


def test_a_run_compiles_nothing_after_its_second_epoch(make_source, tmp_path, monkeypatch):
    """Two epochs meet everything: the step, an evaluation, a checkpoint and the log."""
    monkeypatch.setitem(resnet.DEPTHS, "resnet18", (resnet.BasicBlock, (1, 1, 1, 1)))
    config = tiny_config()
    config.num_steps, config.augment.occlusion, config.loss.parts = 8, 0.0, 0.0
    config.swa.start_epoch, config.eval.weights, config.eval.pictures = -1.0, "last", 0
    settings = {"batch_size": 8, "image_size": 32, "seed": 0, "augment": AUGMENT}
    source = make_source(16, side=48)
    stream, _ = device_cache.cached_batches([(source, 1.0)], **settings, part_labels=False)
    marks, epoch, ahead = [], 2, 3

    class Cached(FakeData):
        def train(self, start):
            for batch in stream(start):
                marks.append(len(names))
                yield batch

    with compiled_programs() as names:
        train_on(config, tmp_path, Cached(steps_per_epoch=epoch))
    assert "train_step" in names
    # Batches are made `ahead` of their step. The run's report comes after the last one.
    assert names[marks[2 * epoch + ahead] : marks[-1]] == []
