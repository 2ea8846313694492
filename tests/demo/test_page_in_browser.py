"""The page in headless Chromium, served by the command with a predictor that answers at once."""

import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from pare_jax.io.images import encode_png
from pare_jax.skeleton import JOINT_NAMES
from tests.browser import CHROMIUM, chromium

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is missing"),
]
ROOT = Path(__file__).parents[2]
FILE_INPUT = "#picture input[type=file]"
OVERLAY = "#shown img.overlay"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page's address, and the folder that holds the server's temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.demo.fakes", "--checkpoint=fake", "--port=0"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("the page is at http://127.0.0.1:"), line
        yield line.split()[4], temporary
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        # Nothing is left of what was uploaded, nor of what gradio makes when it is imported.
        left = [path.name for path in temporary.iterdir()]
        assert not [name for name in left if name.startswith("pare-jax-demo-") or name == "gradio"]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def page(server):
    with chromium() as browser:
        browser.size(1400, 900)
        browser.visit(server[0])
        # The examples come last; then what is done to the page is heard.
        browser.wait("document.querySelector('#examples img')?.complete", 60)
        choose_way(browser, 2)
        yield browser
        # The browser may ask for an upload, which it shows until the answer comes, too late.
        gone = "Failed to load resource"
        assert [said for said in browser.complaints if not said.startswith(gone)] == []
        others = [
            url for url in browser.requests if not url.startswith((server[0], "data:", "blob:"))
        ]
        assert others == []


def choose_way(page, number):
    """Choose where people are: 1 the detector, 2 the whole picture, 3 boxes."""
    selector = f"#how label:nth-of-type({number}) input"
    until(page, selector, f"document.querySelector({json.dumps(selector)}).checked")


def until(page, selector, expression):
    """Click until it has worked: a page that is still being built does not hear."""
    end = time.monotonic() + 60
    while True:
        page.click(selector)
        stop = time.monotonic() + 3
        while time.monotonic() < stop:
            if page.evaluate(expression):
                return
            time.sleep(0.05)
        assert time.monotonic() < end, f"never true: {expression}"


def upload(page, path, says):
    page.wait(f"document.querySelector({json.dumps(FILE_INPUT)}) !== null")
    page.choose_file(FILE_INPUT, path)
    said = "document.querySelector('#message p')?.textContent"
    page.wait(f"({said} ?? '').includes({json.dumps(says)})", 60)


def open_joints(page):
    """Open the table of joints, where somebody has been found."""
    opened = "document.querySelector('#joints .scroll')?.getBoundingClientRect().height > 0"
    if not page.evaluate(opened):
        until(page, "#joints button", opened)


def picture_file(folder, name):
    path = folder / name
    path.write_bytes(encode_png(np.full((300, 400, 3), 90, np.uint8)))
    return path


def uploads_left(server):
    return [
        path.name
        for path in server[1].rglob("*")
        if path.is_file() and path.suffix != ".glb" and not path.name.startswith("example_")
    ]


def test_an_uploaded_picture_is_shown_with_its_person_and_not_kept(page, server, tmp_path):
    upload(page, picture_file(tmp_path, "me.png"), "One person found in 'me.png'")
    page.wait(f"document.querySelector('{OVERLAY}').naturalWidth === 400")
    pixels = page.picture(OVERLAY).astype(int)
    assert (pixels[..., 2] - pixels[..., 0] > 40).mean() > 0.02  # a blue body on grey
    assert uploads_left(server) == []
    # And there is room for the next one.
    page.wait(f"document.querySelector('{FILE_INPUT}') !== null")

    links = "[...document.querySelectorAll('#downloads a')].map(a => a.download)"
    assert page.evaluate(links) == ["people.npz", "people.json", "people.glb"]
    open_joints(page)
    page.wait(f"document.querySelectorAll('#joints tbody tr').length === {len(JOINT_NAMES)}")


def test_the_body_is_seen_in_3d(page, tmp_path):
    upload(page, picture_file(tmp_path, "body.png"), "'body.png'")
    page.wait("document.querySelector('#body canvas') !== null", 60)
    end = time.monotonic() + 60
    while True:
        pixels = page.picture("#body canvas").astype(int)
        body = pixels[..., 2] - pixels[..., 0] > 40
        if body.mean() > 0.02:
            break
        assert time.monotonic() < end, "no body is drawn"
        time.sleep(0.3)
    # Arms sideways and upright, the whole of it.
    rows, columns = np.nonzero(body)
    assert rows.min() > 0
    assert rows.max() < len(body) - 1
    arms = np.ptp(columns)
    assert arms > 0.7 * np.ptp(rows)
    assert rows[columns < columns.min() + 0.05 * arms].mean() < rows.min() + 0.4 * np.ptp(rows)


