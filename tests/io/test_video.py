"""Writing videos: read back, with their times, whole or not at all, refusals."""

import os
import re
import stat
from fractions import Fraction

import av
import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.io.files import is_scratch_of
from pare_jax.io.media import Clip, FrameReader
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.page.packing import first_frame
from tests.ffmpeg import frames_shown, times_shown


def picture(number, height=48, width=64):
    """Return a frame whose red and blue halves encode its number."""
    result = np.full((height, width, 3), 40, np.uint8)
    result[:, : width // 2, 0] = 60 + 8 * number
    result[:, width // 2 :, 2] = 60 + 8 * number
    return result


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (33, 50)])
def test_a_video_can_be_read_back(tmp_path, size):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, Fraction(30000, 1001)) as writer:
        for number in range(20):
            writer.write(picture(number, *size))
        assert not path.exists()  # It appears when it is whole.
    assert os.listdir(tmp_path) == [path.name]
    with FrameReader(Clip(path)) as reader:
        frames = list(reader)
        assert reader.shortfall() is None
    assert len(frames) == reader.frame_count == 20
    assert reader.frame_rate == pytest.approx(30000 / 1001, rel=1e-9)
    height, width = size
    assert frames[0].image.shape == (height + height % 2, width + width % 2, 3)
    for number, frame in enumerate(frames):
        assert frame.time == pytest.approx(number * 1001 / 30000, abs=1e-9)
        expected = picture(number, *size).astype(float)
        seen = frame.image[:height, :width].astype(float)
        for half in (slice(4, width // 2 - 4), slice(width // 2 + 4, width - 4)):
            difference = (seen - expected)[:, half].mean((0, 1))
            assert np.abs(difference).max() < 12


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (12, [0.0, 0.04, 0.08, 0.4, 0.4333]),  # a telephone in the dark
        (0.01, [0.0, 100.0, 200.0, 300.0]),
        (100_000, [0.0, 1e-5, 2e-5, 3e-5]),
    ],
)
def test_frames_are_written_at_their_times(tmp_path, rate, times):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, rate) as writer:
        for number, time in enumerate(times):
            writer.write(picture(number), time)
    np.testing.assert_allclose(times_shown(path), times, atol=1e-4 if rate < 1000 else 1e-9)
    shown = frames_shown(path, (64, 48))
    assert np.diff(shown[:, :, 4:28, 0].mean((1, 2))) == pytest.approx(
        [8] * (len(times) - 1), abs=4
    )


@pytest.mark.parametrize("rate", [0.01, 0.3, 12.5, 29.97, 240, 1000, 100_000])
def test_any_frame_rate_is_kept(tmp_path, rate):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, rate) as writer:
        for number in range(4):
            writer.write(picture(number))
    with FrameReader(Clip(path)) as reader:
        times = [frame.time for frame in reader]
    np.testing.assert_allclose(times, np.arange(4) / rate, rtol=1e-4)
    assert reader.frame_rate == pytest.approx(rate, rel=1e-4)


def test_the_container_lasts_as_long_as_the_frames_of_varying_rate(tmp_path):
    path = tmp_path / "clip.mp4"
    times = [number**2 * 0.01 for number in range(20)]
    with VideoWriter(path, 19 / times[-1]) as writer:
        for number, time in enumerate(times):
            writer.write(picture(number), time)
    with av.open(str(path)) as file:
        length = file.duration / av.time_base
    assert times[-1] < length < times[-1] + 0.5


def test_names_need_not_be_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    folder.mkdir()
    path = folder / os.fsdecode(b"\xe9t\xe9.mp4")
    with VideoWriter(path, 25) as writer:
        writer.write(picture(3))
        writer.write(picture(4))
    assert os.listdir(folder) == [path.name]
    frame = first_frame(path)
    assert frame is not None
    np.testing.assert_allclose(frame[:, :28].mean((0, 1)), picture(3)[0, 0], atol=12)


def test_an_unfinished_video_is_removed(tmp_path):
    path = tmp_path / "out.mp4"

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


def test_the_unfinished_file_is_new_and_nobody_can_guess_its_name(tmp_path):
    """Somebody who may write into the folder could lay a link there."""
    names = set()
    for _ in range(2):
        with VideoWriter(tmp_path / "out.mp4", 25) as writer:
            writer.write(picture(0))
            (scratch,) = set(os.listdir(tmp_path)) - {"out.mp4"}
            assert is_scratch_of(tmp_path / scratch, ".mp4")
            names.add(scratch)
    assert len(names) == 2
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "out.mp4").stat().st_mode) == 0o666 & ~mask


def test_a_link_in_the_place_of_the_video_is_replaced(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("somebody else's")
    (tmp_path / "out.mp4").symlink_to(other)
    with VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(picture(0))
    assert other.read_text() == "somebody else's"
    assert not (tmp_path / "out.mp4").is_symlink()


def test_a_missing_folder_is_refused_in_one_line(tmp_path):
    path = tmp_path / "nowhere" / "out.mp4"
    writer = VideoWriter(path, 25)
    with pytest.raises(UserError, match=re.escape(str(path))) as refusal:
        writer.write(picture(0))
    assert "\n" not in str(refusal.value)


def test_bad_arguments(tmp_path):
    for name in ("out.avi", "out.webm"):
        with pytest.raises(UserError, match=re.escape(name)):
            VideoWriter(tmp_path / name, 25)
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="frame rate"):
            VideoWriter(tmp_path / "out.mp4", rate)
    with VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(picture(0))
        for other in (picture(0, 20, 20), picture(0)[..., 0]):
            with pytest.raises(ValueError, match=re.escape(str(other.shape))):
                writer.write(other)


def test_a_pyav_without_x264_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    with pytest.raises(UserError, match="x264") as refusal:
        VideoWriter(tmp_path / "out.mp4", 25)
    assert "out.mp4" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_libraries_print_nothing(tmp_path, capfd):
    with VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(picture(0))
    assert capfd.readouterr() == ("", "")
