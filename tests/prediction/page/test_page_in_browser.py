"""The index.html of a run, opened from disk in headless Chromium."""

import dataclasses
import re

import numpy as np
import pytest

from pare_jax.body.io import load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.prediction.page.entries import Failure, PhotoEntry, RunPage, VideoEntry
from pare_jax.prediction.page.index_page import write_page
from pare_jax.skeleton import joint_index
from tests.browser import expect, open_page, pixels_of
from tests.prediction.made_up_people import PHOTO_SIZE, make_person, make_track

EVIL = "<script>document.title='hurt'</script>.jpg"
CANVAS = "#viewer-canvas"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Write the page of three photographs and a clip; return its URL."""
    body, folder = load_body_data(), tmp_path_factory.mktemp("page")
    upright = make_person(body, turned=0.0)
    pair = [upright, make_person(body, x=320.0, turned=0.0, id=1)]
    entries = [
        PhotoEntry("one.jpg", [upright], PHOTO_SIZE, np.full((90, 120, 3), 99, np.uint8)),
        PhotoEntry(EVIL, pair, PHOTO_SIZE),
        VideoEntry("clip", [make_track(body, range(30))], 30, 25.0),
        PhotoEntry("wave.jpg", [left_arm_up(body)], PHOTO_SIZE),
    ]
    return write_page(RunPage("A run", entries, body=body), folder).as_uri()


def left_arm_up(body):
    """Return a person who faces the camera upright in a T-pose, but with the left arm raised."""
    person = make_person(body, turned=0.0)
    rotations = np.array(person.rotations)
    # About z, from sideways, as in the T-pose, to upwards.
    rotations[joint_index("left_shoulder")] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    vertices, _ = vertices_and_joints(body, person.betas, rotations)
    return dataclasses.replace(person, rotations=rotations, vertices=vertices + person.translation)


def left_arm_forward(body, degrees: float):
    """Return a person in a T-pose, the left arm forward, turned from facing the camera."""
    person = make_person(body, turned=0.0)
    rotations = np.array(person.rotations)
    # About y, from sideways to forward.
    rotations[joint_index("left_shoulder")] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    rotations[0] = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) @ rotations[0]
    vertices, _ = vertices_and_joints(body, person.betas, rotations)
    return dataclasses.replace(person, rotations=rotations, vertices=vertices + person.translation)


@pytest.fixture(scope="module", name="window")
def window_fixture(browser, address):
    """Open the page in one window for all tests; it must request nothing but itself."""
    with open_page(browser, address, 1200, 900) as (page, requests):
        yield page
        assert [url for url in requests if not url.startswith("data:")] == [address]


@pytest.fixture(name="page")
def page_fixture(window):
    """Return the shared window with the viewer closed."""
    window.evaluate("document.querySelector('#viewer').close()")
    return window


def show(page, scene: int) -> None:
    """Open the viewer of one card."""
    page.click(f"[data-scene='{scene}']")
    page.wait_for_selector("#viewer[open]")


def body_mask(page) -> np.ndarray:
    """Return the canvas's pixels that show a body, (height, width): ground and stage are grey."""
    # The border may be the ring around the element that has the keyboard's focus.
    seen = pixels_of(page.locator(CANVAS))[6:-6, 6:-6].astype(int)
    return np.ptp(seen, axis=-1) > 24


def drag(page, selector: str, right: float) -> None:
    """Drag sideways from the middle of an element, pixels."""
    box = page.locator(selector).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y, steps=5)
    page.mouse.up()


def test_a_long_list_of_failures_is_shaded_where_it_continues(browser, tmp_path):
    failures = [Failure(f"photo_{number:02}.jpg", "it is empty") for number in range(40)]
    path = write_page(RunPage("A run", [], failures=failures), tmp_path)
    with open_page(browser, path.as_uri(), 390, 844, is_mobile=True) as (page, _):
        items = page.locator(".failed ul")

        def edges() -> list[bool]:
            # Right of the text is the background's colour, unless it is shaded.
            seen = pixels_of(items)[:, -8:].astype(int).mean((1, 2))
            return [bool(np.ptp(edge) > 20) for edge in (seen[:10], seen[-10:])]

        scroll = "(e, share) => { e.scrollTop = share * (e.scrollHeight - e.clientHeight); }"
        for share, shaded in ((0.0, [False, True]), (0.5, [True, True]), (1.0, [True, False])):
            items.evaluate(scroll, share)
            assert edges() == shaded, share


