"""What the page answers, without the page."""

import base64
import io
import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.demo.examples import Example
from pare_jax.demo.memory import Looked, Memory
from pare_jax.demo.session import BOXES, DETECTOR, MAX_PEOPLE, WHOLE, Session, parse_boxes
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
    """Finds what it is told to."""

    def __init__(self):
        self.found = [Detection(np.array([60.0, 40.0, 140.0, 260.0]), 0.7)]

    def __call__(self, image):
        return self.found


@pytest.fixture
def folder():
    with UploadFolder() as folder:
        yield folder


@pytest.fixture
def session(folder):
    example = Example("a pair", PICTURE, np.array([[60, 40, 140, 260], [260, 40, 340, 260]]))
    return Session(FakePredictor(small_body()), FakeDetector(), folder, [example])


def receive(session, folder, how=DETECTOR, boxes="", key=None, **what):
    return session.receive(upload(folder, PICTURE, **what), how, boxes, key)


def picture_in(html: str) -> np.ndarray:
    data = base64.b64decode(re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)[1])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def downloads_in(html: str) -> dict[str, bytes]:
    links = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', html)
    return {name: base64.b64decode(content) for name, content in links}


def test_an_uploaded_picture_becomes_an_overlay_and_no_file_of_it_stays(session, folder):
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


def test_scores_are_the_detectors_and_given_boxes_have_none(session, folder):
    found = session.memory.get(receive(session, folder).key)
    assert found.people[0].score == 0.7
    given = session.memory.get(receive(session, folder, BOXES, TWO).key)
    assert [person.score for person in given.people] == [None, None]


def test_the_ways_of_saying_where_people_are(session, folder):
    key = receive(session, folder, WHOLE).key
    assert session.find(key, BOXES, TWO).people == ("person 0", "person 1")
    assert session.find(key, DETECTOR, "nonsense").people == ("person 0",)
    asked = [np.asarray(boxes).tolist() for boxes in session._predictor.calls]
    pair = [[60, 40, 140, 260], [260, 40, 340, 260]]
    assert asked == [[[0, 0, 400, 300]], pair, pair[:1]]


def test_boxes_of_a_picture_that_was_read_smaller_are_in_the_files_pixels(session):
    key = session.memory.put(Looked("huge.jpg", PICTURE, 0.5))
    view = session.find(key, BOXES, "120,80,280,520")
    np.testing.assert_allclose(session._predictor.calls[-1], [[60, 40, 140, 260]])
    assert "400 x 300" in view.message


def test_nobody_found_is_said_and_the_picture_stays(session, folder):
    session._detector.found = []
    view = receive(session, folder)
    assert 'role="alert"' in view.message
    assert "Nobody was found" in view.message
    assert view.people == ()
    assert view.downloads == ""
    assert np.abs(picture_in(view.overlay).astype(int) - PICTURE).max() < 5
    assert session.find(view.key, WHOLE, "").people == ("person 0",)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ("", "no box is typed in"),
        ("1,2,3", "not four numbers"),
        ("a,b,c,d", "not four numbers"),
        ("50,50,10,10", "corners swapped"),
        ("900,900,990,990", "outside the picture"),
        ("0,0,nan,9", "not finite"),
    ],
)
def test_bad_boxes_are_said_in_one_line(session, folder, boxes, said):
    view = receive(session, folder, BOXES, boxes)
    assert said in view.message.lower()
    assert view.people == ()


def test_boxes_may_be_written_in_several_ways():
    expected = [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.5)]
    for text in ("1,2,3,4\n5,6,7,8.5\n", "1, 2, 3, 4; 5 6 7 8.5", "\n1 2,3 4\n\n 5,6,7,8.5"):
        assert parse_boxes(text) == expected


def test_bad_uploads_are_said_and_nothing_is_shown(session, folder):
    view = session.receive(upload(folder, name="<b>cv.jpg", content=b"hi"), WHOLE, "", None)
    assert view.key is None
    assert view.overlay == ""
    assert "is not an image" in view.message
    assert "<b>" not in view.message
    assert "no picture" in session.receive(None, WHOLE, "", None).message
    assert "no picture" in session.find(None, WHOLE, "").message
    assert "no longer remembered" in session.find("guessed", WHOLE, "").message


