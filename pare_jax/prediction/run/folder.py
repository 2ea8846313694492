"""A run's output folder: whether it can be written, and one run in it at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pare_jax.errors import UserError
from pare_jax.prediction.run.records import FOLDER

LOCK = "lock"


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Make the output folder and keep other runs out of it for as long as the context lasts.

    The system lets go of the claim when the process ends, however it ends. What was made for
    nothing, because no photograph came so far, goes again.

    Raises:
        UserError: the folder is a file or cannot be written, or another run is writing into it.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file; name a folder, which may be a new one")
    made = [place for place in (output, *output.parents) if not place.exists()]
    records = output / FOLDER
    try:
        records.mkdir(parents=True, exist_ok=True)
        # The records may be writable where the folder itself is not.
        with tempfile.TemporaryFile(dir=output):
            pass
        descriptor = _lock(records / LOCK)
    except OSError as error:
        _remove_if_empty(records, made)
        raise UserError(f"cannot write into {output}: {error.strerror or error}") from None
    if descriptor is None:
        raise UserError(
            f"another run is writing into {output}: wait until it ends, or give another --output"
        )
    try:
        yield
    finally:
        _remove_if_empty(records, made)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Take a lock file; returns what holds it, or None where another process does."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # in a shared folder it may be another user's
            descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # some network drives have no locks: better without one than not at all
            return descriptor
        # Whoever had it before may have removed the file since it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _remove_if_empty(records: Path, made: list[Path]) -> None:
    """Remove the records' folder if no record is in it, and then of `made` what is empty."""
    with contextlib.suppress(OSError):
        if all(path.name == LOCK for path in records.iterdir()):
            (records / LOCK).unlink(missing_ok=True)
            records.rmdir()
            for place in made:
                place.rmdir()