def test_names_stay_text(page):
    assert page.title() == "A run"
    assert page.locator(".card h2").nth(1).text_content() == EVIL
    show(page, 1)
    assert page.text_content("#viewer-title") == EVIL


def test_bodies_fill_the_view_from_every_side(page):
    """The smaller of the free margins, across or along, is some pixels wide."""
    for scene in (0, 1, 3):
        show(page, scene)
        for button in ("camera", "left", "back"):
            page.click(f"[data-look='{button}']")
            seen = body_mask(page)
            rows, columns = np.nonzero(seen)
            filled = np.ptp(rows) / seen.shape[0], np.ptp(columns) / seen.shape[1]
            assert 0.85 < max(filled) < 0.99, (scene, button)
        page.click("#viewer-close")


def test_feet_stand_on_the_ground(page):
    """The ground is grey squares around and below the feet, not above them."""
    show(page, 0)
    seen = pixels_of(page.locator(CANVAS)).astype(int)
    stage = seen[12, 12]
    ground = (np.ptp(seen, axis=-1) < 16) & (np.abs(seen - stage).max(-1) > 6)
    ground[:8] = ground[-8:] = ground[:, :8] = ground[:, -8:] = False
    feet = np.nonzero(body_mask(page))[0].max() + 6
    assert ground[feet:].mean() > 0.3
    assert ground[: seen.shape[0] // 3].mean() < 0.01


@pytest.mark.parametrize("turned", [0, 90, 180, -60])
def test_front_and_left_are_the_persons_own(browser, tmp_path, turned):
    """Whichever way a person faces, the left arm that points forward is at the view's left."""
    body = load_body_data()
    person = left_arm_forward(body, turned)
    path = write_page(
        RunPage("A run", [PhotoEntry("a", [person], PHOTO_SIZE)], body=body), tmp_path
    )
    with open_page(browser, path.as_uri(), 900, 700) as (page, _):
        show(page, 0)
        page.click("[data-look='left']")
        seen = body_mask(page)
        rows, columns = np.nonzero(seen)
        feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
        assert columns.min() < feet - 0.15 * np.ptp(rows)
        assert columns.max() < feet + 0.15 * np.ptp(rows)
        page.click("[data-look='front']")
        seen = body_mask(page)
        rows, columns = np.nonzero(seen)
        # The right arm reaches sideways, at the picture's left.
        feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
        assert feet - columns.min() > 1.5 * (columns.max() - feet)


def test_paper_is_white_in_dark_mode(browser, address):
    with open_page(browser, address, 800, 900, color_scheme="dark") as (page, _):
        page.emulate_media(media="print", color_scheme="dark")
        background, text, card = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, "
            "getComputedStyle(document.body).color, "
            "getComputedStyle(document.querySelector('.card')).backgroundColor]"
            ".map(c => c.match(/\\d+/g).map(Number))"
        )
        assert min(_luminance(background), _luminance(card)) > 0.95
        assert _luminance(text) < 0.05
        for hidden in ("#filter", "[data-scene='0']", "#viewer"):
            assert not page.locator(hidden).first.is_visible()


def test_a_body_stands_upright_and_turns(page):
    show(page, 0)
    front = body_mask(page)
    rows, columns = np.nonzero(front)
    height, width = np.ptp(rows), np.ptp(columns)
    # A T-pose is about as wide as high, its arms in the upper third.
    assert 0.7 < width / height < 1.4
    assert height > 0.4 * front.shape[0]
    arms = rows[(columns < columns.min() + 0.1 * width)].mean()
    assert arms < rows.min() + 0.35 * height
    drag(page, CANVAS, 157)  # a quarter turn
    side = body_mask(page)
    assert np.ptp(np.nonzero(side)[1]) < 0.5 * width
    page.click("#viewer-reset")
    assert (body_mask(page) != front).mean() < 0.002


