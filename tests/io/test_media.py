"""Finding inputs by their names, and reading the frames of clips."""

import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io import file_kinds
from pare_jax.io.images import encode_png
from pare_jax.io.media import (
    Clip,
    FrameReader,
    Photo,
    Webcam,
    find_clips,
    find_sources,
    numbered_frames,
)
from pare_jax.prediction.box_files import find_photos
from tests.ffmpeg import make_clip


def shade(number):
    return 30 + 6 * number


def save_clip(path, frames=30, rate=25.0, size=(64, 48), code="MJPG"):
    """Frame n is grey of brightness shade(n), its left upper quarter red."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), rate, size)
    for number in range(frames):
        image = np.full((size[1], size[0], 3), shade(number), np.uint8)
        image[: size[1] // 2, : size[0] // 2] = (0, 0, 255)
        writer.write(image)
    writer.release()
    return path


def numbers_of(frames):
    """Return the frames' numbers, and those that their brightness encodes."""
    shown = [(frame.image[-12:, -12:].mean() - 30) / 6 for frame in frames]
    return [frame.number for frame in frames], np.rint(shown).astype(int).tolist()


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_sources_are_in_the_arguments_order_without_duplicates(tmp_path):
    touch(tmp_path, "in/b.JPG", "in/a.mp4", "in/c.txt", "in/.d.jpg", "in/deep/e.png", "f.gif")
    folder, gif = str(tmp_path / "in"), str(tmp_path / "f.gif")
    found = find_sources([gif, folder, "webcam:2", str(tmp_path / "in/b.JPG"), "odd.MOV", "no"])
    assert [str(s) for s in found] == [
        gif,
        f"{folder}/a.mp4",
        f"{folder}/b.JPG",
        "webcam:2",
        "odd.MOV",
        "no",
    ]
    assert [type(s) for s in found] == [Photo, Clip, Photo, Webcam, Clip, Photo]
    assert [s.name for s in found][:4] == ["f", "a", "b", "webcam2"]


def test_patterns_are_expanded(tmp_path):
    touch(tmp_path, "a1.jpg", "a2.mp4", "a3.txt", "deep/er/a4.png", "x[1].jpg")
    names = [s.path.name for s in find_sources([str(tmp_path / "a*")]) if not isinstance(s, Webcam)]
    assert names == ["a1.jpg", "a2.mp4"]
    assert len(find_sources([str(tmp_path / "**/*.png")])) == 1
    # An existing file whose name looks like a pattern is that file.
    assert find_sources([str(tmp_path / "x[1].jpg")]) == [Photo(tmp_path / "x[1].jpg")]


def test_an_argument_without_files_is_refused_in_one_line(tmp_path):
    for arguments in ([], [str(tmp_path)], [str(tmp_path / "*.jpg")]):
        with pytest.raises(UserError) as refusal:
            find_sources(arguments)
        assert "\n" not in str(refusal.value)


def save_jpeg(path):
    Image.new("RGB", (40, 30)).save(path, "JPEG")


def left_out_of(*arguments):
    """Return the names of the inputs, and the lines about what is skipped."""
    lines = []
    found = find_sources(list(map(str, arguments)), on_left_out=lambda *about: lines.append(about))
    return [source.path.name for source in found if not isinstance(source, Webcam)], lines


def test_a_folder_of_a_phone_and_a_camera(tmp_path, monkeypatch):
    """Every picture and video is an input, or counted and named with the way out."""
    monkeypatch.setattr(file_kinds, "can_read_heif", lambda: False)
    for name in ("IMG_1.JPG", "IMG_2.jfif", "IMG_3", "IMG_4.HEIC", "IMG_5.CR2", "IMG_5.jpg"):
        save_jpeg(tmp_path / name)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for name in ("IMG_6.HEIC", "IMG_7.heif"):
        (tmp_path / name).write_bytes(heic)
    touch(tmp_path, "VID_1.3gp", "VID_2.WMV", "a.cr2", "b.nef", "c.psd", "notes.txt", "a.json")
    touch(tmp_path, "IMG_1.JPG_original", ".hidden.jpg", ".hidden.heic", "more/deep.cr2")
    names, lines = left_out_of(tmp_path)
    assert names == [
        *("IMG_1.JPG", "IMG_2.jfif", "IMG_3", "IMG_4.HEIC", "IMG_5.jpg"),
        *("VID_1.3gp", "VID_2.WMV"),
    ]
    assert {where for where, _ in lines} == {str(tmp_path)}
    (heif,) = [line for _, line in lines if "IMG_6.HEIC" in line]
    assert heif.startswith("2 ")
    assert "IMG_7.heif" in heif
    assert "pare-jax[heif]" in heif
    # A raw file whose JPEG is beside it is done.
    (raw,) = [line for _, line in lines if "a.cr2" in line]
    assert raw.startswith("2 ")
    assert "IMG_5" not in raw
    assert any("c.psd" in line for _, line in lines)
    assert len(lines) == 3
    assert left_out_of(tmp_path / "*")[0] == names


