"""Train the tiny experiment for 10,000 steps, and print what grows: memory, handles, files.

    python scripts/measure_long_run.py [--steps=10000] [--rows=10]

It is the whole of a run: input pipeline, evaluations, pictures, checkpoints, TensorBoard. Prints a
row after every tenth: resident memory, memory in use (given out by `malloc`), blocks of Python's
objects, open file handles and threads of the process, sizes of TensorBoard's files, number of
checkpoints. Memory of the first rows holds what is made once. If resident memory grows and memory
in use does not, glibc keeps free memory: MALLOC_ARENA_MAX=1 in the environment makes it keep less.
"""

import argparse
import ctypes
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class _MallocInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2  # of glibc 2.33 and later
_mallinfo2.restype = _MallocInfo


class Observer:
    """A writer of events that measures the process at some steps."""

    def __init__(self, writer: Any, workdir: Path, every: int):
        self._writer, self._workdir, self._every = writer, workdir, every
        self._seen, self._began = 0, time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write scalars; print a row if one is due."""
        self._writer.write_scalars(step, scalars)
        if step % self._every or step == self._seen:
            return
        self._seen = step
        events = [path.stat().st_size for path in self._workdir.glob("events.out.tfevents.*")]
        cells = (
            f"{step:,}",
            f"{resident_memory() / 2**20:.0f}",
            f"{memory_in_use() / 2**20:.0f}",
            f"{sys.getallocatedblocks():,}",
            str(len(os.listdir("/proc/self/fd"))),
            str(threading.active_count()),
            str(len(os.listdir("/proc/self/task"))),
            f"{sum(events) / 2**20:.1f}",
            str(sum(path.name.isdecimal() for path in self._workdir.glob("checkpoints/*"))),
            f"{time.monotonic() - self._began:.0f}",
        )
        print(f"| {' | '.join(cells)} |", file=sys.__stdout__, flush=True)


def resident_memory() -> int:
    """Return the resident memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory_in_use() -> int:
    """Return the bytes that glibc's `malloc` has given out and not got back (`mallinfo2`)."""
    info = _mallinfo2()
    return info.uordblks + info.hblkhd


def main(arguments: Sequence[str]) -> int:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10)
    given = parser.parse_args(arguments)

    from configs.tiny import get_config
    from data_pipelines import datasets
    from data_pipelines.event_writer import tensorboard_writer
    from pare_jax.io import command_line
    from pare_jax.training.train import train

    command_line.quieten_libraries()
    every = given.steps // given.rows
    config = get_config()
    config.num_steps = given.steps
    config.log_every_steps = max(1, every // 20)
    config.checkpoint.every_steps = max(1, every // 10)
    per_epoch = config.data.synthetic.train / config.batch_size
    config.eval.every_epochs = every / 5 / per_epoch
    head = ("step", "memory, MiB", "in use, MiB", "Python blocks", "handles", "Python threads")
    head = (*head, "threads", "events, MiB", "checkpoints", "seconds")
    print(f"| {' | '.join(head)} |\n|{' ---: |' * len(head)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        workdir = Path(folder) / "run"
        config.data.root = str(Path(folder) / "data")
        sys.stdout = nowhere  # of the run's own lines
        try:
            train(
                config,
                workdir,
                lambda: datasets.load(config, workdir),
                lambda: Observer(tensorboard_writer(workdir), workdir, every),
            )
        finally:
            sys.stdout = sys.__stdout__
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