def test_left_is_left(page):
    """The raised left arm of a person who faces the viewer is at the picture's right."""
    show(page, 3)
    seen = body_mask(page)
    rows, columns = np.nonzero(seen)
    topmost = columns[rows < rows.min() + 0.05 * np.ptp(rows)].mean()
    feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
    assert topmost > feet + 0.1 * np.ptp(columns)
    page.click("[data-look='back']")
    rows, columns = np.nonzero(body_mask(page))
    topmost = columns[rows < rows.min() + 0.05 * np.ptp(rows)].mean()
    feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
    assert topmost < feet - 0.1 * np.ptp(columns)


def test_the_front_and_back_buttons_turn_the_body(page):
    show(page, 2)
    page.click("#viewer-play")
    page.evaluate("seek(0)")
    page.click("[data-look='front']")
    front = body_mask(page)
    page.click("[data-look='back']")
    back = body_mask(page)
    # Seen from behind, an outline is mirrored, but for the perspective of a camera this near.
    mirrored = (front[:, ::-1] & back).sum() / (front[:, ::-1] | back).sum()
    assert mirrored > 0.7
    assert (front & back).sum() / (front | back).sum() < mirrored - 0.1


def test_keys_turn_and_zoom(page):
    show(page, 0)
    front = body_mask(page)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    turned = body_mask(page)
    assert (turned != front).mean() > 0.01
    page.keyboard.press("+")
    assert body_mask(page).sum() > 1.2 * turned.sum()
    page.keyboard.press("0")
    assert (body_mask(page) != front).mean() < 0.002


def test_one_of_several_people_can_be_shown_alone(page):
    show(page, 1)
    both = np.nonzero(body_mask(page).any(0))[0]
    button = page.locator("#viewer-people button:nth-child(3)")
    button.click()
    alone = np.nonzero(body_mask(page).any(0))[0]
    assert np.ptp(alone) < np.ptp(both)
    assert button.get_attribute("aria-pressed") == "true"


def test_a_track_plays_and_pauses(page):
    show(page, 2)
    assert page.text_content("#viewer-play") == "Pause"
    page.evaluate("seek(0)")
    page.click("#viewer-play")
    page.evaluate("seek(0)")
    first = body_mask(page)
    page.click("#viewer-play")
    expect(page.locator("#viewer-frame")).not_to_have_value(re.compile("[0-3]"))
    page.click("#viewer-play")
    assert (body_mask(page) != first).any()
    page.evaluate("seek(0)")
    assert (body_mask(page) == first).all()


def test_joints_are_listed_when_the_list_is_opened(page):
    assert page.locator("table").count() == 0
    page.click("details[data-joints] summary")
    rows = page.locator("table tbody tr")
    rows.first.wait_for()
    assert rows.count() == 24
    assert rows.first.locator("th").text_content() == "pelvis"


def test_names_can_be_filtered(page):
    cards = page.locator(".card:not([hidden])")
    page.fill("#filter", "CLIP")
    assert cards.count() == 1
    page.fill("#filter", "")
    assert cards.count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser, address, scheme):
    with open_page(browser, address, 360, 740, is_mobile=True, color_scheme=scheme) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        show(page, 1)
        inside = page.evaluate(
            "[...document.querySelectorAll('#viewer *')].every(e => e.hidden || "
            "(e.getBoundingClientRect().right <= 360 && e.getBoundingClientRect().bottom <= 740))"
        )
        assert inside
        assert body_mask(page).any()
        background, text = page.evaluate(
            "(() => { const s = getComputedStyle(document.body);"
            "return [s.backgroundColor, s.color].map(c => c.match(/\\d+/g).map(Number)); })()"
        )
    assert abs(_luminance(background) - _luminance(text)) > 0.6
    assert (_luminance(background) < 0.1) == (scheme == "dark")


def _luminance(colour: list[float]) -> float:
    """Relative luminance (WCAG 2.1)."""
    value = np.array(colour[:3]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_a_browser_without_webgl_is_reported(browser, address):
    with open_page(browser, address, 1200, 900) as (page, _):
        page.evaluate("() => { viewer.canvas.getContext = () => null; }")
        show(page, 0)
        assert "no WebGL 2" in page.text_content("#viewer-problem")
