"""Writes files atomically: each appears whole or not at all."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pare_jax.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write one file into an existing folder, as `write_together` does."""
    _write({path: content}, f"cannot write {path}")


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together; if one cannot be written, none appears.

    Args:
        folder: created if missing.
        files: contents by name.

    Raises:
        UserError: the folder cannot be written or the disk is full. Existing files stay.
    """
    complaint = f"cannot write into {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{complaint}: {error.strerror or error}") from None
    _write({folder / name: content for name, content in files.items()}, complaint)


def printable(text: str) -> str:
    """Replace the bytes of a file's name that are not UTF-8 by U+FFFD.

    Python keeps such bytes as lone surrogates, which cannot be printed or encoded.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files; raise UserError with the first that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror or error}") from None


def _write(files: Mapping[Path, bytes], complaint: str) -> None:
    scratch = {path: path.with_name(f".{path.name}.partial") for path in files}
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
            # In a folder that cannot be written this fails as well.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