def test_a_folder_of_nothing_that_can_be_read_names_the_way_out(tmp_path):
    touch(tmp_path, "a.cr2", "b.CR2")
    for argument in (tmp_path, tmp_path / "*.cr2"):
        with pytest.raises(UserError, match=r"a\.cr2.*JPEG"):
            find_sources([str(argument)])


def test_content_decides_between_photographs_and_clips(tmp_path):
    save_jpeg(tmp_path / "photo.mp4")
    save_clip(tmp_path / "clip.avi", frames=2).rename(tmp_path / "clip.jpg")
    save_jpeg(tmp_path / "GOPR1.THM")
    found = [find_sources([str(path)]) for path in sorted(tmp_path.iterdir())]
    assert found == [
        [Photo(tmp_path / "GOPR1.THM")],  # a preview is read if it is named
        [Clip(tmp_path / "clip.jpg")],
        [Photo(tmp_path / "photo.mp4")],
    ]


def test_photographs_alone(tmp_path):
    touch(tmp_path, "a.jpg", "b.mp4")
    assert find_photos([str(tmp_path)]) == [tmp_path / "a.jpg"]
    with pytest.raises(UserError, match=r"b\.mp4"):
        find_photos([str(tmp_path / "b.mp4")])


def test_frames_come_in_order_with_their_times(tmp_path):
    path = save_clip(tmp_path / "clip.avi", rate=30000 / 1001)
    with FrameReader(Clip(path)) as reader:
        assert reader.frame_count == 30
        assert reader.size == (64, 48)
        frames = list(reader)
        assert reader.shortfall() is None
        assert reader.frames_read == 30
    assert reader.frame_rate == pytest.approx(29.97)  # OpenCV rounds the rate in the file
    assert numbers_of(frames) == (list(range(30)), list(range(30)))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 29.97, atol=1e-9)
    red = frames[5].image[10, 10].astype(int)
    assert red[0] > 200
    assert red[2] < 60


def test_rotation_in_the_file_is_applied(tmp_path):
    """A phone held upright stores a sideways image and a rotation matrix."""
    path = save_clip(tmp_path / "clip.mp4", code="mp4v", frames=5)
    content = bytearray(path.read_bytes())
    one = 1 << 16
    straight = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    place = content.index(straight, content.index(b"tkhd"))
    content[place : place + len(quarter)] = quarter
    path.write_bytes(content)
    with FrameReader(Clip(path)) as reader:
        assert reader.size == (48, 64)
        image = next(iter(reader)).image.astype(int)
    assert image.shape == (64, 48, 3)
    is_red = (image[..., 0] - image[..., 2]) > 100
    assert is_red[:28, 28:].all()  # Turned clockwise, the upper left is at the upper right.
    assert not is_red[36:].any()
    assert not is_red[:, :20].any()


