"""The page of a run: its content, its files, and names that contain markup."""

import base64
import dataclasses
import re
import tempfile

import cv2
import numpy as np
import pytest

from pare_jax.body.numpy_body import vertices_and_joints
from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.io.images import encode_jpeg, encode_png
from pare_jax.io.video import VideoWriter
from pare_jax.meshes.mesh import to_viewer
from pare_jax.prediction.page import cards
from pare_jax.prediction.page import index_page as build
from pare_jax.prediction.page.entries import (
    Failure,
    PhotoEntry,
    RunPage,
    VideoEntry,
    entries_from_folder,
    entry_from_files,
)
from pare_jax.prediction.page.index_page import write_page
from pare_jax.prediction.person import people_json, people_npz
from pare_jax.prediction.scene import scene_meshes
from pare_jax.rendering.overlay import BODY_COLOURS
from tests.prediction.made_up_people import PHOTO_SIZE, make_person, make_track, small_body
from tests.prediction.page.page_reader import Page

BODY = small_body()
EVIL = '<script>alert("1")</script> & "\'.jpg'


def picture(seed: int = 0, height: int = 600, width: int = 800) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def photo(name: str = "street.jpg", count: int = 2, **changes) -> PhotoEntry:
    people = [make_person(BODY, i, 100.0 + 120 * i) for i in range(count)]
    return PhotoEntry(name, people, PHOTO_SIZE, picture(), [picture(5)] * count, **changes)


def clip(**changes) -> VideoEntry:
    frames = np.array([0, 1, 2, 3, 7, 8, 9])
    tracks = [make_track(BODY, frames, 3), make_track(BODY, frames[3:], 5)]
    return dataclasses.replace(VideoEntry("clip.mp4", tracks, 20, 25.0), **changes)


def page_html(run: RunPage, folder=None) -> str:
    if folder is not None:
        return write_page(run, folder).read_text()
    with tempfile.TemporaryDirectory() as folder:
        return write_page(run, folder).read_text()


def page_of(*entries, folder=None, **changes) -> Page:
    run = dataclasses.replace(RunPage("A run", entries, body=BODY), **changes)
    return Page(page_html(run, folder))


def test_the_summary_has_counts_and_failures():
    failures = [Failure("broken.jpg", "is empty"), Failure(EVIL, "<b>no</b> image")]
    page = page_of(
        photo(), photo(count=0), clip(), failures=failures, facts={"Network": "runs/<final>"}
    )
    assert "2 photographs and 1 video, 4 people." in page.text
    assert "2 failed" in page.text
    assert f"{EVIL}: <b>no</b> image" in page.text
    assert "runs/<final>" in page.text
    assert "Nobody was found." in page.text


def test_numbers_agree_with_their_nouns():
    assert "1 photograph, 1 person." in page_of(photo(count=1)).text
    assert "1 video, 2 people." in page_of(clip()).text
    assert "0 photographs, 0 people." in page_of().text


def test_markup_in_names_is_shown_as_text():
    entries = [photo(EVIL), clip(name=EVIL)]
    page = page_of(*entries, title=EVIL, failures=[Failure(EVIL, EVIL)])
    assert sum(tag == "script" for tag, _ in page.elements) == len(page.scripts)
    assert not page.all("b") or page.text.count(EVIL) >= 5
    assert page.run["scenes"][0]["title"] == EVIL
    for image in page.all("img"):
        assert EVIL in image["alt"]
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]


def test_nothing_is_fetched(tmp_path):
    page = page_of(photo(), clip(picture=picture()), folder=tmp_path)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "poster", "srcset", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    code = page.scripts[""]
    for word in ("fetch(", "XMLHttpRequest", "import(", "http:", "https:", "innerHTML", "eval("):
        assert word not in code
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_every_picture_is_small_and_has_a_description():
    page = page_of(photo(), clip(picture=picture()))
    images = page.all("img")
    assert len(images) == 4
    for image in images:
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape[:2] == (int(image["height"]), int(image["width"]))
        assert max(decoded.shape[:2]) == 480
        assert image["alt"].strip()
    for button in page.all("button"):
        assert button["type"] == "button"


