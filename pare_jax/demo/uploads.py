"""Reads uploads and removes their files: the page's temporary folder."""

import contextlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from pare_jax.errors import UserError
from pare_jax.io.images import Photograph, read_photograph

MAX_UPLOAD_BYTES = 20 * 2**20
# A stored photograph takes three bytes of memory a pixel. Larger JPEGs are read at half the size
# or less; other formats cannot be read reduced and are refused.
MAX_UPLOAD_PIXELS = 25_000_000
# Files are used within seconds; older ones belong to uploads that were interrupted.
_OLDEST_SECONDS = 300.0
_SWEEP_SECONDS = 30.0


class UploadFolder:
    """A temporary folder for gradio's files, readable by this user only; removed at exit.

    A photograph is removed once it is read, other files after a few minutes.

    Attributes:
        path: path of the folder.
    """

    def __init__(self, oldest: float = _OLDEST_SECONDS, every: float = _SWEEP_SECONDS):
        """Make the folder and set gradio to use it.

        Args:
            oldest: age at which files are removed, seconds.
            every: time between two checks, seconds.
        """
        self._folder = tempfile.TemporaryDirectory(
            prefix="pare-jax-demo-", ignore_cleanup_errors=True
        )
        self.path = Path(self._folder.name).resolve()
        self._oldest, self._every = oldest, every
        self._kept: frozenset[Path] = frozenset()
        self._ended = threading.Event()
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
        self._folder.cleanup()

    def keep_present_files(self) -> None:
        """Keep the files present now, which are the page's own, and start removing later ones."""
        self._kept = frozenset(path for path in self.path.rglob("*") if path.is_file())
        threading.Thread(target=self._sweep_regularly, daemon=True).start()

    def left_behind(self) -> list[Path]:
        """Return the files that do not belong to the page itself."""
        return [p for p in self.path.rglob("*") if p.is_file() and p not in self._kept]

    def take(self, upload: Mapping[str, Any] | None) -> tuple[str, Photograph]:
        """Read an uploaded photograph and remove its file.

        Args:
            upload: the browser's description: "path" in this folder, "orig_name".

        Returns:
            The file's original name, and the photograph.

        Raises:
            UserError: there is no upload, or it is not an image that can be read.
        """
        path = self._checked(upload)
        name = " ".join(str((upload or {}).get("orig_name") or "the photograph").split())[:80]
        try:
            with _renamed(path, name):
                _check_pixels(path, name)
                return name, read_photograph(path, MAX_UPLOAD_PIXELS)
        finally:
            self._remove(path)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file for the browser, in a folder whose name cannot be guessed."""
        path = Path(tempfile.mkdtemp(dir=self.path)) / name
        path.write_bytes(content)
        return path

    def _checked(self, upload: Mapping[str, Any] | None) -> Path:
        given = (upload or {}).get("path")
        if not given:
            raise UserError("no photograph yet: drop one, or choose an example")
        path = Path(str(given)).resolve()
        # A request may name any file of this machine; only uploads are read and removed.
        if not path.is_relative_to(self.path) or path in self._kept or path.is_dir():
            raise UserError("not an uploaded photograph: drop one, or choose an example")
        return path

    def _remove(self, path: Path) -> None:
        # gradio makes a folder for each upload; it is removed if empty.
        path.unlink(missing_ok=True)
        if path.parent != self.path:
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def _sweep_regularly(self) -> None:
        while not self._ended.wait(self._every):
            oldest = time.time() - self._oldest
            for path in self.left_behind():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        self._remove(path)


@contextlib.contextmanager
def _renamed(path: Path, name: str) -> Iterator[None]:
    """Use the file's original name in error messages."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), repr(name))) from None


def _check_pixels(path: Path, name: str) -> None:
    """Raise UserError for a huge image that cannot be read reduced; reads only its header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                is_jpeg, (width, height) = opened.format == "JPEG", opened.size
    except Exception:  # the reader reports what is wrong
        return
    if not is_jpeg and width * height > MAX_UPLOAD_PIXELS:
        limit = MAX_UPLOAD_PIXELS // 1_000_000
        raise UserError(
            f"{name!r} has {width} x {height} pixels, more than {limit} million: reduce it"
        )
