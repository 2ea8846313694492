"""Writes videos that browsers play.

The ending of the path sets the format:

* `.webm`: VP8, written by OpenCV. Chromium, Firefox and Safari since 14.1 play it.
* `.mp4`: H.264, written by PyAV (). Everything plays it. It is
  several times smaller and faster to write. PyAV's wheels contain x264, whose licence is the GPL.

OpenCV's own .mp4 is MPEG-4 part 2, which no browser plays, so it is not used.
"""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.io.media import name_for_opencv, open_video

VIDEO_OUTPUT_SUFFIXES = (".webm", ".mp4")

# x264's constant quality (0 lossless, 51 worst; 18 looks like the source) and effort.
_H264_OPTIONS = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """Writes frames into a video file, in constant memory.

    The file appears whole when the writer is closed. An exception within `with` removes the
    unfinished file. Codecs need even sides: the last row or column of an odd side is repeated.
    """

    def __init__(self, path: str | Path, frame_rate: float | Fraction):
        """Prepare to write; the first frame opens the file.

        Args:
            path: ends in .webm or .mp4. Its folder must exist.
            frame_rate: frames a second; fractions such as 30000 / 1001 are kept.

        Raises:
            UserError: another ending, or .mp4 without PyAV.
            ValueError: the frame rate is not a positive number.
        """
        self.path = Path(path)
        if not 0 < frame_rate < 1000:
            raise ValueError(f"the frame rate is {frame_rate}; expected a positive number")
        self.frame_rate = Fraction(frame_rate).limit_denominator(1001)
        self.num_frames = 0
        suffix = self.path.suffix.lower()
        if suffix not in VIDEO_OUTPUT_SUFFIXES:
            raise UserError(f"cannot write a video into {path}: its name must end in .webm or .mp4")
        if suffix == ".mp4":
            _import_av()
        # Both libraries take the format from the ending.
        self._scratch = self.path.with_name(f".{self.path.stem}.partial{suffix}")
        self._shape: tuple[int, ...] | None = None
        self._encoder: _H264 | _VP8 | None = None

    def write(self, picture: Picture) -> None:
        """Append a frame, RGB uint8; all frames have the same size.

        Raises:
            UserError: the file cannot be written.
            ValueError: not an RGB uint8 image, or another size than the first.
        """
        if self._shape is None:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise ValueError(f"expected an RGB uint8 image, not {picture.shape}")
            self._shape = picture.shape
            even_size = tuple(side + side % 2 for side in picture.shape[1::-1])
            encoder = _H264 if self.path.suffix.lower() == ".mp4" else _VP8
            with self._writing():
                self._encoder = encoder(self._scratch, self.frame_rate, even_size)
        if picture.shape != self._shape:
            raise ValueError(f"a frame of shape {picture.shape} in a video of shape {self._shape}")
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        assert self._encoder is not None
        with self._writing():
            self._encoder.write(picture)
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file; without frames there is none.

        Raises:
            UserError: the file could not be written whole.
        """
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            with self._writing():
                encoder.close()
                # OpenCV does not report a full disk.
                stored = _stored_frames(self._scratch)
                if stored < self.num_frames:
                    raise OSError(f"only {stored} of {self.num_frames} frames are in the file")
                os.replace(self._scratch, self.path)
        finally:
            self._scratch.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            with contextlib.suppress(OSError):
                encoder.close()
        self._scratch.unlink(missing_ok=True)

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
            reason = error.strerror or str(error)
            raise UserError(f"cannot write the video {self.path}: {reason}") from None


class _VP8:
    def __init__(self, path: Path, frame_rate: Fraction, size: tuple[int, ...]):
        code = cv2.VideoWriter.fourcc(*"VP80")
        with _silent_stderr():
            self._writer = cv2.VideoWriter(
                name_for_opencv(path), cv2.CAP_FFMPEG, code, float(frame_rate), tuple(size)
            )
        if not self._writer.isOpened():
            raise OSError("cannot open the file; check that its folder exists and is writable")

    def write(self, picture: Picture) -> None:
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


class _H264:
    def __init__(self, path: Path, frame_rate: Fraction, size: tuple[int, ...]):
        self._av = _import_av()
        # "faststart" moves the index to the front: browsers play while they load.
        self._file = self._av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream = self._file.add_stream("libx264", rate=frame_rate, options=_H264_OPTIONS)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._file.start_encoding()  # This raises at once if the file cannot be opened.

    def write(self, picture: Picture) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()


def _import_av() -> Any:
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "writing .mp4 needs PyAV: pip install 'pare-jax[video]', or give a .webm file"
        ) from None
    return av


def _stored_frames(path: Path) -> int:
    capture = open_video(path)
    try:
        return round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence C libraries on stderr: OpenCV warns of VP8 in WebM although that is standard."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
