"""Reads uploads and removes their files: the page's temporary folder."""

import contextlib
import dataclasses
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pare_jax.errors import UserError
from pare_jax.io.images import Photograph, read_format, read_photograph

MAX_UPLOAD_BYTES = 20 * 2**20
# A stored photograph takes three bytes of memory a pixel. Larger JPEGs are read at half the size
# or less; other formats cannot be read reduced and are refused.
MAX_UPLOAD_PIXELS = 25_000_000
# Formats as Pillow calls them. It has others, some of which run another program.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
# Files of one visitor that are kept at the same time. A page needs one, a browser one for each page
# that uploads.
MAX_FILES_OF_ONE = 8
# Files of all visitors. The oldest makes room for another one, so that nobody can block others.
MAX_FILES = 64
# Files are used within seconds; older ones belong to uploads that were interrupted.
_OLDEST_SECONDS = 300.0
_SWEEP_SECONDS = 30.0
_PREFIX = "pare-jax-demo-"
# Owner of the files that every visitor may see.
EVERYBODY = ""


@dataclasses.dataclass(frozen=True)
class _StoredFile:
    owner: str
    is_upload: bool
    made: float


class UploadFolder:
    """A temporary folder for the page's files, readable by this user only; removed at exit.

    A photograph is removed once it is read, other files when their owner leaves or after a few
    minutes. The folder of a process that was killed is removed by the next one.

    Attributes:
        path: path of the folder.
    """

    def __init__(self, oldest: float = _OLDEST_SECONDS, every: float = _SWEEP_SECONDS):
        """Make the folder and set gradio to use it.

        Args:
            oldest: age at which files are removed, seconds.
            every: time between two checks, seconds.
        """
        _remove_folders_of_dead_processes()
        self.path, self._lock_file = _make_locked_folder()
        self._oldest, self._every = oldest, every
        self._files: dict[str, _StoredFile] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._sweep_regularly, daemon=True).start()
        self._before = os.environ.get("GRADIO_TEMP_DIR")
        # gradio reads this variable before it writes a file.
        os.environ["GRADIO_TEMP_DIR"] = str(self.path)

    def __enter__(self) -> "UploadFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = self._before
        self.remove()
        os.close(self._lock_file)

    def remove(self) -> None:
        """Remove the folder and its files."""
        shutil.rmtree(self.path, ignore_errors=True)

    def store(self, file: BinaryIO, owner: str) -> str:
        """Store an upload under a name that cannot be guessed.

        Args:
            file: the upload.
            owner: name of the browser.

        Returns:
            The path.

        Raises:
            UserError: the browser has too many files here.
        """
        path = self._new_path("photograph", owner, is_upload=True)
        with path.open("xb") as stored:
            shutil.copyfileobj(file, stored)
        return str(path)

    def write(self, name: str, content: bytes, owner: str = EVERYBODY) -> Path:
        """Write a file for the browser, under a path that cannot be guessed.

        The owner's earlier file of this name is removed.

        Args:
            name: name of the file.
            content: its content.
            owner: name of the browser or visit that may see it; files of `EVERYBODY` stay.

        Raises:
            UserError: the owner has too many files here.
        """
        for earlier, file in list(self._files.items()):
            is_same = file.owner == owner and Path(earlier).name == name
            if is_same and owner != EVERYBODY and not file.is_upload:
                self._remove(earlier)
        path = self._new_path(name, owner, is_upload=False)
        path.write_bytes(content)
        return path

    def is_upload(self, path: Any, owner: str) -> bool:
        """Return whether a path was given out for an upload of this owner."""
        file = self._files.get(path) if isinstance(path, str) else None
        return file is not None and file.is_upload and file.owner == owner

    def owner(self, path: str) -> str | None:
        """Return the owner of a file; None if no file has exactly this path."""
        file = self._files.get(path)
        return file.owner if file else None

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: the folder has no file of exactly this path.
        """
        if path not in self._files:
            raise FileNotFoundError(path)
        return Path(path).read_bytes()

    def forget(self, owner: str) -> None:
        """Remove the files of an owner."""
        for path, file in list(self._files.items()):
            if file.owner == owner:
                self._remove(path)

    def take(self, upload: Any) -> tuple[str, Photograph]:
        """Read an uploaded photograph and remove its file.

        Args:
            upload: the browser's description: "path", from `store`, and "orig_name".

        Returns:
            The file's original name, and the photograph.

        Raises:
            UserError: there is no upload, or it is not an image that can be read.
        """
        description = upload if isinstance(upload, Mapping) else {}
        given, name = description.get("path"), description.get("orig_name")
        if not given:
            raise UserError("no photograph yet: drop one, or choose an example")
        file = self._files.get(given) if isinstance(given, str) else None
        # A request may name any file of this machine; only uploads are read and removed.
        if file is None or not file.is_upload:
            raise UserError("not an uploaded photograph: drop one, or choose an example")
        name = _one_line(name) if isinstance(name, str) else ""
        name = name or "the photograph"
        try:
            with _renamed(given, name):
                _check_header(Path(given), name)
                return name, read_photograph(given, MAX_UPLOAD_PIXELS)
        finally:
            self._remove(given)

    def _new_path(self, name: str, owner: str, is_upload: bool) -> Path:
        with self._lock:
            if owner != EVERYBODY:
                self._make_room(owner)
            path = Path(tempfile.mkdtemp(dir=self.path)) / name
            self._files[str(path)] = _StoredFile(owner, is_upload, time.monotonic())
        return path

    def _make_room(self, owner: str) -> None:
        """Remove the oldest file if there are too many.

        Raises:
            UserError: this owner alone has too many.
        """
        # The oldest is first.
        kept = [(path, file) for path, file in self._files.items() if file.owner != EVERYBODY]
        if sum(file.owner == owner for _, file in kept) >= MAX_FILES_OF_ONE:
            raise UserError("too many of your files are stored: try again in a few minutes")
        if len(kept) >= MAX_FILES:
            self._remove(kept[0][0])

    def _remove(self, path: str) -> None:
        self._files.pop(path, None)
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)
            Path(path).parent.rmdir()

    def _sweep_regularly(self) -> None:
        while not self._ended.wait(self._every):
            oldest = time.monotonic() - self._oldest
            for path, file in list(self._files.items()):
                if file.owner != EVERYBODY and file.made < oldest:
                    self._remove(path)


def _make_locked_folder() -> tuple[Path, int]:
    """Make a folder that only this user can read, locked while this process lives."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another demo that is starting may have removed it before it was locked.
        if path.is_dir():
            return path, lock
        os.close(lock)


def _remove_folders_of_dead_processes() -> None:
    """Remove the folders that nobody holds locked: their processes were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # locked: another demo uses it
            continue
        finally:
            os.close(lock)


def _one_line(text: str) -> str:
    """Return the start of a text, without line breaks and control characters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:80]


@contextlib.contextmanager
def _renamed(path: str, name: str) -> Iterator[None]:
    """Use the file's original name in error messages."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(path, repr(name))) from None


def _check_header(path: Path, name: str) -> None:
    """Check an image's format and size before it is decoded.

    Raises:
        UserError: the header cannot be read, the format is not one of `_FORMATS`, or the image is
            huge and cannot be read reduced.
    """
    form, (width, height) = read_format(path)
    if form not in _FORMATS:
        raise UserError(f"{name!r} is in the format {form}: save it as JPEG or PNG")
    if form != "JPEG" and width * height > MAX_UPLOAD_PIXELS:
        limit = MAX_UPLOAD_PIXELS // 1_000_000
        raise UserError(
            f"{name!r} has {width} x {height} pixels, more than {limit} million: reduce it"
        )
