"""Streams of batches: fields, order, mixing, resuming, padding, and refusals."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.example import BATCH_FIELDS, EVALUATION_FIELDS
from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.reading.input_pipeline import eval_batches, train_batches
from data_pipelines.reading.remembering import remember
from data_pipelines.reading.sample_order import CYCLE, Mixture, Shuffle, sample_uniforms
from pare_jax.errors import UserError
from pare_jax.training.losses import fields_to_read

AUGMENT = types.SimpleNamespace(scale=0.25, rotation=30.0, flip=0.5)


@pytest.fixture(scope="module")
def source(make_source):
    return make_source(11)


def stream(sources, count, **settings):
    arguments = {"batch_size": 4, "image_size": 32, "seed": 5, "augment": AUGMENT} | settings
    batches = train_batches(sources, **arguments)
    return list(itertools.islice(batches, count))


def indices_in(source, batches):
    """Return the index of each sample's example, which its betas identify."""
    stored = np.stack([record["betas"] for record in source])
    found = np.concatenate([batch["betas"] for batch in batches])
    same = (found[:, None] == stored).all(-1)
    return np.where(same.any(1), same.argmax(1), -1)


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert list(batch) == list(other)
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def test_batches_are_as_declared(source):
    sizes = {"B": 4, "S": 32, "S // 4": 8}
    trained = stream([(source, 1.0)], 1)[0]
    evaluated = next(eval_batches(source, batch_size=4, image_size=32))
    for batch, fields in ((trained, fields_to_read()), (evaluated, EVALUATION_FIELDS)):
        assert tuple(batch) == fields
        for name, values in batch.items():
            field = BATCH_FIELDS[name]
            assert values.dtype == np.dtype(field.dtype), name
            assert values.shape == tuple(sizes.get(n, n) for n in field.shape), name
    assert {*fields_to_read(), *EVALUATION_FIELDS} == BATCH_FIELDS.keys()


def test_genders_are_numbered_and_an_unknown_one_is_named(make_record, capsys):
    records = [make_record(gender=gender) for gender in ("female", "neutral", "male")]
    (batch,) = eval_batches(records, batch_size=3, image_size=32)
    assert batch["gender"].tolist() == [2, 0, 1]
    records[1]["gender"] = "unknown"
    damaged = DamagedExamples()
    list(eval_batches(records, batch_size=3, image_size=32, damaged=damaged))
    assert [len(found) for found in damaged.found().values()] == [1]
    assert re.search(r"example 1 .*'unknown'", capsys.readouterr().err)


def test_resuming_gives_the_same_bytes(source):
    whole = stream([(source, 1.0)], 8)
    assert_same(stream([(source, 1.0)], 3, start_step=5), whole[5:])


def test_threads_change_nothing(source):
    assert_same(stream([(source, 1.0)], 12, threads=4), stream([(source, 1.0)], 12, threads=1))


@pytest.mark.parametrize("num_bytes", [1e9, 100_000])
def test_remembering_examples_changes_nothing(source, num_bytes):
    # Six epochs; 100,000 bytes hold some examples, the others are read again.
    settings = {"batch_size": 11, "image_size": 64}
    kept = remember(source, num_bytes, 64, AUGMENT.scale)
    assert kept is not source
    ours, theirs = (stream([(data, 1.0)], 6, **settings) for data in (kept, source))
    assert_same(ours, theirs)
    reads = [index for index in range(11) if isinstance(kept[index]["image"], np.ndarray)]
    assert (len(reads) == 11) == (num_bytes == 1e9)
    assert reads


def test_crops_that_shrink_by_two_are_not_remembered(source):
    side = 96
    assert remember(source, 1e9, int(side / 3), 0.0) is source
    assert remember(source, 0, side, 0.0) is source


def test_seed_changes_order_and_augmentation(source):
    first, second = (stream([(source, 1.0)], 3, seed=seed) for seed in (1, 2))
    orders = [indices_in(source, batches) for batches in (first, second)]
    assert (orders[0] != orders[1]).any()
    assert (sample_uniforms(1, 0, 50) != sample_uniforms(2, 0, 50)).all()


