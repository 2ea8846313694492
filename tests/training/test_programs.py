"""The compiled programs of a run: how many there are, and what they carry."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from pare_jax.body.model import load_body_model
from pare_jax.evaluation.evaluate import eval_step
from pare_jax.models import build_model, resnet
from pare_jax.training.optimizer import make_optimizer
from pare_jax.training.step import create_state, network_graphs, statistics_step, train_step
from pare_jax.training.train import step_settings
from tests.body.small_bodies import random_body_fields
from tests.evaluation.compilations import compiled_programs
from tests.fakes import fake_batch, tiny_config, train_on

MEGABYTE = 1_000_000


def test_a_run_compiles_each_program_once(tmp_path):
    """Ten steps, three evaluations with averaged weights, pictures and figures."""
    jax.clear_caches()  # other tests may have compiled some of them
    with compiled_programs() as names:
        train_on(tiny_config(), tmp_path)
    ours = {"train_step", "statistics_step", "eval_step", "batch_errors"}
    counts = {name: names.count(name) for name in ours}
    assert counts == dict.fromkeys(ours, 1)


@pytest.fixture(scope="module")
def smpl_sized_body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.npz"
    np.savez(path, **random_body_fields(vertices=6890))
    return load_body_model(path)


@pytest.fixture(scope="module", autouse=True)
def one_block_a_stage():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, "resnet18", (resnet.BasicBlock, (1, 1, 1, 1)))
        yield


@pytest.mark.parametrize("name", ["train_step", "statistics_step", "eval_step"])
def test_programs_take_the_body_as_an_argument(name, smpl_sized_body):
    """As a constant of the program, SMPL's arrays would be tens of megabytes of text."""
    config = tiny_config()
    config.model.num_blocks = 1  # maps of the size that part labels have
    model = build_model(config.model, rngs=nnx.Rngs(0))
    graphs, settings = network_graphs(model), step_settings(config, 4)
    optimizer = make_optimizer(config.optimizer, 10)
    state = create_state(model, optimizer, average=True)
    body, batch = smpl_sized_body, fake_batch(8)
    program, arguments = {
        "train_step": (
            functools.partial(train_step, graphs=graphs, optimizer=optimizer, settings=settings),
            (state, body, batch),
        ),
        "statistics_step": (
            functools.partial(statistics_step, graphs=graphs, settings=settings),
            (state.batch_stats, np.float32(0), state.params, batch),
        ),
        "eval_step": (
            functools.partial(eval_step, graphdef=graphs.evaluation),
            (state.params, state.batch_stats, body, batch),
        ),
    }[name]
    assert len(jax.jit(program).lower(*arguments).as_text()) < MEGABYTE
