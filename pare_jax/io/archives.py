"""Reads zip archives, `.npz` and `.npy` files within bounds, and runs nothing in them.

A small archive can expand to any size. All sizes are declared before the data, and are checked
there: a file may expand to `allowance` of its size. Objects in `.npz` files are pickles, which are
read by `pare_jax.io.safe_pickle`.
"""

import contextlib
import io
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pare_jax.errors import UserError, reason_of
from pare_jax.io.pickle_opcodes import ForbiddenName, allowance, shown
from pare_jax.io.pickled_arrays import as_type, check_shape
from pare_jax.io.safe_pickle import RefusedPickle, Unpickler

_MAGIC = b"\x93NUMPY"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A list of 40,000 entries; zipfile needs ten times its size.
_LONGEST_LIST = 1 << 22
_PIECE = 1 << 22


class Archive:
    """A zip archive whose entries are read within bounds.

    Attributes:
        names: of its entries.
    """

    def __init__(self, file: IO[bytes]):
        """Read the archive's list of entries.

        Raises:
            ValueError, zipfile.BadZipFile and others: it is damaged, or its list is too long.
        """
        self.left = allowance(file.seek(0, 2))
        careful: Any = _CarefulFile(file)
        self._zip = zipfile.ZipFile(careful)
        careful.limit = None
        self.names = self._zip.namelist()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open an entry; the value is the entry and the number of its bytes.

        Raises:
            ForbiddenName: it would expand to too much.
            Exception: of nearly any type, for a damaged archive.
        """
        entry = self._zip.getinfo(name)
        if entry.compress_type not in _COMPRESSIONS:
            raise ForbiddenName(f"the compression {entry.compress_type}")
        self.left -= entry.file_size
        if self.left < 0:
            raise ForbiddenName(f"{entry.file_size:,} bytes for {shown(name)}")
        with self._zip.open(entry) as file:
            yield file, entry.file_size

    def read(self, name: str) -> bytes:
        """Return an entry's bytes; raises as `open`."""
        with self.open(name) as (file, size):
            return _take(file, size)


class _CarefulFile:
    """A file that refuses to read more than `limit` at once: zipfile believes declared sizes."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.limit: int | None = _LONGEST_LIST

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count: int = -1) -> bytes:
        if self.limit is not None and count > self.limit:
            raise zipfile.BadZipFile("its list of entries is too long")
        return self._file.read(count)


def read_npz(
    path: str | Path,
    names: Collection[str] | None = None,
    without: Collection[str] = (),
    objects: bool = False,
    advice: str = "copy it again",
) -> dict[str, Any]:
    """Read arrays of an .npz file.

    Args:
        path: the file.
        names: the arrays to read, if the file has them; by default all. Others are not looked at.
        without: names of arrays to skip.
        objects: reads arrays of Python objects too, as `load_pickle` does; otherwise they are
            refused by name.
        advice: end of the messages: what to do about a damaged file.

    Returns:
        The arrays by name, in the file's order.

    Raises:
        RefusedPickle: an array of objects asks for more than plain data.
        UserError: the file is missing, damaged, of another kind, or expands to too much.
    """
    found = {}
    with _refusals(path, ".npz", advice), Path(path).open("rb") as file:
        if file.read(2) != b"PK":
            raise ValueError("it is no zip archive")
        archive = Archive(file)
        for entry in archive.names:
            name = entry.removesuffix(".npy")
            if (names is None or name in names) and name not in without:
                with archive.open(entry) as (content, size):
                    found[name] = _read_array(content, size, name, objects)
    return found


def read_npy(path: str | Path, advice: str = "copy it again") -> np.ndarray:
    """Read an .npy file; raises UserError as `read_npz`."""
    with _refusals(path, ".npy", advice), Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if file.read(2) == b"PK":
            raise ValueError("it has several arrays")
        file.seek(0)
        return _read_array(file, size, "", False)


@contextlib.contextmanager
def _refusals(path: str | Path, suffix: str, advice: str) -> Iterator[None]:
    """Raise the errors of reading a file as UserErrors."""
    try:
        if Path(path).is_fifo():
            raise ValueError("it is a pipe")
        yield
    except FileNotFoundError:
        raise UserError(f"the file {path} is missing") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except ForbiddenName as refused:
        raise RefusedPickle(
            f"{path} was refused: it asks for {refused}, which plain data never needs; "
            f"nothing was run; {advice}",
            str(refused),
        ) from None
    except MemoryError:
        raise UserError(f"there is not enough memory to read {path}") from None
    # A damaged archive raises many exceptions of zlib, zipfile and numpy.
    except Exception as error:
        reason = reason_of(error)
        raise UserError(f"{path} is not a readable {suffix} file ({reason}); {advice}") from None


def _read_array(file: IO[bytes], size: int, name: str, objects: bool) -> Any:
    """Read an array in NumPy's format from a file with `size` bytes left."""
    head = io.BytesIO()
    start = _take(file, min(size, 12))
    head.write(start)
    if start[:6] != _MAGIC:
        raise ValueError(f"{shown(name)} is not an array")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{shown(name)} has an unknown format")
    # The length of the header has 2 bytes in version 1, and 4 in version 2.
    length = int.from_bytes(start[8:10] if version == (1, 0) else start[8:12], "little")
    whole = (10 if version == (1, 0) else 12) + length
    if whole > min(size, 1 << 16):
        raise ValueError(f"the header of {shown(name)} is too long")
    head.write(_take(file, whole - len(start)))
    head.seek(8)
    reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = reader[version[0]](head)
    if dtype.hasobject:
        if not objects:
            raise ValueError(f"{shown(name)} holds Python objects")
        return Unpickler(io.BytesIO(_take(file, size - whole))).load()
    count = check_shape(shape)
    if not dtype.itemsize:
        raise ValueError(f"{shown(name)} has items of no size")
    if count * dtype.itemsize != size - whole:
        raise ValueError(f"the size of {shown(name)} is not that of its shape")
    raw = np.empty(size - whole, np.uint8)
    for begin in range(0, len(raw), _PIECE):
        piece = raw[begin : begin + _PIECE]
        piece[:] = np.frombuffer(_take(file, len(piece)), np.uint8)
    file.read(1)  # zipfile compares the checksum at the end
    numbers = as_type(raw, dtype) if count else np.empty(0, dtype)
    return numbers.reshape(shape, order="F" if fortran else "C")


def _take(file: IO[bytes], count: int) -> bytes:
    raw = file.read(count)
    if len(raw) != count:
        raise EOFError("it ends too early")
    return raw
