"""Applies a function in threads, in order and with bounded memory."""

import collections
import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, TypeVar

import cv2

from pare_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


class ThreadPool(ThreadPoolExecutor):
    """A pool of threads whose `shutdown` Ctrl-C may interrupt.

    `Thread.join`, interrupted, takes a running thread for ended. Python then ends without it and
    aborts the process where the thread is in C++ code, as OpenCV's is. So `shutdown` waits for
    the results instead. A thread may live a little longer, and Python joins it when Python ends.
    """

    def __init__(self, workers: int):
        super().__init__(workers)
        self._waiting: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> "Future[Result]":
        """Call `fn` in a thread; return its future result."""
        future = super().submit(fn, *args, **kwargs)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and by default wait for those that were submitted.

        If an exception interrupts it, calls that have not begun are cancelled.
        """
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        if not wait:
            return
        try:
            wait_for(list(self._waiting))
        except BaseException:
            for future in list(self._waiting):
                future.cancel()
            raise


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """Apply a function to items in threads; yield the results in the items' order.

    Items are taken in the caller's thread, at most a few ahead of the results.

    Args:
        function: faster in threads only if it releases the interpreter lock.
        items: any iterable.
        workers: number of threads; by default one for each core, at least two.

    Yields:
        Results. An exception of the function is raised in place of its item's result.
    """
    workers = workers or max(2, len(os.sched_getaffinity(0)))
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPool(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def errors_as_user_errors() -> Iterator[None]:
    """Turn a MemoryError or an error of OpenCV into a UserError, so that one input fails alone.

    Raises:
        UserError: in place of the other error.
    """
    try:
        yield
    except MemoryError as error:
        reason = str(error) or "not enough memory"
        raise UserError(f"cannot be processed: {reason}") from None
    except cv2.error as error:
        raise UserError(f"cannot be processed: {' '.join(str(error).split())}") from None
