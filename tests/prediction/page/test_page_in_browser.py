"""The page in headless Chromium, opened from disk."""

import dataclasses

import numpy as np
import pytest

from pare_jax.body.io import load_body_data
from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.prediction.page.entries import Failure, PhotoEntry, RunPage, VideoEntry
from pare_jax.prediction.page.index_page import write_page
from pare_jax.skeleton import joint_index
from tests.browser import CHROMIUM, chromium
from tests.prediction.made_up_people import PHOTO_SIZE, make_person, make_track

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
EVIL = "<script>document.title='hurt'</script>.jpg"
CANVAS = "#viewer-canvas"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser that shows the page of two photographs and a clip."""
    body, folder = load_body_data(), tmp_path_factory.mktemp("page")
    # An upright T-pose, the left hand raised sideways as far as the picture's right.
    upright = make_person(body, turned=0.0)
    pair = [upright, make_person(body, x=320.0, turned=0.0, id=1)]
    entries = [
        PhotoEntry("one.jpg", [upright], PHOTO_SIZE, np.full((90, 120, 3), 99, np.uint8)),
        PhotoEntry(EVIL, pair, PHOTO_SIZE),
        VideoEntry("clip", [make_track(body, range(30))], 30, 25.0),
        PhotoEntry("wave.jpg", [left_arm_up(body)], PHOTO_SIZE),
    ]
    path = write_page(RunPage("A run", entries, body=body), folder)
    with chromium() as browser:
        browser.size(1200, 900)
        browser.open(path)
        yield browser
        assert browser.complaints == []
        assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]


def left_arm_up(body):
    """Who stands upright and faces the camera with the left arm raised."""
    person = make_person(body, turned=0.0)
    rotations = np.array(person.rotations)
    # About z, from the side, where the left arm is in the T-pose, to above.
    rotations[joint_index("left_shoulder")] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    vertices, _ = vertices_and_joints(body, person.betas, rotations)
    return dataclasses.replace(person, rotations=rotations, vertices=vertices + person.translation)


@pytest.fixture(autouse=True)
def closed(page):
    page.size(1200, 900)
    page.evaluate("document.querySelector('#viewer').close()")


def show(page, scene: int) -> None:
    page.click(f"[data-scene='{scene}']")
    page.wait("document.querySelector('#viewer').open")


def body_of(page) -> np.ndarray:
    """Where the canvas shows a body, (height, width)."""
    # The ring around what has the keyboard's focus is no body.
    seen = page.picture(CANVAS)[6:-6, 6:-6].astype(int)
    return np.abs(seen - seen[8, 8]).max(-1) > 12


def test_a_long_list_of_failures_shows_that_it_goes_on(tmp_path):
    failures = [Failure(f"photo_{number:02}.jpg", "it is empty") for number in range(40)]
    path = write_page(RunPage("A run", [], failures=failures), tmp_path)
    with chromium() as browser:
        browser.size(390, 844, mobile=True)
        browser.open(path)

        def edges() -> list[bool]:
            # Right of the text the ground's colour, unless it is shaded.
            seen = browser.picture(".failed ul")[:, -8:].astype(int).mean((1, 2))
            return [bool(np.ptp(edge) > 20) for edge in (seen[:10], seen[-10:])]

        ul = "document.querySelector('.failed ul')"
        for share, shaded in ((0.0, [False, True]), (0.5, [True, True]), (1.0, [True, False])):
            browser.evaluate(f"{ul}.scrollTop = {share} * ({ul}.scrollHeight - {ul}.clientHeight)")
            assert edges() == shaded, share


def test_names_stay_text(page):
    assert page.evaluate("document.title") == "A run"
    assert page.evaluate("[...document.querySelectorAll('.card h2')][1].textContent") == EVIL
    show(page, 1)
    assert page.evaluate("document.querySelector('#viewer-title').textContent") == EVIL


def test_a_body_stands_upright_and_turns(page):
    show(page, 0)
    front = body_of(page)
    rows, columns = np.nonzero(front)
    height, width = np.ptp(rows), np.ptp(columns)
    # A T-pose is about as wide as high, its arms in the upper third.
    assert 0.7 < width / height < 1.4
    assert height > 0.4 * front.shape[0]
    arms = rows[(columns < columns.min() + 0.1 * width)].mean()
    assert arms < rows.min() + 0.35 * height
    page.drag(CANVAS, 157, 0)  # a quarter turn
    side = body_of(page)
    assert np.ptp(np.nonzero(side)[1]) < 0.5 * width
    page.click("#viewer-reset")
    assert (body_of(page) != front).mean() < 0.002


def test_left_is_left(page):
    """Who faces the viewer and raises the left arm raises it at the picture's right."""
    show(page, 3)
    seen = body_of(page)
    rows, columns = np.nonzero(seen)
    topmost = columns[rows < rows.min() + 0.05 * np.ptp(rows)].mean()
    feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
    assert topmost > feet + 0.1 * np.ptp(columns)
    page.click("[data-yaw='180']")
    rows, columns = np.nonzero(body_of(page))
    topmost = columns[rows < rows.min() + 0.05 * np.ptp(rows)].mean()
    feet = columns[rows > rows.max() - 0.1 * np.ptp(rows)].mean()
    assert topmost < feet - 0.1 * np.ptp(columns)


