"""Uploads are read or refused, and removed."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pare_jax.demo import uploads
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError

ROOT = Path(__file__).parents[2]
# Reads an upload in a process that has read no other picture.
FIRST = """
import sys
from pare_jax.demo import uploads
from pare_jax.errors import UserError

uploads.MAX_UPLOAD_PIXELS = 10_000
with uploads.UploadFolder() as folder, open(sys.argv[1], "rb") as file:
    try:
        folder.take({"path": folder.store(file, "a browser"), "orig_name": "IMG_1.HEIC"})
    except UserError as error:
        print(error)
"""


@pytest.fixture
def folder():
    with UploadFolder() as folder:
        yield folder


def upload(folder, picture=None, name="me.png", content=None):
    """Store an upload; returns the browser's description."""
    if content is None:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, Path(name).suffix[1:].replace("jpg", "jpeg"))
        content = buffer.getvalue()
    return {"path": folder.store(io.BytesIO(content), "a browser"), "orig_name": name}


def test_an_upload_is_read_and_removed(folder):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    name, photograph = folder.take(upload(folder, picture))
    assert name == "me.png"
    np.testing.assert_array_equal(photograph.image, picture)
    assert not list(folder.path.iterdir())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xff"])
def test_a_broken_upload_is_named_as_the_user_did_and_removed(folder, content):
    with pytest.raises(UserError) as caught:
        folder.take(upload(folder, name="cv.jpg", content=content))
    assert "'cv.jpg'" in str(caught.value)
    assert str(folder.path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(folder.path.iterdir())


def test_too_many_pixels_are_refused_or_reduced(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOAD_PIXELS", 10_000)
    picture = np.zeros((200, 100, 3), np.uint8)
    with pytest.raises(UserError, match=r"me\.png.*100 x 200"):
        folder.take(upload(folder, picture))
    _, photograph = folder.take(upload(folder, picture, "me.jpg"))
    assert photograph.image.shape == (100, 50, 3)
    assert photograph.size == (100, 200)
    assert not list(folder.path.iterdir())


def test_other_files_are_neither_read_nor_removed(folder, tmp_path):
    outside = tmp_path / "mine.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(outside)
    own = folder.write("example.png", outside.read_bytes())
    link = folder.path / "link.png"
    link.symlink_to(outside)
    roundabout = folder.path / ".." / folder.path.name / ".." / ".." / outside
    upload_ = Path(upload(folder, content=b"mine")["path"])
    for path in (outside, own, link, roundabout, folder.path, upload_.parent, "/dev/zero", 3, [3]):
        with pytest.raises(UserError):
            folder.take({"path": path if isinstance(path, int | list) else str(path)})
    assert upload_.exists()
    assert outside.exists()
    assert own.exists()


@pytest.mark.parametrize("nothing", [None, {}, {"path": None}, {"path": ""}, "a", 3, [1]])
def test_no_upload_is_refused(folder, nothing):
    with pytest.raises(UserError):
        folder.take(nothing)


def test_old_uploads_are_removed_and_the_pages_own_files_stay():
    with UploadFolder(oldest=0.0, every=0.05) as folder:
        own = folder.write("example.png", b"own")
        left = folder.write("person.glb", b"glTF", "a visit")
        end = time.monotonic() + 10
        while left.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert own.exists()


def test_the_folder_is_private_and_removed_at_exit():
    with UploadFolder() as folder:
        assert folder.path.stat().st_mode & 0o077 == 0
        folder.write("body.glb", b"glTF")
    assert not folder.path.exists()


def test_a_phones_jpeg_with_a_second_picture_is_reduced_as_a_jpeg_is(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOAD_PIXELS", 10_000)
    buffer = io.BytesIO()
    second = Image.new("RGB", (60, 50))
    Image.new("RGB", (200, 100)).save(buffer, "MPO", save_all=True, append_images=[second])
    _, photograph = folder.take(upload(folder, name="phone.jpg", content=buffer.getvalue()))
    assert photograph.image.shape == (50, 100, 3)


def test_formats_that_run_other_programs_are_refused(folder):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    with pytest.raises(UserError, match=r"me\.eps.*EPS"):
        folder.take(upload(folder, name="me.eps", content=content))


def test_files_are_removed_with_their_owner(folder):
    first = folder.store(io.BytesIO(b"first"), "one")
    second = folder.store(io.BytesIO(b"second"), "two")
    assert folder.is_upload(first, "one")
    assert not folder.is_upload(first, "two")
    assert Path(first).parent != Path(second).parent
    folder.forget("one")
    assert folder.owner(first) is None
    with pytest.raises(FileNotFoundError):
        folder.read(first)
    assert folder.read(second) == b"second"
    assert not Path(first).exists()


def test_the_first_heic_may_have_no_more_pixels_than_later_ones(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    file = tmp_path / "photo.heic"
    heif.from_pillow(Image.new("RGB", (200, 100))).save(file)
    found = subprocess.run(
        [sys.executable, "-c", FIRST, str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'IMG_1.HEIC' has 200 x 100 pixels" in found.stdout
    assert found.stderr == ""


def test_pillows_warnings_do_not_reach_the_terminal(folder, recwarn):
    buffer = io.BytesIO()
    second = Image.new("RGB", (60, 50))
    Image.new("RGB", (200, 100)).save(buffer, "MPO", save_all=True, append_images=[second])
    content = buffer.getvalue()
    start = content.index(b"MPF\0") + 4
    broken = content[:start] + b"\xff" * 30 + content[start + 30 :]
    _, photograph = folder.take(upload(folder, name="phone.jpg", content=broken))
    assert photograph.image.shape == (100, 200, 3)
    assert [str(warning.message) for warning in recwarn.list] == []


def test_nobody_can_fill_the_folder_for_others(folder):
    for _ in range(uploads.MAX_FILES_OF_ONE):
        folder.store(io.BytesIO(b"x"), "one")
    with pytest.raises(UserError):
        folder.store(io.BytesIO(b"x"), "one")
    # A visitor who deletes the cookie counts as another one.
    for number in range(uploads.MAX_FILES):
        last = folder.store(io.BytesIO(b"x"), f"one {number}")
    assert folder.read(last) == b"x"
    assert len([path for path in folder.path.rglob("*") if path.is_file()]) == uploads.MAX_FILES


def test_a_new_body_replaces_the_visits_earlier_one(folder):
    example = folder.write("person.glb", b"everybody's")
    other = folder.write("person.glb", b"another visit's", "another visit")
    first = folder.write("person.glb", b"first", "a visit")
    second = folder.write("person.glb", b"second", "a visit")
    assert not first.exists()
    assert folder.owner(str(first)) is None
    assert [path.exists() for path in (example, other, second)] == [True] * 3
    folder.write("person.glb", b"everybody's")
    assert example.exists()
