"""Runs worker processes of one thread each, which end with their parent.

A worker imports the caller's script again. A script that calls this project outside of
`if __name__ == "__main__":` would start its work once more in every worker; `obstacle` finds it.
"""

import ast
import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

from pare_jax.errors import UserError
from pare_jax.io.progress import say

# Seconds between two looks at the workers, and those in which Python's pool itself finds that one
# was killed.
_INTERVAL, _PATIENCE = 1, 5
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


def obstacle(*work: object) -> str:
    """Return why worker processes cannot do work for this caller; "" if they can.

    Args:
        work: objects that the workers would get.

    Returns:
        The end of a sentence, with advice, for instance "NAME.py calls it outside of ...".
    """
    main = sys.modules["__main__"]
    script = _imported_again(main)
    if script is not None and not os.path.isfile(script):
        return f"a worker cannot import {script}: put the script into a file"
    own = [type(one).__name__ for one in work if type(one).__module__ == "__main__"]
    if script is None and own:
        return f"a worker cannot import {own[0]}: put that class into a file of its own"
    if script is not None and _calls_without_guard():
        return (
            f"{os.path.basename(script)} calls it outside of "
            '`if __name__ == "__main__":`, and each worker imports that file: put the call there'
        )
    return ""


def _imported_again(main: object) -> str | None:
    """Return the file that a spawned process imports in place of the main module, if any."""
    spec = getattr(main, "__spec__", None)
    # The main modules of packages (`python -m PACKAGE`) are never imported again.
    if spec is not None and spec.name.split(".")[-1] == "__main__":
        return None
    return getattr(main, "__file__", None)


def _calls_without_guard() -> bool:
    """Return whether importing the main module again would repeat the present call."""
    frame = _main_frame()
    if frame is None:
        return False
    try:
        tree = ast.parse(Path(frame.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return not any(
        isinstance(node, ast.If) and _asks_for_main(node.test) and _holds(node.body, frame.f_lineno)
        for node in ast.walk(tree)
    )


def _asks_for_main(test: ast.expr) -> bool:
    """Return whether a condition compares `__name__` with "__main__"."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
            sides = [node.left, *node.comparators]
            names = [side.id for side in sides if isinstance(side, ast.Name)]
            values = [side.value for side in sides if isinstance(side, ast.Constant)]
            if "__name__" in names and "__main__" in values:
                return True
    return False


def _holds(body: list[ast.stmt], line: int) -> bool:
    return body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _main_frame() -> FrameType | None:
    """Return the frame that runs the top level of the main module, if it still runs."""
    # Of the main thread, which may wait for the present one.
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name == "__main__" and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None


def _refuse_in_import() -> None:
    """Raise UserError in a worker that repeats its parent's work while it imports the script."""
    # multiprocessing itself refuses to start processes by this attribute.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        script = getattr(sys.modules.get("__mp_main__"), "__file__", "the script")
        raise UserError(
            f"{script} starts its work again in a worker process: put the call under "
            '`if __name__ == "__main__":`'
        )


@contextlib.contextmanager
def pool(workers: int) -> Iterator[futures.ProcessPoolExecutor]:
    """Start worker processes; at the end, work that has not begun is cancelled.

    Yields:
        The executor, whose futures raise BrokenProcessPool after a worker was killed. A
        `multiprocessing.Pool` would wait for ever.
    """
    with (
        _single_threaded_children(),
        futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        ) as executor,
        _ends_cut_answers(executor),
    ):
        try:
            yield executor
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _ends_cut_answers(executor: futures.ProcessPoolExecutor) -> Iterator[None]:
    """Break an executor that waits for the rest of an answer whose sender was killed.

    The executor reads answers from one pipe, which other workers and this process hold open, too.
    """
    workers, answers = executor._processes, executor._result_queue
    over = threading.Event()

    def watch() -> None:
        manager: Any = None
        while not over.wait(_INTERVAL):
            manager = executor._executor_manager_thread or manager
            if not connection.wait([one.sentinel for one in list(workers.values())], timeout=0):
                continue
            # At the end workers leave, when the manager, which cancels work, has none pending.
            if over.wait(_PATIENCE) or not manager.pending_work_items:
                continue
            _break(executor, list(workers.values()), answers)
            return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _break(executor: Any, workers: Sequence[Any], answers: Any) -> None:
    with executor._shutdown_lock:  # so that no worker is started meanwhile
        executor._broken = "a worker was killed while it answered"
        for one in workers:
            one.kill()
        answers._writer.close()


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
    """Lock a dataset's folder, which is created; a process that must wait prints a line.

    Raises:
        UserError: a worker imports its parent's script, which has locked the folder.
    """
    _refuse_in_import()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line = f"another process is preparing a dataset in {folder}; waiting for it"
            say(line, sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
