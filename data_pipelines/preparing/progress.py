"""How far a long preparation is: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from pare_jax.io.progress import duration

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES = 10.0


def with_progress(
    items: Iterable[_Item], total: int, what: str, unit: str = "people"
) -> Iterator[_Item]:
    """Yield `items` and tell on stderr how many are done and how long the others will take.

    Args:
        items: what is being made.
        total: how many there will be.
        what: what they are called, for instance "synthetic/train".
        unit: what one counts, in the plural.

    Yields:
        The items.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", leave=True)
        return
    start = shown = time.monotonic()
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES and count < total:
            shown = now
            speed = count / (now - start)
            left = (total - count) / speed
            _say(f"{what}: {count:,} of {total:,} {unit} ({_rate(speed)}/s, {duration(left)} left)")
    elapsed = time.monotonic() - start
    unit = _one(unit) if count == 1 else unit
    speed = _rate(count / max(elapsed, 1e-9))
    _say(f"{what}: {count:,} {unit} in {duration(elapsed)} ({speed}/s)")


def _one(unit: str) -> str:
    return "person" if unit == "people" else unit.removesuffix("s")


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
