"""The camera of the whole photograph: --focal, --fov, EXIF tags, and what depends on them."""

import json

import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io.images import read_image
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.focal_length import FocalFlags, given_focal_length
from pare_jax.prediction.person import read_people
from pare_jax.prediction.scene import scene_meshes, scene_translation
from tests.meshes.glb_reader import Glb
from tests.prediction.made_up_people import make_person, small_body
from tests.prediction.predict_fakes import photo_with_spots

OUTPUTS = "--outputs=npz,json,glb,overlay"


@pytest.fixture
def photo(tmp_path):
    """A photograph of 400 x 300 pixels from a lens of 35 mm: 404.5 pixels."""
    about = Image.Exif()
    about.get_ifd(0x8769)[0xA405] = 35
    path = tmp_path / "a.jpg"
    Image.fromarray(photo_with_spots((150.0, 150.0))).save(path, exif=about, quality=95)
    return path


@pytest.fixture
def plain(photo, tmp_path):
    """The same pixels without tags."""
    path = tmp_path / "plain" / "a.jpg"
    path.parent.mkdir()
    Image.open(photo).save(path, quality=95)
    return path


def described(output):
    (person,) = json.loads((output / "a.json").read_text())["people"]
    return person["camera"]["full_image"], person


@pytest.mark.parametrize(
    ("flags", "tags", "pixels", "source"),
    [
        ([], False, 500.0, "assumed"),
        ([], True, 35 / 43.2666 * 500, "exif"),
        (["--focal=800"], True, 800.0, "flag"),
        (["--fov=90"], True, 200.0, "flag"),
    ],
)
def test_distances_are_proportional_to_the_focal_length(
    command, photo, plain, flags, tags, pixels, source
):
    path = photo if tags else plain
    status, _, errors, output = command(OUTPUTS, *flags, path)
    assert (status, errors) == (0, [])
    full, person = described(output)
    assert full["focal_length_px"] == pytest.approx(pixels, abs=0.01)
    assert full["focal_length_from"] == source
    own = person["camera"]
    per_pixel = own["translation_m"][2] / own["focal_length_px"]
    assert full["translation_m"][2] == pytest.approx(pixels * per_pixel, rel=1e-4)
    found = read_people(output / "a.npz")
    assert found.full_camera is not None
    assert found.full_camera.focal_length == pytest.approx(pixels, rel=1e-5)
    assert found.full_translations is not None
    np.testing.assert_allclose(found.full_translations[0], full["translation_m"], atol=1e-3)
    # People that are read again stand where they stood.
    (again,) = found.people
    assert again.full_focal_length_from == source
    place = scene_translation(again, (400, 300))
    np.testing.assert_allclose(place, full["translation_m"], atol=1e-3)
    glb = Glb((output / "a.glb").read_bytes())
    (body,) = [n for n, node in enumerate(glb.scene["nodes"]) if "skin" in node]
    (mesh,) = scene_meshes([again], (400, 300))
    np.testing.assert_allclose(glb.posed(body, 0.0), mesh.vertices * (1, -1, -1), atol=1e-3)


def test_the_overlay_does_not_move(command, plain):
    pictures = []
    for flags in ([], ["--focal=1500"]):
        output = command(OUTPUTS, *flags, plain)[3]
        pictures.append((output / "a_overlay.jpg").read_bytes())
        joints = read_people(output / "a.npz").people[0].joints_2d
        np.testing.assert_allclose(joints[0], (150, 150), atol=2.0)
    assert pictures[0] == pictures[1]


def test_another_focal_length_predicts_again(command, plain):
    for flags, before in (([], 0), (["--focal=800"], 0), (["--focal=800"], 1), (["--fov=60"], 0)):
        printed = command("--outputs=json", *flags, plain)[1]
        assert any("1 by an earlier run" in line for line in printed) == bool(before), flags


