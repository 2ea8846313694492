"""Runs worker processes of one thread each, which end with their parent."""

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

from pare_jax.io.progress import say

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _start_worker() -> None:
    """Initialise a worker: one thread for OpenCV, and an end when the parent ends.

    A killed parent cannot stop its workers, which would wait for work for ever. Workers ignore
    Ctrl-C, which the parent handles.
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
    """Start worker processes; at the end, work that has not begun is cancelled.

    This is an executor because a `multiprocessing.Pool` waits for ever for a killed process.
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
    """Limit matrix products to one thread in the processes started within."""
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
    """Lock a dataset's folder, which is created; a process that must wait says so on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line = f"another process is preparing a dataset in {folder}; waiting for it"
            say(line, sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
