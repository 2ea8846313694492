"""TensorStore's specs are cached, so that asking again leaks no memory."""

import sys

import jax.numpy as jnp
import optax
import tensorstore
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.models import build_model
from pare_jax.training.cached_specs import cache_specs
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.step import create_state
from tests.fakes import TINY_MODEL


def test_a_spec_that_is_asked_for_again_is_a_copy_and_leaks_no_memory():
    def ask(folder):
        return tensorstore.KvStore.Spec({"driver": "file", "path": folder}).to_json()

    wanted = {folder: {"driver": "file", "path": folder} for folder in ("/one/", "/two/")}
    cache_specs()
    cache_specs()  # as in the second run of a process
    ask("/one/")["path"] = "changed"
    assert {folder: ask(folder) for folder in wanted} == wanted
    before = sys.getallocatedblocks()
    for _ in range(2000):
        ask("/one/")
    assert sys.getallocatedblocks() - before < 2000  # without the cache: 8,000


def test_saving_asks_once_for_a_folder_and_not_once_for_an_array(tmp_path, monkeypatch):
    make, asked = tensorstore.KvStore.Spec.to_json, []
    original = getattr(make, "__wrapped__", make)

    def counting(spec, *args, **kwargs):
        asked.append(repr(spec))
        return original(spec, *args, **kwargs)

    monkeypatch.setattr(tensorstore.KvStore.Spec, "to_json", counting)
    model = build_model(ConfigDict(TINY_MODEL), rngs=nnx.Rngs(0))
    state = create_state(model, optax.adam(1e-3), average=False)
    store = Checkpoints(tmp_path)
    store.save(state.replace(step=jnp.int32(1)))
    store.close()
    assert 0 < len(asked) == len(set(asked)) < 10
