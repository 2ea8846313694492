"""Work on a stream of items in several threads, in order and with bounded memory."""

import collections
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

from pare_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Apply a function in threads while the caller takes the results, in the items' order.

    Items are taken, in the caller's thread, only a few ahead of the results.

    Args:
        function: must let go of the interpreter lock to gain anything.
        items: any stream.
        workers: threads; None: one for each core, at least two.

    Yields:
        Results; an exception of the function is raised in its item's turn.
    """
    workers = workers or max(2, len(os.sched_getaffinity(0)))
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
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
def said_plainly() -> Iterator[None]:
    """Let one picture or clip that is too much for the machine or for OpenCV not stop the others.

    Raises:
        UserError: in place of a MemoryError or an error of OpenCV.
    """
    try:
        yield
    except MemoryError as error:
        reason = str(error) or "there is not enough memory"
        raise UserError(f"cannot be worked on: {reason}") from None
    except cv2.error as error:
        raise UserError(f"cannot be worked on: {' '.join(str(error).split())}") from None
