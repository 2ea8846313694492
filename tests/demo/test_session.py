"""The page's content, computed without gradio."""

import base64
import io
import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.demo.blocks import build_page
from pare_jax.demo.examples import Example
from pare_jax.demo.memory import Memory, PhotographResult
from pare_jax.demo.session import (
    BOXES,
    DETECTOR,
    MAX_PEOPLE,
    PREDICT_BOXES,
    WHOLE,
    DemoNetwork,
    Session,
    parse_boxes,
)
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.prediction.detection import Detection
from pare_jax.skeleton import JOINT_NAMES
from tests.demo.fakes import FakePredictor
from tests.demo.test_uploads import upload
from tests.meshes.glb_reader import Glb
from tests.prediction.made_up_people import small_body

PICTURE = np.full((300, 400, 3), 90, np.uint8)
TWO = "60,40,140,260\n260,40,340,260"


class FakeDetector:
    """Returns the detections in `found`."""

    def __init__(self):
        self.found = [Detection(np.array([60.0, 40.0, 140.0, 260.0]), 0.7)]

    def __call__(self, image):
        return self.found


@pytest.fixture
def folder():
    with UploadFolder() as folder:
        yield folder


@pytest.fixture
def predictor():
    return FakePredictor(small_body())


@pytest.fixture
def detector():
    return FakeDetector()


@pytest.fixture
def session(predictor, detector, folder):
    example = Example("a pair", PICTURE, np.array([[60, 40, 140, 260], [260, 40, 340, 260]]))
    return Session([DemoNetwork("net", predictor)], detector, folder, [example])


def receive(session, folder, how=DETECTOR, boxes="", key=None, **what):
    return session.receive(upload(folder, PICTURE, **what), how, boxes, key)


def picture_in(html: str) -> np.ndarray:
    data = base64.b64decode(re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)[1])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def downloads_in(html: str) -> dict[str, bytes]:
    links = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', html)
    return {name: base64.b64decode(content) for name, content in links}


def test_an_upload_becomes_an_overlay_and_its_file_is_removed(session, folder):
    view = receive(session, folder)
    assert view.people == ("person 0",)
    assert 'role="status"' in view.message
    assert "One person" in view.message
    shown = picture_in(view.overlay)
    assert shown.shape == PICTURE.shape
    changed = np.abs(shown.astype(int) - PICTURE).max(-1) > 30
    assert changed[:, 40:160].any()
    assert not changed[:, 250:].any()
    assert not [path for path in folder.path.rglob("*") if path.is_file()]


def test_detections_have_scores_and_typed_boxes_have_none(session, folder):
    found = session.memory.get(receive(session, folder).key)
    assert found.people[0].score == 0.7
    given = session.memory.get(receive(session, folder, BOXES, TWO).key)
    assert [person.score for person in given.people] == [None, None]


def test_boxes_come_from_the_detector_the_whole_photograph_or_text(session, predictor, folder):
    key = receive(session, folder, WHOLE).key
    assert session.find(key, BOXES, TWO).people == ("person 0", "person 1")
    assert session.find(key, DETECTOR, "nonsense").people == ("person 0",)
    calls = [np.asarray(boxes).tolist() for boxes in predictor.calls]
    pair = [[60, 40, 140, 260], [260, 40, 340, 260]]
    assert calls == [[[0, 0, 400, 300]], pair, pair[:1]]


def test_typed_boxes_of_a_reduced_photograph_are_in_the_files_pixels(session, predictor):
    key = session.memory.put(PhotographResult("huge.jpg", PICTURE, 0.5))
    view = session.find(key, BOXES, "120,80,280,520")
    np.testing.assert_allclose(predictor.calls[-1], [[60, 40, 140, 260]])
    assert "400 x 300" in view.message
    # Boxes are drawn in the file's pixels, too.
    assert 'data-width="800" data-height="600"' in view.overlay


def test_nobody_found_is_an_alert_and_the_photograph_stays(session, detector, folder):
    detector.found = []
    view = receive(session, folder)
    assert 'role="alert"' in view.message
    assert "Nobody was found" in view.message
    assert view.people == ()
    assert view.downloads == ""
    assert np.abs(picture_in(view.overlay).astype(int) - PICTURE).max() < 5
    assert session.find(view.key, WHOLE, "").people == ("person 0",)


