"""Reads JSON within bounds, writes files atomically, names the cache, and makes text printable."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError

# COCO's largest annotations have 450 MB.
_LONGEST_JSON = 1 << 29
# A parsed value needs some 60 bytes, and in the file a comma or a bracket before it.
_MOST_VALUES = 1 << 26
_DEEPEST_JSON = 100
_SCRATCH = re.compile(r"\.(.+)\.[0-9a-f]{16}\.partial", re.DOTALL)
# Characters that end a line, move the cursor or turn the direction of text: control characters,
# separators of lines, and bidirectional controls. Narrow spaces and joined emoji stay.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# The longest file name of most file systems, bytes.
_LONGEST_NAME = 255


def read_json(path: Path, advice: str = "copy it again") -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file.
        advice: end of the messages: what to do about a damaged file.

    Raises:
        OSError: it is missing or cannot be read.
        UserError: it is not JSON, or too large.
    """
    with path.open("rb") as file:
        raw = file.read(_LONGEST_JSON + 1)
    return parse_json(raw, path, advice)


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a file that somebody else may have put there.

    Links are not followed, and pipes and devices are not read: they can block for ever.

    Args:
        path: the file.
        most: bytes.

    Raises:
        OSError: it is missing, cannot be read or is no regular file.
        UserError: it is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        raw = file.read(most + 1)
    if len(raw) > most:
        raise UserError(f"{path} has more than {most:,} bytes: remove it")
    return raw


def parse_json(raw: bytes, name: object, advice: str = "copy it again") -> Any:
    """Return the content of JSON; raises as `read_json`.

    Args:
        raw: the text, UTF-8.
        name: the file's, for messages.
        advice: end of the messages.
    """
    values = sum(map(raw.count, (b",", b"[", b"{"))) if len(raw) > _MOST_VALUES else 0
    if len(raw) > _LONGEST_JSON or values > _MOST_VALUES:
        raise UserError(f"{name} is too large for JSON; {advice}")
    try:
        content = json.loads(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name} is not JSON: line {error.lineno}, column {error.colno} is damaged; {advice}"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{name} is not JSON: it is not UTF-8 text; {advice}") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{name} is not read: its content is nested too deeply; {advice}") from None
    except ValueError:  # of numbers with thousands of digits
        raise UserError(f"{name} is not read: a number in it is too long; {advice}") from None
    level = [content] if type(content) in (dict, list) else []
    for _ in range(_DEEPEST_JSON):
        inner = (item.values() if type(item) is dict else item for item in level)
        level = [value for values in inner for value in values if type(value) in (dict, list)]
        if not level:
            return content
    raise UserError(f"{name} is not read: its content is nested too deeply; {advice}")


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


def cache_folder() -> Path:
    """Return the folder of files that are fetched once: PARE_JAX_CACHE, else the user's cache.

    Raises:
        UserError: the user has no home folder.
    """
    if named := os.environ.get("PARE_JAX_CACHE"):
        return Path(named)
    caches = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(caches) if os.path.isabs(caches) else Path.home() / ".cache"
    except RuntimeError:
        raise UserError("there is no home folder: set PARE_JAX_CACHE to a folder") from None
    return base / "pare_jax"


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


def lock_file(path: Path) -> int | None:
    """Lock a file, which is created; the lock ends with the process or by closing the descriptor.

    Args:
        path: the file; its folder exists. Whoever removes it does so while holding the lock.

    Returns:
        The file's descriptor; None if another process holds the lock.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except PermissionError:  # in a shared folder it may be another user's
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # some network drives have no locks; the run continues without one
            return descriptor
        # A run that ended with nothing written may have removed the file before it was locked.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)
        path.parent.mkdir(parents=True, exist_ok=True)