def test_another_joints_attention_comes_without_predicting_again(page, tmp_path):
    upload(page, picture_file(tmp_path, "joint.png"), "'joint.png'")
    page.wait("document.querySelector('#attention img')?.alt.includes('left wrist')")
    overlay = f"document.querySelector('{OVERLAY}').src"
    before = page.evaluate(
        f"window.before = {overlay}; document.querySelector('#attention img').src"
    )
    open_list = "[...document.querySelectorAll('#joint [role=option]')]"
    until(page, "#joint input", f"{open_list}.length === {len(JOINT_NAMES)}")
    page.evaluate(
        f"{open_list}.find(e => e.textContent.includes('right knee'))"
        ".dispatchEvent(new MouseEvent('mousedown', {bubbles: true}))"
    )
    page.wait("document.querySelector('#attention img').alt.includes('right knee')")
    assert page.evaluate("document.querySelector('#attention img').src") != before
    assert page.evaluate(f"{overlay} === window.before")


def test_one_of_several_people_can_be_chosen(page):
    until(
        page,
        "#examples .gallery-item:nth-child(3)",
        "document.querySelectorAll('#who label').length === 2",
    )
    page.wait("document.querySelector('#boxes textarea')?.value.split('\\n').length === 2")
    open_joints(page)
    table = "document.querySelector('#joints tbody').textContent"
    page.evaluate(f"window.before = {table}")
    until(page, "#who label:nth-of-type(2) input", f"{table} !== window.before")
    choose_way(page, 2)


def test_what_is_no_picture_is_said_on_the_page(page, server, tmp_path):
    path = tmp_path / "cv.jpg"
    path.write_text("Dear Sir or Madam")
    upload(page, path, "'cv.jpg' is not an image")
    assert page.evaluate("document.querySelector('#message [role=alert]') !== null")
    assert page.evaluate(f"document.querySelector('{OVERLAY}') === null")
    assert uploads_left(server) == []


def test_nobody_found_is_said_on_the_page(page, tmp_path):
    choose_way(page, 1)
    upload(page, picture_file(tmp_path, "empty.png"), "Nobody was found")
    choose_way(page, 2)


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_needs_no_sideways_scrolling(page, tmp_path, width):
    upload(page, picture_file(tmp_path, f"wide_{width}.png"), f"wide_{width}.png")
    page.size(width, 844)
    open_joints(page)
    page.evaluate("new Promise(done => setTimeout(done, 300))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.size(1400, 900)


def test_columns_stay_where_they_are_when_somebody_is_shown(server, tmp_path):
    with chromium() as browser:
        browser.size(1280, 900)
        browser.visit(server[0])
        browser.wait("document.querySelector('#examples img')?.complete", 60)
        place = (
            "(e => [e.left, e.width])(document.querySelector('#picture').getBoundingClientRect())"
        )
        before = browser.evaluate(place)
        choose_way(browser, 2)
        upload(browser, picture_file(tmp_path, "stay.png"), "'stay.png'")
        browser.wait(f"document.querySelector('{OVERLAY}') !== null")
        browser.wait("document.querySelector('#joints button') !== null")
        assert browser.evaluate(place) == before


def test_on_a_phone_the_answer_is_brought_into_view_and_the_joints_fit(server, tmp_path):
    with chromium() as browser:
        browser.size(390, 844, mobile=True)
        browser.visit(server[0])
        browser.wait("document.querySelector('#examples img')?.complete", 60)
        choose_way(browser, 2)
        browser.evaluate("scrollTo(0, 0)")
        upload(browser, picture_file(tmp_path, "phone.png"), "'phone.png'")
        top = "document.querySelector('#message').getBoundingClientRect().top"
        browser.wait(f"{top} >= -1 && {top} < 300")
        browser.wait("document.querySelector('#joints button') !== null")
        open_joints(browser)
        table = "document.querySelector('#joints .scroll')"
        assert browser.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")


def test_a_missing_camera_is_said(server):
    with chromium() as browser:
        browser.visit(server[0])
        browser.wait("document.querySelector('#examples img')?.complete", 60)
        said = "(document.querySelector('#no-camera')?.textContent ?? '')"
        until(
            browser,
            "#picture button[aria-label='Capture from camera']",
            "document.querySelector('#picture').innerText.includes('Access')",
        )
        browser.evaluate(
            "[...document.querySelectorAll('#picture *')]"
            ".findLast(e => e.textContent.includes('Access')).click()"
        )
        browser.wait(f"{said} !== ''")
        assert "No camera was found" in browser.evaluate(said)
        assert browser.evaluate("document.querySelector('#no-camera').role") == "alert"
        # It goes with the next thing that is done there.
        until(browser, "#picture button[aria-label='Upload file']", f"{said} === ''")


def test_the_server_gives_out_no_other_files(server):
    address = urlsplit(server[0])
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml"), str(Path.cwd())):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        connection.request("GET", f"/gradio_api/file={path}")
        assert connection.getresponse().status in (403, 404)
        connection.close()
