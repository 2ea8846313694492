"""A backbone that stays as it is for the first epochs, and the weights a run starts from."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.models import build_model, flat_state, resnet
from pare_jax.pretrained import load, torch_files
from pare_jax.training import checkpoints
from pare_jax.training.optimizer import make_optimizer
from pare_jax.training.run import Run, step_settings
from pare_jax.training.step import create_state, frozen_graph, train_step
from pare_jax.training.train import fit
from tests.fakes import FakeData, Recorder, fake_batch, tiny_config

FROZEN, BAD = 4, 1  # how many steps are frozen, and which of them is skipped
RATE = 1e-3


@pytest.fixture(scope="module", autouse=True)
def shallow_resnet():
    """Give ResNet-18 one block a stage, and so half the operations to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, "resnet18", (resnet.BasicBlock, (1, 1, 1, 1)))
        yield


def frozen_config():
    config = tiny_config()  # of four steps an epoch
    config.model.num_blocks = 1
    config.loss.parts = 0.0
    config.augment.occlusion = 0.0
    config.eval.every_epochs = 2.0
    config.eval.pictures = 0
    config.num_steps = 6
    config.optimizer.learning_rate = RATE
    config.pretrained.freeze_epochs = FROZEN / 4
    config.checkpoint.every_steps = 2
    config.swa.start_epoch = 0.5
    config.swa.every_steps = 1
    config.swa.statistics_batches = 1
    return config


class Stoppable(FakeData):
    """Data that interrupts a run when it asks for the batch of step `stop`."""

    stop = None

    def train(self, start):
        for step, batch in enumerate(super().train(start), start):
            if step == self.stop:
                raise KeyboardInterrupt
            yield batch


class Repeatable(Run):
    """A run that can start several times, so that tests share its compiled programs."""

    def initial_state(self):
        return jax.tree.map(jnp.copy, super().initial_state())


@pytest.fixture(scope="module")
def other():
    return build_model(frozen_config().model, rngs=nnx.Rngs(99))


@pytest.fixture(scope="module")
def run(other, tmp_path_factory):
    config = frozen_config()
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    torch_files.export(other, config.model, path)
    config.pretrained.path = str(path)
    run = Repeatable(config, Stoppable())
    run.load_pretrained()
    return run


@pytest.fixture(scope="module")
def states(run):
    """Step by step, the states of a run whose first steps are frozen, one of them skipped."""
    batches = run.data.train(0)
    state = run.initial_state()
    states = [jax.device_get(state)]
    for step in range(FROZEN + 2):
        batch = next(batches)
        if step == BAD:
            batch["joints_3d"] = np.full_like(batch["joints_3d"], np.inf)
        state, _ = run.step_after(step)(state, batch)
        if step in (FROZEN - 1, FROZEN + 1):
            state = run.with_statistics(state)
        states.append(jax.device_get(state))
    return states


def arrays(prefix, tree):
    return {n: np.asarray(v) for n, v in flat_state.flatten(prefix, tree).items()}


def parts(state):
    """Return a state's leaves by name: the backbone's, and the others'."""
    flat = arrays("params", state.params) | arrays("batch_stats", state.batch_stats)
    backbone = {name: value for name, value in flat.items() if ".backbone." in name}
    return backbone, {name: flat[name] for name in flat.keys() - backbone.keys()}


def same(left, right):
    return [name for name in left if np.array_equal(left[name], right[name])]


def adam(state, part):
    """Return what Adam keeps of a part: its count of updates, and both moments by name."""
    prefix = f"opt_state.1.inner_states.{part}.inner_state."
    flat = arrays("opt_state", state.opt_state)
    flat = {n.removeprefix(prefix): v for n, v in flat.items() if n.startswith(prefix)}
    count = int(flat.pop("count"))
    mean, square = (
        {n.removeprefix(f"{m}."): v for n, v in flat.items() if n.startswith(f"{m}.")}
        for m in ("mu", "nu")
    )
    return count, mean, square


def test_a_run_starts_from_the_weights_it_names(states, other):
    wanted = flat_state.of_network(other)
    assert all(np.array_equal(value, wanted[name]) for name, value in parts(states[0])[0].items())


def test_random_weights_are_not_frozen():
    with pytest.raises(UserError, match=r"freeze_epochs is 1\.0.* random weights"):
        load.load(frozen_config())


def test_the_backbone_stands_still_while_the_rest_moves(states):
    backbone, rest = parts(states[0])
    for step, state in enumerate(states[1 : FROZEN + 1]):
        later, others = parts(state)
        assert same(backbone, later) == list(backbone)
        moved = rest.keys() - same(rest, others)
        expected = {"heads", "part_branch", "feature_branch", "part_conv", "shape_conv"}
        assert {name.split(".")[1] for name in moved} == (set() if step == BAD else expected)
        rest = others
        count, mean, square = adam(state, "backbone")
        assert count == 0
        assert mean
        assert not any(value.any() for value in (mean | square).values())
    assert int(states[FROZEN].skipped) == 1


