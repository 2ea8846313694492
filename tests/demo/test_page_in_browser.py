"""The demo page in headless Chromium, served by its command with a predictor without a network."""

import contextlib
import functools
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pare_jax.io.images import encode_png
from pare_jax.skeleton import JOINT_NAMES
from tests.browser import expect, open_page, pixels_of, wait_for_layout

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is missing"
)
ROOT = Path(__file__).parents[2]
FILE_INPUT = "#picture input[type=file]"
OVERLAY = "#shown img.overlay"
JOINT_TABLE = "#joints .scroll"


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    """Serve the page; return its address and the folder of the server's temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.demo.fakes",
            "--checkpoint=fake",
            "--port=0",
            "--detector=blazepose",
        ],
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


@pytest.fixture(scope="module", name="open_demo")
def open_demo_fixture(browser, server):
    """Return a context manager that opens the page in a window; it requests nothing elsewhere."""

    @contextlib.contextmanager
    def open_demo(width, height, **options):
        # The browser may request an upload again after the server has deleted it.
        gone = "Failed to load resource"
        with open_page(browser, server[0], width, height, gone, **options) as (page, requests):
            # The examples are built last; before that the page ignores what is done to it.
            page.wait_for_function(
                "document.querySelector('#examples button:last-child img')?.complete"
            )
            yield page
        own = (server[0], "data:", "blob:")
        assert [url for url in requests if not url.startswith(own)] == []

    return open_demo


@pytest.fixture(scope="module")
def page(open_demo):
    """Open the page in one window for most tests; the whole picture is the person's box."""
    with open_demo(1400, 900) as page:
        choose_boxes(page, 2)
        yield page


def test_the_predictors_warning_is_at_the_top(page):
    warning = page.locator("#warning [role=alert]")
    assert warning.text_content() == (
        "Warning: fake: these people are <made up>; keypoint network: these people are <made up>."
    )
    assert warning.bounding_box()["y"] < page.locator("#picture").bounding_box()["y"]


def choose_boxes(page, number):
    """Choose where boxes come from: 1 the detector, 2 the whole picture, 3 those drawn."""
    choice = page.locator(f"#how label:nth-of-type({number}) input")
    click_until(choice, expect(choice).to_be_checked)


def click_until(element, check):
    """Click until `check` passes; gradio ignores clicks while it builds the page."""
    for _ in range(20):
        element.click()
        with contextlib.suppress(AssertionError):
            check(timeout=3000)
            return
    check(timeout=3000)


def upload(page, path, message):
    """Upload a file and wait until the page's message contains the given one."""
    page.set_input_files(FILE_INPUT, path)
    expect(page.locator("#message p")).to_contain_text(message)


def open_joints(page):
    """Open the table of joints."""
    table = page.locator("#joints .scroll")
    if not table.is_visible():
        click_until(page.locator("#joints button"), expect(table).to_be_visible)


def picture_file(folder, name):
    """Write a grey picture of 400 x 300 pixels."""
    path = folder / name
    path.write_bytes(encode_png(np.full((300, 400, 3), 90, np.uint8)))
    return path


def uploads_left(server):
    """Return the names of the uploaded files that the server still holds."""
    return [
        path.name
        for path in server[1].rglob("*")
        if path.is_file() and path.suffix != ".glb" and not path.name.startswith("example_")
    ]


def test_an_uploaded_picture_is_shown_with_its_person_and_deleted(page, server, tmp_path):
    upload(page, picture_file(tmp_path, "me.png"), "One person found in 'me.png'")
    overlay = page.locator(OVERLAY)
    expect(overlay).to_have_js_property("naturalWidth", 400)
    pixels = pixels_of(overlay).astype(int)
    assert (pixels[..., 2] - pixels[..., 0] > 40).mean() > 0.02  # a blue body on grey
    assert uploads_left(server) == []
    # The next picture can be chosen.
    expect(page.locator(FILE_INPUT)).to_be_attached()

    links = page.locator("#downloads a")
    names = links.evaluate_all("links => links.map(link => link.download)")
    assert names == ["people.npz", "people.json", "people.glb"]
    open_joints(page)
    expect(page.locator("#joints tbody tr")).to_have_count(len(JOINT_NAMES))


