"""Where arrays live: one mesh whose `data` axis splits batches, everything else replicated.

The jitted step is one program for 1 or N devices. Because it sees global arrays, batch statistics
and losses are those of the global batch, and the numbers do not depend on the number of devices.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pare_jax.errors import UserError

DATA_AXIS = "data"


def make_mesh() -> Mesh:
    """Put all devices of all processes on the `data` axis."""
    return Mesh(np.array(jax.devices()), (DATA_AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of batches: the leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise UserError unless every device can be given the same number of examples."""
    if batch_size % mesh.size:
        raise UserError(
            f"batch_size {batch_size} is not divisible by the {mesh.size} devices: "
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