def test_a_reduced_photograph_keeps_the_focal_length_of_its_file(command, tmp_path, monkeypatch):
    from pare_jax.prediction.run import photographs

    def smaller(path):
        return read(path, max_pixels=150 * 200)

    read = photographs.read_photograph
    monkeypatch.setattr(photographs, "read_photograph", smaller)
    large = Image.fromarray(photo_with_spots((150.0, 150.0))).resize((800, 600))
    about = Image.Exif()
    about.get_ifd(0x8769)[0xA405] = 35
    large.save(tmp_path / "a.jpg", exif=about)
    output = command("--outputs=json", tmp_path / "a.jpg")[3]
    assert described(output)[0]["focal_length_px"] == pytest.approx(35 / 43.2666 * 1000, abs=0.01)


def test_a_clip_takes_the_flag(command, tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 20) as writer:
        for number in range(10):
            writer.write(photo_with_spots((150.0 + number, 150.0)))
    depths = []
    for flags in ([], ["--focal=1000"]):
        output = command("--outputs=npz,json,glb", *flags, tmp_path / "clip.mp4")[3]
        (track,) = output.glob("clip_track_*.npz")
        found = read_people(track)
        assert found.full_translations is not None
        depths.append(found.full_translations[:, 2])
        (person, *_) = json.loads(track.with_suffix(".json").read_text())["people"]
        source = person["camera"]["full_image"]["focal_length_from"]
        assert source == ("flag" if flags else "assumed")
    np.testing.assert_allclose(depths[1], 2 * depths[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--focal=28"], "28"),
        (["--focal=1e9"], "1e+09"),
        (["--focal=-5"], "--focal=-5"),
        (["--focal=nan"], "--focal=nan"),
        (["--fov=0"], "--fov=0"),
        (["--fov=180"], "--fov=180"),
        (["--fov=60", "--focal=800"], "--fov"),
    ],
)
def test_values_that_no_lens_has_are_refused(command, plain, flags, shown):
    """28 is a lens in millimetres: the message says how many pixels that is."""
    status, _, (error,), _ = command("--outputs=json", *flags, plain)
    assert status == 2
    assert shown in error
    if flags == ["--focal=28"]:
        assert "a.jpg" in error
        assert f"{28 / 43.2666 * 500:.0f}" in error


def test_the_api_takes_the_focal_length(predictor, photo):
    image = read_image(photo)
    (plain,) = predictor(image)
    (person,) = predictor(image, focal_length=1000.0)
    assert (plain.full_focal_length, plain.full_focal_length_from) == (None, "assumed")
    assert (person.full_focal_length, person.full_focal_length_from) == (1000.0, "given")
    np.testing.assert_array_equal(person.joints_2d, plain.joints_2d)
    size = (400, 300)
    assert scene_translation(person, size)[2] == pytest.approx(
        2 * scene_translation(plain, size)[2]
    )
    several = predictor.batch([image, image], focal_lengths=[None, 700.0])
    assert [own[0].full_focal_length for own in several] == [None, 700.0]
    with pytest.raises(UserError, match="focal lengths: 1"):
        predictor.batch([image, image], focal_lengths=[700.0])
    with pytest.raises(UserError, match="28"):
        predictor(image, focal_length=28.0)


def test_a_walker_at_a_known_distance():
    """A body 300 pixels high, 1.5 m high, from a camera of 1000 pixels is 5 m away."""
    person = make_person(small_body(), x=200.0)
    per_pixel = person.translation[2] / person.focal_length
    focal_length = 5.0 / per_pixel
    known = given_focal_length(focal_length, (400, 300)).of(person)
    assert scene_translation(known, (400, 300))[2] == pytest.approx(5.0)
    assert FocalFlags(degrees=90.0).of_input((400, 300)).pixels == pytest.approx(200.0)
    assert FocalFlags(degrees=90.0).of_input((300, 400)).pixels == pytest.approx(200.0)