def test_bodies_of_photographs_are_the_scenes_meshes():
    entry = photo()
    page = page_of(entry)
    (scene,) = page.run["scenes"]
    for described, mesh in zip(
        scene["people"], scene_meshes(entry.people, PHOTO_SIZE), strict=True
    ):
        body = described["body"]
        steps = page.numbers(body["vertices"], "<u2").reshape(-1, 3) / 65535
        vertices = steps * body["size"] + body["low"]
        size = np.ptp(mesh.vertices, axis=0).max()
        np.testing.assert_allclose(vertices, to_viewer(mesh.vertices), atol=size / 65535 + 1e-5)
        np.testing.assert_array_equal(page.numbers(body["faces"], "<u2").reshape(-1, 3), BODY.faces)
        assert tuple(described["colour"]) == mesh.colour
    faces = {described["body"]["faces"] for described in scene["people"]}
    assert len(faces) == 1


def test_bodies_of_tracks_are_skinned_around_the_pelvis():
    entry = clip()
    page = page_of(entry)
    scene = page.run["scenes"][0]
    assert scene["frames"] == [0, 1, 2, 3, 7, 8, 9]
    assert scene["rate"] == 25.0
    body = scene["people"][0]["body"]
    rest = page.numbers(body["vertices"], "<u2").reshape(-1, 3) / 65535
    rest = np.column_stack([rest * body["size"] + body["low"], np.ones(len(rest))])
    skin = page.numbers(body["skin"], "u1").reshape(-1, 8)
    weights = skin[:, 4:] / skin[:, 4:].sum(1, keepdims=True)
    matrices = page.numbers(body["matrices"], "<f4").reshape(-1, 24, 3, 4)
    for row, person in enumerate(entry.tracks[0]):
        blended = np.einsum("vk,vkij->vij", weights, matrices[row][skin[:, :4].astype(int)])
        got = np.einsum("vij,vj->vi", blended, rest)
        vertices, joints = vertices_and_joints(BODY, person.betas, person.rotations)
        # Weights are rounded to 1/255.
        np.testing.assert_allclose(got, to_viewer(vertices - joints[0]), atol=0.02)
    assert page.run["scenes"][1]["people"][0]["body"]["skin"] == body["skin"]


def test_a_tracks_bar_shows_the_frames_with_the_person():
    page = page_of(clip())
    assert "7 of 20 frames" in page.text
    assert "0.8 s at 25 frames/s" in page.text
    bars = [bar["style"] for bar in page.all("i")]
    assert bars[0].startswith("left:0.00%;width:20.00%")
    assert bars[1].startswith("left:35.00%;width:15.00%")
    labels = [bar["aria-label"] for bar in page.all("span") if bar.get("role") == "img"]
    assert labels[0] == "person 3: frames 0 to 9, seen in 7"


def test_meshes_and_numbers_are_linked(tmp_path):
    """In one order, with their kinds, if they exist; also in names that a URL must quote."""
    write_run(tmp_path)
    for name in ("b.glb", "b.obj", "clip_track_2.glb"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "clip_track_2_obj").mkdir()
    photograph = entry_from_files(tmp_path, "b")
    moving = entry_from_files(tmp_path, "clip")
    assert [path.name for path in photograph.files] == ["b.glb", "b.obj", "b.npz", "b.json"]
    page = Page(page_html(RunPage("x", [photograph, moving], body=BODY), tmp_path))
    assert "Files: GLB, OBJ, NPZ, JSON" in page.text
    assert "Files of person 2: GLB, NPZ, OBJ folder" in page.text
    assert "Files of person 10: NPZ" in page.text
    links = [link["href"] for link in page.all("a")]
    for name in ("b.glb", "b.obj", "b.npz", "b.json", "clip_track_2.glb", "clip_track_2_obj"):
        assert f"./{name}" in links
    strange = tmp_path / "a b#1.npz"
    strange.write_bytes(b"x")
    page = page_of(photo(files=[strange, tmp_path.parent / "elsewhere.npz"]), folder=tmp_path)
    assert [link["href"] for link in page.all("a")] == ["./a%20b%231.npz"]


