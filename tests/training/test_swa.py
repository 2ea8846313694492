"""The running mean of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np

from pare_jax.training import swa


def test_mean_of_exactly_the_due_sets():
    sets = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    due = np.array([0, 0, 1, 0, 1, 1, 0], bool)
    state = swa.init({"w": jnp.zeros(3)}, {})
    update = jax.jit(swa.update)
    for params, now in zip(sets, due, strict=True):
        state = update(state, {"w": jnp.asarray(params)}, jnp.asarray(now))
    assert state.count == due.sum()
    np.testing.assert_allclose(state.params["w"], sets[due].astype(float).mean(0), rtol=1e-6)