def test_every_example_once_per_epoch(source):
    batches = stream([(source, 1.0)], 11)
    indices = indices_in(source, batches).reshape(4, 11)
    for epoch in indices:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(11))
    assert len({tuple(epoch) for epoch in indices}) == 4


def test_processes_share_the_global_batch(source):
    whole = stream([(source, 1.0)], 4)
    shares = [
        stream([(source, 1.0)], 4, process_index=index, process_count=2) for index in range(2)
    ]
    joined = [
        {name: np.concatenate([a[name], b[name]]) for name in a}
        for a, b in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_read_every_sample_once(source, processes):
    """In an epoch of training, and in an evaluation, whose last batch is padded."""
    shares = [
        indices_in(
            source,
            stream([(source, 1.0)], 11, batch_size=6, process_index=n, process_count=processes),
        )
        for n in range(processes)
    ]
    # Each batch has the rows of the processes one after the other.
    order = np.concatenate([share.reshape(11, -1) for share in shares], axis=1).ravel()
    for epoch in order.reshape(6, 11):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(11))
    measured = []
    for n in range(processes):
        batches = eval_batches(
            source, batch_size=6, image_size=32, process_index=n, process_count=processes
        )
        for batch in batches:
            assert len(batch["image"]) == 6 // processes
            real = batch["sample_weight"] > 0
            measured += indices_in(source, [batch])[real].tolist()
    assert sorted(measured) == list(range(11))


def test_datasets_mix_by_weight(make_source):
    sources = [(make_source(7), 3.0), (make_source(5, parts=False), 1.0)]
    batches = stream(sources, CYCLE // 20, batch_size=20)
    has_parts = np.concatenate([batch["parts_weight"] for batch in batches])
    assert has_parts.sum() == 0.75 * CYCLE
    # Each dataset passes through whole epochs of its own.
    of_second = indices_in(sources[1][0], batches)[has_parts == 0]
    epochs = of_second.reshape(-1, 5)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(5), (50, 1)))


def test_mixture_counts_draws_without_gaps():
    mixture = Mixture([0.5, 0.3, 0.2], seed=9)
    datasets, draws = mixture.draws(0, 3 * CYCLE)
    for dataset, share in enumerate((0.5, 0.3, 0.2)):
        own = draws[datasets == dataset]
        np.testing.assert_array_equal(own, np.arange(round(3 * share * CYCLE)))
    again = [
        np.concatenate(parts)
        for parts in zip(mixture.draws(0, 1700), mixture.draws(1700, 1300), strict=True)
    ]
    np.testing.assert_array_equal(again, [datasets, draws])
    thirds = Mixture([1, 1, 1], seed=0).counts
    assert thirds.sum() == CYCLE
    assert thirds.max() - thirds.min() <= 1


def test_uniforms_belong_to_the_place():
    whole = sample_uniforms(3, 0, 40)
    np.testing.assert_array_equal(sample_uniforms(3, 17, 8), whole[17:25])
    assert abs(sample_uniforms(3, 0, 20000).mean(axis=0) - 0.5).max() < 0.01
    assert abs(np.corrcoef(sample_uniforms(3, 0, 20000).T) - np.eye(4)).max() < 0.03


def test_shuffle_is_far_from_sorted():
    order = Shuffle(1000, seed=0).indices(np.arange(1000))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


def test_eval_keeps_the_order_and_pads_the_end(source):
    batches = list(eval_batches(source, batch_size=4, image_size=32))
    assert len(batches) == 3
    weights = np.concatenate([batch["sample_weight"] for batch in batches])
    np.testing.assert_array_equal(weights, [1] * 11 + [0])
    np.testing.assert_array_equal(indices_in(source, batches), [*range(11), 10])
    assert_same(list(eval_batches(source, batch_size=4, image_size=32, threads=1)), batches)


