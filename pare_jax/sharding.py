"""Where arrays live: one mesh whose `data` axis splits batches, everything else replicated.

The jitted step is one program for 1 or N devices. Because it sees global arrays, batch statistics
and losses are those of the global batch, and the numbers do not depend on the number of devices.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pare_jax.errors import UserError

DATA_AXIS = "data"
# Each device holds a copy of the state.
_MOST_CPU_DEVICES = 8


def make_mesh() -> Mesh:
    """Put all devices of all processes on the `data` axis."""
    return Mesh(np.array(jax.devices()), (DATA_AXIS,))


def split_cpu(*batch_sizes: int) -> int:
    """Make a device of each core, for machines without an accelerator; call before anything else.

    A core that works on its own rows of the batch does not wait for others at each small operation.
    That matters where cores have other work too; on two idle ones a run is equally fast either way
    (scripts/benchmark_step.py).

    Args:
        batch_sizes: what the number of devices has to divide.

    Returns:
        The number of CPU devices asked for. Devices of other kinds are not affected, nor is a
        number set by --xla_force_host_platform_device_count.
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


def check_batch_size(key: str, batch_size: int, mesh: Mesh) -> None:
    """Raise UserError, naming the config's key, unless every device gets equally many examples."""
    if batch_size % mesh.size:
        raise UserError(
            f"config.{key} is {batch_size}: it is not divisible by the {mesh.size} devices: "
            f"use a multiple of {mesh.size}"
        )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Send this process' rows of a batch to its devices; returns the global arrays."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in batch.items()
    }


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """Copy a pytree of host arrays to every device."""
    return jax.device_put(tree, replicated(mesh))


def prefetch(
    batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Keep `ahead` batches on their way to the devices while the current one is used.

    Transfers are asynchronous, so looking ahead is all it takes; no thread is needed.
    """
    queue: list[dict[str, jax.Array]] = []
    for batch in batches:
        queue.append(put_batch(batch, mesh))
        if len(queue) > ahead:
            yield queue.pop(0)
    yield from queue


def close_stream(stream: Any) -> None:
    """End a stream of batches, if it has an end to its work to wait for."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
