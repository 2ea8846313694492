"""Connects the processes of a run: starting, waiting, writing by the first, stopping.

Every process runs the same program on its own devices (`jax.distributed`) and reads its own rows of
each batch. The first process prints and writes files; checkpoints are written by all. The workdir
is on a disk that all processes share.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from pare_jax import sharding
from pare_jax.errors import UserError
from pare_jax.io.command_line import INTERRUPTED, WRONG, complain
from pare_jax.io.progress import say

# A process that was not heard of for so many seconds is dead; then the others end.
HEARTBEAT_SECONDS = 40
# Processes wait this long for the others at the start; at the end, for the last checkpoint.
_START_SECONDS = 300
_END_SECONDS = 60
# The first process may prepare data while the others wait.
_PATIENCE_SECONDS = 24 * 3600
_barriers = itertools.count()


class RefusedByAllError(UserError):
    """A mistake of the user that all processes report, and after which they end together."""


def start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> bool:
    """Connect the processes of a run; call this before JAX is used.

    Without arguments, processes that SLURM, Open MPI, an indexed Kubernetes job or a TPU pod
    started find each other (`jax.distributed.initialize`).

    Args:
        coordinator: HOST:PORT of the first process.
        num_processes: number of processes; 1 alone: do not look for others.
        process_id: number of this process, 0 for the first.

    Returns:
        Whether the run may have several processes.

    Raises:
        UserError: arguments are missing or impossible, or the processes do not find each other.
    """
    if num_processes == 1 and coordinator is None:
        return False
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(f"{missing[0]} is missing: give all of {', '.join(given)}, or none")
    if missing and not _is_started_by_a_launcher():
        return False
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator is {coordinator!r}: give HOST:PORT of the first process")
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_END_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the processes of this run do not find each other ({reason}): see docs/scaling.md, or "
            "give --num_processes=1 to run alone"
        ) from error
    return True


def _is_started_by_a_launcher() -> bool:
    """Return whether this may be one of several processes that JAX can detect."""
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if int(os.environ.get(variable) or 1) > 1:
            return True
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= os.environ.keys():
        return True
    # Of a TPU's host, which asks its pod for the others.
    has_chips = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return has_chips and importlib.util.find_spec("libtpu") is not None


def count() -> int:
    """Return the number of processes of this run."""
    return jax.process_count()


def is_first() -> bool:
    """Return whether this process prints and writes files."""
    return jax.process_index() == 0


def wait(what: str) -> None:
    """Wait until all processes call this.

    Unlike collectives of devices, which give up after 30 s on CPUs, it waits for a day.

    Args:
        what: what they wait for, for messages of JAX.
    """
    everybody = set(range(jax.process_count()))
    if len(everybody) > 1:
        name = f"{what} {next(_barriers)}"
        ocp.multihost.sync_global_processes(name, timeout=_PATIENCE_SECONDS, processes=everybody)


def connect_devices(mesh: Mesh) -> None:
    """Let the devices of all processes find each other.

    On CPUs this must take less than 30 s. At the first step it takes longer if one process compiles
    longer than another; afterwards they may wait for each other as long as they like.
    """
    if mesh.is_multi_process:
        wait("the devices")
        local = np.zeros(jax.local_device_count(), np.float32)
        rows = sharding.put_batch({"zeros": local}, mesh)["zeros"]
        jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(rows).block_until_ready()
        multihost_utils.sync_global_devices("the devices")


@contextlib.contextmanager
def first_goes_ahead(what: str) -> Iterator[None]:
    """Run the block in the first process, then in the others, which find what it has made.

    Raises:
        RefusedByAllError: of several processes the first raised UserError in the block. All raise
            this, and the others do not run the block.
    """
    if not is_first():
        wait(what)
        _share_refusal("")
        yield
        return
    try:
        yield
    except UserError as error:
        if count() > 1:
            wait(what)
            _share_refusal(str(error))
        raise
    wait(what)
    _share_refusal("")


def _share_refusal(own: str) -> None:
    """Raise the refusal of the first process in all, unless it is empty."""
    if refusal := _gather(own)[0]:
        raise RefusedByAllError(refusal)


def all_agree(holds: bool) -> bool:
    """Return whether something holds in all processes."""
    if jax.process_count() == 1:
        return holds
    return bool(np.all(multihost_utils.process_allgather(np.array(holds))))


def union(numbers: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
    """Unite the sets of numbers that the processes have by name; all call this together."""
    own = {name: sorted(each) for name, each in numbers.items()}
    merged: dict[str, set[int]] = {}
    for one in _gather(own):
        for name, each in one.items():
            merged.setdefault(name, set()).update(each)
    return merged


def _gather(value: Any) -> list[Any]:
    """Return the values of all processes, which JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.array(content.size)))
    room = 1 << int(lengths.max()).bit_length()  # a program is compiled for each size
    rows = multihost_utils.process_allgather(np.pad(content, (0, room - content.size)))
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def failing_at_once(interrupted: str = "interrupted") -> Iterator[None]:
    """End this process at once if the block fails, because others wait for it in their next step.

    They end when they miss its heartbeat. But if a step itself fails, another process may have
    died. Then this one waits for JAX, which names it and ends all. After
    RefusedByAllError no process waits in a step, and JAX ends them together.

    Args:
        interrupted: the line on stderr after Ctrl-C, which ends this process with status 130.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, RefusedByAllError):
        raise
    except KeyboardInterrupt:
        say(interrupted, sys.stderr)
        _exit(INTERRUPTED)
    except UserError as error:
        complain(error)
        _exit(WRONG)
    except Exception:
        traceback.print_exc()
        _exit(1)


def _exit(status: int) -> None:
    sys.stderr.flush()
    os._exit(status)