def test_a_truncated_clip_is_read_up_to_its_end(tmp_path):
    path = save_clip(tmp_path / "clip.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with FrameReader(Clip(path)) as reader:
        frames = list(reader)
        message = reader.shortfall()
    assert 0 < len(frames) < 30
    assert numbers_of(frames)[0] == numbers_of(frames)[1]
    assert f"{len(frames)} of 30" in message
    assert "\n" not in message


KINDS = {
    "mp4": ("-c:v", "mpeg4"),
    "mkv": ("-c:v", "mpeg4"),
    "avi": ("-c:v", "mpeg4"),
    "flv": ("-c:v", "flv1"),
    "ogv": ("-c:v", "libtheora"),
    "wmv": ("-c:v", "wmv2"),
    "mpg": ("-c:v", "mpeg2video"),
    "ts": ("-c:v", "mpeg2video"),
    "m2ts": ("-c:v", "libx264", "-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "mxf": ("-c:v", "mpeg2video"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_file_is_known_by_its_content(tmp_path, kind):
    clip = make_clip(tmp_path / f"clip.{kind}", *KINDS[kind], seconds=0.12)
    for name in ("clip", "clip.dat", *["clip.jpg"] * (kind == "mp4")):
        path = clip.rename(tmp_path / name)
        assert find_sources([str(path)]) == [Clip(path)]
        with FrameReader(Clip(path)) as reader:
            assert len(list(reader)) == 3
        path.rename(clip)
    # In a folder, the ending decides.
    assert find_sources([str(tmp_path)]) == [Clip(clip)]


def test_photographs_are_known_by_their_content(tmp_path):
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        path = tmp_path / f"{kind}.mp4"
        Image.new("RGB", (8, 8)).save(path, kind)
        assert find_sources([str(path)]) == [Photo(path)]


def test_programs_in_typescript_are_no_clips(tmp_path):
    (tmp_path / "main.ts").write_text("export const x = 1;\n" * 40)
    make_clip(tmp_path / "stream.ts", "-c:v", "mpeg2video", seconds=0.12)
    assert find_sources([str(tmp_path)]) == [Clip(tmp_path / "stream.ts")]


# Folders of numbered frames.


def save_frames(folder, names, size=(24, 32)):
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(encode_png(np.full((*size, 3), 10 * number, np.uint8)))
    return folder


def test_a_folder_of_frames_is_a_clip_when_asked(tmp_path):
    names = ["f1.png", "f2.png", "f9.png", "f10.png", "f100.png"]
    folder = save_frames(tmp_path / "walk.v2", names)
    touch(folder, "notes.txt", "._f1.png")
    assert [path.name for path in numbered_frames(folder)] == names
    (clip,) = find_clips([str(folder)], 12.5)
    assert (clip.path, clip.frame_rate) == (folder, 12.5)
    with FrameReader(clip) as reader:
        assert (reader.size, reader.frame_count, reader.frame_rate) == ((32, 24), 5, 12.5)
        frames = list(reader)
        assert reader.shortfall() is None
    assert [frame.image[0, 0, 0] for frame in frames] == [0, 10, 20, 30, 40]
    assert [frame.number for frame in frames] == list(range(5))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(5) / 12.5)
    # Without --clip it holds photographs.
    assert {type(source) for source in find_sources([str(folder)])} == {Photo}


def test_frames_of_different_sizes_are_refused_in_one_line(tmp_path):
    folder = save_frames(tmp_path / "walk", ["1.png", "2.png", "3.png"])
    (folder / "2.png").write_bytes(encode_png(np.zeros((10, 12, 3), np.uint8)))
    with (
        pytest.raises(UserError, match="12 x 10") as refusal,
        FrameReader(Clip(folder, 5)) as reader,
    ):
        list(reader)
    assert "2.png" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_clip_names_files_of_any_ending(tmp_path):
    gif = make_clip(tmp_path / "dance.gif", seconds=0.2)
    assert find_sources([str(gif)]) == [Photo(gif)]
    (clip,) = find_clips([str(gif)], None)
    with FrameReader(clip) as reader:
        assert len(list(reader)) == 5


def test_wrong_rates_and_empty_folders_are_refused(tmp_path):
    frames = save_frames(tmp_path / "frames", ["1.png"])
    (tmp_path / "empty").mkdir()
    for names, rate, word in (
        (["frames"], None, "--fps"),
        (["frames"], 0.0, "--fps=0"),
        (["frames"], float("nan"), "--fps=nan"),
        (["empty"], 25.0, "empty"),
        (["frames/1.png"], 25.0, "--fps"),
        ([], 25.0, "--fps"),
    ):
        with pytest.raises(UserError, match=word) as refusal:
            find_clips([str(tmp_path / name) for name in names], rate)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="frames"):
        FrameReader(Clip(frames))


def unreadable(folder):
    whole = save_clip(folder / "whole.mp4", code="mp4v").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # Its index is at the end.
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.webm").write_text("hello " * 100)
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    os.rename(folder / "photo.png", folder / "photo.avi")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    save_clip(folder / "none.avi", frames=0)
    files = ["cut.mp4", "empty.mp4", "text.webm", "photo.avi", "none.avi"]
    return [*files, "folder.mp4", "pipe.mp4", "missing.mov"]


def test_a_file_that_is_not_a_video_is_refused_in_one_line(tmp_path, capfd):
    for name in unreadable(tmp_path):
        with pytest.raises(UserError) as refusal:
            FrameReader(Clip(tmp_path / name))
        assert str(tmp_path / name) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="webcam:97"):
        FrameReader(Webcam(97))
    assert capfd.readouterr().err == ""
