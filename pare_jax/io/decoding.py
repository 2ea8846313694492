"""Decodes video files with PyAV: frames as ffmpeg shows them, with their times.

Frames are upright (display matrices rotate and mirror), have square pixels and RGB colours, and
start with the first frame that the file's edit list shows.
"""

import contextlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.format import Flags as FormatFlags
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from pare_jax.errors import UserError, counted
from pare_jax.io.images import MAX_PIXELS, Picture

# FFmpeg's demuxers of video files. Others open further files or addresses that a file names (hls,
# concat, dash), or take text and single pictures for videos.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,ogg,gif,dv,mxf,rm,nut,wtv"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
# PyAV before 19 refuses metadata that is not UTF-8; later versions replace what they cannot decode.
_OLD_PYAV = int(av.__version__.partition(".")[0]) < 19
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if _OLD_PYAV else {}
# Streams that are no video: covers and thumbnails.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# A pixel is taken as square if the file gives it longer sides than this, as a ratio.
_LONGEST_PIXEL = 8
_DEFAULT_RATE = 25.0  # for files without any
_LONGEST_STEP = 10.0  # seconds; ffmpeg takes longer steps in broadcasts for a new clock
_HEAD_BYTES = 1 << 16


class VideoDecoder:
    """Decodes the frames of one file, in order, once.

    Attributes:
        size: width and height of all frames, pixels.
        frame_count: number of frames according to the file; None if unknown.
        frames_read: number of frames read so far.
    """

    def __init__(self, path: Path):
        """Open a file and decode its first frame.

        Args:
            path: a video file of any kind.

        Raises:
            UserError: the file is missing, empty, damaged, no video, too large, or has no frame.
        """
        self.path = path
        self._declared_size = _declared_size(_head_of(path))
        self._container = _open(path)
        self._packets, self._is_cut, self.frames_read = 0, False, 0
        try:
            self._stream = _video_stream(path, self._container)
            self._counted = bool(self._stream.frames)  # PyAV tells only while the file is open
            _check_size(path, self._stream.width, self._stream.height)
            self._stream.thread_type = "AUTO"
            self._clock = _Clock(self._container, self._stream)
            self.frame_count = self._stream.frames or self._estimated_count()
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                name = self._stream.codec_context.codec.long_name
                raise UserError(f"{path} has no frame that can be read (codec: {name})")
            self._stored_size = _square_size(first, self._stream.sample_aspect_ratio)
            width, height = self._stored_size
            _check_size(path, width, height)
        except BaseException:
            self.close()
            raise
        self._first: av.VideoFrame | None = first
        self._converter = _Converter(self._stored_size)
        self._turn = _Turn(first)
        self.size = (height, width) if self._turn.swaps else (width, height)

    @property
    def frame_rate(self) -> float:
        """Frames a second: the mean of the frames read so far, or what the file declares."""
        return self._clock.rate

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        """Yield each frame with its time, seconds from the first frame."""
        if self._first is not None:
            # Without a name here, the first frame's memory is free again.
            yield self._shown(self._first)
            self._first = None
        for frame in self._frames:
            yield self._shown(frame)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def shortfall(self) -> str | None:
        """Return a message if the file is cut short, else None; call it after the last frame."""
        if not self._is_cut:
            return None
        frames = f"{self.frames_read} of {self.frame_count} frames"
        if not self._counted:  # else the file says how many it has
            frames = f"only {counted(self.frames_read, 'frame')}"
        return f"{self.path} is cut short: {frames} could be read"

    def _lacks_packets(self) -> bool:
        """Return whether the file declares more than it has."""
        if "mp4" in self._container.format.name:
            # The index lists all packets that are shown.
            return self._packets < len(self._stream.index_entries)
        declared = self._declared_size
        if declared is None or declared <= self.path.stat().st_size:
            return False
        if self._stream.frames:
            return self._packets < self._stream.frames
        # Only an index may be missing at the end.
        seconds, slack = self._container.duration, 0.1 + 2 / self._clock.rate
        return seconds is None or self._clock.last < seconds / av.time_base - slack

    def _estimated_count(self) -> int | None:
        seconds = self._container.duration
        return max(1, round(seconds / av.time_base * self._clock.rate)) if seconds else None

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield the frames; a damaged packet is skipped, as ffmpeg does."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                self._is_cut = self._is_cut or self._lacks_packets()
                return
            except FFmpegError:
                self._is_cut = True
                return
            if packet.size:
                self._packets += 1
                self._is_cut = packet.is_corrupt  # of the last packet in the end
            with contextlib.suppress(FFmpegError):
                yield from packet.decode()

    def _shown(self, frame: av.VideoFrame) -> tuple[float, Picture]:
        self.frames_read += 1
        time = self._clock(frame)
        return time, self._turn(self._converter(frame))


