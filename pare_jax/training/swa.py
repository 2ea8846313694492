"""Stochastic weight averaging (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

From a given step on, the running mean of the parameters, the SWA weights, is kept beside them.
Training never runs the network with them, so they have no batch statistics of their own. These are
measured on training batches before each evaluation, the one at the end included (section 3.2 of the
paper).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from pare_jax import sharding


class SwaState(struct.PyTreeNode):
    """The running mean of the parameters.

    Attributes:
        count: number of averaged sets of parameters, int32 scalar.
        measured: `count` when the batch statistics were measured, int32 scalar; if it is smaller
            than `count`, they do not fit the mean any more.
        params: the mean; zeros while count is 0.
        batch_stats: batch statistics measured for the mean.
    """

    count: jax.Array
    measured: jax.Array
    params: Any
    batch_stats: Any


def init(params: Any, batch_stats: Any) -> SwaState:
    """Return an empty mean."""
    return SwaState(
        count=jnp.zeros((), jnp.int32),
        measured=jnp.zeros((), jnp.int32),
        params=jax.tree.map(jnp.zeros_like, params),
        batch_stats=jax.tree.map(jnp.copy, batch_stats),
    )


def update(swa: SwaState, params: Any, due: jax.Array) -> SwaState:
    """Add `params` to the mean if `due`, a boolean scalar, holds."""

    def add(swa: SwaState) -> SwaState:
        count = swa.count + 1
        mean = jax.tree.map(lambda m, p: m + (p - m) / count.astype(m.dtype), swa.params, params)
        return swa.replace(count=count, params=mean)

    return jax.lax.cond(due, add, lambda swa: swa, swa)


def is_measured(swa: SwaState) -> bool:
    """Return whether there is a mean with batch statistics that fit it."""
    return 0 < int(swa.count) == int(swa.measured)


def measure_statistics(
    swa: SwaState,
    statistics_step: Callable[..., Any],
    open_batches: Callable[[], Iterable[Mapping[str, np.ndarray | jax.Array]]],
    num_batches: int,
    mesh: Mesh,
) -> SwaState:
    """Measure the batch statistics of the SWA weights.

    Args:
        swa: the mean.
        statistics_step: the compiled `step.statistics_step`.
        open_batches: opens a stream of training batches, which is closed afterwards.
        num_batches: number of batches to measure on.
        mesh: the devices.

    Returns:
        The mean with its statistics; `swa` itself if there is nothing new to measure.
    """
    if int(swa.count) == int(swa.measured):
        return swa
    stats, batches = swa.batch_stats, open_batches()
    on_devices = sharding.prefetch(batches, mesh)
    try:
        for number in range(num_batches):
            count = sharding.put_replicated(np.float32(number), mesh)
            stats = statistics_step(stats, count, swa.params, next(on_devices))
    finally:
        sharding.close_stream(batches)
    return swa.replace(batch_stats=stats, measured=jnp.copy(swa.count))
