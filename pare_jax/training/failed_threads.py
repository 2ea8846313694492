"""Silences the tracebacks of Orbax's threads after a failure that is reported already."""

import logging
import sys
import threading
from typing import Any


def silence_failed_threads() -> None:
    """Silence the tracebacks of reads and writes that still run after another one has failed.

    They report to an event loop that ended with the failure, in threads of the storage library,
    where no caller can catch the exception. The failure itself is reported by `Checkpoints`.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("absl").addFilter(_is_not_orbax)
    if getattr(sys.excepthook, "is_ours", False):
        return
    usual, usual_ignored, usual_thread = sys.excepthook, sys.unraisablehook, threading.excepthook

    def hook(kind: Any, error: Any, trace: Any) -> None:
        if not _is_of_closed_loop(error):
            usual(kind, error, trace)

    def ignored_hook(unraisable: Any) -> None:
        if not _is_of_closed_loop(unraisable.exc_value):
            usual_ignored(unraisable)

    def thread_hook(failed: Any) -> None:
        if not type(failed.thread).__module__.startswith("orbax."):
            usual_thread(failed)

    hook.is_ours = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.excepthook, sys.unraisablehook, threading.excepthook = hook, ignored_hook, thread_hook


def _is_of_closed_loop(error: Any) -> bool:
    return isinstance(error, RuntimeError) and "Event loop is closed" in str(error)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
