"""Writes files atomically, and makes text from elsewhere safe to print."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from pare_jax.errors import UserError

_SCRATCH = re.compile(r"\.(.+)\.[0-9a-f]{16}\.partial", re.DOTALL)
# Characters that end a line, move the cursor or turn the direction of text: control characters,
# separators of lines, and bidirectional controls. Narrow spaces and joined emoji stay.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# The longest file name of most file systems, bytes.
_LONGEST_NAME = 255


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
    r"""Return text that is safe to print as part of one line.

    Bytes of a file's name that are not UTF-8 become U+FFFD: Python keeps them as lone surrogates,
    which cannot be printed or encoded. Control characters become escapes such as \n and \x1b: a
    file's name could fake a line of output.
    """
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def scratch_path(path: Path) -> Path:
    """Return a new hidden name beside a file, for its unfinished content.

    Nobody can foresee the name and put a link there. Create the file with mode "x".
    """
    # The name may be as long as the file system allows.
    room = _LONGEST_NAME - len(f"..{'0' * 16}.partial")
    stem = os.fsdecode(os.fsencode(path.name)[:room])
    return path.with_name(f".{stem}.{secrets.token_hex(8)}.partial")


def is_scratch_of(path: Path, suffix: str) -> bool:
    """Return whether a path is `scratch_path`'s of a file whose name has this suffix."""
    found = _SCRATCH.fullmatch(path.name)
    return found is not None and found[1].endswith(suffix)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files; raise UserError with the first that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror or error}") from None


def _write(files: Mapping[Path, bytes], complaint: str) -> None:
    scratch = {path: scratch_path(path) for path in files}
    try:
        for path, content in files.items():
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
