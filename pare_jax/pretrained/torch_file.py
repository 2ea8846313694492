"""Reads the files that torch.save writes, without torch and without running code in them.

Such a file is a pickle of names and shapes beside raw numbers: a zip archive, or in PyTorch before
1.6 one pickle after the other. The pickle is read by `pare_jax.io.safe_pickle`. Training
frameworks also store names of their own, for instance settings in a class that is really a dict.
A short list of those is read as the plain data they hold.
"""

import contextlib
import dataclasses
import functools
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pare_jax.errors import UserError, reason_of
from pare_jax.io.archives import Archive
from pare_jax.io.pickle_opcodes import ForbiddenName, SafeFunction, allowance, shown
from pare_jax.io.pickled_arrays import check_shape
from pare_jax.io.safe_pickle import NEW_DICT, RefusedPickle, Unpickler

# The first number of a file from before PyTorch 1.6 (torch.serialization.MAGIC_NUMBER).
_MAGIC = 0x1950A86A20F9469CFC6C

# NumPy has no bfloat16: it is the upper half of a float32.
_BFLOAT16 = "bfloat16"
_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
    "QInt8Storage": "i1",
    "QUInt8Storage": "u1",
    "QInt32Storage": "i4",
    "UntypedStorage": "u1",
}

# Bounds of what a pickle may say about a tensor, and of a path's text.
_MOST_AXES = 64
_LARGEST = 2**48
_LONGEST_PATH = 4096


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The place in a file of the numbers of one or more tensors.

    Attributes:
        key: name of the numbers in the file.
        dtype: of `_DTYPES`.
        start: first number that belongs to it.
    """

    key: str
    dtype: str
    start: int = 0


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A tensor whose numbers are still in the file; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """The content of a file of torch.save.

    Attributes:
        content: the saved object as plain data, with a `TensorRecord` for each tensor.
        numbers: reads a tensor, contiguous, while the file is open; bfloat16 as float32.
    """

    content: Any
    numbers: Callable[[TensorRecord], np.ndarray]


def _tensor(storage, offset, shape, strides, *_) -> TensorRecord:
    axes = [shape, strides]
    if not all(isinstance(axis, tuple | list) and len(axis) <= _MOST_AXES for axis in axes):
        raise ForbiddenName("a tensor of an impossible shape")
    if not (isinstance(storage, _Storage) and _whole(offset, *shape, *strides)):
        raise ForbiddenName("a tensor without numbers")
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _whole(*numbers) -> bool:
    return all(type(number) is int and abs(number) < _LARGEST for number in numbers)


def _parameter(tensor, *_) -> TensorRecord | str:
    if not isinstance(tensor, TensorRecord | str):
        raise ForbiddenName("a parameter without a tensor")
    return tensor


def _derived(make, _, arguments, *__) -> TensorRecord | str:
    """Rebuild a tensor of a class that is derived from torch's."""
    whole = isinstance(arguments, tuple) and len(arguments) <= _MOST_AXES
    if not whole or make not in (_TENSOR, _PARAMETER, _OTHER):
        raise ForbiddenName(f"a tensor made by {shown(make)}")
    return make(*arguments)


def _joined(separator: str, parts: tuple) -> str:
    texts = [str(part) for part in parts if isinstance(part, str | int)]
    if len(texts) != len(parts) or sum(map(len, texts)) > _LONGEST_PATH:
        raise ForbiddenName("a path of other things than names")
    return separator.join(texts)


def _as_tuple(sizes=(), *_) -> tuple:
    if not (isinstance(sizes, tuple | list) and len(sizes) <= _MOST_AXES):
        raise ForbiddenName("a shape that is none")
    return tuple(sizes)