@pytest.mark.parametrize("part", ["backbone", "rest"])
def test_adam_corrects_each_part_by_its_own_number_of_updates(states, part):
    """Kingma and Ba 2015, algorithm 1, from the moments; a frozen or skipped step is no update."""
    for step in (FROZEN, FROZEN + 1):
        before, after = (arrays("params", states[n].params) for n in (step, step + 1))
        count, mean, square = adam(states[step + 1], part)
        assert count == (step - FROZEN if part == "backbone" else step - 1) + 1
        for name in mean:
            corrected = mean[name] / (1 - 0.9**count)
            expected = RATE * corrected / (np.sqrt(square[name] / (1 - 0.999**count)) + 1e-8)
            moved = before[f"params.{name}"] - after[f"params.{name}"]
            np.testing.assert_allclose(moved, expected, atol=2e-3 * RATE, err_msg=name)
        assert max(np.abs(value).max() for value in mean.values()) > 0


def test_the_thawed_backbone_moves_with_its_statistics(states):
    before, after = parts(states[FROZEN])[0], parts(states[FROZEN + 1])[0]
    moved = before.keys() - same(before, after)
    assert {name for name in before if name.endswith((".kernel", ".mean", ".var"))} <= moved


def test_the_mean_keeps_the_backbone_and_its_statistics(states):
    mean = states[FROZEN].swa
    assert mean.count == 2
    backbone = parts(states[0])[0]
    assert same(backbone, parts(mean)[0]) == list(backbone)
    later = parts(states[FROZEN + 2].swa)[0]
    assert not any(np.array_equal(later[n], backbone[n]) for n in later if n.endswith(".var"))


def test_gradients_are_clipped_by_the_norm_of_what_is_trained():
    """The backbone's share of a frozen step's gradient is zero, and so counts for nothing."""
    config = frozen_config().optimizer
    config.grad_clip = 1.0
    optimizer = make_optimizer(config, 10)
    params = {"backbone": jnp.zeros(2), "heads": jnp.zeros(2)}
    gradients = {"backbone": jnp.zeros(2), "heads": jnp.array([3.0, 4.0])}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    moment = state[1].inner_states["rest"].inner_state.mu["heads"]
    np.testing.assert_allclose(moment, 0.1 * np.array([0.6, 0.8]), rtol=1e-6)


def products(function, *arguments):
    """Count the convolutions and matrix products of a traced function and of those it calls."""

    def count(value):
        if isinstance(value, tuple | list):
            return sum(map(count, value))
        equations = getattr(getattr(value, "jaxpr", value), "eqns", ())
        own = sum(e.primitive.name in ("conv_general_dilated", "dot_general") for e in equations)
        return own + sum(count(list(e.params.values())) for e in equations)

    return count(jax.make_jaxpr(function)(*arguments))


def test_no_gradient_is_computed_through_a_frozen_backbone():
    config = frozen_config()
    model = build_model(config.model, rngs=nnx.Rngs(0))
    optimizer = optax.adam(1e-3)
    graphdef, state = create_state(model, optimizer, average=False)
    counts = {}
    for frozen in (False, True):
        step = functools.partial(
            train_step,
            graphdef=frozen_graph(model) if frozen else graphdef,
            body=load_body_model(),
            optimizer=optimizer,
            settings=step_settings(config, 4),
            frozen=frozen,
        )
        counts[frozen] = products(step, state, fake_batch(8))
    images = jnp.zeros((8, 32, 32, 3))
    graph, params, rest = nnx.split(model.backbone, nnx.Param, ...)

    def features(params):
        return nnx.merge(graph, params, rest, copy=True)(images).sum()

    forward, backward = products(features, params), products(jax.grad(features), params)
    layers = sum(leaf.ndim == 4 for leaf in jax.tree.leaves(params))
    assert forward == layers
    # Each layer has a gradient for its kernel and one for what it takes; pictures need none.
    assert backward == 3 * layers - 1
    # Nor do the backbone's maps, which both branches take.
    assert counts[False] - counts[True] == backward - forward + 2


def test_a_run_stopped_while_frozen_goes_on_to_the_same_bits(run, tmp_path, capsys):
    """Without the file of weights, too, which its own checkpoint has replaced."""
    writer = Recorder()
    undisturbed, _ = fit(run, tmp_path / "whole", writer)
    assert "layer4" in writer.texts[0]["pretrained"]
    assert "weights.safetensors" in capsys.readouterr().out
    run.data.stop = 5  # asked for two steps ahead: at the fourth
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path / "cut", Recorder())
    run.data.stop = None
    store = checkpoints.Checkpoints(tmp_path / "cut", read_only=True)
    assert store.latest_step() == 2 < run.frozen_steps
    loaded = load.load(run.config)
    path, hidden = Path(run.config.pretrained.path), tmp_path / "hidden"
    path.rename(hidden)
    try:
        resumed, _ = fit(run, tmp_path / "cut", Recorder())
        with pytest.raises(UserError, match=r"weights\.safetensors"):
            fit(run, tmp_path / "another", Recorder())
        assert not (tmp_path / "another" / "config.json").exists()
        # Whoever has read it already needs it no more.
        assert run.load_pretrained(loaded) == loaded.notes
    finally:
        hidden.rename(path)
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
