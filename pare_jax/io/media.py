"""Finds photographs, clips and cameras by their names; reads the frames of clips and cameras."""

import contextlib
import dataclasses
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.file_kinds import RAW, Unread, kind_of_content, kind_of_file, read_head
from pare_jax.io.images import Picture

# OpenCV reads FFmpeg's log level once, when it first opens a video; -8 is "quiet". Errors are
# reported here, in one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_WEBCAM = re.compile(r"webcam:(\d+)")
_LIKE_A_WEBCAM = re.compile(r"webcam(:.*)?", re.IGNORECASE)
# Tried on systems that do not list their cameras.
_LIKELY_CAMERAS = range(8)
# For cameras that do not report a frame rate.
_WEBCAM_RATE = 30.0
# Containers without a frame rate report their clock's, 1000 a second and more.
_HIGHEST_RATE = 480.0
_RATE_SAMPLES = 60
# Seconds. WebM rounds times to milliseconds; a time this near to number / rate is taken as that.
_CLOCK_STEP = 0.002


@dataclasses.dataclass(frozen=True)
class _File:
    """A photograph's or clip's file."""

    path: Path

    @property
    def name(self) -> str:
        """The stem of its outputs' names."""
        return self.path.stem

    def __str__(self) -> str:
        return str(self.path)


class Photo(_File):
    """An image file."""


class Clip(_File):
    """A video file."""


@dataclasses.dataclass(frozen=True)
class Webcam:
    """A camera of this machine."""

    index: int

    @property
    def name(self) -> str:
        """The stem of its outputs' names."""
        return f"webcam{self.index}"

    def __str__(self) -> str:
        return f"webcam:{self.index}"


Source = Photo | Clip | Webcam


# Called with a name of the command line and one line about it.
OnProblem = Callable[[str, str], None]


def find_sources(
    arguments: Sequence[str],
    on_missing: OnProblem | None = None,
    on_left_out: OnProblem | None = None,
) -> list[Source]:
    """Return the inputs that a command line names, each once, in order.

    Args:
        arguments: image files, video files, folders (the images and videos directly in them),
            patterns such as "shots/*.jpg" or "shots/**/*.mp4", and cameras such as "webcam:0".
        on_missing: called with each argument that names no input, and the reason. The others are
            still found. Without it the first such argument raises.
        on_left_out: called with each folder or pattern that also has pictures or videos of a kind
            that is not read, and a line that counts and names them and says what to do; called
            once for each kind. Other files are passed over.

    Raises:
        UserError: there are no arguments; or, without `on_missing`, a pattern matches nothing, a
            folder has no image or video or cannot be read, or a camera has no number. A file that
            is missing or broken is reported when it is read.
    """
    if not arguments:
        raise UserError("name at least one photograph, video or folder of them; see --help")
    sources: list[Source] = []
    for argument in arguments:
        try:
            found, left_out = _of_argument(argument)
        except UserError as error:
            if on_missing is None:
                raise
            on_missing(argument, str(error))
            continue
        sources += found
        if on_left_out is not None:
            for problem in left_out:
                on_left_out(argument, problem)
    return list(dict.fromkeys(sources))


def _of_argument(argument: str) -> tuple[Sequence[Source], list[str]]:
    """Return the inputs that an argument names, and lines about files that are left out."""
    webcam = _WEBCAM.fullmatch(argument)
    if webcam:
        return [Webcam(int(webcam[1]))], []
    if Path(argument).is_dir():
        return _in_folder(Path(argument))
    if glob.has_magic(argument) and not Path(argument).exists():
        return _matching(argument)
    if _LIKE_A_WEBCAM.fullmatch(argument) and not Path(argument).exists():
        raise UserError(f"{argument} names no camera: write webcam: and its number, as in webcam:0")
    path = Path(argument)
    kind = kind_of_file(path)
    if isinstance(kind, Unread):  # such as a preview, which is read if it is named
        kind = kind_of_content(read_head(path))
    return [Clip(path) if kind == "video" else Photo(path)], []


def _in_folder(folder: Path) -> tuple[list[Photo | Clip], list[str]]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    return _by_kind(inside, f"the folder {folder}")


def _matching(pattern: str) -> tuple[list[Photo | Clip], list[str]]:
    return _by_kind(map(Path, sorted(glob.glob(pattern, recursive=True))), f"the pattern {pattern}")


def _by_kind(paths: Iterable[Path], place: str) -> tuple[list[Photo | Clip], list[str]]:
    """Return the photographs and clips among files, and a line about each kind left out."""
    found: list[Photo | Clip] = []
    unread: dict[Unread, list[Path]] = {}
    for path in paths:
        # Hidden files are metadata ("._photo.jpg") or unfinished.
        if path.name.startswith(".") or path.is_dir():
            continue
        kind = kind_of_file(path)
        if isinstance(kind, Unread):
            unread.setdefault(kind, []).append(path)
        elif kind is not None:
            found.append(Clip(path) if kind == "video" else Photo(path))
    # Cameras write a JPEG beside a raw file.
    done = {source.path.with_suffix("") for source in found}
    unread[RAW] = [path for path in unread.get(RAW, []) if path.with_suffix("") not in done]
    left_out = [_left_out(kind, files) for kind, files in unread.items() if files]
    if not found:
        raise UserError("; ".join([f"no image or video in {place} can be read", *left_out]))
    return found, left_out


