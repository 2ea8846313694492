"""A backbone that stays as it is for the first epochs, and the weights a run starts from."""

import functools
import re
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
from pare_jax.pretrained import load, write
from pare_jax.training import checkpoints
from pare_jax.training import config as config_lib
from pare_jax.training.optimizer import make_optimizer
from pare_jax.training.step import create_state, network_graphs, train_step
from pare_jax.training.train import step_settings
from tests.fakes import FakeData, Recorder, fake_batch, tiny_config, train_on

FROZEN = 3  # number of updates with a frozen backbone
BAD = (1, 5)  # steps that are skipped, before and after the backbone thaws
THAW = 4  # the first step that trains the backbone: steps 0, 2 and 3 are frozen
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
    config.swa.start_epoch = (FROZEN + 1) / 4
    config.swa.every_steps = 1
    config.swa.statistics_batches = 1
    return config


class Stoppable(FakeData):
    """Data that interrupts a run when it asks for the batch of step `stop`."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def train(self, start):
        for step, batch in enumerate(super().train(start), start):
            if step == self.stop:
                raise KeyboardInterrupt
            yield batch


@pytest.fixture(scope="module")
def other():
    return build_model(frozen_config().model, rngs=nnx.Rngs(99))


@pytest.fixture(scope="module")
def config(other, tmp_path_factory):
    config = frozen_config()
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    write.export(other, config.model, path)
    config.pretrained.path = str(path)
    return config


@pytest.fixture(scope="module")
def states(config):
    """Step by step, the states of a run that is frozen first; a later step is skipped."""
    model = build_model(config.model, rngs=nnx.Rngs(0))
    load.fill(model, load.load(config).flat)
    optimizer = make_optimizer(config.optimizer, config.num_steps, FROZEN)
    settings = step_settings(config, 4)
    step = jax.jit(
        functools.partial(
            train_step, graphs=network_graphs(model), optimizer=optimizer, settings=settings
        )
    )
    body, batches = load_body_model(), FakeData().train(0)
    state = create_state(model, optimizer, average=True)
    states = [jax.device_get(state)]
    for number in range(FROZEN + 5):
        batch = next(batches)
        if number in BAD:
            batch["joints_3d"] = np.full_like(batch["joints_3d"], np.inf)
        state, _ = step(state, body, batch)
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


def adam(state):
    """Return what Adam keeps: its count of updates, and both moments by name."""
    flat = arrays("opt_state", state.opt_state)
    count = int(flat["opt_state.1.count"])
    mean, square = (
        {
            name.removeprefix(f"opt_state.1.{moment}."): value
            for name, value in flat.items()
            if name.startswith(f"opt_state.1.{moment}.")
        }
        for moment in ("mu", "nu")
    )
    return count, mean, square


def test_a_run_starts_from_the_weights_it_names(states, other):
    wanted = flat_state.of_network(other)
    assert all(np.array_equal(value, wanted[name]) for name, value in parts(states[0])[0].items())


def test_random_weights_are_not_frozen():
    with pytest.raises(UserError, match=r"freeze_epochs=0\.75"):
        load.load(frozen_config())


def test_a_frozen_backbone_stays_while_the_rest_moves(states):
    backbone, rest = parts(states[0])
    for step, state in enumerate(states[1 : THAW + 1]):
        later, others = parts(state)
        assert same(backbone, later) == list(backbone)
        moved = rest.keys() - same(rest, others)
        expected = {"heads", "part_branch", "feature_branch", "part_conv", "shape_conv"}
        assert {name.split(".")[1] for name in moved} == (set() if step in BAD else expected)
        rest = others
        _, mean, square = adam(state)
        frozen = [v for n, v in (mean | square).items() if n.startswith("backbone.")]
        assert frozen
        assert not any(value.any() for value in frozen)


def test_adam_corrects_each_part_by_its_own_number_of_updates(states):
    """Kingma and Ba 2015, algorithm 1, from the moments; frozen and skipped steps do not count."""
    updates = {"backbone": 0, "rest": 0}
    for step in range(FROZEN + 5):
        before, after = (arrays("params", states[n].params) for n in (step, step + 1))
        if step in BAD:
            assert same(before, after) == list(before)
            continue
        updates["rest"] += 1
        updates["backbone"] += step >= THAW
        count, mean, square = adam(states[step + 1])
        assert count == updates["rest"]
        for name in mean:
            own = updates["backbone" if name.startswith("backbone.") else "rest"]
            expected = np.zeros_like(mean[name])
            if own:
                corrected = mean[name] / (1 - 0.9**own)
                expected = RATE * corrected / (np.sqrt(square[name] / (1 - 0.999**own)) + 1e-8)
            moved = before[f"params.{name}"] - after[f"params.{name}"]
            # Where gradients are not much larger than Adam's epsilon, it weighs otherwise.
            clear = np.sqrt(square[name]) > 1e-5
            np.testing.assert_allclose(
                moved[clear], expected[clear], atol=5e-3 * RATE, err_msg=name
            )


def test_the_thawed_backbone_moves_with_its_statistics(states):
    before, after = parts(states[THAW])[0], parts(states[THAW + 1])[0]
    moved = before.keys() - same(before, after)
    assert {name for name in before if name.endswith((".kernel", ".mean", ".var"))} <= moved


def test_averaging_before_the_backbone_thaws_is_refused(config):
    config = config.copy_and_resolve_references()
    config.swa.start_epoch = FROZEN / 4
    with pytest.raises(UserError, match=r"swa\.start_epoch"):
        config_lib.validate(config)


def test_gradients_are_clipped_by_the_norm_of_what_is_trained():
    """The backbone's share of a frozen step's gradient is zero, and so counts for nothing."""
    config = frozen_config().optimizer
    config.grad_clip = 1.0
    optimizer = make_optimizer(config, 10, FROZEN)
    params = {"backbone": jnp.zeros(2), "heads": jnp.zeros(2)}
    gradients = {"backbone": jnp.zeros(2), "heads": jnp.array([3.0, 4.0])}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(state[1].mu["heads"], 0.1 * np.array([0.6, 0.8]), rtol=1e-6)


def count(value):
    """Count the convolutions and matrix products of a jaxpr and of those it calls."""
    if isinstance(value, tuple | list):
        return sum(map(count, value))
    equations = getattr(getattr(value, "jaxpr", value), "eqns", ())
    own = sum(e.primitive.name in ("conv_general_dilated", "dot_general") for e in equations)
    return own + sum(count(list(e.params.values())) for e in equations)


def test_no_gradient_is_computed_through_a_frozen_backbone():
    config = frozen_config()
    model = build_model(config.model, rngs=nnx.Rngs(0))
    optimizer = optax.adam(1e-3)
    step = functools.partial(
        train_step,
        graphs=network_graphs(model),
        optimizer=optimizer,
        settings=step_settings(config, 4),
    )
    state = create_state(model, optimizer, average=False)
    traced = jax.make_jaxpr(step)(state, load_body_model(), fake_batch(8))
    (choice,) = [
        e
        for e in traced.eqns
        if e.primitive.name == "cond" and any(map(count, e.params["branches"]))
    ]
    all_trained, frozen = map(count, choice.params["branches"])
    images = jnp.zeros((8, 32, 32, 3))
    graph, params, rest = nnx.split(model.backbone, nnx.Param, ...)

    def features(params):
        return nnx.merge(graph, params, rest, copy=True)(images).sum()

    forward = count(jax.make_jaxpr(features)(params))
    backward = count(jax.make_jaxpr(jax.grad(features))(params))
    layers = sum(leaf.ndim == 4 for leaf in jax.tree.leaves(params))
    assert forward == layers
    # Each layer has a gradient for its kernel and one for what it takes; pictures need none.
    assert backward == 3 * layers - 1
    # Nor do the backbone's maps, which both branches take.
    assert all_trained - frozen == backward - forward + 2


def test_a_run_stopped_while_frozen_resumes_to_the_same_bits(config, tmp_path, capsys):
    """It does not need the file of weights any more, because its checkpoint has replaced them."""
    writer = Recorder()
    undisturbed = train_on(config, tmp_path / "whole", writer=writer)
    assert "layer4" in writer.texts[0]["notes"]
    assert "weights.safetensors" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):  # asked for two steps ahead: at the third
        train_on(config, tmp_path / "cut", Stoppable(4))
    store = checkpoints.Checkpoints(tmp_path / "cut", read_only=True)
    assert store.latest_step() == 2 < FROZEN
    path, hidden = Path(config.pretrained.path), tmp_path / "hidden"
    path.rename(hidden)
    try:
        resumed = train_on(config, tmp_path / "cut")
        with pytest.raises(UserError, match=re.escape(path.name)):
            train_on(config, tmp_path / "another")
        assert not (tmp_path / "another" / "config.json").exists()
    finally:
        hidden.rename(path)
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