class _Clock:
    """Gives frames their times: seconds from the first frame, strictly increasing."""

    def __init__(self, container: InputContainer, stream: VideoStream):
        rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        self._declared = float(next(filter(None, rates), _DEFAULT_RATE))
        self._tick = stream.time_base or Fraction(1, 1000)
        # AVI counts frames in the order of decoding.
        self._decoding_order = container.format.name == "avi"
        self._jumps = bool(int(container.format.flags) & FormatFlags.ts_discont.value)
        self._start: float | None = None
        self._frames = 0
        self.last = 0.0

    @property
    def rate(self) -> float:
        """Mean frames a second; as declared if times are only rounded to the file's ticks."""
        steps = self._frames - 1
        if steps < 1 or abs(steps / self._declared - self.last) <= 2 * self._tick:
            return self._declared
        return steps / self.last

    def __call__(self, frame: av.VideoFrame) -> float:
        stamps = (frame.dts, frame.pts) if self._decoding_order else (frame.pts, frame.dts)
        stamp = next((stamp for stamp in stamps if stamp is not None), None)
        step = 1 / self._declared
        self._frames += 1
        if stamp is None:
            self.last += step if self._frames > 1 else 0.0
            return self.last
        seconds = float(stamp * self._tick)
        if self._start is None:
            self._start = seconds - (self.last + step if self._frames > 1 else 0.0)
        time = seconds - self._start
        if self._frames > 1:
            if self._jumps and abs(time - self.last) > _LONGEST_STEP:
                self._start, time = seconds - self.last - step, self.last + step
            if not time > self.last:
                time = self.last + step
        self.last = time
        return time


class _Converter:
    """Scales frames and converts them to RGB with the filters that the command ffmpeg uses.

    They know where each format has its colour samples; PyAV's own `reformat` does not.
    """

    def __init__(self, size: tuple[int, int]):
        self._size = size
        self._kind: tuple[Any, ...] = ()
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> Picture:
        kind = (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range)
        if self._graph is None or kind != self._kind:  # some recordings change them
            self._kind, self._graph = kind, self._build(frame)
        frame.pts = None  # a filter must not drop it
        self._graph.vpush(frame)
        return self._graph.vpull().to_ndarray()

    def _build(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, 1000),
        )
        scaled = graph.add("scale", "{}:{}:flags=bicubic".format(*self._size))
        graph.link_nodes(source, scaled, graph.add("format", "rgb24"), graph.add("buffersink"))
        graph.configure()
        return graph


class _Turn:
    """Rotates and mirrors pictures by right angles, as a frame's display matrix says."""

    def __init__(self, frame: av.VideoFrame):
        all_data: Any = frame.side_data  # PyAV annotates it too narrowly
        side_data = all_data.get(SideDataType.DISPLAYMATRIX)
        # x' = a x + c y and y' = b x + d y
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side_data)) if side_data else (1, 0, 0, 0, 1)
        self.swaps = max(abs(b), abs(c)) > max(abs(a), abs(d))
        self._mirrors_x, self._mirrors_y = (c < 0, b < 0) if self.swaps else (a < 0, d < 0)

    def __call__(self, picture: Picture) -> Picture:
        if self.swaps:
            picture = cv2.transpose(picture)
        if self._mirrors_x or self._mirrors_y:
            both = self._mirrors_x and self._mirrors_y
            picture = cv2.flip(picture, -1 if both else int(self._mirrors_x))
        return picture


def _head_of(path: Path) -> bytes:
    if not path.exists():
        raise UserError(f"there is no video at {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video; for a folder of frames give --clip")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; expected a video")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not head:
        raise UserError(f"{path} is empty; expected a video")
    return head


def _open(path: Path) -> InputContainer:
    try:
        # Without "file:" a name with a colon would be an address.
        return av.open(f"file:{path}", options=_OPTIONS, **_METADATA)
    except (FFmpegError, ValueError):
        raise UserError(
            f"{path} cannot be read as a video: it is damaged, cut short, or in an unknown format"
        ) from None


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the video stream that ffmpeg would choose."""
    moving = [one for one in container.streams.video if not one.disposition & _STILLS]
    if not moving:
        what = "only sound" if container.streams.audio else "no video"
        raise UserError(f"{path} has {what}; give a file with moving pictures")
    known = [one for one in moving if one.codec_context is not None]
    if not known:
        raise UserError(f"{path} has a codec that PyAV does not know: convert it to H.264")
    default = Disposition.default
    return max(
        known, key=lambda one: one.width * one.height + 5e6 * bool(one.disposition & default)
    )


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{path} has frames of {width} x {height} pixels; shrink them first")


def _square_size(frame: av.VideoFrame, pixel: Fraction | None) -> tuple[int, int]:
    """Return a frame's width and height with square pixels; one side grows, none shrinks."""
    width, height = frame.width, frame.height
    if not pixel or not Fraction(1, _LONGEST_PIXEL) <= pixel <= _LONGEST_PIXEL:
        return width, height
    return (round(width * pixel), height) if pixel > 1 else (width, round(height / pixel))


def _declared_size(head: bytes) -> int | None:
    """Return the bytes that a file should have at least, from its beginning; None if unknown."""
    with contextlib.suppress(IndexError, ValueError, OverflowError, struct.error):
        if head[:4] == b"RIFF":
            return 8 + struct.unpack_from("<I", head, 4)[0]
        if head[:4] == b"\x1aE\xdf\xa3":  # Matroska and WebM
            size, start = _ebml_size(head, 4)
            if head[start + size : start + size + 4] == b"\x18S\x80g":
                size, start = _ebml_size(head, start + size + 4)
                return start + size
        if head[:4] == b"0&\xb2u":  # ASF: the size follows the properties' GUID, length, file's id
            place = head.index(b"\xa1\xdc\xab\x8cG\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c Se")
            return struct.unpack_from("<Q", head, place + 40)[0]
        if head[:3] == b"FLV":
            place = head.index(b"filesize\x00")
            return int(struct.unpack_from(">d", head, place + 9)[0])
    return None


def _ebml_size(head: bytes, place: int) -> tuple[int, int]:
    """Return an element's size, 0 if it is unknown, and where its content begins."""
    length = 9 - head[place].bit_length()
    largest = (1 << 7 * length) - 1
    size = int.from_bytes(head[place : place + length]) & largest
    return (size if size < largest else 0), place + length
