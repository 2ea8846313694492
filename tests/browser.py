"""Headless Chromium for tests, driven by Playwright: start it, open pages, read their pixels."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

try:
    from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
except ImportError:
    expect = sync_playwright = None

_COMMANDS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    # Containers have a small /dev/shm.
    "--disable-dev-shm-usage",
    # WebGL without a graphics card.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
# Milliseconds that a page may take for anything; generous, for machines that are busy.
_PATIENCE = 60_000
# Playwright does not limit the time of a script, and a window that is not shown draws no frames.
_TWO_FRAMES = """patience => new Promise(done => {
    requestAnimationFrame(() => requestAnimationFrame(done));
    setTimeout(done, patience);
})"""
_STEADY_LAYOUT = """patience => new Promise((done, fail) => {
    setTimeout(() => fail(new Error('the layout does not come to rest')), patience);
    let last = '', same = 0;
    const look = () => {
        const {scrollWidth, scrollHeight} = document.documentElement;
        const now = `${scrollWidth} ${scrollHeight}`;
        same = now === last ? same + 1 : 0;
        last = now;
        same < 10 ? requestAnimationFrame(look) : done();
    };
    look();
})"""


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """Start the Chromium that is installed, and end it.

    Without Chromium or Playwright the test is skipped; it fails if the environment variable CI is
    set. While the browser runs, nothing else in this thread can run an asyncio loop, so keep it for
    one test module at most.
    """
    path = next(filter(None, map(shutil.which, _COMMANDS)), None)
    missing = [] if path else ["Chromium"]
    missing += [] if sync_playwright else ["Playwright"]
    if missing:
        report = pytest.fail if os.environ.get("CI") else pytest.skip
        report(f"not installed: {' and '.join(missing)}")
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(
    browser: "Browser", address: str, width: int, height: int, ignored: str | None = None, **options
) -> Iterator[tuple["Page", list[str]]]:
    """Open a page in a window of its own; check at the end that no errors were reported.

    Errors are uncaught exceptions and what the browser reports, such as failed requests; not what
    a script writes to the console.

    Args:
        browser: from `chromium`.
        address: URL of the page.
        width: of the window, CSS pixels.
        height: of the window, CSS pixels.
        ignored: start of reports that are no errors.
        options: of the window, as Playwright's `Browser.new_page` takes them.

    Yields:
        The page, and the list of URLs it requests, which grows.
    """
    errors: list[str] = []
    requests: list[str] = []

    def log(message: Any) -> None:
        # Only scripts pass arguments.
        if message.type == "error" and not message.args:
            errors.append(message.text)

    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    page.set_default_timeout(_PATIENCE)
    page.on("console", log)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.goto(address)
        yield page, requests
    finally:
        page.close()
    errors = [error for error in errors if not (ignored and error.startswith(ignored))]
    assert not errors, errors


def wait_for_layout(page: "Page") -> None:
    """Wait until the page's size has not changed for ten frames."""
    page.evaluate(_STEADY_LAYOUT, _PATIENCE)


def pixels_of(element: "Locator") -> np.ndarray:
    """Return how an element looks, (height, width, 3) RGB, after scrolling to it."""
    element.scroll_into_view_if_needed()
    # So that pending changes are drawn.
    element.page.evaluate(_TWO_FRAMES, _PATIENCE)
    decoded = cv2.imdecode(np.frombuffer(element.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[..., ::-1])
