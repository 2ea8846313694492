"""Measures which share of a run's time the devices trained, and what took the rest.

A step is sent to the devices and returns at once, so that time in Python says little. A thread
waits for the result of each step instead, which gives the times in which the devices trained; the
loop never waits for it. The rest of the time counts for what the loop did then, for instance
evaluating.

The sums are kept over restarts in WORKDIR/goodput.json. Steps that are trained again after a kill
count as lost work.
"""

import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from pare_jax.errors import UserError
from pare_jax.io.files import read_json, write_atomically
from pare_jax.io.progress import duration

_FILE = "goodput.json"
_COMPILING = "/jax/core/compile/"  # beginning of the names of JAX's events
# Names in scalars, in the order of the line at the end, where spaces replace underscores.
ACTIVITIES = (
    "training",
    "starting",
    "compiling",
    "waiting_for_data",
    "evaluating",
    "saving",
    "other",
    "lost_by_restarts",
)


class Goodput:
    """The time of a run by activity, with that of its earlier starts."""

    def __init__(self, workdir: Path, clock: Callable[[], float] = time.perf_counter):
        """Start measuring; what the run does first is called "starting".

        Args:
            workdir: the run's folder.
            clock: returns seconds.
        """
        self._path, self._clock = workdir / _FILE, clock
        self._seconds: dict[str, float] = dict.fromkeys(ACTIVITIES, 0.0)
        self._steps = self._last = 0
        self._read()
        # Intervals (begin, end, activity) of Python and (begin, end) of steps, not yet added up.
        self._python: list[tuple[float, float, str]] = []
        self._devices: list[tuple[float, float]] = []
        self._activity, self._since, self._compiled = "starting", clock(), -math.inf
        self._lock, self._owner = threading.RLock(), threading.get_ident()
        self._sent: queue.SimpleQueue[tuple[float, Any] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._watch, name="goodput", daemon=True)
        self._thread.start()
        jax.monitoring.register_event_duration_secs_listener(self._event)

    def resume(self, step: int) -> None:
        """Take the steps after the checkpoint, which are trained again, for lost work."""
        lost = max(0, self._last - step)
        if lost and self._steps:
            seconds = self._seconds["training"] * min(1.0, lost / self._steps)
            self._seconds["training"] -= seconds
            self._seconds["lost_by_restarts"] += seconds
            self._steps = max(0, self._steps - lost)
        self._last = step

    @contextlib.contextmanager
    def spent(self, activity: str) -> Iterator[None]:
        """Count the time of the block for an activity, unless the devices train meanwhile."""
        before = self.turn_to(activity)
        try:
            yield
        finally:
            self.turn_to(before)

    def turn_to(self, activity: str) -> str:
        """Count the time from now on for an activity; return the one before."""
        with self._lock:
            now = self._clock()
            self._python.append((self._since, now, self._activity))
            before, self._activity, self._since = self._activity, activity, now
        return before

    def sent(self, began: float, result: Any) -> None:
        """Note a step that was sent to the devices.

        Args:
            began: `now()` before it was sent.
            result: an array of its outputs that no later step donates.
        """
        with self._lock:
            self._waiting += 1
            began = max(began, self._compiled)
        self._sent.put((began, result))

    def now(self) -> float:
        """Return the time of the clock, seconds."""
        return self._clock()

    def shares(self) -> dict[str, float]:
        """Return the share of the time of each activity that took any, 0 to 1."""
        seconds = self._add_up()
        total = sum(seconds.values()) or 1.0
        return {name: value / total for name, value in seconds.items() if value > 0}

    def line(self) -> str:
        """Return the total time and the shares, for the user."""
        shares = self.shares()
        parts = [
            f"{shares[name]:.1%} {name.replace('_', ' ')}"
            for name in ACTIVITIES
            if shares.get(name, 0) >= 0.0005
        ]
        return f"{duration(sum(self._seconds.values()))} in all: {', '.join(parts)}"

    def keep(self, step: int) -> None:
        """Write the sums to the workdir, with the last step that was trained."""
        seconds = self._add_up()
        self._steps += max(0, step - self._last)
        self._last = max(self._last, step)
        if jax.process_index():
            return
        kept = {"seconds": seconds, "steps": self._steps, "last_step": self._last}
        # While the disk is full, the sums stay in memory.
        with contextlib.suppress(UserError):
            write_atomically(self._path, (json.dumps(kept, indent=1) + "\n").encode())

    def __enter__(self) -> "Goodput":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError, AssertionError):  # somebody cleared all listeners
            jax.monitoring.unregister_event_duration_listener(self._event)
        self._sent.put(None)
        self._thread.join()

    def _read(self) -> None:
        """Read what earlier starts left; without a readable file all sums are 0."""
        with contextlib.suppress(
            OSError, UserError, ValueError, KeyError, TypeError, AttributeError
        ):
            kept = read_json(self._path)
            seconds = {name: float(kept["seconds"].get(name, 0)) for name in ACTIVITIES}
            steps, last = int(kept["steps"]), int(kept["last_step"])
            if all(0 <= value < math.inf for value in seconds.values()):
                self._seconds, self._steps, self._last = seconds, steps, last

    def _event(self, event: str, duration_secs: float, **_: object) -> None:
        """Count the time that JAX took to trace and compile, which ends now."""
        if not event.startswith(_COMPILING) or threading.get_ident() != self._owner:
            return
        with self._lock:
            self.turn_to(self._activity)
            end = self._since
            begin, kept = end - duration_secs, []
            for left, right, activity in self._python:
                if left < begin:
                    kept.append((left, min(right, begin), activity))
                if right > begin:
                    kept.append((max(left, begin), right, "compiling"))
            self._python, self._compiled = kept, end

    def _watch(self) -> None:
        """Wait for each step, in the order in which they were sent."""
        finished = -math.inf
        while (one := self._sent.get()) is not None:
            began, result = one
            with contextlib.suppress(Exception):  # the loop meets the same error
                jax.block_until_ready(result)
            begin, finished = max(began, finished), self._clock()
            del one, result
            with self._lock:
                self._devices.append((begin, finished))
                self._waiting -= 1

    def _add_up(self) -> dict[str, float]:
        """Add up what is past, and return the seconds of each activity."""
        with self._lock:
            self.turn_to(self._activity)
            # While steps are unfinished, it is open what the time since the last one belongs to.
            until = self._since
            if self._waiting:
                until = self._devices[-1][1] if self._devices else -math.inf
            past = [(left, min(right, until), name) for left, right, name in self._python]
            step = 0
            for left, right, name in past:
                busy = 0.0
                # A step may cover several intervals, and an interval several steps.
                while step < len(self._devices) and self._devices[step][0] < right:
                    begin, end = self._devices[step]
                    busy += max(0.0, min(right, end) - max(left, begin))
                    if end > right:
                        break
                    step += 1
                self._seconds["training"] += busy
                self._seconds[name] += max(0.0, right - left) - busy
            self._python = [
                (max(left, until), right, name)
                for left, right, name in self._python
                if right > until
            ]
            self._devices = []
            return dict(self._seconds)
