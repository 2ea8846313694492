"""Reads pickles without running code in them: SMPL bodies, 3DPW's sequences, checkpoints.

A pickle can call any function that it names. This reader has a list of names: plain containers,
numpy arrays, scipy's sparse matrices and chumpy's arrays. It refuses every other name before
anything is called. Numpy's own functions are not called either: stand-ins collect what they are
called with, and arrays are made of it once it is checked. Python 2's pickles are read too.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from pare_jax.errors import UserError, reason_of
from pare_jax.io.pickle_opcodes import (
    ITEM,
    ForbiddenName,
    ForeignClass,
    PickleMachine,
    SafeFunction,
    checked_key,
    shown,
)
from pare_jax.io.pickled_arrays import (
    PickledArray,
    PickledDtype,
    checked_bytes,
    encoded,
    numbers_of,
    sparse_matrix,
    viewed,
)

# The first bytes of a container or an object in protocols 0 to 5. Plain text starts differently.
_START = re.compile(rb"\x80[\x01-\x05]|[(\])}]|c[\w.]+\n[\w.]+\n")
# Deeper content would end the recursion of those who read it.
_DEEPEST = 100


class RefusedPickle(UserError):
    """Raised for a pickle that asks for more than plain data. None of its code was run.

    Attributes:
        culprit: the name that it asks for, for instance "os.system".
    """

    def __init__(self, message: str, culprit: str):
        super().__init__(message)
        self.culprit = culprit


class Inert:
    """Stands for an object of a foreign class: holds its attributes and does nothing.

    Attributes:
        name: of its class, with its module.
        kind: "chumpy", "sparse", or empty for other classes.
        fields: its attributes by name; empty for objects of chumpy and scipy that are not
            understood.
    """

    __slots__ = ("fields", "kind", "name")

    def __init__(self, name: str, kind: str = ""):
        self.name, self.kind = name, kind
        self.fields: dict[str, Any] = {}


def _refuse(what: str):
    raise ForbiddenName(what)


# Stands for numpy.ndarray. Pickles pass it to _reconstruct and never call it.
_NDARRAY = SafeFunction(lambda *_: _refuse("a call of numpy.ndarray"))
_OBJECT = SafeFunction(lambda *_: _refuse("a call of object"))


def _new_array(subtype, *_):
    if subtype is not _NDARRAY:
        raise ForbiddenName(f"an array of type {shown(subtype)}")
    return PickledArray()


def _new_inert(kind, *_):
    if not isinstance(kind, ForeignClass):
        raise ForbiddenName(f"an object of type {shown(kind)}")
    return Inert(kind.name, kind.kind)


def _scalar(dtype, content=None):
    array = PickledArray((), dtype, content)
    if array.checked()[1].hasobject:
        raise ForbiddenName("a number that is an object")
    return numbers_of(array)[()]


def _new_bytearray(content=b"", encoding="latin1"):
    return bytearray(
        encoded(content, encoding) if isinstance(content, str) else checked_bytes(content)
    )


def _new_set(items=()):
    if not isinstance(items, list | tuple | set | frozenset):
        raise ForbiddenName(f"a set made of {shown(items)}")
    return set(map(checked_key, items))


def _new_dict(items=(), *_):
    if isinstance(items, dict):
        return dict(items)
    if not isinstance(items, list | tuple):
        raise ForbiddenName(f"a dict made of {shown(items)}")
    return {checked_key(key): value for key, value in items}


# Makes the dict that stands for an object of a class derived from dict.
NEW_DICT = SafeFunction(_new_dict)

_CORES = ("numpy.core", "numpy._core")
_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": NEW_DICT,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": SafeFunction(PickledDtype),
    "_codecs.encode": SafeFunction(encoded),
    **{f"{module}._reconstructor": SafeFunction(_new_inert) for module in ("copy_reg", "copyreg")},
    **{
        f"{module}.{name}": stand_in
        for module in ("__builtin__", "builtins")
        for name, stand_in in {
            "object": _OBJECT,
            "set": SafeFunction(_new_set),
            "frozenset": SafeFunction(lambda items=(): frozenset(_new_set(items))),
            "complex": SafeFunction(lambda real, imaginary: complex(real, imaginary)),
            "bytearray": SafeFunction(_new_bytearray),
            "bytes": SafeFunction(lambda: b""),
        }.items()
    },
    **{f"{core}.multiarray._reconstruct": SafeFunction(_new_array) for core in _CORES},
    **{f"{core}.multiarray.scalar": SafeFunction(_scalar) for core in _CORES},
    **{f"{core}.numeric._frombuffer": SafeFunction(PickledArray.of_buffer) for core in _CORES},
}
# Classes whose objects are held, by the kind of what they stand for.
_KINDS = {
    "chumpy": re.compile(r"chumpy(\.\w+)*\.\w+"),
    "sparse": re.compile(r"scipy\.sparse(\.\w+)*\.[a-z]+_(matrix|array)"),
}


class Unpickler(PickleMachine):
    """Reads one pickle from a file that is open for reading; raises ForbiddenName."""

    def __init__(self, file: IO[bytes], known: Mapping[str, Any] = MappingProxyType({})):
        """Prepare to read.

        Args:
            file: it is read from its present position to the end of the pickle.
            known: further names ("module.name"), each with what stands for it.
        """
        super().__init__(file)
        self._known = known
        self._classes: dict[str, ForeignClass] = {}
        # Of every value that is read: what it stands for, its bytes and its depth. Data may name
        # the same list many times, and is then as large as if it held copies.
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def load(self) -> Any:
        """Return the pickled object as plain data; see `load_pickle`."""
        return self._plain(super().load(), 0)[0]

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; raise ForbiddenName for unknown names."""
        full = f"{module}.{name}"
        for known in (self._known, _KNOWN):
            if full in known:
                return known[full]
        for kind, pattern in _KINDS.items():
            if pattern.fullmatch(full):
                return self.foreign_class(full, kind)
        raise ForbiddenName(shown(full))

    def foreign_class(self, name: str, kind: str = "") -> ForeignClass:
        """Return the class that stands for a foreign one in this file."""
        return self._classes.setdefault(name, ForeignClass(name, kind))

    def call(self, function: Any, args: tuple) -> Any:
        if isinstance(function, ForeignClass):
            return Inert(function.name, function.kind)
        return super().call(function, args)

    def build(self, value: Any, state: Any) -> None:
        if isinstance(value, PickledArray | PickledDtype):
            value.build(state)
        elif isinstance(value, Inert):
            # Classes with __slots__ have a pair of dicts.
            pair = isinstance(state, tuple) and len(state) == 2
            for fields in state if pair else (state,):
                self.spend_on(fields)
                value.fields.update({} if fields is None else _fields(fields))
        # The attributes of a class derived from dict are not needed.
        elif not (isinstance(value, dict) and isinstance(state, dict)):
            raise ForbiddenName(f"a change of {shown(value)}")

    def _plain(self, value: Any, depth: int) -> tuple[Any, int]:
        """Return what a value stands for, and the number of containers around its innermost."""
        if value is None or isinstance(value, bool | int | float | complex | np.generic):
            self.spend(ITEM)
            return value, 0
        if isinstance(value, str | bytes):
            self.spend(ITEM + len(value))
            return value, 0
        key = id(value)
        if key in self._open:
            raise ForbiddenName("data that holds itself")
        if key in self._done:
            result, cost, height = self._done[key]
            self.spend(cost)
        else:
            self._open.add(key)
            before = self.left
            result, height = self._convert(value, depth + 1)
            self.spend(ITEM)
            self._done[key] = result, before - self.left, height
            self._open.remove(key)
        if depth + height > _DEEPEST:
            raise ForbiddenName(f"data nested more than {_DEEPEST} times")
        return result, height

    def _convert(self, value: Any, depth: int) -> tuple[Any, int]:
        if depth > _DEEPEST:
            raise ForbiddenName(f"data nested more than {_DEEPEST} times")
        if isinstance(value, dict):
            keys = [key.name if isinstance(key, ForeignClass) else key for key in value]
            for key in keys:
                self.spend_on(key)
            values, height = self._all(list(value.values()), depth)
            return dict(zip(keys, values, strict=True)), height
        if isinstance(value, list | tuple | set | frozenset):
            values, height = self._all(list(value), depth)
            return type(value)(values), height
        if isinstance(value, PickledArray):
            return self._array(value, depth)
        if isinstance(value, Inert):
            return self._object_of(value, depth)
        if isinstance(value, ForeignClass):
            return value.name, 0
        if isinstance(value, PickledDtype):
            return value.found(), 0
        if isinstance(value, SafeFunction):
            return "a function", 0
        self.spend_on(value)
        return value, 0

    def _all(self, values: list, depth: int) -> tuple[list, int]:
        results, heights = [], [0]
        for value in values:
            result, height = self._plain(value, depth)
            results.append(result)
            heights.append(height)
        return results, 1 + max(heights)

    def _array(self, array: PickledArray, depth: int) -> tuple[np.ndarray, int]:
        shape, dtype = array.checked()
        if not dtype.hasobject:
            numbers = numbers_of(array)
            self.spend(numbers.nbytes)
            return numbers, 0
        values = array.content
        if not isinstance(values, list) or len(values) != math.prod(shape):
            raise ForbiddenName("an array of objects without its objects")
        values, height = self._all(values, depth)
        objects = np.empty(len(values), object)
        for number, value in enumerate(values):
            objects[number] = value
        return objects.reshape(shape), height

    def _object_of(self, value: Inert, depth: int) -> tuple[Any, int]:
        """Return the array or matrix that an object of chumpy or scipy stands for."""
        kind = value.name.rpartition(".")[2]
        used = _USED.get(kind, ()) if value.kind else tuple(value.fields)
        fields, height = self._all_fields(value, used, depth)
        if value.kind == "sparse" and fields:
            return sparse_matrix(kind, fields), 0
        if value.kind == "chumpy" and fields:
            return viewed(fields, self.spend), 0
        result = Inert(value.name, value.kind)
        result.fields = fields
        return result, height

    def _all_fields(self, value: Inert, used: Iterable[str], depth: int):
        names = [name for name in used if name in value.fields]
        values, height = self._all([value.fields[name] for name in names], depth)
        return dict(zip(names, values, strict=True)), height


