"""A backbone that stays as it is for the first epochs, and the weights a run starts from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pare_jax import checkpoints, flat_state
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.optimizer import late_start, make_optimizer
from pare_jax.pretrained import export
from pare_jax.run import Run, step_settings
from pare_jax.train import train
from pare_jax.train_step import create_state, frozen_graph, train_step
from tests.fakes import FakeData, Recorder, fake_batch, tiny_config


def frozen_config():
    config = tiny_config()  # of four steps an epoch
    config.eval.every_epochs = 2.0
    config.num_steps = 8
    config.pretrained.freeze_epochs = 1.0
    config.swa.start_epoch = 0.5
    config.eval.pictures = 0
    return config


def parts(state):
    """Return a state's leaves by name: the backbone's, and the others'."""
    flat = flat_state.flatten("params", state.params)
    flat |= flat_state.flatten("batch_stats", state.batch_stats)
    flat = {name: np.asarray(value) for name, value in flat.items()}
    backbone = {name: value for name, value in flat.items() if ".backbone." in name}
    return backbone, {name: flat[name] for name in flat.keys() - backbone.keys()}


def same(left, right):
    return [name for name in left if np.array_equal(left[name], right[name])]


def moments(state):
    flat = flat_state.flatten("opt_state", state.opt_state)
    return {name: np.asarray(value) for name, value in flat.items() if ".backbone." in name}


class TestAFrozenRun:
    @pytest.fixture(scope="class")
    def states(self):
        """Step by step, the states of a run whose first four steps are frozen."""
        config = frozen_config()
        run = Run(config, FakeData())
        batches = run.data.train(0)
        state = run.initial_state()
        states = [jax.device_get(state)]
        for step in range(6):
            state, _ = run.step_after(step)(state, next(batches))
            if step in (3, 5):
                state = run.with_statistics(state)
            states.append(jax.device_get(state))
        return states

    def test_the_backbone_stands_still_while_the_rest_moves(self, states):
        backbone, rest = parts(states[0])
        for state in states[1:5]:
            later, others = parts(state)
            assert same(backbone, later) == list(backbone)
            moved = rest.keys() - same(rest, others)
            assert {name.split(".")[1] for name in moved} == {
                "heads", "part_branch", "feature_branch", "part_conv", "shape_conv"
            }  # fmt: skip
            assert moments(state)
            assert not any(value.any() for value in moments(state).values())

    def test_then_it_moves_as_fast_as_the_rest(self, states):
        before, after = parts(states[4])[0], parts(states[5])[0]
        moved = before.keys() - same(before, after)
        assert {name for name in before if name.endswith((".kernel", ".mean", ".var"))} <= moved
        steps = [
            np.abs(after[name] - before[name]).max()
            for name in before
            if name.startswith("params.")
        ]
        # Adam's first step is the learning rate, whatever the gradient.
        assert 0.9e-3 < max(steps) < 1.1e-3
        assert any(value.any() for value in moments(states[5]).values())

    def test_the_mean_keeps_the_backbone_and_its_statistics(self, states):
        mean = states[4].swa
        assert mean.count == 2
        backbone = parts(states[0])[0]
        assert same(backbone, parts(mean)[0]) == list(backbone)
        later = parts(states[6].swa)[0]
        assert not any(np.array_equal(later[n], backbone[n]) for n in later if n.endswith(".var"))


def test_no_gradient_is_computed_through_a_frozen_backbone():
    config = frozen_config()
    model = build_model(config.model, rngs=nnx.Rngs(0))
    optimizer = optax.adam(1e-3)
    graphdef, state = create_state(model, optimizer, average=False)
    batch = fake_batch(8)
    costs = []
    for frozen in (False, True):
        step = functools.partial(
            train_step,
            graphdef=frozen_graph(model) if frozen else graphdef,
            body=load_body_model(),
            optimizer=optimizer,
            settings=step_settings(config, 4),
            frozen=frozen,
        )
        text = jax.jit(step).lower(state, batch).compile().as_text()
        assert text is not None
        costs.append(text.count("convolution("))
    assert costs[1] < costs[0]


def test_adam_after_a_late_start_is_adam():
    config = tiny_config().optimizer
    config.grad_clip = 0.0
    optimizer = make_optimizer(config, 100)
    update = jax.jit(optimizer.update)
    rng = np.random.default_rng(0)
    gradients = jnp.asarray(rng.normal(size=(40, 5)), jnp.float32)
    late = early = (jnp.zeros(5), optimizer.init(jnp.zeros(5)))
    for count in range(1, 41):
        missed = count <= 25
        gradient = jnp.zeros(5) if missed else gradients[count - 1]
        updates, moments = update(gradient, late[1], late[0])
        factor = late_start(jnp.int32(count), 25)
        assert np.isfinite(factor)
        late = late[0] + (0 if missed else factor * updates), moments
        if not missed:
            updates, moments = update(gradient, early[1], early[0])
            early = early[0] + updates, moments
    np.testing.assert_allclose(late[0], early[0], rtol=1e-4)


def test_a_run_stopped_while_frozen_goes_on_to_the_same_bits(tmp_path):
    undisturbed = train(frozen_config(), tmp_path / "whole", FakeData(), Recorder())

    class Stops(FakeData):
        def train(self, start):
            for step, batch in zip(range(start, 9), super().train(start), strict=False):
                if step == 6:
                    raise KeyboardInterrupt
                yield batch

    with pytest.raises(KeyboardInterrupt):
        train(frozen_config(), tmp_path / "cut", Stops(), Recorder())
    store = checkpoints.Checkpoints(tmp_path / "cut", read_only=True)
    assert store.latest_step() in (3, 4)
    resumed = train(frozen_config(), tmp_path / "cut", FakeData(), Recorder())
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class TestARunFromWeights:
    def test_it_starts_from_them_and_resumes_without_them(self, tmp_path, capsys):
        config = frozen_config()
        config.num_steps = 4
        other = build_model(config.model, rngs=nnx.Rngs(99))
        path = tmp_path / "weights.safetensors"
        export.export(other, config.model, path)
        config.pretrained.path = str(path)
        run, writer = Run(config, FakeData()), Recorder()
        run.load_pretrained()
        start, wanted = parts(run.initial_state())[0], flat_state.of_network(other)
        assert all(np.array_equal(value, wanted[name]) for name, value in start.items())
        train(config, tmp_path / "run", FakeData(), writer)
        assert "layer4" in writer.texts[0]["pretrained"]
        assert "weights.safetensors" in capsys.readouterr().out
        path.unlink()
        config.num_steps = 6
        state = train(config, tmp_path / "run", FakeData(), writer)
        assert int(state.step) == 6
        assert int(state.skipped) == 0
        assert all(np.isfinite(writer.scalars[step]["train/loss"]) for step in (2, 4, 6))
        assert same(parts(state)[0], start) == []
        with pytest.raises(UserError, match=r"weights\.safetensors"):
            train(config, tmp_path / "another", FakeData(), Recorder())
        assert not (tmp_path / "another" / "config.json").exists()
