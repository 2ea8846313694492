"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pare_jax.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write one file, as `write_together` does; its folder must be there."""
    _write({path: content}, f"cannot write {path}")


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together; each appears whole, and none if one cannot be written.

    Args:
        folder: made where it is missing.
        files: contents by name.

    Raises:
        UserError: the folder cannot be written or its disk is full; what was there before stays.
    """
    complaint = f"cannot write into {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{complaint}: {error.strerror or error}") from None
    _write({folder / name: content for name, content in files.items()}, complaint)


def scratch_of(path: Path) -> Path:
    """Return what a file is called until it is whole; a killed process may leave it behind."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Let a file that is too large for memory be written beside its place and moved there whole.

    Args:
        path: of the file; its folder must be there.

    Yields:
        The scratch path to write to; it is gone afterwards, whatever happens.

    Raises:
        UserError: the folder cannot be written or its disk is full; what was there before stays.
    """
    scratch = scratch_of(path)
    try:
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # Where nothing can be written nothing can be removed either.
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def printable(text: str) -> str:
    """Return a text in which bytes of a file's name that are not UTF-8 have become U+FFFD.

    Python keeps such bytes as lone surrogates, which can be neither printed nor encoded.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files; raises UserError naming the first that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror or error}") from None


def _write(files: Mapping[Path, bytes], complaint: str) -> None:
    scratch = {path: scratch_of(path) for path in files}
    try:
        for path, content in files.items():
            # A killed process may have left one. A link in its place is not followed.
            scratch[path].unlink(missing_ok=True)
            with scratch[path].open("xb") as file:
                file.write(content)
        for path in files:
            os.replace(scratch[path], path)
    except OSError as error:
        raise UserError(f"{complaint}: {error.strerror or error}") from None
    finally:
        for path in scratch.values():
            # Where nothing can be written nothing can be removed either.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