def test_the_body_is_drawn_in_3d(page, tmp_path):
    upload(page, picture_file(tmp_path, "body.png"), "'body.png'")
    canvas = page.locator("#body canvas")
    end = time.monotonic() + 60
    while True:
        pixels = pixels_of(canvas).astype(int)
        body = pixels[..., 2] - pixels[..., 0] > 40
        if body.mean() > 0.02:
            break
        assert time.monotonic() < end, "no body is drawn"
    # The whole body is upright, with its arms sideways.
    rows, columns = np.nonzero(body)
    assert rows.min() > 0
    assert rows.max() < len(body) - 1
    arms = np.ptp(columns)
    assert arms > 0.7 * np.ptp(rows)
    assert rows[columns < columns.min() + 0.05 * arms].mean() < rows.min() + 0.4 * np.ptp(rows)


def test_another_joints_attention_is_shown_without_predicting_again(page, tmp_path):
    upload(page, picture_file(tmp_path, "joint.png"), "'joint.png'")
    map_, overlay = page.locator("#attention img"), page.locator(OVERLAY)
    expect(map_).to_have_attribute("alt", re.compile("left wrist"))
    before = map_.get_attribute("src"), overlay.get_attribute("src")
    options = page.locator("#joint [role=option]")
    click_until(
        page.locator("#joint input"),
        functools.partial(expect(options).to_have_count, len(JOINT_NAMES)),
    )
    options.filter(has_text="right knee").click()
    expect(map_).to_have_attribute("alt", re.compile("right knee"))
    assert map_.get_attribute("src") != before[0]
    assert overlay.get_attribute("src") == before[1]


def test_one_of_several_people_can_be_chosen(page):
    people = page.locator("#who label")
    click_until(
        page.get_by_role("button", name="two people"),
        functools.partial(expect(people).to_have_count, 2),
    )
    expect(page.locator("#boxes textarea")).to_have_value(re.compile(r"^[^\n]+\n[^\n]+$"))
    open_joints(page)
    table = page.locator("#joints tbody")
    before = table.text_content()
    click_until(
        people.nth(1).locator("input"), functools.partial(expect(table).not_to_have_text, before)
    )
    choose_boxes(page, 2)


def test_a_file_that_is_no_image_is_reported_on_the_page(page, server, tmp_path):
    path = tmp_path / "cv.jpg"
    path.write_text("Dear Sir or Madam")
    upload(page, path, "'cv.jpg'")
    expect(page.locator("#message [role=alert]")).to_be_attached()
    expect(page.locator(OVERLAY)).to_have_count(0)
    assert uploads_left(server) == []


def test_a_picture_without_people_is_reported_on_the_page(page, tmp_path):
    choose_boxes(page, 1)
    upload(page, picture_file(tmp_path, "empty.png"), "Nobody was found")
    choose_boxes(page, 2)


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_needs_no_sideways_scrolling(page, tmp_path, width):
    upload(page, picture_file(tmp_path, f"wide_{width}.png"), f"wide_{width}.png")
    page.set_viewport_size({"width": width, "height": 844})
    open_joints(page)
    wait_for_layout(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1400, "height": 900})


def test_columns_keep_their_place_when_a_person_is_shown(open_demo, tmp_path):
    with open_demo(1280, 900) as page:
        sides = "e => [e.getBoundingClientRect().left, e.getBoundingClientRect().width]"
        before = page.locator("#picture").evaluate(sides)
        choose_boxes(page, 2)
        upload(page, picture_file(tmp_path, "stay.png"), "'stay.png'")
        expect(page.locator(OVERLAY)).to_be_attached()
        expect(page.locator("#joints button")).to_be_attached()
        assert page.locator("#picture").evaluate(sides) == before