_OTHER_TENSOR = "a tensor that is sparse, quantized or without numbers"
_PARAMETERS = ("parameter", "parameter_with_state")
_NO_TENSORS = ("sparse_tensor", "qtensor", "meta_tensor_no_storage", "nested_tensor", "tensor_v3")
_TENSOR, _PARAMETER = SafeFunction(_tensor), SafeFunction(_parameter)
_OTHER = SafeFunction(lambda *_: _OTHER_TENSOR)
_KNOWN: dict[str, Any] = {
    "collections.Counter": NEW_DICT,
    "yacs.config.CfgNode": NEW_DICT,
    "pytorch_lightning.utilities.parsing.AttributeDict": NEW_DICT,
    "lightning.fabric.utilities.data.AttributeDict": NEW_DICT,
    "lightning_fabric.utilities.data.AttributeDict": NEW_DICT,
    **{
        f"pathlib.{kind}": SafeFunction(lambda *parts: _joined("/", parts))
        for kind in ("PosixPath", "WindowsPath", "Path")
    },
    **{f"torch._utils._rebuild_{kind}": _TENSOR for kind in ("tensor", "tensor_v2")},
    **{f"torch._utils._rebuild_{kind}": _PARAMETER for kind in _PARAMETERS},
    **{f"torch._utils._rebuild_{kind}": _OTHER for kind in _NO_TENSORS},
    "torch._tensor._rebuild_from_type_v2": SafeFunction(_derived),
    "torch.Size": SafeFunction(_as_tuple),
    "torch.device": SafeFunction(lambda *parts: _joined(":", parts)),
    "torch.serialization._get_layout": SafeFunction(lambda *parts: _joined("", parts)),
}
# Number types and classes of tensors, which are read as text.
_TEXT = re.compile(
    r"torch\.((b?float|q?u?int|bool|complex|per_)\w*|Tensor|nn\.parameter\.Parameter)"
)
# Lightning stores the state of its callbacks under their classes, whose names change by version.
_FRAMEWORKS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "argparse.Namespace")


class _CheckpointUnpickler(Unpickler):
    """Reads the pickle of a checkpoint; `storages` holds every storage that the pickle names."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, _KNOWN)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        if full.startswith(_FRAMEWORKS):
            return self.foreign_class(full)
        if name in _DTYPES and module in ("torch", "torch.cuda", "torch.storage"):
            return name
        return full if _TEXT.fullmatch(full) else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and 5 <= len(pid) <= 6):
            return super().persistent_load(pid)
        kind, storage_type, key, _, _, *view = pid
        if not all(isinstance(text, str) for text in (kind, storage_type, key)):
            raise ForbiddenName("an external object without a name")
        if kind != "storage" or storage_type not in _DTYPES or len(key) > _LONGEST_PATH:
            raise ForbiddenName(f"the external object {shown(kind)} of type {shown(storage_type)}")
        storage = self.storages.setdefault(key, _Storage(key, _DTYPES[storage_type]))
        if view and view[0]:  # A part of a storage, in files from before PyTorch 1.6.
            start = view[0][1]
            if not _whole(start):
                raise ForbiddenName("a part of a storage without its start")
            return dataclasses.replace(storage, start=start)
        return storage


@contextlib.contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open what torch.save wrote; what is wrong with the file is raised here and in the body.

    Args:
        path: the file.

    Raises:
        RefusedPickle: its pickle asks for more than tensors and plain data, which is not run.
        UserError: the file is broken, not of torch.save, or larger than memory.
    """
    try:
        with path.open("rb") as file:
            yield _read_archive(file) if zipfile.is_zipfile(file) else _read_stream(file)
    except ForbiddenName as refused:
        raise RefusedPickle(
            f"{path} was refused: it asks for {refused}, which weights do not need; "
            "nothing was run. Get a file that holds the network's state_dict alone",
            str(refused),
        ) from None
    except MemoryError:
        raise UserError(f"there is not enough memory to read {path}") from None
    # Broken bytes can raise nearly any exception, in the unpickler or in zipfile.
    except Exception as error:
        reason = reason_of(error)
        raise UserError(
            f"{path} is not a checkpoint of torch.save ({reason}): it may be truncated, "
            "or an error page saved under its name: download it again"
        ) from None


