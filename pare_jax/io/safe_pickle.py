"""Read pickles from elsewhere without running what is in them.

The released SMPL models and 3DPW's sequences are pickles written by Python 2. A pickle can call any
function it names, so this reader knows a short list of names (numpy arrays, scipy's sparse columns,
chumpy's arrays) and refuses every other, before anything is called.
"""

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric

from pare_jax.errors import UserError

# The first bytes of any container or object in the protocols there are; plain text has others.
_START = re.compile(rb"\x80[\x01-\x05]|[(\])}]|c[\w.]+\n[\w.]+\n")


class RefusedPickle(UserError):
    """A pickle that asks for more than plain data; nothing of it was run.

    Attributes:
        culprit: what it asks for, "os.system".
    """

    def __init__(self, message: str, culprit: str):
        super().__init__(message)
        self.culprit = culprit


class _Refused(Exception):
    """A pickle named something outside the list."""


class _Inert:
    """An object of a foreign class: holds its attributes and does nothing."""

    kind = ""

    def __init__(self, *_):
        pass


class _Call:
    """A function a pickle may call; immutable, unlike a plain function."""

    __slots__ = ("_function",)

    def __init__(self, function):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, *_):
        raise _Refused("a change of a function")

    def __call__(self, *args):
        return self._function(*args)


# Stands for numpy.ndarray, which pickles only ever hand to _reconstruct: called itself, it would
# make arrays of objects out of any bytes.
_NDARRAY = _Call(lambda *_: _refuse("a call of numpy.ndarray"))


def _refuse(what: str):
    raise _Refused(what)


def _new_array(subtype, shape, code):
    if subtype is not _NDARRAY:
        raise _Refused(f"an array of type {subtype!r}")
    return multiarray._reconstruct(np.ndarray, shape, code)


def _new_inert(kind, *_):
    if not (isinstance(kind, type) and issubclass(kind, _Inert)):
        raise _Refused(f"an object of type {kind!r}")
    return kind()


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise _Refused(f"the text encoding {encoding!r}")
    return text.encode(encoding)


_NUMPY_CORE = ("numpy.core", "numpy._core")
_KNOWN = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _Call(_encode),
    ("copy_reg", "_reconstructor"): _Call(_new_inert),
    ("copyreg", "_reconstructor"): _Call(_new_inert),
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    **{(f"{core}.multiarray", "_reconstruct"): _Call(_new_array) for core in _NUMPY_CORE},
    **{(f"{core}.multiarray", "scalar"): _Call(multiarray.scalar) for core in _NUMPY_CORE},
    **{
        (f"{core}.numeric", "_frombuffer"): _Call(numeric._frombuffer)  # pyright: ignore
        for core in _NUMPY_CORE
    },
}
_SPARSE_MODULES = ("scipy.sparse", "scipy.sparse.csc", "scipy.sparse._csc")
_SPARSE_NAMES = ("csc_matrix", "csc_array")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file, encoding="latin1")
        # Made anew for every file, so that no file can leave anything behind in them.
        self._chumpy = type("Chumpy", (_Inert,), {"kind": "chumpy"})
        self._sparse = type("SparseColumns", (_Inert,), {"kind": "sparse"})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module in _SPARSE_MODULES and name in _SPARSE_NAMES:
            return self._sparse
        if module in ("chumpy", "chumpy.ch") and name == "Ch":
            return self._chumpy
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the external object {pid!r}")


def _plain(value: Any) -> Any:
    """Replace the stand-ins inside a value by the numpy and scipy objects they stand for."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if not isinstance(value, _Inert):
        return value
    fields = vars(value)
    if value.kind == "chumpy":
        return np.asarray(_plain(fields["x"]))
    from scipy.sparse import csc_matrix

    shape = fields.get("_shape", fields.get("shape"))
    matrix = csc_matrix((fields["data"], fields["indices"], fields["indptr"]), shape=shape)
    matrix.check_format(full_check=True)  # an index out of range would read beyond the array
    return matrix


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of plain data, Python 2's dialect included.

    Args:
        path: the file. Text of Python 2 is read as latin1.

    Returns:
        Dicts, lists, tuples, text, numbers, numpy arrays and scipy csc matrices. A chumpy array
        becomes a numpy array.

    Raises:
        RefusedPickle: the file names anything else, which is not run.
        UserError: the file is missing or broken.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return _plain(_Unpickler(io.BytesIO(raw)).load())
    except _Refused as refused:
        raise RefusedPickle(
            f"{path} was refused: its pickle asks for {refused}, which plain data never needs; "
            "nothing was run. Get the file again from its publisher.",
            str(refused),
        ) from None
    # Broken bytes can raise nearly anything, out of the unpickler or of numpy.
    except Exception as error:
        if raw and not _START.match(raw):
            raise UserError(
                f"{path} is not a pickle, whatever its name says; get the file again"
            ) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is not a readable pickle ({reason}): it may be truncated; copy it again"
        ) from None
