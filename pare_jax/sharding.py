"""Placement of arrays: a mesh whose `data` axis splits batches; everything else is replicated.

The jitted step is one program for 1 or N devices, in 1 or M processes. Because it sees global
arrays, batch statistics and losses are those of the global batch, and the numbers do not depend on
the number of devices.
"""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from pare_jax.errors import UserError

DATA_AXIS = "data"
# Each device holds a copy of the state.
_MOST_CPU_DEVICES = 8


def make_mesh() -> Mesh:
    """Put all devices of all processes on the `data` axis, in the order their links favour."""
    return jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def split_cpu(*batch_sizes: int) -> int:
    """Make each core a CPU device; call this before JAX is used.

    A core that works on its own rows of the batch does not wait for others at each small operation.
    This helps on busy cores; on two idle ones a run is equally fast (scripts/benchmark_step.py). It
    does not pay for networks of dense layers: their optimizer works as long as their products.

    Args:
        batch_sizes: the number of devices divides all of them.

    Returns:
        The number of CPU devices. Other devices are not affected. A number that is set by
        --xla_force_host_platform_device_count has precedence.
    """
    cores = min(len(os.sched_getaffinity(0)), _MOST_CPU_DEVICES)
    count = max(n for n in range(1, cores + 1) if not any(size % n for size in batch_sizes))
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)
    return count


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of batches: the leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def check_batch_sizes(config: ConfigDict, mesh: Mesh) -> None:
    """Raise UserError unless the config's batches divide evenly over the devices."""
    for key, size in (
        ("batch_size", config.batch_size),
        ("eval.batch_size", config.eval.batch_size),
    ):
        if size % mesh.size:
            raise UserError(
                f"config.{key} is {size}, which is not divisible by the {mesh.size} devices: "
                f"use a multiple of {mesh.size}"
            )
    parts = mesh.size * config.accumulate_steps
    if config.batch_size % parts:
        raise UserError(
            f"config.batch_size is {config.batch_size}, which is not divisible by the {mesh.size} "
            f"devices times accumulate_steps {config.accumulate_steps}: use a multiple of {parts}"
        )


def put_batch(batch: Mapping[str, np.ndarray | jax.Array], mesh: Mesh) -> dict[str, jax.Array]:
    """Send this process' rows of a batch to its devices; returns the global arrays.

    A batch of global arrays is returned with the same values.

    One call for all fields: a call for each takes several times as long, most of it for the small
    ones (scripts/benchmark_step.py).
    """
    sharding = batch_sharding(mesh)
    if all(isinstance(value, jax.Array) for value in batch.values()):
        return jax.device_put(dict(batch), sharding)  # drawn on the devices; nothing to send
    if mesh.is_multi_process:
        local = functools.partial(jax.make_array_from_process_local_data, sharding)
        return {name: local(np.asarray(value)) for name, value in batch.items()}
    return jax.device_put(dict(batch), sharding)


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Copy a pytree of host arrays, the same in every process, to every device."""
    if mesh.is_multi_process:
        return jax.tree.map(functools.partial(_put_everywhere, replicated(mesh)), tree)
    return jax.device_put(tree, replicated(mesh))


def _put_everywhere(sharding: NamedSharding, value: Any) -> jax.Array:
    """Copy one array; `device_put` would send it to the other processes to compare it."""
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return value
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = _put_everywhere(sharding, jax.random.key_data(value))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    host = np.asarray(value)
    return jax.make_array_from_process_local_data(sharding, host, host.shape)


def gather(tree: Any, mesh: Mesh) -> Any:
    """Give each process all rows of global arrays, so that it can read them.

    One process has all rows already.
    """
    if not mesh.is_multi_process:
        return tree
    # Metrics are in float64.
    with jax.enable_x64(True):
        return _gathering(mesh)(tree)


@functools.cache
def _gathering(mesh: Mesh) -> Any:
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def prefetch(
    batches: Iterable[Mapping[str, np.ndarray | jax.Array]], mesh: Mesh, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Send batches to the devices `ahead` of the one in use.

    Transfers are asynchronous, so that no thread is needed.
    """
    queue: list[dict[str, jax.Array]] = []
    for batch in batches:
        queue.append(put_batch(batch, mesh))
        if len(queue) > ahead:
            yield queue.pop(0)
    yield from queue


def close_stream(stream: Any) -> None:
    """Close a stream of batches, if it can be closed."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
