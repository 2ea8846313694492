"""Finds photographs, clips and cameras by their names; reads the frames of clips and cameras."""

import contextlib
import dataclasses
import glob
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.decoding import VideoDecoder
from pare_jax.io.file_kinds import (
    IMAGE_SUFFIXES,
    RAW,
    Unread,
    kind_of_content,
    kind_of_file,
    read_head,
)
from pare_jax.io.images import Picture, read_image
from pare_jax.io.threads import ordered_map

_WEBCAM = re.compile(r"webcam:(\d+)")
_LIKE_A_WEBCAM = re.compile(r"webcam(:.*)?", re.IGNORECASE)
# Tried on systems that do not list their cameras.
_LIKELY_CAMERAS = range(8)
# For cameras that do not report a frame rate.
_WEBCAM_RATE = 30.0
_HIGHEST_RATE = 480.0


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


@dataclasses.dataclass(frozen=True)
class Clip(_File):
    """A video file, or a folder of numbered frames.

    Attributes:
        frame_rate: of a folder, frames a second; None for a file.
    """

    frame_rate: float | None = None


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
            once for each kind. Other files are ignored.

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
    """Return the inputs that an argument names, and lines about files that are skipped."""
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


def find_clips(arguments: Sequence[str], frame_rate: float | None) -> list[Clip]:
    """Return the clips that --clip names: folders of numbered frames, and files of any name.

    Args:
        arguments: of --clip.
        frame_rate: of --fps, the frames a second of the folders.

    Raises:
        UserError: a folder without --fps or without a picture, --fps without a folder, or a frame
            rate that is not a positive number.
    """
    if frame_rate is not None and not 0 < frame_rate < math.inf:
        raise UserError(f"--fps={frame_rate:g} is not a number of frames a second; give e.g. 25")
    # A folder named "." has a name to give to its outputs.
    paths = [Path(one) if Path(one).name.strip(".") else Path(one).resolve() for one in arguments]
    folders = [path for path in paths if path.is_dir()]
    if frame_rate is not None and not folders:
        if missing := [path for path in paths if not path.exists()]:
            raise UserError(f"there is no folder --clip={missing[0]}")
        raise UserError("--fps is for folders of numbered frames: name one, as in --clip=FOLDER")
    if folders and frame_rate is None:
        raise UserError(
            f"--clip={folders[0]} is a folder of frames: give their rate, as in --fps=25"
        )
    for folder in folders:
        numbered_frames(folder)
    return [Clip(path, frame_rate if path in folders else None) for path in paths]


def numbered_frames(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the numbers in their names: 2 before 10.

    Raises:
        UserError: the folder cannot be read, or has no picture.
    """
    try:
        inside = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    frames = [path for path in inside if not path.name.startswith(".")]
    if not frames:
        raise UserError(f"no image in the folder {folder} ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(frames, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _in_folder(folder: Path) -> tuple[list[Photo | Clip], list[str]]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    return _by_kind(inside, f"the folder {folder}")


def _matching(pattern: str) -> tuple[list[Photo | Clip], list[str]]:
    return _by_kind(map(Path, sorted(glob.glob(pattern, recursive=True))), f"the pattern {pattern}")


def _by_kind(paths: Iterable[Path], place: str) -> tuple[list[Photo | Clip], list[str]]:
    """Return the photographs and clips among files, and a line about each kind skipped."""
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
    return f"{counted(len(files), kind.noun)} skipped ({names}): {kind.way_out}"


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
        size: width and height in pixels; pixels are square.
        frame_count: number of frames according to the file; None if unknown.
        frames_read: number of frames read so far.
    """

    def __init__(self, source: Clip | Webcam):
        """Open a source.

        Args:
            source: a clip or a camera.

        Raises:
            UserError: the file is missing, empty, not a video or has no frame; the folder has no
                picture; or the camera is missing.
        """
        self.source = source
        self._frames: VideoDecoder | _NumberedFrames | _Camera
        if isinstance(source, Webcam):
            self._frames = _Camera(source)
        elif source.frame_rate is not None:
            self._frames = _NumberedFrames(source.path, source.frame_rate)
        else:
            self._frames = VideoDecoder(source.path)
        self.frame_count = self._frames.frame_count
        self.size = self._frames.size
        self.frames_read = 0

    @property
    def frame_rate(self) -> float:
        """Frames a second, the mean of the frames read so far; at first as the file declares it."""
        return self._frames.frame_rate

    def __iter__(self) -> Iterator[Frame]:
        for time, picture in self._frames:
            number = self.frames_read
            self.frames_read += 1
            yield Frame(number, time, picture)

    def close(self) -> None:
        """Close the file or camera."""
        self._frames.close()

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shortfall(self) -> str | None:
        """Return a message if the file is cut short, else None; call it after the last frame."""
        return self._frames.shortfall() if isinstance(self._frames, VideoDecoder) else None


class _NumberedFrames:
    """Reads a folder's pictures as the frames of a clip."""

    def __init__(self, folder: Path, frame_rate: float):
        self._paths = numbered_frames(folder)
        self.frame_rate = frame_rate
        self.frame_count = len(self._paths)
        self.size = read_image(self._paths[0]).shape[1::-1]

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        pictures = ordered_map(lambda path: (path, read_image(path)), self._paths)
        for number, (path, picture) in enumerate(pictures):
            if picture.shape[1::-1] != self.size:
                height, width = picture.shape[:2]
                raise UserError(
                    f"{path} has {width} x {height} pixels, but the clip's first frame has "
                    f"{self.size[0]} x {self.size[1]}: give all frames the same size"
                )
            yield number / self.frame_rate, picture

    def close(self) -> None:
        pass


class _Camera:
    """Reads a camera with OpenCV."""

    def __init__(self, source: Webcam):
        self._capture = _open_webcam(source)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if 0 < rate <= _HIGHEST_RATE else _WEBCAM_RATE
        self.frame_count = None
        # Some cameras can be opened although they give no picture.
        ready, first = self._capture.read()
        if not ready:
            self.close()
            raise UserError(f"{source} gives no picture")
        self._first = first
        self.size = first.shape[1::-1]

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        image, number = self._first, 0
        while image is not None:
            yield number / self.frame_rate, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            image, number = self._capture.read()[1], number + 1

    def close(self) -> None:
        self._capture.release()


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
