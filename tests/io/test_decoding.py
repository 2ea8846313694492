"""Decoded clips are what ffmpeg shows: frame by frame, pixel by pixel, at the same times."""

from pathlib import Path

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.io.decoding import VideoDecoder
from tests.ffmpeg import ffmpeg, frames_shown, make_clip, times_shown

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
HDR = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc")
INTERLACED = ("-vf", "interlace", "-flags", "+ilme+ildct")
# The name of each file, and how it is encoded.
FILES = {
    "h264.mp4": H264,
    "h264.mkv": H264,
    "h264.avi": H264,  # its times are those of decoding
    "h264.flv": H264,
    "h264.mts": H264,
    "h264.m2ts": (*H264, "-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "h264.264": H264,  # without times
    "fragments.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov", "-g", "4"),
    "yuv444.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "full_range.mp4": ("-c:v", "libx264", "-pix_fmt", "yuvj420p"),
    "bt709.mp4": (*H264, "-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "hdr.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", *HDR),
    "av1.mp4": ("-c:v", "libaom-av1", "-cpu-used", "8"),
    "vp8.webm": ("-c:v", "libvpx"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "mpeg1.mpg": ("-c:v", "mpeg1video"),
    "mpeg2.mpg": ("-c:v", "mpeg2video"),
    "mpeg2.ts": ("-c:v", "mpeg2video"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "wmv2.wmv": ("-c:v", "wmv2"),
    "flv1.flv": ("-c:v", "flv1"),
    "mjpeg.avi": ("-c:v", "mjpeg"),
    "prores.mov": ("-c:v", "prores_ks"),
    "theora.ogv": ("-c:v", "libtheora"),
    "animation.gif": (),
    "h263.3gp": ("-c:v", "h263", "-s", "128x96"),
    "interlaced.mpg": (*INTERLACED, "-c:v", "mpeg2video"),
    "interlaced.mp4": (*INTERLACED, *H264),
}


def decoded(path):
    """Return a decoder that has read everything, the times, and the frames."""
    decoder = VideoDecoder(path)
    times, frames = zip(*decoder, strict=True)
    decoder.close()
    return decoder, np.array(times), np.stack(frames)


def check_against_ffmpeg(path):
    """Compare frames and times with ffmpeg's; return the decoder."""
    decoder, times, frames = decoded(path)
    shown = frames_shown(path, decoder.size)
    assert frames.shape == shown.shape
    # Another version of FFmpeg may round differently.
    assert np.abs(frames.astype(int) - shown).max() <= 3
    np.testing.assert_allclose(times, times_shown(path), atol=2e-6)
    assert decoder.shortfall() is None
    return decoder


@pytest.mark.parametrize("name", FILES)
def test_every_codec_is_read_as_ffmpeg_shows_it(tmp_path, name):
    decoder = check_against_ffmpeg(make_clip(tmp_path / name, *FILES[name]))
    assert decoder.frames_read == (5 if "interlaced" in name else 10)


@pytest.mark.parametrize(
    ("turn", "size"),
    [
        (["-display_rotation", "90"], (64, 96)),
        (["-display_rotation", "-90"], (64, 96)),
        (["-display_rotation", "180"], (96, 64)),
        (["-display_hflip"], (96, 64)),
        (["-display_vflip"], (96, 64)),
        (["-display_rotation", "90", "-display_hflip"], (64, 96)),
        (["-display_rotation", "90", "-display_vflip"], (64, 96)),
        (["-display_rotation", "180", "-display_hflip"], (96, 64)),
    ],
)
def test_frames_are_rotated_and_mirrored_as_the_display_matrix_says(tmp_path, turn, size):
    clip = make_clip(tmp_path / "stored.mp4", *H264, seconds=0.12)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-v", "error", *turn, "-i", clip, "-c", "copy", turned)
    assert check_against_ffmpeg(turned).size == size


@pytest.mark.parametrize(
    ("name", "stored", "pixel", "shown"),
    [
        ("wide.mp4", "48:64", "2/1", (96, 64)),
        ("tall.mp4", "96:32", "1/2", (96, 64)),
        ("television.mpg", "90:72", "64/45", (128, 72)),
        ("wide.webm", "48:64", "2/1", (96, 64)),
        ("nonsense.mp4", "96:64", "255/1", (96, 64)),
    ],
)
def test_pixels_become_square(tmp_path, name, stored, pixel, shown):
    codec = {".mp4": "libx264", ".mpg": "mpeg2video", ".webm": "libvpx"}[name[name.index(".") :]]
    filters = f"scale={stored},setsar={pixel}"
    clip = make_clip(tmp_path / name, "-vf", filters, "-c:v", codec, "-pix_fmt", "yuv420p")
    assert check_against_ffmpeg(clip).size == shown


def test_a_turned_clip_with_pixels_that_are_not_square(tmp_path):
    """Pixels are twice as wide as high before the frame is turned."""
    clip = make_clip(tmp_path / "stored.mp4", "-vf", "scale=48:64,setsar=2/1", *H264)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-v", "error", "-display_rotation", "90", "-i", clip, "-c", "copy", turned)
    assert VideoDecoder(turned).size == (64, 96)


def test_a_clip_cut_without_encoding_starts_where_its_edit_list_says(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", *H264, "-bf", "2", "-g", "12", seconds=1.6)
    cut = tmp_path / "cut.mp4"
    ffmpeg("-v", "error", "-ss", "0.6", "-i", whole, "-c", "copy", cut)
    decoder = check_against_ffmpeg(cut)
    # Frames before the cut are in the file and only help to decode others.
    assert 0 < decoder.frames_read < decoder.frame_count


@pytest.mark.parametrize("name", ["phone.mp4", "phone.webm"])
def test_a_varying_frame_rate_keeps_its_times(tmp_path, name):
    codec = H264 if name.endswith("mp4") else ("-c:v", "libvpx")
    some = "select='not(mod(n,7))+lt(n,15)'"
    clip = make_clip(tmp_path / name, "-vf", some, "-fps_mode", "vfr", *codec, seconds=2)
    decoder = check_against_ffmpeg(clip)
    assert decoder.frames_read == 20
    assert decoder.frame_rate == pytest.approx(19 / 1.96)  # the last frame is number 49


@pytest.mark.parametrize("rate", ["0.01", "30000/1001", "100000"])
def test_any_frame_rate_is_read(tmp_path, rate):
    path = tmp_path / "clip.mp4"
    source = f"testsrc2=size=96x64:rate={rate}"
    ffmpeg("-v", "error", "-f", "lavfi", "-i", source, "-frames:v", "5", *H264, path)
    numbers = [float(part) for part in rate.split("/")]
    expected = numbers[0] / (numbers[1] if len(numbers) > 1 else 1)
    assert check_against_ffmpeg(path).frame_rate == pytest.approx(expected, rel=1e-9)


def test_covers_and_sound_are_no_video(tmp_path):
    sound, cover = tmp_path / "sound.m4a", make_clip(tmp_path / "cover.jpg", "-frames:v", "1")
    ffmpeg("-v", "error", "-f", "lavfi", "-i", "sine=duration=1", sound)
    with_cover = tmp_path / "song.mp4"
    still = ("-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-v", "error", "-i", cover, "-i", sound, "-map", "0", "-map", "1", *still, with_cover)
    for path in (sound, with_cover):
        with pytest.raises(UserError, match="only sound") as refusal:
            VideoDecoder(path)
        assert path.name in str(refusal.value)
    film, clip = tmp_path / "film.mp4", make_clip(tmp_path / "clip.mp4", *H264)
    ffmpeg("-v", "error", "-i", cover, "-i", clip, "-map", "0", "-map", "1", *still, film)
    assert check_against_ffmpeg(film).frames_read == 10


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.avi", "long.flv"])
def test_a_clip_whose_sound_lasts_longer_is_whole(tmp_path, name):
    sound = ("-f", "lavfi", "-i", "sine=duration=2")
    clip = make_clip(tmp_path / name, *sound, *H264)
    assert check_against_ffmpeg(clip).frames_read == 10


CUT = {
    "cut.mp4": (*H264, "-movflags", "faststart", "-g", "3"),
    "fragments.mp4": FILES["fragments.mp4"],
    "cut.mkv": (*H264, "-g", "3"),
    "cut.webm": FILES["vp8.webm"],
    "cut.avi": FILES["mjpeg.avi"],
    "cut.flv": FILES["flv1.flv"],
    "cut.wmv": FILES["wmv2.wmv"],
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_short_is_read_up_to_there_and_said_to_be(tmp_path, name):
    path = make_clip(tmp_path / name, *CUT[name], seconds=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    decoder, times, _ = decoded(path)
    assert 10 < len(times) < 50
    message = decoder.shortfall()
    assert message is not None
    assert path.name in message
    assert f"{len(times)} " in message


def test_a_file_without_its_index_is_whole(tmp_path):
    """Recorders that lose power write no index; all pictures are there."""
    path = make_clip(tmp_path / "clip.mkv", *H264)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x1cS\xbbk")])  # the element Cues
    decoder, times, _ = decoded(path)
    assert len(times) == 10
    assert decoder.shortfall() is None


def test_a_damaged_packet_does_not_end_the_clip(tmp_path):
    path = make_clip(tmp_path / "clip.avi", "-c:v", "mpeg2video", "-g", "1", seconds=1)
    content = bytearray(path.read_bytes())
    place = content.index(b"00dc", len(content) // 2) + 8
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    assert len(decoded(path)[1]) >= 24


def test_frames_that_change_their_size_are_scaled_to_the_first(tmp_path):
    small = make_clip(tmp_path / "small.ts", "-s", "48x32", "-c:v", "mpeg2video")
    large = make_clip(tmp_path / "large.ts", "-c:v", "mpeg2video")
    both = tmp_path / "both.ts"
    both.write_bytes(large.read_bytes() + small.read_bytes())
    _, times, frames = decoded(both)
    assert frames.shape[1:] == (64, 96, 3)
    assert len(frames) >= 19  # ffmpeg, too, loses one at the seam
    assert (np.diff(times) > 0).all()
    # The second recording shows the same scenes.
    assert np.abs(frames[:9].astype(int) - frames[-9:]).mean() < 30


def test_a_playlist_or_a_script_reads_no_other_file(tmp_path):
    """FFmpeg would read the files and addresses that these name."""
    make_clip(tmp_path / "private.ts", "-c:v", "mpeg2video")
    secret = tmp_path / "private.ts"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    script = f"ffconcat version 1.0\nfile {secret}"
    for name, text in (("list.mp4", playlist), ("list.mkv", script)):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(UserError, match=name):
            VideoDecoder(path)


def test_huge_frames_are_refused(tmp_path):
    """A few bytes of a single colour may unpack to gigabytes."""
    path = tmp_path / "huge.mkv"
    source = ("-f", "lavfi", "-i", "color=black:size=9000x6000", "-frames:v", "1")
    ffmpeg("-v", "error", *source, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", path)
    with pytest.raises(UserError, match=r"huge\.mkv.*9000 x 6000"):
        VideoDecoder(path)


def test_names_with_colons_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", *H264).rename(tmp_path / "http:clip.mp4")
    assert VideoDecoder(Path("http:clip.mp4")).size == (96, 64)