@pytest.mark.parametrize(
    ("boxes", "name"),
    [
        ("1,2,3", "1,2,3"),
        ("a,b,c,d", "a,b,c,d"),
        ("50,50,10,10", "50"),
        ("900,900,990,990", "900"),
        ("0,0,nan,9", "nan"),
    ],
)
def test_bad_boxes_are_one_alert(session, folder, boxes, name):
    view = receive(session, folder, BOXES, boxes)
    assert 'role="alert"' in view.message
    assert name in view.message
    assert view.people == ()


def test_without_boxes_the_photograph_is_shown_to_draw_them(session, predictor, folder):
    view = receive(session, folder, BOXES, "")
    assert 'role="status"' in view.message
    assert PREDICT_BOXES in view.message
    assert np.abs(picture_in(view.overlay).astype(int) - PICTURE).max() < 5
    assert predictor.calls == []
    assert 'role="alert"' in session.find(view.key, BOXES, "").message
    assert session.find(view.key, BOXES, TWO).people == ("person 0", "person 1")
    # Drawing begins again without the bodies.
    again = session.choose(view.key, BOXES)
    assert again.people == ()
    assert np.abs(picture_in(again.overlay).astype(int) - PICTURE).max() < 5
    assert session.choose(view.key, WHOLE) is None
    assert session.choose(None, BOXES) is None


def test_separators_of_typed_boxes():
    expected = [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.5)]
    for text in ("1,2,3,4\n5,6,7,8.5\n", "1, 2, 3, 4; 5 6 7 8.5", "\n1 2,3 4\n\n 5,6,7,8.5"):
        assert parse_boxes(text) == expected


def test_bad_uploads_are_alerts_and_show_nothing(session, folder):
    view = session.receive(upload(folder, name="<b>cv.jpg", content=b"hi"), WHOLE, "", None)
    assert view.key is None
    assert view.overlay == ""
    assert "cv.jpg" in view.message
    assert "<b>" not in view.message
    for refused in (
        view,
        session.receive(None, WHOLE, "", None),
        session.find(None, WHOLE, ""),
        session.find("guessed", WHOLE, ""),
    ):
        assert 'role="alert"' in refused.message
        assert refused.key is None


def test_a_file_name_is_escaped(session, folder):
    name = '"><script>.png'
    view = receive(session, folder, WHOLE, name=name)
    assert "<script" not in view.message + view.overlay
    assert json.loads(downloads_in(view.downloads)["people.json"])["photo"] == name


def test_downloads_contain_everybody(session, folder):
    files = downloads_in(receive(session, folder, BOXES, TWO).downloads)
    with np.load(io.BytesIO(files["people.npz"])) as arrays:
        assert arrays["vertices"].shape[0] == 2
        assert arrays["photo_size"].tolist() == [400, 300]
    assert len(json.loads(files["people.json"])["people"]) == 2
    scene = Glb(files["people.glb"]).scene
    assert len(scene["meshes"]) == len(scene["skins"]) == 2


def test_a_predictor_without_a_body_file_gives_meshes_to_download(session, predictor, folder):
    predictor.body_data = None
    scene = Glb(downloads_in(receive(session, folder, BOXES, TWO).downloads)["people.glb"]).scene
    assert len(scene["meshes"]) == 2
    assert "skins" not in scene