def test_a_name_is_text_wherever_it_stands(session, folder):
    name = '"><script>.png'
    view = receive(session, folder, WHOLE, name=name)
    assert "<script" not in view.message + view.overlay
    assert json.loads(downloads_in(view.downloads)["people.json"])["photo"] == name


def test_what_is_taken_along_holds_everybody(session, folder):
    files = downloads_in(receive(session, folder, BOXES, TWO).downloads)
    with np.load(io.BytesIO(files["people.npz"])) as arrays:
        assert arrays["vertices"].shape[0] == 2
        assert arrays["photo_size"].tolist() == [400, 300]
    assert len(json.loads(files["people.json"])["people"]) == 2
    assert len(Glb(files["people.glb"]).scene["meshes"]) == 2


def test_the_attention_is_the_chosen_joints(session, folder):
    key = receive(session, folder).key
    calls = len(session._predictor.calls)
    for joint in ("pelvis", "left_hip", "right_hand"):
        shown = picture_in(session.attention(key, 0, joint)).astype(float)
        warm = shown[..., 0] - shown[..., 2]
        cell = JOINT_NAMES.index(joint)
        y, x = np.unravel_index(cv2.blur(warm, (41, 41)).argmax(), warm.shape)
        side = len(shown)
        assert (y * 5 // side, x * 5 // side) == (cell // 5, cell % 5)
    assert len(session._predictor.calls) == calls


def test_a_person_is_a_table_and_a_body_that_stands_upright(session, folder):
    key = receive(session, folder, BOXES, TWO).key
    for number in range(2):
        person = session.memory.get(key).people[number]
        view = session.person(key, number, "head")
        assert view.joints.count("<th scope=row>") == len(JOINT_NAMES)
        assert f"<td>{person.joints_2d[3, 0]:.1f}</td>" in view.joints
        assert view.body.is_relative_to(folder.path)
        assert view.body.read_bytes() == person.to_glb()
    assert session.person(key, 2, "head").body is None
    assert session.person("guessed", 0, "head").body is None


def test_an_example_is_shown_with_its_boxes(session):
    view, typed = session.example(0, None)
    assert view.people == ("person 0", "person 1")
    assert typed == TWO


def test_a_new_picture_replaces_the_old(session, folder):
    old = receive(session, folder).key
    new = receive(session, folder, key=old).key
    assert new != old
    assert len(session.memory) == 1


def test_a_crowd_is_cut_down(session, folder):
    session._detector.found = session._detector.found * (MAX_PEOPLE + 5)
    view = receive(session, folder)
    assert len(view.people) == MAX_PEOPLE
    assert "5 more left out" in view.message


def test_memory_forgets_the_oldest_and_the_old():
    memory = Memory(pictures=2, seconds=1000)
    keys = [memory.put(Looked(str(number), PICTURE, 1.0)) for number in range(2)]
    memory.get(keys[0])
    third = memory.put(Looked("third", PICTURE, 1.0))
    assert memory.get(keys[0]).name == "0"
    assert memory.get(third).name == "third"
    with pytest.raises(UserError, match="no longer"):
        memory.get(keys[1])
    memory.forget(third)
    with pytest.raises(UserError, match="no longer"):
        memory.get(third)
    brief = Memory(seconds=-1.0)
    gone = brief.put(Looked("gone", PICTURE, 1.0))
    with pytest.raises(UserError, match="no longer"):
        brief.get(gone)


def test_a_turned_photograph_is_upright(session, folder):
    picture = Image.fromarray(PICTURE)
    exif = picture.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    content = buffer.getvalue()
    view = session.receive(upload(folder, name="me.jpg", content=content), WHOLE, "", None)
    assert session.memory.get(view.key).image.shape == (400, 300, 3)