# The attributes that make up an object; those of other classes of scipy and chumpy are not kept.
_COMPRESSED = ("_shape", "shape", "data", "indices", "indptr")
_USED = {
    "Ch": ("x",),
    "Select": ("a", "idxs", "preferred_shape"),
    "Reshape": ("a", "newshape"),
    **dict.fromkeys(("csc_matrix", "csc_array", "csr_matrix", "csr_array"), _COMPRESSED),
    **dict.fromkeys(
        ("coo_matrix", "coo_array"), ("_shape", "shape", "data", "row", "col", "coords")
    ),
}


def _fields(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ForbiddenName(f"attributes in {shown(state)}")
    return state


def is_pickle(start: bytes) -> bool:
    """Return whether the first bytes of a file, some 100, can be those of a pickle."""
    return bool(_START.match(start))


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of plain data, Python 2's dialect included.

    Args:
        path: the file. Text of Python 2 is read as latin1.

    Returns:
        Dicts, lists, tuples, sets, text, numbers, numpy arrays, and scipy's coo matrices in place
        of csc, csr and coo ones. A chumpy array, also one behind Select or Reshape, becomes a numpy
        array. Other objects of chumpy and scipy become an `Inert` with their class's name.

    Raises:
        RefusedPickle: the file names anything else, which is not run, or its content is much
            larger than the file.
        UserError: the file is missing or broken.
    """
    path = Path(path)
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(256)
            file.seek(0)
            return Unpickler(file).load()
    except ForbiddenName as refused:
        raise RefusedPickle(
            f"{path} was refused: its pickle asks for {refused}, which plain data never needs; "
            "nothing was run. Get the file again from its publisher.",
            str(refused),
        ) from None
    except MemoryError:
        raise UserError(f"there is not enough memory to read {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    # Broken bytes can raise nearly any exception.
    except Exception as error:
        if start and not is_pickle(start):
            raise UserError(f"{path} is not a pickle; get the file again") from None
        reason = reason_of(error)
        raise UserError(
            f"{path} is not a readable pickle ({reason}): it may be truncated; copy it again"
        ) from None
