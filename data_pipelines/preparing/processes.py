"""Processes that share the cores: one thread each, and none that outlives its parent."""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from multiprocessing import connection
from pathlib import Path

import cv2

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _start_worker() -> None:
    """Make a new process a worker: OpenCV gets one thread, and the parent's end is its own.

    A parent that is killed cannot tell its children, which would wait for work for ever. Ctrl-C
    reaches them too, but it is the parent who answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def pool(workers: int) -> Iterator[futures.ProcessPoolExecutor]:
    """Start so many worker processes; what they have not begun is dropped at the end.

    An executor, since a `multiprocessing.Pool` waits for ever for a process that was killed.
    """
    with (
        _single_threaded_children(),
        futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        ) as executor,
    ):
        try:
            yield executor
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Let processes started within find one thread for their matrix products."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes from preparing the same dataset meanwhile; makes the folder.

    Whoever has to wait is told so on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line = f"another process is preparing a dataset in {folder}: waiting for it"
            print(line, file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
