"""Writing videos: read back, whole or not at all, refusals."""

import os
import re
import sys
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.io.media import Clip, FrameReader
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.page.packing import first_frame

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is not installed")
each_format = pytest.mark.parametrize("suffix", [".webm", pytest.param(".mp4", marks=needs_av)])


def picture(number, height=48, width=64):
    """Return a frame whose red and blue halves encode its number."""
    result = np.full((height, width, 3), 40, np.uint8)
    result[:, : width // 2, 0] = 60 + 8 * number
    result[:, width // 2 :, 2] = 60 + 8 * number
    return result


@each_format
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (33, 50)])
def test_a_video_can_be_read_back(tmp_path, suffix, size):
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, Fraction(30000, 1001)) as writer:
        for number in range(20):
            writer.write(picture(number, *size))
        assert not path.exists()  # It appears when it is whole.
    assert os.listdir(tmp_path) == [path.name]
    with FrameReader(Clip(path)) as reader:
        frames = list(reader)
        assert reader.shortfall() is None
    assert len(frames) == 20
    assert reader.frame_rate == pytest.approx(30000 / 1001, abs=1e-3)
    height, width = size
    assert frames[0].image.shape == (height + height % 2, width + width % 2, 3)
    for number, frame in enumerate(frames):
        assert frame.time == pytest.approx(number * 1001 / 30000, abs=1e-3)
        expected = picture(number, *size).astype(float)
        seen = frame.image[:height, :width].astype(float)
        for half in (slice(4, width // 2 - 4), slice(width // 2 + 4, width - 4)):
            difference = (seen - expected)[:, half].mean((0, 1))
            assert np.abs(difference).max() < 12


@each_format
def test_names_need_not_be_utf8(tmp_path, suffix):
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    folder.mkdir()
    path = folder / os.fsdecode(b"\xe9t\xe9" + suffix.encode())
    with VideoWriter(path, 25) as writer:
        writer.write(picture(3))
        writer.write(picture(4))
    assert os.listdir(folder) == [path.name]
    frame = first_frame(path)
    assert frame is not None
    np.testing.assert_allclose(frame[:, :28].mean((0, 1)), picture(3)[0, 0], atol=12)


@each_format
def test_an_unfinished_video_is_removed(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"

    def write_and_fail():
        with VideoWriter(path, 25) as writer:
            writer.write(picture(0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert os.listdir(tmp_path) == []
    with VideoWriter(path, 25):
        pass  # No frames.
    assert os.listdir(tmp_path) == []


@each_format
def test_a_missing_folder_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / "nowhere" / f"out{suffix}"
    writer = VideoWriter(path, 25)
    with pytest.raises(UserError, match=re.escape(str(path))) as refusal:
        writer.write(picture(0))
    assert "\n" not in str(refusal.value)


def test_bad_arguments(tmp_path):
    with pytest.raises(UserError, match=r"out\.avi"):
        VideoWriter(tmp_path / "out.avi", 25)
    with pytest.raises(ValueError, match="frame rate"):
        VideoWriter(tmp_path / "out.webm", 0)
    with VideoWriter(tmp_path / "out.webm", 25) as writer:
        writer.write(picture(0))
        for other in (picture(0, 20, 20), picture(0)[..., 0]):
            with pytest.raises(ValueError, match=re.escape(str(other.shape))):
                writer.write(other)


def test_mp4_without_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pare-jax\[video\]"):
        VideoWriter(tmp_path / "out.mp4", 25)


def test_libraries_print_nothing(tmp_path, capfd):
    with VideoWriter(tmp_path / "out.webm", 25) as writer:
        writer.write(picture(0))
    assert capfd.readouterr() == ("", "")
