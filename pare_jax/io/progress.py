"""Shows progress: a bar on a terminal, a line every ten seconds in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

from pare_jax.errors import counted
from pare_jax.io.files import printable

_Item = TypeVar("_Item")
# In a log file, at most one line in this time.
_SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """Counts finished items; a context manager that removes the bar at its end.

    On a terminal this is tqdm's bar. Elsewhere it prints a line with the count and the time left
    to stderr every ten seconds.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        unit: str = "",
        start: int = 0,
        lines: bool = True,
    ):
        """Start counting.

        Args:
            what: text before the bar.
            total: number of items; None if unknown.
            unit: what is counted, in the singular, for instance "person".
            start: number of items finished by an earlier run.
            lines: whether a log file gets lines; False for short work.
        """
        self._what, self._total, self._unit = printable(what), total, unit
        self._done, self._lines, self._live = start, lines, sys.stderr.isatty()
        self._began = self._last_line = time.monotonic()
        # The first item does not count for the speed: it includes compiling.
        self._mark: tuple[int, float] | None = None
        self._status_mark, self._paused = (start, self._began), 0.0
        known = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed} elapsed, {remaining} left"
        self._bar = tqdm(
            total=total,
            initial=start,
            desc=self._what,
            disable=not self._live,
            leave=False,
            dynamic_ncols=True,
            bar_format=known if total else "{desc} {n_fmt}, {elapsed} elapsed",
        )

    def advance(self, count: int = 1) -> None:
        """Count finished items."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._mark is None:
            self._mark = self._done, now
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES and self._done != self._total
        if self._live or not self._lines or not due:
            return
        self._last_line = now
        done, began = self._mark
        speed = max(self._done - done, 1) / max(now - began, 1e-9)
        if self._total:
            left = duration(max(self._total - self._done, 0) / speed)
            self._print(f"{self._done:,} of {self._count(self._total)}, {left} left")
        else:
            self._print(self._count(self._done))

    def status(self, text: str, batch_size: int) -> float:
        """Show text and speed beside the bar; without a terminal print them with the time left.

        Args:
            text: the text.
            batch_size: examples in each counted item.

        Returns:
            Examples a second since the last status, pauses excluded.
        """
        done, then = self._status_mark
        now = time.monotonic()
        speed = (self._done - done) / max(now - then - self._paused, 1e-9)
        self._status_mark, self._paused = (self._done, now), 0.0
        text = f"{text}  {speed * batch_size:.0f} ex/s"
        if self._live:
            self._bar.set_description_str(printable(text))
        else:
            left = (self._total or self._done) - self._done
            self.say(f"{text}  {duration(left / max(speed, 1e-9))} left")
        return speed * batch_size

    def pause(self, seconds: float) -> None:
        """Exclude this time from the speed of the next status."""
        self._paused += seconds

    def say(self, text: str, file: TextIO | None = None) -> None:
        """Print a line beside the bar, to stdout by default."""
        say(text, file)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._bar.close()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self, number: int) -> str:
        return counted(number, self._unit) if self._unit else f"{number:,}"

    def _print(self, text: str) -> None:
        say(f"{self._what}: {text}", sys.stderr)

    def summary(self) -> str:
        """Return the number of finished items, the time they took and the speed."""
        seconds = time.monotonic() - self._began
        speed = self._done / max(seconds, 1e-9)
        rate = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        return f"{self._what}: {self._count(self._done)} in {duration(seconds)} ({rate}/s)"


def with_progress(
    items: Iterable[_Item], total: int, what: str, unit: str = "person"
) -> Iterator[_Item]:
    """Yield `items`; show the count and the time left on stderr, and the speed at the end.

    Args:
        items: any iterable.
        total: number of items.
        what: text before the bar, for instance "synthetic/train".
        unit: what is counted, in the singular.

    Yields:
        The items.
    """
    with ProgressBar(what, total, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()
        summary = bar.summary()
    say(summary, sys.stderr)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line beside any bar on the terminal, to stdout by default.

    Args:
        text: may hold names from elsewhere, see `pare_jax.io.files.printable`. Letters that the
            terminal lacks are replaced.
        file: an open text file.
    """
    file = file or sys.stdout
    encoding = getattr(file, "encoding", None) or "utf-8"
    text = printable(text).encode(encoding, "replace").decode(encoding)
    if sys.stderr.isatty():
        tqdm.write(text, file=file)
    else:
        print(text, file=file, flush=True)


def duration(seconds: float) -> str:
    """Format seconds as M:SS or H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
