"""Makes NumPy's arrays, scipy's matrices and chumpy's views from what a pickle says about them.

Pickles call NumPy's own functions, some of which believe everything: an array of objects can be
made of any bytes, which are then read as addresses. Here arrays are made of checked text, numbers
and bytes alone.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pare_jax.io.pickle_opcodes import ForbiddenName, shown

_NUMBERS = re.compile(r"b1|[iu][1248]|f2|f4|f8|f16|c8|c16|c32|[SU]\d{1,8}|O\d?")
_MOST_AXES = 32
_LONGEST_AXIS = 2**40
_LONGEST_EMPTY = 2**24
_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8")


class PickledDtype:
    """Stands for a numpy.dtype that is being read."""

    def __init__(self, code: Any, *_):
        """Start from the arguments of numpy.dtype; the first is a text such as "f8"."""
        if not (isinstance(code, str) and _NUMBERS.fullmatch(code)):
            raise ForbiddenName(f"the number type {shown(code)}")
        self._code, self._order = code, "="

    def build(self, state: Any) -> None:
        """Take the byte order from a dtype's pickled state."""
        if not (isinstance(state, tuple) and len(state) >= 5):
            raise ForbiddenName("a number type of another form")
        if not isinstance(state[1], str) or any(part is not None for part in state[2:5]):
            raise ForbiddenName("a number type that has parts")
        if state[1] not in ("<", ">", "=", "|"):
            raise ForbiddenName(f"the byte order {shown(state[1])}")
        self._order = state[1]

    def found(self) -> np.dtype:
        """Return the type."""
        return np.dtype("O") if self._code[0] == "O" else np.dtype(self._order + self._code)


class PickledArray:
    """Stands for a numpy.ndarray that is being read, from its shape, type and content.

    Attributes:
        content: bytes, Python 2's text, or a list of objects.
    """

    def __init__(self, shape: Any = (), dtype: Any = None, content: Any = None):
        self.content = content
        self._shape, self._dtype = shape, dtype
        self._order: Any = "C"
        self._axes: Any = None

    @classmethod
    def of_buffer(cls, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None):
        """Take the arguments of numpy's `_frombuffer`."""
        array = cls(shape, dtype, content)
        array._order, array._axes = order, axes
        return array

    def build(self, state: Any) -> None:
        """Take an array's pickled state."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ForbiddenName("an array of another form")
        _, self._shape, self._dtype, fortran, self.content = state
        self._order = "F" if isinstance(fortran, int) and fortran else "C"

    def checked(self) -> tuple[tuple[int, ...], np.dtype]:
        """Return shape and type, if plain data may have them."""
        if not isinstance(self._dtype, PickledDtype):
            raise ForbiddenName(f"an array whose number type is {shown(self._dtype)}")
        shape = self._shape if isinstance(self._shape, tuple) else (self._shape,)
        check_shape(shape)
        return shape, self._dtype.found()

    def arranged(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers, which are in the file's order, in the array's shape."""
        shape, _ = self.checked()
        if not isinstance(self._axes, tuple):
            return numbers.reshape(
                shape, order="F" if isinstance(self._order, str) and self._order == "F" else "C"
            )
        if len(self._axes) != len(shape) or not all(map(_is_size, self._axes)):
            raise ForbiddenName("an array of impossible axes")
        return numbers.reshape(shape).transpose(self._axes)


def check_shape(shape: Iterable[int]) -> int:
    """Return the number of an array's items; raise ForbiddenName for an impossible shape.

    An array without items may not be long either: its lists would take all memory.
    """
    sizes = list(itertools.islice(shape, _MOST_AXES + 1))
    if len(sizes) > _MOST_AXES or not all(map(_is_size, sizes)):
        raise ForbiddenName("an array of an impossible shape")
    if 0 in sizes and math.prod(max(size, 1) for size in sizes) > _LONGEST_EMPTY:
        raise ForbiddenName("an array that is empty and long")
    return math.prod(sizes)


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size < _LONGEST_AXIS


def encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Return a text as bytes."""
    if not (isinstance(text, str) and isinstance(encoding, str) and encoding in _ENCODINGS):
        raise ForbiddenName(f"the text encoding {shown(encoding)}")
    return text.encode(encoding)


def checked_bytes(content: Any) -> bytes | bytearray:
    """Return bytes; raise ForbiddenName for anything else."""
    if not isinstance(content, bytes | bytearray):
        raise ForbiddenName(f"bytes made of {shown(content)}")
    return content


def numbers_of(array: PickledArray) -> np.ndarray:
    """Return an array's numbers or texts, read-only: they share the pickle's bytes."""
    shape, dtype = array.checked()
    content = array.content
    content = encoded(content) if isinstance(content, str) else bytes(checked_bytes(content))
    count = math.prod(shape)
    if len(content) != count * dtype.itemsize or not dtype.itemsize:
        raise ForbiddenName("an array of another size than its bytes")
    if not count:
        return np.empty(shape, dtype)
    return array.arranged(as_type(np.frombuffer(content, np.uint8), dtype))


def as_type(raw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return bytes as numbers or texts; raise ForbiddenName for what Python could not hold.

    Args:
        raw: uint8, one axis.
        dtype: of plain numbers or texts.
    """
    if dtype.kind not in "biufcSU":
        raise ForbiddenName(f"the number type {shown(str(dtype))}")
    # NumPy holds any 32 bits as a character, and any byte as true or false.
    if dtype.kind == "U" and raw.view(dtype.str[0] + "u4").max(initial=0) > 0x10FFFF:
        raise ForbiddenName("text that is not Unicode")
    return raw != 0 if dtype.kind == "b" else raw.view(dtype)


def sparse_matrix(kind: str, fields: Mapping[str, Any]) -> Any:
    """Return a matrix of scipy, float64, after a check of its indices, which scipy believes.

    Args:
        kind: the name of scipy's class, which starts with csc, csr or coo.
        fields: the object's attributes.

    Returns:
        A coo matrix.
    """
    import scipy.sparse

    shape = fields.get("_shape", fields.get("shape"))
    if not (isinstance(shape, tuple) and len(shape) == 2):
        raise ForbiddenName("a sparse matrix without a shape")
    sizes = tuple(size if _is_size(size) else 0 for size in shape)
    if not 0 < min(sizes) <= max(sizes) < 2**31:
        raise ForbiddenName("a sparse matrix of an impossible shape")
    data = _array_of(fields["data"], "fiub").astype(np.float64)
    if kind.startswith("coo"):
        row, column = fields["coords"] if "coords" in fields else (fields["row"], fields["col"])
        row, column = _indices(row, sizes[0]), _indices(column, sizes[1])
    else:
        # In a csc matrix the indices are rows, and the next column starts at the next pointer.
        lines, width = sizes if kind.startswith("csr") else sizes[::-1]
        found = _indices(fields["indices"], width)
        starts = _indices(fields["indptr"], len(found) + 1)
        counts = np.diff(starts)
        if len(counts) != lines or starts[0] or starts[-1] != len(found) or counts.min() < 0:
            raise ForbiddenName("a sparse matrix whose lines are not in order")
        line = np.repeat(np.arange(lines), counts)
        row, column = (line, found) if kind.startswith("csr") else (found, line)
    if not len(data) == len(row) == len(column):
        raise ForbiddenName("a sparse matrix of lists of different lengths")
    return scipy.sparse.coo_matrix((data, (row, column)), sizes)


def viewed(fields: Mapping[str, Any], spend: Callable[[int], None]) -> Any:
    """Return the array of chumpy's Ch, or of its views Select and Reshape.

    Args:
        fields: the object's attributes.
        spend: is called with the bytes of a copy before it is made.
    """
    source = fields["x"] if "x" in fields else fields["a"]
    if not isinstance(source, np.ndarray | np.generic | int | float):
        return source  # an object of chumpy that is not understood
    array = np.asarray(source)
    if array.dtype.hasobject:
        raise ForbiddenName("a chumpy array of objects")
    if "idxs" in fields:
        indices = _indices(fields["idxs"], array.size)
        spend(indices.size * array.itemsize)
        array = array.ravel()[indices]
    shape = fields.get("preferred_shape", fields.get("newshape"))
    return array if shape is None else array.reshape(shape)


def _array_of(value: Any, kinds: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in kinds:
        raise ForbiddenName(f"a list of numbers that is {shown(value)}")
    return value


def _indices(value: Any, limit: int) -> np.ndarray:
    """Return a list of whole numbers, from 0 and below a limit."""
    indices = _array_of(value, "iu").astype(np.int64)
    if len(indices) and not 0 <= indices.min() <= indices.max() < limit:
        raise ForbiddenName("an index that is out of range")
    return indices
