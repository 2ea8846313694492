"""People saved to files, read from files and drawn, without a network."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.person import people_json, people_npz, read_people
from pare_jax.rendering.camera import Camera
from pare_jax.rendering.overlay import BODY_COLOURS
from tests.meshes.glb_reader import Glb
from tests.prediction.made_up_people import PHOTO_SIZE, make_person, small_body

BODY = small_body()
PICTURE = np.full((PHOTO_SIZE[1], PHOTO_SIZE[0], 3), 90, np.uint8)


@pytest.fixture
def person():
    attention = np.full((4, 4, 24), 1 / 16, np.float32)
    return make_person(BODY, attention=attention, id=7, frame=12, score=0.75)


def assert_same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if isinstance(a, str):
            assert a == b, field.name
        elif a is not None:
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6, err_msg=field.name)


def test_a_saved_person_is_read_unchanged(person, tmp_path):
    person.save(tmp_path / "person.npz")
    found = read_people(tmp_path / "person.npz")
    (again,) = found.people
    assert_same(person, again)
    assert isinstance(again.id, int)
    assert found.photo_size is None
    assert found.frame_rate is None


def test_files_of_one_and_of_several_people_have_the_same_arrays(person, tmp_path):
    person.save(tmp_path / "one.npz")
    (tmp_path / "several.npz").write_bytes(people_npz([person, person], BODY.faces, PHOTO_SIZE))
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "several.npz") as several:
        full = {f"full_{name}" for name in ("focal_length", "principal_point", "translation")}
        assert set(several) - set(one) == {"photo_size", "full_focal_length_from", *full}
        for name in set(one) - {"faces", "joint_names"}:
            assert several[name].shape == (2, *one[name].shape[1:])
            assert one[name].dtype == several[name].dtype
        assert several["id"].dtype == np.int32
        assert several["faces"].shape == (40, 3)
        np.testing.assert_array_equal(several["photo_size"], PHOTO_SIZE)


def test_ids_and_scores_that_only_some_people_have(tmp_path):
    people = [
        make_person(BODY, 0, id=4, score=0.5),
        make_person(BODY, 1),
        make_person(BODY, 2, id=0),
    ]
    (tmp_path / "some.npz").write_bytes(people_npz(people, BODY.faces, frame_rate=29.97))
    found = read_people(tmp_path / "some.npz")
    assert [person.id for person in found.people] == [4, None, 0]
    assert [person.score for person in found.people] == [0.5, None, None]
    assert [person.frame for person in found.people] == [None] * 3
    assert found.frame_rate == 29.97
    with np.load(tmp_path / "some.npz") as arrays:
        assert "frame" not in arrays
        assert arrays["id"].tolist() == [4, -1, 0]


def test_keypoints_and_verdicts_are_kept_and_may_be_missing(tmp_path):
    seen = np.random.default_rng(0).uniform(0.1, 1.0, (17, 3))
    ignored = np.arange(17) == 9  # the left wrist
    fitted = make_person(
        BODY,
        keypoints=seen,
        keypoint_set="coco17",
        fit_error=0.012,
        fit_problems="not converged",
        fit_ignored=ignored,
    )
    plain = make_person(BODY, 1)
    (tmp_path / "a.npz").write_bytes(people_npz([plain, fitted], BODY.faces, PHOTO_SIZE))
    first, second = read_people(tmp_path / "a.npz").people
    assert_same(fitted, dataclasses.replace(second, faces=fitted.faces))
    assert (first.keypoints, first.keypoint_set) == (None, None)
    assert (first.fit_error, first.fit_problems, first.fit_ignored) == (None, None, None)
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["keypoint_names"][9] == "left_wrist"
    described = json.loads(people_json([plain, fitted]))["people"]
    assert "keypoints" not in described[0]
    assert described[1]["fit"] == {
        "error": 0.012,
        "good": False,
        "problems": "not converged",
        "ignored": ["left_wrist"],
    }


def test_a_file_without_meshes_is_read(person, tmp_path):
    (tmp_path / "a.npz").write_bytes(people_npz([person], BODY.faces, PHOTO_SIZE, mesh=False))
    (again,) = read_people(tmp_path / "a.npz").people
    assert again.vertices.shape == (0, 3)
    assert again.faces is None
    with pytest.raises(UserError, match="vertices"):
        again.to_mesh(BODY.faces)
    np.testing.assert_allclose(again.joints_3d, person.joints_3d, rtol=1e-6)


def test_vertices_are_not_read_unless_asked_for(person, tmp_path):
    person.save(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    start = content.index(b"vertices.npy") + 200
    content[start : start + 8] = bytes(8)  # only reading this array fails
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz"):
        read_people(tmp_path / "a.npz")
    (again,) = read_people(tmp_path / "a.npz", vertices=False).people
    assert_same(dataclasses.replace(person, vertices=np.zeros((0, 3))), again)


@pytest.mark.parametrize("x", [60.0, 200.0, 390.0])
def test_the_full_camera_projects_the_joints_to_their_pixels(x, tmp_path):
    """Exactly for the body's origin; for other points up to the change of perspective."""
    people = [make_person(BODY, 0, x=x), make_person(BODY, 1, x=200.0)]
    (tmp_path / "a.npz").write_bytes(people_npz(people, BODY.faces, PHOTO_SIZE))
    found = read_people(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["full_focal_length"].shape == ()
        assert arrays["full_translation"].shape == (2, 3)
        np.testing.assert_array_equal(arrays["full_principal_point"], np.array(PHOTO_SIZE) / 2)
        assert float(arrays["full_focal_length"]) == pytest.approx(500.0)
    assert found.full_camera is not None
    assert found.full_translations is not None
    described = json.loads(people_json(people, None, PHOTO_SIZE))["people"]
    for person, place, values in zip(people, found.full_translations, described, strict=True):
        origin = person.camera.project(person.translation)
        np.testing.assert_allclose(found.full_camera.project(place), origin, atol=1e-3)
        body = person.joints_3d - person.translation
        seen = found.full_camera.project(body + place)
        # Perspective moves points nearer or farther than the origin by their share of the distance.
        nearness = np.abs(body[:, 2]).max() / (place[2] - np.abs(body[:, 2]).max())
        reach = np.abs(person.joints_2d - found.full_camera.principal_point).max()
        off = np.abs(seen - person.joints_2d).max()
        assert off < 1.1 * nearness * reach + 1.0
        full = values["camera"]["full_image"]
        camera = Camera(full["focal_length_px"], full["principal_point_px"])
        np.testing.assert_allclose(camera.project(body + full["translation_m"]), seen, atol=0.05)


def test_a_file_without_the_photographs_size_has_no_full_camera(person, tmp_path):
    person.save(tmp_path / "a.npz")
    found = read_people(tmp_path / "a.npz")
    assert found.full_camera is None
    assert found.full_translations is None
    assert "full_image" not in json.loads(people_json([person]))["people"][0]["camera"]


def test_a_file_without_people(tmp_path):
    (tmp_path / "empty.npz").write_bytes(people_npz([], BODY.faces, PHOTO_SIZE))
    found = read_people(tmp_path / "empty.npz")
    assert found.people == []
    assert found.photo_size == PHOTO_SIZE


def test_files_that_cannot_be_read_are_named(tmp_path, person):
    with pytest.raises(UserError, match=r"gone\.npz"):
        read_people(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"text\.npz"):
        read_people(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"one\.npy"):
        read_people(tmp_path / "one.npy")
    # NumPy's message would advise to unpickle both.
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    for name in ("text.npz", "objects.npz"):
        with pytest.raises(UserError, match=re.escape(name)) as refusal:
            read_people(tmp_path / name)
        assert "pickle" not in str(refusal.value)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        read_people(tmp_path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"other\.npz.*joint_names"):
        read_people(tmp_path / "other.npz")
    whole = people_npz([person], BODY.faces)
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.npz"):
        read_people(tmp_path / "cut.npz")
    np.savez(tmp_path / "half.npz", joint_names=np.array(["a"]), betas=np.zeros((2, 10)))
    with pytest.raises(UserError, match=r"half\.npz"):
        read_people(tmp_path / "half.npz")


def test_json_has_the_known_fields(person, tmp_path):
    person.save(tmp_path / "person.json")
    (described,) = json.loads((tmp_path / "person.json").read_text())["people"]
    assert (described["id"], described["frame"], described["score"]) == (7, 12, 0.75)
    np.testing.assert_allclose(
        described["joints"]["left_wrist"]["camera_m"], person.joints_3d[20], atol=1e-4
    )
    plain = json.loads(people_json([make_person(BODY)], "a.jpg", PHOTO_SIZE))
    assert "id" not in plain["people"][0]
    assert plain["photo_size_px"] == list(PHOTO_SIZE)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".GLB"])
