"""Stops a run on SIGTERM or SIGHUP, as schedulers send before they take a machine away.

A run saves its state and ends. While it is inside a library, for instance compiling, Python cannot
react. Then the process ends without saving, and the next start goes on from the last checkpoint.
Several processes of a run stop at the same point, whichever of them gets the signal.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from pare_jax.io.progress import say
from pare_jax.sharding import close_stream

Item = TypeVar("Item")

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# Seconds in which Python must react; SLURM and Kubernetes kill the process 30 s after the signal.
_PATIENCE = 20.0
# Seconds after which `Stopped` is raised again, when the code that dropped it has ended.
_PAUSE = 0.1


class Stopped(BaseException):
    """The run was asked to stop; its text is the signal's name.

    Like KeyboardInterrupt it is no Exception, so that no handler of errors takes it.
    """


class StopRequest:
    """Turns signals into `Stopped`, at once or at the end of a `held` block."""

    def __init__(self) -> None:
        self._signal = ""
        self._holds = 0
        self._is_raised = False
        self._again: threading.Timer | None = None
        self.reacted = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay `Stopped` to the end of the block, which is not interrupted."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._raise_if_due()

    def point(self) -> None:
        """Mark a place where several processes can stop together; one alone stops anywhere."""

    def points_of(self, stream: Callable[[], Iterable[Item]]) -> Iterable[Item]:
        """Open a stream, and mark such a place before each item."""
        return stream()

    def receive(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal; later ones change nothing."""
        self.reacted.set()
        self._signal = self._signal or signal.Signals(number).name
        self._raise_if_due()

    def repeat(self) -> None:
        """Raise `Stopped` again soon, because Python has dropped it."""
        self._is_raised = False
        self.reacted.clear()
        main = threading.main_thread().ident
        self._again = threading.Timer(
            _PAUSE, signal.pthread_kill, (main, signal.Signals[self._signal])
        )
        self._again.daemon = True
        self._again.start()

    def end(self) -> None:
        """Send nothing more to this process."""
        if self._again is not None:
            self._again.cancel()
            self._again.join()

    def _raise_if_due(self) -> None:
        if self._signal and not self._holds and not self._is_raised:
            self._is_raised = True
            raise Stopped(self._signal)


class SharedStopRequest(StopRequest):
    """Raises `Stopped` in all processes of a run at the same point.

    JAX catches SIGTERM in any of them. Then they agree, without waiting for each other, on the next
    point that none of them has passed. All pass the same points in the same order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0

    def point(self) -> None:
        """Raise `Stopped` if this is the point to stop at."""
        self._passed += 1
        if multihost_utils.reached_preemption_sync_point(self._passed):
            raise Stopped(signal.SIGTERM.name)

    def points_of(self, stream: Callable[[], Iterable[Item]]) -> Iterable[Item]:
        """Open a stream, mark a point before each item, and close the stream at the end."""
        items = stream()
        try:
            for item in items:
                self.point()
                yield item
        finally:
            close_stream(items)

    def receive(self, number: int, _: FrameType | None = None) -> None:
        """Turn SIGHUP into the signal that JAX catches."""
        signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def on_signals(patience: float = _PATIENCE) -> Iterator[StopRequest]:
    """Raise `Stopped` in the block when the process is asked to stop.

    Signals that the process was started to ignore, as nohup does with SIGHUP, stay ignored. In
    another thread than the main one nothing changes.

    Args:
        patience: seconds in which Python must react; then the process ends with status 0.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    if jax.process_count() > 1:
        before = signal.getsignal(signal.SIGHUP)
        request = SharedStopRequest()
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, request.receive)
        try:
            yield request
        finally:
            signal.signal(signal.SIGHUP, before)
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    woken = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reads, request, patience), daemon=True)
    watcher.start()
    for number in caught:
        signal.signal(number, request.receive)
    try:
        with _dropped_is_repeated(request):
            yield request
    finally:
        for number in caught:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(woken)
        request.reacted.set()
        os.close(writes)  # ends the watcher
        watcher.join(patience)
        os.close(reads)


@contextlib.contextmanager
def _dropped_is_repeated(request: StopRequest) -> Iterator[None]:
    """Repeat a `Stopped` that Python drops: raised in `__del__` or in a callback from C."""
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if isinstance(dropped.exc_value, Stopped):
            request.repeat()
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        request.end()


def _watch(reads: int, request: StopRequest, patience: float) -> None:
    """End the process if it does not react to a signal; returns when the pipe is closed."""
    wanted = {int(number) for number in _SIGNALS}
    while received := os.read(reads, 64):
        if not wanted & set(received):
            continue
        if not request.reacted.wait(patience):
            name = signal.Signals(min(wanted & set(received))).name
            say(f"{name}: the run is busy and ends without saving; start it again", sys.stderr)
            sys.stderr.flush()
            os._exit(0)