def test_people_have_their_colours_and_numbers_in_a_legend():
    page = page_of(photo(count=3), photo(count=1))
    swatches = [element["style"] for element in page.all("i")]
    colours = [f"background:rgb({','.join(map(str, colour))})" for colour in BODY_COLOURS[:3]]
    assert swatches == [*colours, colours[0]]
    assert "person 0person 1person 2" in page.text


def test_the_counts_of_the_summary_are_explained():
    page = page_of(photo(), photo(count=0), clip())
    assert "Without people: 1." in page.text
    assert "A person of a video counts once" in page.text
    assert "colours repeat after 6 people" in page.text
    assert "video counts once" not in page_of(photo()).text
    assert "Without people" not in page_of(photo()).text


def test_a_warning_is_the_first_thing_below_the_title(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ENTRIES_A_PAGE", 1)
    run = RunPage("A run", [photo(count=1), photo(count=1)], warning="do not <trust> it")
    write_page(run, tmp_path)
    for name in ("index.html", "index_2.html"):
        page = Page((tmp_path / name).read_text())
        (warning,) = [p for p in page.all("p") if p.get("class") == "warning"]
        assert warning["role"] == "note"
        below = page.text.rpartition("A run")[2]
        assert below.strip().startswith("Warning: do not <trust> it.")
    assert "warning" not in [p.get("class") for p in page_of(photo()).all("p")]


def test_the_3d_view_needs_vertices_or_the_body_model():
    entry = clip()
    assert any("data-scene" in b for b in page_of(entry).all("button"))
    assert not any("data-scene" in b for b in page_of(entry, body=None).all("button"))
    bare = [dataclasses.replace(p, vertices=np.zeros((0, 3)), faces=None) for p in photo().people]
    entry = PhotoEntry("a.jpg", bare, PHOTO_SIZE)
    assert not any("data-scene" in b for b in page_of(entry, body=None).all("button"))
    # With the body model, people without vertices are posed again.
    again, whole = page_of(entry), page_of(photo())
    for scene, other in zip(again.run["scenes"], whole.run["scenes"], strict=True):
        for person, wanted in zip(scene["people"], other["people"], strict=True):
            np.testing.assert_allclose(person["body"]["low"], wanted["body"]["low"], atol=1e-4)


def test_joints_are_in_pixels_and_relative_to_the_pelvis():
    entry = photo(count=1)
    (scene,) = page_of(entry).run["scenes"]
    joints = np.array(scene["people"][0]["joints"])
    person = entry.people[0]
    np.testing.assert_allclose(joints[:, :2], person.joints_2d, atol=0.051)
    np.testing.assert_allclose(joints[:, 2:], person.joints_3d - person.joints_3d[0], atol=6e-4)


def test_a_small_video_is_embedded_and_a_large_one_linked(tmp_path, monkeypatch):
    video = tmp_path / "a clip#1_overlay.mp4"
    video.write_bytes(b"0" * 1000)
    entry = clip(video=video, picture=picture())
    (player,) = page_of(entry, folder=tmp_path).all("video")
    assert player["src"].startswith("data:video/mp4;base64,")
    monkeypatch.setattr(cards, "EMBEDDED_VIDEO_LIMIT", 999)
    (player,) = page_of(entry, folder=tmp_path).all("video")
    assert player["src"] == "./a%20clip%231_overlay.mp4"
    assert player["poster"].startswith("data:image/jpeg")
    assert player["aria-label"]


def test_a_track_shows_its_own_side_and_attention(tmp_path):
    """The second person has a video from the side, the first a sheet of attention."""
    write_run(tmp_path)
    side, sheet = tmp_path / "clip_track_10_side.webm", tmp_path / "clip_track_2_attention.jpg"
    with VideoWriter(side.with_suffix(".mp4"), 10) as writer:
        writer.write(picture())
    side.with_suffix(".mp4").rename(side)  # earlier versions wrote .webm
    sheet.write_bytes(encode_jpeg(picture(3)))
    moving = next(e for e in entries_from_folder(tmp_path) if isinstance(e, VideoEntry))
    assert moving.sides == [None, side]
    assert moving.attention == [sheet, None]
    page = Page(page_html(RunPage("x", [moving], body=BODY), tmp_path))
    assert "From the person's left and from behind, person 10" in page.text
    assert "Attention, person 2" in page.text
    assert page.text.count("from behind") == page.text.count("Attention") == 1
    assert [link["href"] for link in page.all("a")] == [
        "./clip_track_2.npz",
        "./clip_track_2_attention.jpg",
        "./clip_track_10.npz",
    ]
    labels = [video["aria-label"] for video in page.all("video")]
    assert labels[-1] == "The body of person 10 in clip from the person's left and from behind"


def test_the_size_is_what_the_documentation_says():
    """A person takes 100 kB: 12,272 vertices of six bytes, in base64."""
    one = len(page_html(RunPage("a", [photo(count=1)])))
    two = len(page_html(RunPage("a", [photo(count=1), photo(count=1)])))
    assert two - one < 150_000
    many = page_html(RunPage("a", (photo(f"{i}.jpg", 1) for i in range(20))))
    assert len(many) < one + 20 * 150_000


def write_run(folder) -> None:
    """Write the output files of three photographs and a clip."""
    people = [make_person(BODY, i, 100.0 + 120 * i) for i in range(2)]
    files = {
        "b.npz": people_npz(people, BODY.faces, PHOTO_SIZE),
        "b.json": people_json(people, "holiday/b <1>.jpg", PHOTO_SIZE).encode(),
        "b_overlay.png": encode_png(picture()),
        "b_attention_0.png": encode_png(picture(1)),
        "b_attention_1.png": encode_png(picture(2)),
        "a.npz": people_npz([], BODY.faces, PHOTO_SIZE),
        "b_2.npz": people_npz(people[:1], BODY.faces, PHOTO_SIZE),
    }
    for number in (2, 10):
        track = make_track(BODY, [0, 1, 4], number)
        files[f"clip_track_{number}.npz"] = people_npz(
            track, BODY.faces, PHOTO_SIZE, frame_rate=12.5, mesh=False
        )
    write_together(folder, files)


def test_the_page_is_made_from_the_runs_output_files(tmp_path):
    write_run(tmp_path)
    entries = list(entries_from_folder(tmp_path))
    assert [entry.name for entry in entries] == ["a", "b <1>.jpg", "b_2", "clip"]
    nobody, two, one, moving = entries
    assert (len(nobody.people), len(two.people), len(one.people)) == (0, 2, 1)
    assert two.photo_size == PHOTO_SIZE
    assert [path.name for path in two.attention] == ["b_attention_0.png", "b_attention_1.png"]
    assert one.attention == []
    assert isinstance(moving, VideoEntry)
    assert [track[0].id for track in moving.tracks] == [2, 10]
    assert (moving.frame_count, moving.frame_rate) == (5, 12.5)
    path = write_page(RunPage("again", entries_from_folder(tmp_path), body=BODY), tmp_path)
    assert path == tmp_path / "index.html"
    page = Page(path.read_text())
    assert "3 photographs and 1 video, 5 people." in page.text
    links = [link["href"] for link in page.all("a")]
    assert links == [
        *["./a.npz", "./b_overlay.png", "./b.npz", "./b.json"],
        *["./b_attention_0.png", "./b_attention_1.png", "./b_2.npz"],
        *["./clip_track_2.npz", "./clip_track_10.npz"],
    ]
    fresh = [dataclasses.replace(two, picture=picture(), attention=[picture(1), picture(2)])]
    kept, new = Page(page_html(RunPage("x", [two]), tmp_path)), page_of(*fresh)
    np.testing.assert_array_equal(kept.run["scenes"], new.run["scenes"])
    assert kept.all("img") == new.all("img")


def test_a_tracks_meshes_are_not_read(tmp_path):
    """A long clip's meshes take gigabytes, and the page poses the body model instead."""
    track = make_track(BODY, [0, 1], 2)
    write_together(tmp_path, {"clip_track_2.npz": people_npz(track, BODY.faces, PHOTO_SIZE)})
    (entry,) = entries_from_folder(tmp_path)
    assert isinstance(entry, VideoEntry)
    assert [person.vertices.shape for person in entry.tracks[0]] == [(0, 3), (0, 3)]


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "gone"))):
        list(entries_from_folder(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone\.npz"):
        entry_from_files(tmp_path, "gone")
    write_run(tmp_path)
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match=r"b\.json"):
        entry_from_files(tmp_path, "b")
    assert entry_from_files(tmp_path, "b", title="mine").name == "mine"


def test_a_picture_that_cannot_be_read_is_a_failure(tmp_path):
    write_run(tmp_path)
    (tmp_path / "b_overlay.png").write_bytes(b"")
    entry = entry_from_files(tmp_path, "b", title="mine")
    failures = []
    path = write_page(RunPage("a", [entry]), tmp_path, failures.append)
    (failure,) = failures
    assert failure.name == "mine"
    assert "b_overlay.png is empty" in failure.reason
    page = path.read_text()
    assert "b_overlay.png is empty" in page
    assert "Bodies drawn over" not in page


def test_many_entries_are_split_over_several_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ENTRIES_A_PAGE", 3)
    other = "<title>mine</title>"
    (tmp_path / "index_5.html").write_text(other)

    def pages(count: int) -> list[Page]:
        run = RunPage("x", (photo(f"{i}.jpg", 1) for i in range(count)), facts={"Network": "n"})
        write_page(run, tmp_path)
        names = ["index.html", *(f"index_{n}.html" for n in range(2, 9))]
        texts = [(tmp_path / name).read_text() for name in names if (tmp_path / name).exists()]
        return [Page(text) for text in texts if text != other]

    first, second, third = pages(8)
    assert "8 photographs, 8 people." in first.text
    assert [link["href"] for link in first.all("a")] == ["index_2.html", "index_3.html"]
    assert "4 to 6" in second.text
    links = [link["href"] for link in second.all("a")]
    assert links == ["index.html", "index.html", "index_3.html"]
    assert [link["href"] for link in third.all("a")] == ["index.html", "index_2.html"]
    for page, names in ((first, "012"), (second, "345"), (third, "67")):
        assert [scene["title"] for scene in page.run["scenes"]] == [f"{n}.jpg" for n in names]
    # A shorter run removes the further pages of a longer one, but no file that we did not write.
    assert len(pages(3)) == 1
    assert (tmp_path / "index_5.html").read_text() == other


def test_photographs_show_their_bodies_from_the_side(tmp_path):
    write_run(tmp_path)
    assert entry_from_files(tmp_path, "b").side is None
    (tmp_path / "b_side.jpg").write_bytes(encode_jpeg(picture(3)))
    entry = entry_from_files(tmp_path, "b")
    assert entry.side == tmp_path / "b_side.jpg"
    page = Page(page_html(RunPage("x", [entry], body=BODY), tmp_path))
    assert page.text.count("From the person's left and from behind") == 1
    assert "./b_side.jpg" in [link["href"] for link in page.all("a")]
