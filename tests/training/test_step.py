"""The step: it learns, skips what is not finite, repeats itself, and ignores how it is split."""

import dataclasses
import functools
import re
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import sharding
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.models.inference import predict_step
from pare_jax.training.augment import AugmentSettings
from pare_jax.training.step import (
    StepSettings,
    create_state,
    network_graphs,
    statistics_step,
    train_step,
)
from tests.fakes import TINY_MODEL, fake_batch, keypoints_of, make_keypoint_network, tiny_config

WEIGHTS = (
    ("camera", 1.0),
    ("joints_2d", 150.0),
    ("joints_3d", 300.0),
    ("parts", 60.0),
    ("pose", 60.0),
    ("shape", 0.06),
)


@pytest.fixture(scope="module")
def parts():
    model = build_model(ConfigDict(TINY_MODEL), rngs=nnx.Rngs(0))
    # Without clipping one large gradient of the camera would decide where the loss goes.
    optimizer = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(6e-3))
    graphs = network_graphs(model)
    settings = StepSettings(
        seed=3,
        loss_weights=WEIGHTS,
        augment=AugmentSettings(colour=0.2, noise=0.02, occlusion=0.5),
        swa_start=2,
        swa_every=2,
        max_bad_steps=3,
    )
    step = jax.jit(
        functools.partial(train_step, graphs=graphs, optimizer=optimizer, settings=settings)
    )
    body = load_body_model()
    state = create_state(model, optimizer, average=True)
    return graphs, state, lambda state, batch: step(state, body, batch), settings


def arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_loss_on_one_batch_falls_by_half(parts):
    """Everybody has the same pose, and the part labels are background: there is one answer."""
    _, state, step, _ = parts
    batch = fake_batch(8)
    batch |= {name: np.repeat(batch[name][:1], 8, 0) for name in batch if name != "image"}
    batch["part_labels"][:] = 0
    history = []
    for _ in range(40):
        state, scalars = step(state, batch)
        history.append(float(scalars["loss"]))
    assert history[-1] < 0.5 * history[0]
    terms = sum(float(v) for k, v in scalars.items() if k.startswith("loss/"))
    np.testing.assert_allclose(terms, history[-1], rtol=1e-5)


def test_step_is_a_function_of_state_and_batch(parts):
    _, state, step, _ = parts
    first, again = step(state, fake_batch(8)), step(state, fake_batch(8))
    chex.assert_trees_all_equal(first, again)


def test_a_batch_computed_in_parts_makes_the_update_of_the_whole():
    """A network without BatchNorm, and parts with different numbers of labels."""
    model = make_keypoint_network()
    graphs = network_graphs(model)
    batch = fake_batch(8) | {"keypoints": keypoints_of(8)}
    del batch["image"]
    batch["pose_weight"][[0, 2, 4, 5]] = 0
    # Adam would divide rounding errors by gradients near zero.
    optimizer = optax.sgd(1e-2)
    state = create_state(model, optimizer, average=False)
    weights = (("camera", 1.0), ("joints_3d", 300.0), ("points_2d", 5.0), ("pose", 60.0))
    updates, losses = [], []
    for accumulate in (1, 2):
        settings = StepSettings(
            seed=3, loss_weights=weights, augment=AugmentSettings(), accumulate=accumulate
        )
        step = functools.partial(train_step, graphs=graphs, optimizer=optimizer, settings=settings)
        after, scalars = jax.jit(step)(state, load_body_model(), batch)
        losses.append(scalars)
        updates.append(jax.tree.map(jnp.subtract, after.params, state.params))
    norm = float(optax.global_norm(updates[0]))
    for loss, update in zip(losses[1:], updates[1:], strict=True):
        chex.assert_trees_all_close(loss, losses[0], rtol=1e-4)
        apart = float(optax.global_norm(jax.tree.map(jnp.subtract, update, updates[0])))
        assert 0 < apart < 1e-4 * norm