def test_the_suffix_selects_the_mesh_format(person, tmp_path, suffix):
    person.save(tmp_path / f"person{suffix}")
    content = (tmp_path / f"person{suffix}").read_bytes()
    start = {".obj": b"#", ".ply": b"ply\n", ".glb": b"glTF"}[suffix.lower()]
    assert content.startswith(start)
    assert b"person" in content


def test_a_glb_file_has_the_persons_mesh(person):
    vertices, faces = Glb(person.to_glb()).still(0)
    np.testing.assert_allclose(vertices, person.vertices * (1, -1, -1), atol=1e-5)
    np.testing.assert_array_equal(faces, BODY.faces)


def test_a_person_is_shown_in_one_short_line(person):
    assert (
        repr(person) == "Person(box=(150, 60, 250, 240), id=7, frame=12, score=0.75, 60 vertices)"
    )
    assert repr(make_person(BODY)) == "Person(box=(150, 60, 250, 240), 60 vertices)"
    assert "frame=1234567," in repr(make_person(BODY, frame=1234567))


def test_unknown_suffixes_and_missing_faces_are_refused(person, tmp_path):
    with pytest.raises(UserError, match=r"person\.stl"):
        person.save(tmp_path / "person.stl")
    bare = dataclasses.replace(person, faces=None)
    with pytest.raises(UserError, match="faces"):
        bare.save(tmp_path / "person.glb")
    assert bare.to_glb(BODY.faces) == person.to_glb()
    assert list(tmp_path.iterdir()) == []


