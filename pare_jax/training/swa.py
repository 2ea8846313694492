"""Stochastic weight averaging (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

From a given step on the running mean of the parameters is kept beside them. Batch statistics that
belong to the mean have never been seen during training; `train_step.statistics_step` measures
them on training batches (section 3.2 of the paper).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


class SwaState(struct.PyTreeNode):
    """The running mean of the parameters.

    Attributes:
        count: how many sets of parameters were averaged, int32 scalar.
        params: their mean; zeros while count is 0.
        batch_stats: batch statistics measured for the mean.
    """

    count: jax.Array
    params: Any
    batch_stats: Any


def init(params: Any, batch_stats: Any) -> SwaState:
    """Start with nothing averaged."""
    return SwaState(
        count=jnp.zeros((), jnp.int32),
        params=jax.tree.map(jnp.zeros_like, params),
        batch_stats=jax.tree.map(jnp.copy, batch_stats),
    )


def update(swa: SwaState, params: Any, due: jax.Array) -> SwaState:
    """Add `params` to the mean where `due`, a boolean scalar, holds."""

    def add(swa: SwaState) -> SwaState:
        count = swa.count + 1
        mean = jax.tree.map(lambda m, p: m + (p - m) / count.astype(m.dtype), swa.params, params)
        return swa.replace(count=count, params=mean)

    return jax.lax.cond(due, add, lambda swa: swa, swa)