def test_averages_the_due_steps(parts):
    _, state, step, _ = parts
    due = []
    for number in range(1, 7):
        state, _ = step(state, fake_batch(8, seed=number))
        if number in (2, 4, 6):
            due.append(arrays(state.params))
    assert int(state.swa.count) == 3
    for mean, *sets in zip(arrays(state.swa.params), *due, strict=True):
        np.testing.assert_allclose(mean, np.mean(sets, 0), rtol=1e-5, atol=1e-7)


def test_a_non_finite_loss_changes_nothing_but_the_counters(parts):
    _, state, step, _ = parts
    good = fake_batch(8)
    state, _ = step(state, good)
    bad = {**good, "joints_3d": np.full_like(good["joints_3d"], np.inf)}
    after, scalars = step(state, bad)
    assert not np.isfinite(scalars["loss"])
    kept = ("params", "batch_stats", "opt_state", "swa")
    for name in kept:
        chex.assert_trees_all_equal(getattr(after, name), getattr(state, name))
    assert (int(after.step), int(after.bad_steps), int(after.skipped)) == (2, 1, 1)
    after, _ = step(after, bad)
    assert (int(after.bad_steps), int(after.skipped)) == (2, 2)
    after, scalars = step(after, good)
    assert np.isfinite(scalars["loss"])
    assert (int(after.bad_steps), int(after.skipped)) == (0, 2)


def test_after_too_many_non_finite_steps_nothing_is_updated(parts):
    """The host reads the counter late; until then good batches must not hide what happened."""
    _, state, step, _ = parts
    good = fake_batch(8)
    bad = {**good, "joints_3d": np.full_like(good["joints_3d"], np.inf)}
    for batch in (bad, bad, bad, good, good):
        state, _ = step(state, batch)
    assert (int(state.step), int(state.bad_steps), int(state.skipped)) == (5, 5, 5)
    chex.assert_trees_all_equal(state.params, parts[1].params)


def test_statistics_are_the_mean_over_batches(parts):
    graphs, state, _, settings = parts
    plain = dataclasses.replace(settings, augment=AugmentSettings())
    run = jax.jit(functools.partial(statistics_step, graphs=graphs, settings=plain))
    batches = [fake_batch(8, seed=number) for number in range(3)]
    stats = state.batch_stats
    for count, batch in enumerate(batches):
        stats = run(stats, jnp.float32(count), state.params, batch)
    singles = [
        arrays(run(state.batch_stats, jnp.float32(0), state.params, batch)) for batch in batches
    ]
    for got, *each in zip(arrays(stats), *singles, strict=True):
        np.testing.assert_allclose(got, np.mean(each, 0), rtol=1e-3, atol=1e-4)


def test_prediction_in_evaluation_mode_leaves_statistics_alone(parts):
    graphs, state, _, _ = parts
    images = fake_batch(4)["image"]
    predict = functools.partial(predict_step, graphdef=graphs.evaluation)
    first = predict(state.params, state.batch_stats, jnp.asarray(images))
    half = predict(state.params, state.batch_stats, jnp.asarray(images[:2]))
    np.testing.assert_allclose(first.rotations[:2], half.rotations, atol=1e-5)


def test_parts_of_a_batch_must_divide_over_the_devices():
    config = tiny_config()
    config.accumulate_steps = 4
    with pytest.raises(UserError, match="accumulate_steps 4"):
        sharding.check_batch_sizes(config, types.SimpleNamespace(size=4))


@pytest.mark.parametrize("key", ["batch_size", "eval.batch_size"])
def test_batch_sizes_must_divide_over_the_devices(key):
    mesh = types.SimpleNamespace(size=4)
    config = tiny_config()
    sharding.check_batch_sizes(config, mesh)
    config.update_from_flattened_dict({key: 9})
    with pytest.raises(UserError, match=rf"config\.{re.escape(key)} is 9"):
        sharding.check_batch_sizes(config, mesh)
