"""Learning rates and clipping as the config asks for them."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.training.optimizer import learning_rate_schedule, make_optimizer


def settings(**changes):
    base = {
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "warmup": 10,
        "grad_clip": 0.0,
    }
    return ConfigDict(base | changes)


def test_warmup_then_cosine_down_to_nothing():
    rate = learning_rate_schedule(settings(), 110)
    assert rate(0) == 0.0
    np.testing.assert_allclose(rate(5), 5e-3, rtol=1e-5)
    np.testing.assert_allclose(rate(10), 1e-2, rtol=1e-5)
    np.testing.assert_allclose(rate(60), 5e-3, rtol=1e-5)
    np.testing.assert_allclose(rate(110), 0.0, atol=1e-9)


def test_constant_stays():
    rate = learning_rate_schedule(settings(schedule="constant", warmup=0), 100)
    assert rate(0) == rate(99) == 1e-2


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(UserError, match="constant, cosine"):
        learning_rate_schedule(settings(schedule="step"), 100)


def test_a_huge_gradient_counts_no_more_than_its_direction():
    """Adam's second update would be tiny after a huge first gradient, unless that was clipped."""
    optimizer = make_optimizer(settings(schedule="constant", warmup=0, grad_clip=1.0), 10)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    _, state = optimizer.update(jnp.array([1e6, 0.0]), state, params)
    second, _ = optimizer.update(jnp.array([0.6, 0.8]), state, params)
    assert abs(float(second[0])) > 5e-3