def _left_out(kind: Unread, files: Sequence[Path]) -> str:
    names = listed([path.name for path in files], 3)
    return f"{counted(len(files), kind.noun)} left out ({names}): {kind.way_out}"


@dataclasses.dataclass(frozen=True)
class Frame:
    """One image of a clip.

    Attributes:
        number: counted from 0 at the clip's beginning.
        time: seconds from the clip's beginning.
        image: RGB.
    """

    number: int
    time: float
    image: Picture


class FrameReader:
    """Reads the frames of a clip or camera, in order and upright.

    Use it as a context manager and iterate over it once.

    Attributes:
        frame_rate: frames a second, the mean if it varies.
        frame_count: number of frames according to the file; None if unknown.
        size: width and height in pixels.
        frames_read: number of frames read so far.
    """

    def __init__(self, source: Clip | Webcam):
        """Open a source.

        Args:
            source: a clip or a camera.

        Raises:
            UserError: the file is missing, empty, not a video or has no frame; or the camera is
                missing.
        """
        self.source = source
        self._capture = (
            _open_clip(source.path) if isinstance(source, Clip) else _open_webcam(source)
        )
        self.frame_rate, counted = self._rate()
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        is_known = counted and isinstance(source, Clip) and 0 < count < 1e9
        self.frame_count = round(count) if is_known else None
        self.frames_read = 0
        # Some files without a frame can be opened.
        ready, first = self._capture.read()
        if not ready:
            self.close()
            what = (
                "has no frame that can be read" if isinstance(source, Clip) else "gives no picture"
            )
            raise UserError(f"{source} {what}")
        self._first: np.ndarray | None = first
        height, width = first.shape[:2]
        self.size = (width, height)
        self._last_time = -1.0

    def __iter__(self) -> Iterator[Frame]:
        image = self._first
        self._first = None
        while image is not None:
            number, time = self.frames_read, self._time()
            self.frames_read += 1
            yield Frame(number, time, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            image = self._capture.read()[1]

    def close(self) -> None:
        """Close the file or camera."""
        self._capture.release()

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shortfall(self) -> str | None:
        """Return a message if frames are missing, else None; call it after the last frame.

        Formats without an index estimate the number of frames, so 1 % does not count.
        """
        expected = self.frame_count
        if expected is None or expected - self.frames_read <= max(1, expected // 100):
            return None
        return (
            f"{self.source} ends early: {self.frames_read} of {expected} frames could be read; "
            "the file may be cut short"
        )

    def _rate(self) -> tuple[float, bool]:
        """Return the frame rate, and whether it comes from the file."""
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if np.isfinite(rate) and 0 < rate <= _HIGHEST_RATE:
            return _exact_rate(rate), True
        if isinstance(self.source, Webcam):
            return _WEBCAM_RATE, False
        return _measured_rate(self.source.path), False

    def _time(self) -> float:
        """Return the time of the last decoded frame, seconds."""
        even = self.frames_read / self.frame_rate
        time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        if abs(time - even) <= _CLOCK_STEP or isinstance(self.source, Webcam):
            time = even
        if not time > self._last_time:
            time = self._last_time + 1.0 / self.frame_rate
        self._last_time = time
        return time


def _exact_rate(rate: float) -> float:
    """Undo the rounding of film and television rates: 29.97 becomes 30000 / 1001."""
    exact = round(rate * 1.001) / 1.001
    return exact if abs(exact - rate) < 2e-3 and abs(round(rate) - rate) > 2e-3 else rate


def _measured_rate(path: Path) -> float:
    capture = _open_clip(path)
    times = []
    while len(times) < _RATE_SAMPLES and capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0)
    capture.release()
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(np.clip(1.0 / steps.mean(), 1.0, _HIGHEST_RATE)) if len(steps) else _WEBCAM_RATE


def _open_clip(path: Path) -> cv2.VideoCapture:
    if not path.exists():
        raise UserError(f"there is no video at {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; expected a video")
    capture = open_video(path)
    if not capture.isOpened():
        raise UserError(
            f"{path} cannot be read as a video: it is damaged, cut short, or in an unknown format"
        )
    return capture


def open_video(path: Path) -> cv2.VideoCapture:
    """Open a video file with OpenCV without its log; check `isOpened` of the result."""
    with _quiet_opencv():
        return cv2.VideoCapture(name_for_opencv(path), cv2.CAP_FFMPEG)


def name_for_opencv(path: Path) -> Any:
    """Return a file's name as bytes: OpenCV crashes on text that is not UTF-8."""
    return os.fsencode(path)


def _open_webcam(source: Webcam) -> cv2.VideoCapture:
    with _quiet_opencv():
        capture = cv2.VideoCapture(source.index)
        if capture.isOpened():
            return capture
        numbers = _camera_numbers()
        # Opening each is slow, but some of a camera's numbers give no images.
        others = [str(Webcam(n)) for n in numbers if cv2.VideoCapture(n).isOpened()]
    found = ", ".join(others) or ("no camera that can be opened" if numbers else "no camera")
    raise UserError(f"{source} cannot be opened: this machine has {found}")


def _camera_numbers() -> Sequence[int]:
    """Return the numbers that may be cameras."""
    if sys.platform != "linux":
        return _LIKELY_CAMERAS
    names = [path.name.removeprefix("video") for path in Path("/dev").glob("video*")]
    return sorted(int(name) for name in names if name.isdecimal())


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log: errors are reported in one line here."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