def test_the_attention_map_is_the_chosen_joints(session, predictor, folder):
    key = receive(session, folder).key
    calls = len(predictor.calls)
    for joint in ("pelvis", "left_hip", "right_hand"):
        shown = picture_in(session.attention(key, None, joint)).astype(float)
        warm = shown[..., 0] - shown[..., 2]
        cell = JOINT_NAMES.index(joint)
        y, x = np.unravel_index(cv2.blur(warm, (41, 41)).argmax(), warm.shape)
        side = len(shown)
        assert (y * 5 // side, x * 5 // side) == (cell // 5, cell % 5)
    assert len(predictor.calls) == calls


def test_a_person_has_a_table_of_joints_and_a_body(session, folder):
    key = receive(session, folder, BOXES, TWO).key
    for number in range(2):
        person = session.memory.get(key).people[number]
        view = session.person(key, f"person {number}", "head")
        assert view.joints.count("<th scope=row>") == len(JOINT_NAMES)
        assert f"<td>{person.joints_2d[3, 0]:.1f}</td>" in view.joints
        assert view.body.is_relative_to(folder.path)
        assert view.body.read_bytes() == person.to_glb()
    assert session.person(key, "person 2", "head").body is None
    assert session.person("guessed", None, "head").body is None


def test_an_example_is_shown_with_its_boxes(session):
    view, typed = session.example(0, None)
    assert view.people == ("person 0", "person 1")
    assert typed == TWO


def test_a_new_photograph_replaces_the_old(session, folder):
    old = receive(session, folder).key
    new = receive(session, folder, key=old).key
    assert new != old
    assert len(session.memory) == 1


def test_without_a_detector_the_page_takes_the_whole_photograph(predictor, folder):
    session = Session([DemoNetwork("net", predictor)], None, folder)
    view = receive(session, folder, DETECTOR)
    assert 'role="alert"' in view.message
    assert DETECTOR in view.message
    assert session.find(view.key, WHOLE, "").people == ("person 0",)
    pytest.importorskip("gradio")
    for number, detector in enumerate((None, FakeDetector())):
        page = build_page(Session([DemoNetwork("net", predictor)], detector, folder), "blazepose")
        (how,) = [b for b in page.blocks.values() if getattr(b, "elem_id", None) == "how"]
        assert [value for _, value in how.choices] == [DETECTOR, WHOLE, BOXES][1 - number :]
        assert how.value == [WHOLE, DETECTOR][number]


def test_the_number_of_people_is_limited(session, detector, folder):
    detector.found = detector.found * (MAX_PEOPLE + 5)
    view = receive(session, folder)
    assert len(view.people) == MAX_PEOPLE
    assert "5 more" in view.message


def test_memory_removes_the_oldest_and_the_expired():
    memory = Memory(photographs=2, seconds=1000)
    keys = [memory.put(PhotographResult(str(number), PICTURE, 1.0)) for number in range(2)]
    memory.get(keys[0])
    third = memory.put(PhotographResult("third", PICTURE, 1.0))
    assert memory.get(keys[0]).name == "0"
    assert memory.get(third).name == "third"
    with pytest.raises(UserError):
        memory.get(keys[1])
    memory.forget(third)
    with pytest.raises(UserError):
        memory.get(third)
    brief = Memory(seconds=-1.0)
    expired = brief.put(PhotographResult("expired", PICTURE, 1.0))
    with pytest.raises(UserError):
        brief.get(expired)


def test_a_rotated_photograph_is_upright(session, folder):
    picture = Image.fromarray(PICTURE)
    exif = picture.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    content = buffer.getvalue()
    view = session.receive(upload(folder, name="me.jpg", content=content), WHOLE, "", None)
    assert session.memory.get(view.key).image.shape == (400, 300, 3)


def test_downloads_have_the_focal_length_of_the_exif_tags(session, folder):
    """35 mm on film, whose diagonal is 43.27 mm; the picture's is 500 pixels."""
    about = Image.Exif()
    about.get_ifd(0x8769)[0xA405] = 35
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "JPEG", exif=about)
    sent = upload(folder, name="me.jpg", content=buffer.getvalue())
    view = session.receive(sent, DETECTOR, "", None)
    (person,) = json.loads(downloads_in(view.downloads)["people.json"])["people"]
    full = person["camera"]["full_image"]
    assert full["focal_length_from"] == "exif"
    assert full["focal_length_px"] == pytest.approx(35 / 43.2666 * 500, abs=0.01)


@pytest.mark.parametrize("wrong", ["tail", "", 7, None, ["left_wrist"], {"a": 1}, float("nan")])
def test_values_that_the_page_does_not_offer_are_alerts(session, folder, wrong):
    key = receive(session, folder).key
    assert 'role="alert"' in session.attention(key, None, wrong)
    assert session.person(key, None, wrong).body is None
    assert 'role="alert"' in session.find(key, wrong, "").message
    if wrong is not None:
        assert 'role="alert"' in session.attention(key, wrong, "head")
        assert 'role="alert"' in session.find(key, BOXES, wrong).message
    assert session.receive(wrong, WHOLE, "", None).key is None


def test_the_photographs_of_a_visit_are_forgotten_with_it(session, folder):
    view = session.receive(upload(folder, PICTURE), WHOLE, "", None, "a visit")
    assert folder.owner(str(session.person(view.key, None, "head").body)) == "a visit"
    session.memory.forget_owner("another")
    assert len(session.memory) == 1
    session.memory.forget_owner("a visit")
    assert len(session.memory) == 0
