"""Writes videos that browsers play: H.264 in .mp4, with PyAV.

OpenCV's own .mp4 is MPEG-4 part 2, which no browser plays, so it is not used. PyAV's wheels contain
x264, whose licence is the GPL.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.files import scratch_path
from pare_jax.io.images import Picture

VIDEO_SUFFIX = ".mp4"

# x264's constant quality (0 lossless, 51 worst; 18 looks like the source) and effort. With frames
# out of order (bf) the container's duration would be too short where the rate varies.
_H264_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
# Ticks a second of written times, at least.
_TICKS = 10_000


class VideoWriter:
    """Writes frames into an .mp4 file, in constant memory.

    The file appears whole when the writer is closed. An exception within `with` removes the
    unfinished file. H.264 needs even sides: the last row or column of an odd side is repeated.
    """

    def __init__(self, path: str | Path, frame_rate: float | Fraction):
        """Prepare to write; the first frame opens the file.

        Args:
            path: ends in .mp4. Its folder must exist.
            frame_rate: frames a second, the mean if it varies; 30000 / 1001 is kept.

        Raises:
            UserError: another ending, or PyAV lacks x264.
            ValueError: the frame rate is not a positive number.
        """
        self.path = Path(path)
        if not 0 < frame_rate < math.inf:
            raise ValueError(f"the frame rate is {frame_rate}; expected a positive number")
        if self.path.suffix.lower() != VIDEO_SUFFIX:
            raise UserError(f"cannot write a video into {path}: its name must end in .mp4")
        if "libx264" not in av.codecs_available:
            raise UserError(
                f"cannot write {path}: this PyAV has no x264; install PyAV's wheel (pip install "
                "--force-reinstall --only-binary=av av), or write no videos"
            )
        self.frame_rate = _as_fraction(frame_rate)
        self.num_frames = 0
        self._shape: tuple[int, ...] | None = None
        self._encoder: _H264 | None = None

    def write(self, picture: Picture, time: float | None = None) -> None:
        """Append a frame, RGB uint8; all frames have the same size.

        Args:
            picture: the frame.
            time: seconds from the video's beginning, later than the last; None: one step of the
                frame rate after the last.

        Raises:
            UserError: the file cannot be written.
            ValueError: not an RGB uint8 image, or another size than the first.
        """
        if self._shape is None:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise ValueError(f"expected an RGB uint8 image, not {picture.shape}")
            self._shape = picture.shape
            width, height = (side + side % 2 for side in picture.shape[1::-1])
            with self._writing():
                self._encoder = _H264(self.path, self.frame_rate, (width, height))
        if picture.shape != self._shape:
            raise ValueError(f"a frame of shape {picture.shape} in a video of shape {self._shape}")
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        assert self._encoder is not None
        with self._writing():
            self._encoder.write(picture, time)
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file; without frames there is none.

        Raises:
            UserError: the file could not be written whole.
        """
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            with self._writing():
                encoder.finish()

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            encoder.discard()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn the errors of writing into UserErrors of one line."""
        try:
            yield
        except OSError as error:  # PyAV's errors are OSErrors too.
            self.discard()
            reason = error.strerror or str(error)
            raise UserError(f"cannot write the video {self.path}: {reason}") from None


class _H264:
    """An encoder with its unfinished file, which has a new name that nobody can guess."""

    def __init__(self, path: Path, rate: Fraction, size: tuple[int, int]):
        self._path, self._scratch = path, scratch_path(path)
        # Mode "x" opens no link and no file of another user.
        self._scratch.open("xb").close()
        try:
            # "faststart" moves the index to the front: browsers play while they load.
            options = {"movflags": "+faststart"}
            self._file = av.open(f"file:{self._scratch}", "w", format="mp4", options=options)
            # The encoder's rate control needs some rate; times are written with each frame.
            usual = min(max(rate, Fraction(1)), Fraction(1000))
            self._stream = self._file.add_stream("libx264", rate=usual, options=_H264_OPTIONS)
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = "yuv420p"
            # A whole number of ticks is a frame of this rate.
            self._ticks = rate.numerator * max(1, -(-_TICKS // rate.numerator))
            self._tick = Fraction(1, self._ticks)
            self._step = self._ticks / rate
            self._stream.codec_context.time_base = self._stream.time_base = self._tick
            self._last: int | None = None
            self._file.start_encoding()  # This raises at once if the file cannot be opened.
        except BaseException:
            self._scratch.unlink(missing_ok=True)
            raise

    def write(self, picture: Picture, time: float | None) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if self._last is None:
            stamp = 0 if time is None else round(time * self._ticks)
        else:
            following = self._last + self._step if time is None else time * self._ticks
            stamp = max(round(following), self._last + 1)
        frame.pts, frame.time_base, frame.duration = stamp, self._tick, max(1, round(self._step))
        self._last = stamp
        self._file.mux(self._stream.encode(frame))

    def finish(self) -> None:
        try:
            self._file.mux(self._stream.encode())
            self._file.close()
            os.replace(self._scratch, self._path)
        finally:
            self._scratch.unlink(missing_ok=True)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._scratch.unlink(missing_ok=True)


def _as_fraction(rate: float | Fraction) -> Fraction:
    """Return a rate as a fraction of small numbers: 29.97002997 is 30000 / 1001."""
    if rate >= 1:
        return Fraction(rate).limit_denominator(1001)
    return 1 / Fraction(1 / Fraction(rate)).limit_denominator(1001)