def test_labels_without_change_are_the_stored_ones(source):
    batch = next(eval_batches(source, batch_size=11, image_size=32))
    for name in ("joints_3d", "rotations", "betas", "joints_2d_weight", "visible_weight"):
        stored = np.stack([record[name] for record in source])
        np.testing.assert_allclose(batch[name], stored, atol=1e-6, err_msg=name)


def test_a_damaged_example_is_named_once_and_the_next_one_replaces_it(source, make_record, capsys):
    broken = [*source[:3], make_record(image=b"\xff\xd8nothing"), *source[4:]]
    replaced = [*source[:3], source[4], *source[4:]]
    damaged = DamagedExamples()
    whole = stream([(broken, 1.0)], 8, damaged=damaged)
    assert_same(whole, stream([(replaced, 1.0)], 8))
    assert [len(found) for found in damaged.found().values()] == [1]
    assert capsys.readouterr().err.count("example 3 of") == 1
    assert_same(stream([(broken, 1.0)], 3, start_step=5), whole[5:])
    assert_same(stream([(remember(broken, 1e9, 32, 0.0), 1.0)], 8), whole)


def test_in_evaluation_a_damaged_example_keeps_its_row_and_has_no_label(source, make_record):
    broken = [*source[:3], make_record(image=b"\xff\xd8nothing"), *source[4:]]
    batches = list(eval_batches(broken, batch_size=4, image_size=32))
    sound = list(eval_batches(source, batch_size=4, image_size=32))
    for name in ("image", "joints_2d_weight", "joints_3d_weight", "pose_weight", "head_top_weight"):
        assert not batches[0][name][3].any()
        np.testing.assert_array_equal(batches[0][name][:3], sound[0][name][:3])
    assert batches[0]["sample_weight"].all()
    assert_same(batches[1:], sound[1:])


def test_many_damaged_examples_stop_the_run(source, make_record):
    bad = make_record(image=b"\xff\xd8nothing")
    for broken in ([*source, bad, bad], [bad], [bad, bad]):
        with pytest.raises(UserError, match=r"example \d+ of") as caught:
            stream([(broken, 1.0)], 8)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"2 of the 13 .*example 12 of"):
        list(eval_batches([*source, bad, bad], batch_size=4, image_size=32, threads=1))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 3, "process_count": 2}, "batch_size is 3"),
        ({"image_size": 30}, "image_size is 30"),
        ({"sources": []}, "data.train"),
        ({"sources": [([], 1.0)]}, "the dataset"),
        ({"weight": -1.0}, "-1.0"),
        ({"weight": float("nan")}, "nan"),
    ],
)
def test_bad_requests_are_refused_at_once(change, named, source):
    weight = change.pop("weight", 1.0)
    sources = change.pop("sources", [(source, weight)])
    arguments = {"batch_size": 4, "image_size": 32, "seed": 0, "augment": AUGMENT} | change
    with pytest.raises(UserError, match=named):
        train_batches(sources, **arguments)


_LEFT_RUNNING = """
import sys, types
from data_pipelines.reading.input_pipeline import train_batches
from tests_records import make_record
source = [make_record(seed) for seed in range(4)]
augment = types.SimpleNamespace(scale=0.0, rotation=0.0, flip=0.0)
batches = [
    train_batches([(source, 1.0)], batch_size=256, image_size=64, seed=0, augment=augment)
    for _ in range(2)
]
for stream in batches:
    next(stream)
sys.exit(3)
"""


def test_a_program_can_end_in_the_middle_of_a_stream(tmp_path):
    """TensorFlow's threads run Python: a thread left running would abort the interpreter."""
    here = Path(__file__).parent
    shutil.copy(here.parent / "conftest.py", tmp_path / "tests_records.py")
    paths = os.pathsep.join([str(tmp_path), str(here.parents[2])])
    ended = subprocess.run(
        [sys.executable, "-c", _LEFT_RUNNING],
        env=os.environ | {"PYTHONPATH": paths},
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 3, ended.stderr