def test_the_overlay_has_the_photographs_size_and_the_body_in_its_place(person):
    large = np.full((2400, 3200, 3), 90, np.uint8)
    assert person.overlay(large).shape == large.shape
    drawn = person.overlay(PICTURE)
    assert drawn.shape == PICTURE.shape
    changed = (drawn != PICTURE).any(-1)
    x, y = np.nonzero(changed)[1].mean(), np.nonzero(changed)[0].mean()
    assert abs(x - 200) < 40
    assert abs(y - 150) < 40


def test_colour_follows_the_id(person):
    """A track has the same colour in every frame, whatever its index among the people."""
    sheet = dataclasses.replace(person, vertices=_sheet(), faces=np.array([[0, 1, 2], [0, 2, 3]]))
    drawn = sheet.overlay(PICTURE)[150, 200].astype(float)
    colour = np.array(BODY_COLOURS[7 % len(BODY_COLOURS)], float)
    below = 0.1 * 90
    lit = (drawn - below) / np.linalg.norm(drawn - below)
    assert lit @ (colour / np.linalg.norm(colour)) > 0.995


def test_the_side_and_back_view_has_two_panels(person):
    picture = person.side_and_back_view(200)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > 200
    assert picture.shape[1] == 2 * 150 + 4


def test_reading_people_loads_no_jax(person, tmp_path):
    person.save(tmp_path / "person.npz")
    code = (
        "import sys; from pare_jax.prediction.person import read_people;"
        "import pare_jax.prediction.page.index_page;"
        f"read_people({str(tmp_path / 'person.npz')!r}); print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def _sheet() -> np.ndarray:
    """Return a square that faces the camera at the photograph's centre."""
    corners = np.array([[-1.0, -1, 0], [-1, 1, 0], [1, 1, 0], [1, -1, 0]])
    return corners * 0.3 + (0, 0, 45.0)
