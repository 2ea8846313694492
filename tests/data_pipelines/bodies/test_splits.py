"""Drawn bodies: training streams, evaluation splits, kept poses, and refusals."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from data_pipelines.bodies import splits as splits_lib
from data_pipelines.bodies.body_settings import BodySettings
from data_pipelines.bodies.splits import BodySplits, DrawnBodies
from data_pipelines.example import BATCH_FIELDS, BODY_FIELDS
from pare_jax.errors import UserError
from pare_jax.skeleton import MIRROR

# Bodies in exactly the poses of the pool, or mirrored.
STILL = dataclasses.replace(BodySettings(), exchange=0.0, jitter=0.0)
SIZES = BodySplits(poses=1_000, held_out=300, test=70)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("poses")


@pytest.fixture(scope="module")
def bodies(folder):
    return DrawnBodies(SIZES, STILL, folder)


def first(stream, count):
    return jax.device_get(list(itertools.islice(stream, count)))


def test_a_batch_is_a_function_of_seed_and_step(bodies):
    whole = first(bodies.train_batches(0, batch_size=8, seed=5), 4)
    resumed = first(bodies.train_batches(2, batch_size=8, seed=5), 2)
    for ours, theirs in zip(resumed, whole[2:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    (other,) = first(bodies.train_batches(2, batch_size=8, seed=6), 1)
    assert not np.array_equal(other["keypoints"], whole[2]["keypoints"])
    fields = BATCH_FIELDS | BODY_FIELDS
    for name, value in whole[0].items():
        wanted = tuple(8 if size == "B" else size for size in fields[name].shape)
        assert (value.shape, str(value.dtype)) == (wanted, fields[name].dtype), name
    assert whole[0].keys() >= BODY_FIELDS.keys()


def test_a_split_does_not_depend_on_the_size_of_batches(bodies):
    ways = [list(bodies.eval_batches("test", batch_size=size)) for size in (32, 70)]
    shares = [
        list(bodies.eval_batches("test", batch_size=32, process_index=n, process_count=2))
        for n in range(2)
    ]
    assert [batch["sample_weight"].sum() for batch in ways[0]] == [32, 32, 6]
    for name in ("keypoints", "joints_3d", "visible"):
        parts = np.concatenate([batch[name] for batch in ways[0]])
        assert len(parts) == 96
        np.testing.assert_array_equal(parts[:70], ways[1][0][name])
        shared = [np.concatenate([one[name], two[name]]) for one, two in zip(*shares, strict=True)]
        np.testing.assert_array_equal(np.concatenate(shared), parts)
    assert len(bodies.names().samples) == 70


def test_evaluations_have_poses_of_their_own(bodies, folder):
    pool = splits_lib.pose_pool(SIZES, folder)
    flip = np.diag([-1.0, 1.0, 1.0])
    both = np.stack([pool, flip @ pool[:, list(MIRROR)] @ flip])[:, :, 1:]

    def poses_of(batch):
        distance = np.abs(both[:, :, None] - batch["rotations"][None, None, :8, 1:])
        distance = distance.max((-1, -2, -3)).min(0)
        assert distance.min(0).max() < 1e-4
        return distance.argmin(0)

    (trained,) = first(bodies.train_batches(0, batch_size=8, seed=0), 1)
    assert poses_of(trained).min() >= SIZES.held_out
    held_out = next(iter(bodies.eval_batches("test_noisy", batch_size=20)))
    assert poses_of(held_out).max() < SIZES.held_out


def test_points_of_the_test_are_exact_and_those_of_the_other_are_not(bodies):
    exact, noisy = (
        next(iter(bodies.eval_batches(name, batch_size=70))) for name in ("test", "test_noisy")
    )

    def errors_of(batch):
        known = batch["keypoints"][..., 2] > 0
        return np.abs(batch["keypoints"][..., :2] - batch["points_2d"])[known].max(-1)

    assert errors_of(exact).max() < 1e-4
    assert np.median(errors_of(noisy)) > 0.005
    counts = [(batch["keypoints"][..., 2] > 0).sum() for batch in (exact, noisy)]
    assert 0.4 < counts[1] / counts[0] < 0.75
    # Joints count as hidden where the network has no keypoint of them.
    assert noisy["visible"].sum() < noisy["visible_weight"].sum()


def test_kept_poses_are_used_again_unless_they_are_others(folder, bodies, capsys):
    capsys.readouterr()
    (path,) = folder.glob("*.npy")
    kept = np.load(path)
    np.testing.assert_array_equal(splits_lib.pose_pool(SIZES, folder), kept)
    assert "drawing" not in capsys.readouterr().out
    for damage in (kept[:, ::-1], kept[:10]):
        np.save(path, damage)
        np.testing.assert_array_equal(splits_lib.pose_pool(SIZES, folder), kept)
    path.write_bytes(b"no array")
    np.testing.assert_array_equal(splits_lib.pose_pool(SIZES, folder), kept)
    np.testing.assert_array_equal(np.load(path), kept)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"noize": 0.1}, "noize"),
        ({"poses": 0}, "poses"),
        ({"poses": 100, "held_out": 100}, "held_out"),
        ({"everyday": 1.5}, "everyday"),
        ({"missing": 1.5}, "missing"),
        ({"noise": -0.1}, "noise"),
        ({"nearest": 20.0}, "nearest"),
    ],
)
def test_a_bad_setting_is_named(values, named):
    with pytest.raises(UserError, match=f"config.data.bodies.{named}") as caught:
        splits_lib.from_mapping(values)
    assert "\n" not in str(caught.value)