def test_on_a_phone_the_page_scrolls_to_the_result_and_the_joints_fit(open_demo, tmp_path):
    with open_demo(390, 844, is_mobile=True) as page:
        choose_boxes(page, 2)
        page.evaluate("scrollTo(0, 0)")
        upload(page, picture_file(tmp_path, "phone.png"), "'phone.png'")
        top = "document.querySelector('#message').getBoundingClientRect().top"
        page.wait_for_function(f"{top} >= -1 && {top} < 300")
        open_joints(page)
        table = "document.querySelector('#joints .scroll')"
        assert page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")


def test_a_missing_camera_is_reported(open_demo):
    with open_demo(1280, 900, permissions=["camera"]) as page:
        message = page.locator("#no-camera")
        access = page.locator("#picture").get_by_text("Access").last
        click_until(
            page.locator("#picture button[aria-label='Capture from camera']"),
            expect(access).to_be_attached,
        )
        access.click()
        expect(message).to_contain_text("No camera was found")
        expect(message).to_have_role("alert")
        # The next click there removes the message.
        page.click("#picture button[aria-label='Upload file']", position={"x": 11, "y": 4})
        expect(message).to_have_count(0)


def drag(page, layer, start, end):
    """Drag a box over the photograph; positions are shares of its width and height."""
    sides = layer.bounding_box()
    at = [
        (sides["x"] + x * sides["width"], sides["y"] + y * sides["height"]) for x, y in (start, end)
    ]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=3)
    page.mouse.up()


@pytest.mark.parametrize("touch", [False, True])
def test_drawn_boxes_are_predicted(open_demo, tmp_path, touch):
    """On a photograph that EXIF turns, and that is shown smaller than it is."""
    path = tmp_path / "turned.jpg"
    picture = Image.new("RGB", (3000, 2000), (90, 90, 90))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    size = (390, 844) if touch else (1280, 1000)
    with open_demo(*size, is_mobile=touch, has_touch=touch) as page:
        choose_boxes(page, 3)
        upload(page, path, "Drag a box around each person")
        layer, field = page.locator("#shown .drawing"), page.locator("#boxes textarea")
        expect(page.locator("#again")).to_have_text("Predict in these boxes")
        layer.scroll_into_view_if_needed()
        wait_for_layout(page)
        assert layer.bounding_box() == pytest.approx(page.locator(OVERLAY).bounding_box(), abs=0.5)
        drag(page, layer, (0.1, 0.2), (0.4, 0.9))
        expect(page.locator("#shown .drawn")).to_have_count(1)
        drag(page, layer, (0.95, 0.8), (0.6, 0.1))  # from the other corner
        expect(page.locator("#shown .drawn")).to_have_count(2)
        drag(page, layer, (0.5, 0.5), (0.505, 0.505))  # a click is no box
        boxes = np.array([line.split(",") for line in field.input_value().split("\n")], float)
        # The upright photograph has 2000 x 3000 pixels.
        right = [[200, 600, 800, 2700], [1200, 300, 1900, 2400]]
        np.testing.assert_allclose(boxes, right, atol=15)
        page.locator("#again").click()
        expect(page.locator("#message p")).to_contain_text("2 people found in 'turned.jpg'")
        expect(page.locator("#who label")).to_have_count(2)

        page.get_by_role("button", name="Remove box 0").click()
        expect(page.locator("#shown .drawn")).to_have_count(1)
        assert field.input_value() == ",".join(f"{value:g}" for value in boxes[1])
        page.locator("#again").click()
        expect(page.locator("#message p")).to_contain_text("One person found in 'turned.jpg'")


def test_examples_have_names(page):
    names = page.locator("#examples button").all_inner_texts()
    assert names == ["a fully visible person", "a person behind a post", "two people"]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_buttons_under_the_photograph_are_not_covered(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    wait_for_layout(page)
    for button in page.locator("#picture .source-selection button").all():
        button.scroll_into_view_if_needed()
        assert button.evaluate("""button => {
            const {left, top, width, height} = button.getBoundingClientRect();
            return [.1, .5, .9].every(part => button.contains(
                document.elementFromPoint(left + width / 2, top + part * height)));
        }""")
    page.set_viewport_size({"width": 1400, "height": 900})
