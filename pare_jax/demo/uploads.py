"""Where the page's files lie while they are needed, and that they do not stay."""

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
# A picture's memory is three bytes a pixel, for each that is remembered. Larger JPEGs are read at a
# half or less, other formats, which cannot be, are refused.
MAX_UPLOAD_PIXELS = 25_000_000
# Files are used within seconds; what is older was left behind by an upload that broke off.
_OLDEST_SECONDS = 300.0
_SWEEP_SECONDS = 30.0


class UploadFolder:
    """A folder of one's own for whatever gradio must put into files; gone at the end.

    Only this user can look into it. A picture is removed as soon as it has been read, and anything
    else after a few minutes.

    Attributes:
        path: the folder.
    """

    def __init__(self, oldest: float = _OLDEST_SECONDS, every: float = _SWEEP_SECONDS):
        """Make the folder, and have gradio use it.

        Args:
            oldest: files older than this are removed, seconds.
            every: how often that is looked after, seconds.
        """
        self._folder = tempfile.TemporaryDirectory(
            prefix="pare-jax-demo-", ignore_cleanup_errors=True
        )
        self.path = Path(self._folder.name).resolve()
        self._oldest, self._every = oldest, every
        self._kept: frozenset[Path] = frozenset()
        self._ended = threading.Event()
        self._before = os.environ.get("GRADIO_TEMP_DIR")
        # Read by gradio whenever it has to put a file somewhere.
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
        """Keep the files that are there now, the page's own, and begin removing later ones."""
        self._kept = frozenset(path for path in self.path.rglob("*") if path.is_file())
        threading.Thread(target=self._sweep_now_and_then, daemon=True).start()

    def left_behind(self) -> list[Path]:
        """Return the files that are not the page's own."""
        return [p for p in self.path.rglob("*") if p.is_file() and p not in self._kept]

    def take(self, upload: Mapping[str, Any] | None) -> tuple[str, Photograph]:
        """Read an uploaded picture and remove its file.

        Args:
            upload: what the browser sent: "path" in this folder, "orig_name".

        Returns:
            What the file was called, and the picture.

        Raises:
            UserError: there is no upload, or it is not a picture that can be used.
        """
        path = self._checked(upload)
        name = " ".join(str((upload or {}).get("orig_name") or "the picture").split())[:80]
        try:
            with _renamed(path, name):
                _check_pixels(path, name)
                return name, read_photograph(path, MAX_UPLOAD_PIXELS)
        finally:
            self._remove(path)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that the browser fetches at once, in a folder that cannot be guessed."""
        path = Path(tempfile.mkdtemp(dir=self.path)) / name
        path.write_bytes(content)
        return path

    def _checked(self, upload: Mapping[str, Any] | None) -> Path:
        given = (upload or {}).get("path")
        if not given:
            raise UserError("there is no picture; drop one, or choose an example")
        path = Path(str(given)).resolve()
        # What the browser sends could name any file of this machine, which would be read, removed.
        if not path.is_relative_to(self.path) or path in self._kept or path.is_dir():
            raise UserError("that is not an uploaded picture; drop one, or choose an example")
        return path

    def _remove(self, path: Path) -> None:
        # Also the folder that holds nothing else.
        path.unlink(missing_ok=True)
        if path.parent != self.path:
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def _sweep_now_and_then(self) -> None:
        while not self._ended.wait(self._every):
            oldest = time.time() - self._oldest
            for path in self.left_behind():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        self._remove(path)


@contextlib.contextmanager
def _renamed(path: Path, name: str) -> Iterator[None]:
    """Call the file in complaints what the user called it."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), repr(name))) from None


def _check_pixels(path: Path, name: str) -> None:
    """Refuse by its header a picture that would have to be read at its full, huge size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                is_jpeg, (width, height) = opened.format == "JPEG", opened.size
    except Exception:  # whatever it is, reading says it in one line
        return
    if not is_jpeg and width * height > MAX_UPLOAD_PIXELS:
        limit = MAX_UPLOAD_PIXELS // 1_000_000
        raise UserError(
            f"{name!r} has {width} x {height} pixels, the page takes {limit} million; shrink it"
        )
