"""The MPII reader on broken or incomplete releases: skipped people and refusals."""

import json
import os
import re
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from data_pipelines.preparing import preparation
from data_pipelines.reading import storage
from data_pipelines.releases import mpii_bounds
from data_pipelines.releases.mpii import Mpii
from data_pipelines.releases.mpii_annotations import read_annotations
from data_pipelines.releases.release import Skipped
from pare_jax.errors import UserError
from pare_jax.skeleton import joint_index
from tests.data_pipelines.releases import mpii_release as mpii


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (mpii.person([mpii.point(3, (np.nan, 5.0))]), "joint without a finite position"),
        (mpii.person([mpii.point(3) | {"x": mpii.NOTHING}]), "joint without a finite position"),
        (mpii.person([mpii.point(3) | {"id": 16.0}]), "joint without a known id"),
        (mpii.person([mpii.point(3) | {"id": mpii.NOTHING}]), "joint without a known id"),
        (mpii.person(scale=np.nan), "scale or position not finite"),
        (mpii.person(scale=-1.0), "scale or position not finite"),
        (mpii.person(objpos=mpii.structs({"x": np.inf, "y": 3.0})), "scale or position not finite"),
        (
            mpii.person([mpii.point(3), mpii.point(4, (500.0, 100.0))]),
            "joint far outside the photograph",
        ),
        (
            mpii.person([mpii.point(3), mpii.point(4, (100.0, -90.0))]),
            "joint far outside the photograph",
        ),
        (
            mpii.person(objpos=mpii.structs({"x": 3e4, "y": 3.0})),
            "position far outside the photograph",
        ),
    ],
)
def test_broken_annotations_are_counted_and_the_others_kept(broken, reason, tmp_path):
    mpii.write_release(tmp_path, [mpii.image("one.jpg", broken, mpii.person())])
    (example,), skipped = mpii.read(tmp_path)
    assert example["person"] == 1
    assert skipped == [Skipped("one.jpg person 0", reason)]
    lines = Mpii(tmp_path).check()
    # Only the photograph shows whether a position is outside.
    assert len(lines) == ("outside" not in reason)
    assert all(reason in line and "one.jpg person 0" in line for line in lines)


@pytest.mark.parametrize("seen", [np.nan, "perhaps", mpii.NOTHING])
def test_a_visibility_that_is_no_number_is_unknown(seen, tmp_path):
    mpii.write_release(
        tmp_path, [mpii.image("one.jpg", mpii.person([mpii.point(3), mpii.point(4, seen=seen)]))]
    )
    (example,), skipped = mpii.read(tmp_path)
    assert skipped == []
    assert example["visible_weight"][joint_index("left_hip")] == 1
    assert example["visible_weight"][joint_index("left_knee")] == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "picture missing"),
        (lambda path: path.write_bytes(b""), "picture is no JPEG"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "picture cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:1500]), "picture cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:30]), "picture cut short"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "picture is no JPEG"),
        (lambda path: (path.unlink(), path.mkdir()), "picture unreadable"),
    ],
)
def test_broken_images_are_counted_for_each_person(spoil, reason, tmp_path):
    images = [
        mpii.image("one.jpg", mpii.person(), mpii.person()),
        mpii.image("two.jpg", mpii.person()),
    ]
    mpii.write_release(tmp_path, images)
    spoil(tmp_path / "images" / "one.jpg")
    (example,), skipped = mpii.read(tmp_path)
    assert example["sequence"] == "two.jpg"
    assert skipped == [Skipped(f"one.jpg person {number}", reason) for number in (0, 1)]


def test_a_replaced_picture_is_read_again(tmp_path):
    mpii.write_release(
        tmp_path / "raw",
        [mpii.image("one.jpg", mpii.person()), mpii.image("two.jpg", mpii.person())],
    )
    path = tmp_path / "raw" / "images" / "one.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    (problem,) = Mpii(tmp_path / "raw").check()
    assert "1 of 2" in problem
    assert "one.jpg" in problem
    with pytest.raises(UserError, match="picture cut short"):
        preparation.prepare(Mpii(tmp_path / "raw"), tmp_path / "data", workers=1)
    path.write_bytes(whole)
    preparation.prepare(Mpii(tmp_path / "raw"), tmp_path / "data", workers=1)
    prepared = storage.find_dataset(tmp_path / "data", "mpii")
    report = json.loads((prepared / "skipped.json").read_text())
    assert sum(split["kept"] for split in report.values()) == 2


def test_a_thumbnail_and_trailing_bytes_do_not_affect_the_check_for_cut_files(tmp_path):
    mpii.write_release(tmp_path, [mpii.image("one.jpg", mpii.person())])
    path = tmp_path / "images" / "one.jpg"
    whole = path.read_bytes()
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path.write_bytes(whole[:2] + segment + whole[2:] + b"\0\0\0")
    assert len(mpii.read(tmp_path)[0]) == 1
    path.write_bytes(whole[:2] + segment + whole[2:-300])
    assert [skip.reason for skip in mpii.read(tmp_path)[1]] == ["picture cut short"]