def _read_archive(file: IO[bytes]) -> TorchFile:
    archive = Archive(file)
    names = archive.names
    pickles = [name for name in names if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip archive without data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    order = "<"
    if f"{folder}byteorder" in names:
        order = {b"little": "<", b"big": ">"}[archive.read(f"{folder}byteorder")]
    content = _CheckpointUnpickler(io.BytesIO(archive.read(pickles[0]))).load()
    bounds = _Bounds(file)

    # Tensors often share a storage with the one before.
    @functools.lru_cache(maxsize=1)
    def load(key: str) -> bytes:
        return archive.read(f"{folder}data/{key}")

    def numbers(tensor: TensorRecord) -> np.ndarray:
        bounds.check(tensor)
        return _strided(tensor, load(tensor.storage.key), order)

    return TorchFile(content, numbers)


class _Bounds:
    """Counts the bytes of tensors: strides of zero make large tensors out of single numbers."""

    def __init__(self, file: IO[bytes]):
        self._left = allowance(os.fstat(file.fileno()).st_size)

    def check(self, tensor: TensorRecord) -> None:
        size = check_shape(tensor.shape) * _number_type(tensor.storage.dtype, "<").itemsize
        self.spend(size, f"a tensor of shape {tensor.shape}")

    def spend(self, size: int, what: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ForbiddenName(f"{size:,} bytes for {what}")


def _read_stream(file: IO[bytes]) -> TorchFile:
    """Read a file from before PyTorch 1.6: a sequence of pickles, then each storage's numbers."""
    file.seek(0)
    if Unpickler(file).load() != _MAGIC:
        raise ValueError("its first bytes are not torch's")
    for _ in ("version of the protocol", "byte order and sizes of the machine"):
        Unpickler(file).load()
    unpickler = _CheckpointUnpickler(file)
    content = unpickler.load()
    keys = Unpickler(file).load()
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count < 0:
            raise ValueError("a number of its numbers is negative")
        size = count * _number_type(unpickler.storages[key].dtype, "<").itemsize
        places[key] = (file.tell(), size)
        file.seek(size, os.SEEK_CUR)
    if file.tell() > os.fstat(file.fileno()).st_size:
        raise ValueError("its numbers end too early")
    bounds = _Bounds(file)

    @functools.lru_cache(maxsize=1)
    def load(key: str) -> bytes:
        start, size = places[key]
        bounds.spend(size, "a storage that is read again and again")
        file.seek(start)
        return file.read(size)

    def numbers(tensor: TensorRecord) -> np.ndarray:
        bounds.check(tensor)
        return _strided(tensor, load(tensor.storage.key), "<")

    return TorchFile(content, numbers)


def _number_type(dtype: str, order: str) -> np.dtype:
    return np.dtype(order + ("u2" if dtype == _BFLOAT16 else dtype))


def _strided(tensor: TensorRecord, raw: bytes, order: str) -> np.ndarray:
    """Return a tensor's numbers, contiguous, out of its storage's bytes."""
    shape, steps, dtype = tensor.shape, tensor.strides, tensor.storage.dtype
    numbers = np.frombuffer(raw, _number_type(dtype, order))
    start = tensor.storage.start + tensor.offset
    reach = sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if 0 in shape:
        numbers, start, reach = np.zeros(1, numbers.dtype), 0, 0
    # as_strided itself would read any memory.
    if min(start, *shape, *steps, 0) < 0 or start + reach >= len(numbers):
        raise ValueError(f"a tensor of shape {shape} ends beyond its numbers")
    strides = [step * numbers.itemsize for step in steps]
    values = np.lib.stride_tricks.as_strided(numbers[start:], shape, strides)
    if dtype == _BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(shape)
