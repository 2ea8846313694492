"""Knows which pages are open, the browser of each, and when a page is closed."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from pare_jax.demo.asgi import RequestRefused

# Pages that are open at the same time.
_MAX_VISITS = 32
# Connections that one page holds open: it needs two.
_MAX_STREAMS = 6
# A page without a connection may still come back, for instance after the computer was suspended.
_IDLE_SECONDS = 1800.0
# A page opens its connection within this time; one that does not can make room for another.
_OPENING_SECONDS = 60.0


@dataclasses.dataclass
class _Visit:
    browser: str
    used: float
    streams: int = 0


class Visits:
    """The open pages. Each belongs to the browser that used its name first.

    Names of visits are chosen by gradio in the browser. A browser is known by its cookie. All
    methods are called in the server's event loop.
    """

    def __init__(
        self,
        ended: Callable[[str], None] = lambda owner: None,
        most: int = _MAX_VISITS,
        idle: float = _IDLE_SECONDS,
    ):
        """Start without open pages.

        Args:
            ended: called with the name of a visit that ended, and with the name of a browser
                whose last visit ended.
            most: number of pages that may be open.
            idle: time after which an unused visit ends, seconds.
        """
        self._ended, self._most, self._idle = ended, most, idle
        self._visits: dict[str, _Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def browser(self, visit: str) -> str | None:
        """Return the browser of a visit; None if there is no such visit."""
        found = self._visits.get(visit)
        return found.browser if found else None

    def claim(self, visit: str, browser: str) -> None:
        """Begin a visit, or check that it belongs to the browser.

        Raises:
            RequestRefused: the visit is another browser's, or too many pages are open.
        """
        found = self._visits.get(visit)
        if found is None:
            self._make_room()
            found = self._visits[visit] = _Visit(browser, 0.0)
        if found.browser != browser:
            raise RequestRefused(403, "This page was opened by another browser: load it again.")
        found.used = time.monotonic()

    @contextlib.contextmanager
    def stream(self, visit: str, browser: str, ends_visit: bool) -> Iterator[None]:
        """Count an open connection of a visit.

        Args:
            visit: name of the visit.
            browser: name of the browser.
            ends_visit: the visit ends with this connection.

        Raises:
            RequestRefused: as `claim`, or the visit has too many connections.
        """
        self.claim(visit, browser)
        found = self._visits[visit]
        if found.streams >= _MAX_STREAMS:
            raise RequestRefused(429, "This page has too many connections: load it again.")
        found.streams += 1
        try:
            yield
        finally:
            found.streams -= 1
            if ends_visit and self._visits.get(visit) is found:
                self._end(visit)

    def _make_room(self) -> None:
        now = time.monotonic()
        waiting = [name for name, visit in self._visits.items() if not visit.streams]
        for name in waiting:
            if self._visits[name].used < now - self._idle:
                self._end(name)
        if len(self._visits) < self._most:
            return
        for name in waiting:
            if name in self._visits and self._visits[name].used < now - _OPENING_SECONDS:
                self._end(name)
                return
        raise RequestRefused(503, "Too many pages are open: close one and try again.")

    def _end(self, name: str) -> None:
        browser = self._visits.pop(name).browser
        self._ended(name)
        if all(visit.browser != browser for visit in self._visits.values()):
            self._ended(browser)