def test_front_side_and_back_are_what_they_say(page):
    show(page, 2)
    page.click("#viewer-play")
    page.evaluate("seek(0)")
    front = body_of(page)
    page.click("[data-yaw='180']")
    back = body_of(page)
    # Seen from behind, an outline is mirrored (but for perspective).
    mirrored = (front[:, ::-1] & back).sum() / (front[:, ::-1] | back).sum()
    assert mirrored > 0.8
    assert (front & back).sum() / (front | back).sum() < mirrored - 0.1


def test_keys_turn_and_zoom(page):
    show(page, 0)
    front = body_of(page)
    for _ in range(5):
        page.press("ArrowRight")
    turned = body_of(page)
    assert (turned != front).mean() > 0.01
    page.press("+")
    assert body_of(page).sum() > 1.2 * turned.sum()
    page.press("0")
    assert (body_of(page) != front).mean() < 0.002


def test_one_of_several_can_be_looked_at(page):
    show(page, 1)
    both = np.nonzero(body_of(page).any(0))[0]
    page.click("#viewer-people button:nth-child(3)")
    alone = np.nonzero(body_of(page).any(0))[0]
    assert np.ptp(alone) < np.ptp(both)
    assert (
        page.evaluate("document.querySelector('#viewer-people button:nth-child(3)').ariaPressed")
        == "true"
    )


def test_a_track_plays_and_pauses(page):
    show(page, 2)
    assert page.evaluate("document.querySelector('#viewer-play').textContent") == "Pause"
    page.evaluate("seek(0)")
    page.click("#viewer-play")
    page.evaluate("seek(0)")
    first = body_of(page)
    page.click("#viewer-play")
    page.wait("viewer.frame > 3")
    page.click("#viewer-play")
    assert (body_of(page) != first).any()
    page.evaluate("seek(0)")
    assert (body_of(page) == first).all()


def test_joints_are_listed_when_asked_for(page):
    assert page.evaluate("document.querySelectorAll('table').length") == 0
    page.click("details[data-joints] summary")
    page.wait("document.querySelectorAll('table tbody tr').length === 24")
    assert page.evaluate("document.querySelector('tbody th').textContent") == "pelvis"


def test_names_can_be_filtered(page):
    page.evaluate(
        "(() => { const f = document.querySelector('#filter'); f.value = 'CLIP';"
        "f.dispatchEvent(new Event('input')); })()"
    )
    assert page.evaluate("document.querySelectorAll('.card:not([hidden])').length") == 1
    page.evaluate(
        "(() => { const f = document.querySelector('#filter'); f.value = '';"
        "f.dispatchEvent(new Event('input')); })()"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_needs_no_sideways_scrolling(page, dark):
    page.size(360, 740, dark=dark, mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    show(page, 1)
    inside = page.evaluate(
        "[...document.querySelectorAll('#viewer *')].every(e => e.hidden || "
        "(e.getBoundingClientRect().right <= 360 && e.getBoundingClientRect().bottom <= 740))"
    )
    assert inside
    assert body_of(page).any()
    ground, ink = page.evaluate(
        "(() => { const s = getComputedStyle(document.body);"
        "return [s.backgroundColor, s.color].map(c => c.match(/\\d+/g).map(Number)); })()"
    )
    assert abs(_luminance(ground) - _luminance(ink)) > 0.6
    assert (_luminance(ground) < 0.1) == dark


def _luminance(colour: list[float]) -> float:
    """Relative luminance (WCAG 2.1)."""
    value = np.array(colour[:3]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_without_webgl_the_page_says_so(page):
    page.evaluate("viewer.gl = null; viewer.canvas.getContext = () => null")
    show(page, 0)
    assert "no WebGL 2" in page.evaluate("document.querySelector('#viewer-problem').textContent")
