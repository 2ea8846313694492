"""Uploads are read or refused, and removed."""

import time

import numpy as np
import pytest
from PIL import Image

from pare_jax.demo import uploads
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError


@pytest.fixture
def folder():
    with UploadFolder() as folder:
        yield folder


def upload(folder, picture=None, name="me.png", content=None):
    """Write a file as gradio does for an upload; returns the browser's description."""
    path = folder.path / "0123abcd" / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        Image.fromarray(picture).save(path)
    else:
        path.write_bytes(content)
    return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


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
    folder.keep_present_files()
    link = folder.path / "link.png"
    link.symlink_to(outside)
    roundabout = folder.path / ".." / folder.path.name / ".." / ".." / outside
    for path in (outside, own, link, roundabout, folder.path):
        with pytest.raises(UserError):
            folder.take({"path": str(path), "orig_name": "x.png"})
    assert outside.exists()
    assert own.exists()


@pytest.mark.parametrize("nothing", [None, {}, {"path": None}, {"path": ""}])
def test_no_upload_is_refused(folder, nothing):
    with pytest.raises(UserError):
        folder.take(nothing)


def test_old_uploads_are_removed_and_the_pages_own_files_stay():
    with UploadFolder(oldest=0.0, every=0.05) as folder:
        own = folder.write("example.png", b"own")
        folder.keep_present_files()
        left = folder.write("half", b"half of an upload")
        assert folder.left_behind() in ([left], [])
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