def test_check_names_missing_images(tmp_path):
    images = [mpii.image(f"{n}.jpg", mpii.person()) for n in range(4)] + [mpii.image("empty.jpg")]
    mpii.write_release(tmp_path, images)
    assert Mpii(tmp_path).check() == []
    for name in ("1.jpg", "3.jpg", "empty.jpg"):
        (tmp_path / "images" / name).unlink()
    (line,) = Mpii(tmp_path).check()
    assert "2 of 4" in line
    assert "1.jpg" in line
    assert "mpii_human_pose_v1.tar.gz" in line


def test_another_folder_is_refused_and_the_missing_files_are_named(tmp_path):
    for ask in (Mpii(tmp_path).check, lambda: Mpii(tmp_path).units("train")):
        with pytest.raises(UserError, match=r"u12_1\.mat and images; unpack .*tar\.gz"):
            ask()
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"mpii_human_pose_v1_u12_2/\S+\.mat; unpack") as raised:
        Mpii(tmp_path).check()
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"\x0e\0\0\0\xff\xff\0\0" * 4,
        b"\x89HDF\r\n\x1a\n".ljust(600, b"\0"),
        b"nonsense" * 100,
        "cut",
    ],
)
def test_an_unreadable_mat_file_is_named(content, tmp_path):
    mat = mpii.write_release(tmp_path, [mpii.image("one.jpg", mpii.person())])
    mat.write_bytes(mat.read_bytes()[:-100] if content == "cut" else content)
    with pytest.raises(UserError, match=r"mpii_human_pose_v1_u12_2\.zip") as raised:
        Mpii(tmp_path).check()
    assert str(mat) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({"annolist": 3.0}, r"\b0\b.*\b1\b.*img_train"),
        ({"img_train": np.ones((1, 2))}, r"\b1\b.*\b2\b.*img_train"),
        ({"img_train": np.zeros((1, 1))}, ""),
        ({"img_train": "?"}, "RELEASE"),
        ({"single_person": mpii.cells([1], [1])}, r"\b1\b.*\b2\b.*single_person"),
    ],
)
def test_another_struct_is_refused(changes, details, tmp_path):
    mat = mpii.write_release(tmp_path, [mpii.image("one.jpg", mpii.person())], **changes)
    with pytest.raises(UserError, match=re.escape(str(mat)) + ".*" + details):
        Mpii(tmp_path).check()


def element(kind: int, content: bytes) -> bytes:
    """Return an element of a MATLAB file."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def cells(depth: int) -> bytes:
    """Return a file with cells in cells; scipy ignores their lengths, which are too small."""
    start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1))
    levels = [struct.pack("<II", 14, 8) + start + element(1, name) for name in [b"RELEASE", b""]]
    body = levels[0] + levels[1] * depth
    return mat_file(struct.pack("<II", 14, len(body) - 8) + body[8:])


def mat_file(content: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + content


def compressed_zeros(size: int) -> bytes:
    writer, piece = zlib.compressobj(1), bytes(1 << 24)
    parts = [writer.compress(piece) for _ in range(size // len(piece))]
    return mat_file(element(15, b"".join([*parts, writer.flush()])))


@pytest.mark.parametrize(
    ("content", "reason"), [(cells(200_000), "scipy"), (compressed_zeros(5 << 28), "1 GiB")]
)
def test_a_mat_file_that_would_crash_scipy_or_take_all_memory(content, reason, tmp_path):
    path = tmp_path / "deep.mat"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"deep\.mat") as caught:
        read_annotations(path)
    assert reason in str(caught.value)


def test_a_mat_file_of_any_size_is_not_read_whole(tmp_path):
    path = tmp_path / "large.mat"
    path.write_bytes(mat_file(b""))
    os.truncate(path, (1 << 30) + 1)  # takes no space on the disk
    tracemalloc.start()
    with pytest.raises(UserError, match=r"large\.mat.*1 GiB"):
        read_annotations(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_mat_file_that_scipy_never_finishes(tmp_path, monkeypatch):
    path = tmp_path / "slow.mat"
    path.write_bytes(cells(2000))
    monkeypatch.setattr(mpii_bounds, "_PATIENCE", 0.01)
    with pytest.raises(UserError, match=r"slow\.mat.*0\.01 s") as caught:
        read_annotations(path)
    assert "\n" not in str(caught.value)


def test_a_mat_file_without_the_release_is_refused(tmp_path):
    mat = mpii.write_release(tmp_path, [mpii.image("one.jpg", mpii.person())])
    savemat(mat, {"OTHER": 1.0})
    with pytest.raises(UserError, match="RELEASE"):
        Mpii(tmp_path).check()
