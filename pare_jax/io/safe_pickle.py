"""Reads pickles without running code in them: SMPL bodies, 3DPW's sequences, checkpoints.

A pickle can call any function that it names. This reader has a list of names: plain containers,
numpy arrays, scipy's sparse columns and chumpy's arrays. It refuses every other name before
anything is called. Python 2's pickles are read too.
"""

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy._core import multiarray, numeric

from pare_jax.errors import UserError

# The first bytes of a container or an object in protocols 0 to 5. Plain text starts differently.
_START = re.compile(rb"\x80[\x01-\x05]|[(\])}]|c[\w.]+\n[\w.]+\n")


class RefusedPickle(UserError):
    """Raised for a pickle that asks for more than plain data. None of its code was run.

    Attributes:
        culprit: the name that it asks for, for instance "os.system".
    """

    def __init__(self, message: str, culprit: str):
        super().__init__(message)
        self.culprit = culprit


class ForbiddenName(Exception):
    """Raised while reading a pickle that names something outside the list."""


class Inert:
    """Stands for an object of a foreign class: holds its attributes and does nothing.

    Attributes:
        kind: "chumpy", "sparse", or empty for other classes.
    """

    kind = ""

    def __init__(self, *_):
        pass


class SafeFunction:
    """A function that a pickle may call. Unlike a plain function it is immutable."""

    __slots__ = ("_function",)

    def __init__(self, function):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, *_):
        raise ForbiddenName("a change of a function")

    def __call__(self, *args):
        return self._function(*args)


def _refuse(what: str):
    raise ForbiddenName(what)


# Stands for numpy.ndarray. Pickles pass it to _reconstruct and never call it: a call would make
# arrays of objects out of any bytes.
_NDARRAY = SafeFunction(lambda *_: _refuse("a call of numpy.ndarray"))


def _new_array(subtype, shape, code):
    if subtype is not _NDARRAY:
        raise ForbiddenName(f"an array of type {subtype!r}")
    return multiarray._reconstruct(np.ndarray, shape, code)


def _new_inert(kind, *_):
    if not (isinstance(kind, type) and issubclass(kind, Inert)):
        raise ForbiddenName(f"an object of type {kind!r}")
    return kind()


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise ForbiddenName(f"the text encoding {encoding!r}")
    return text.encode(encoding)


_BUILTINS = {"object": object, "set": set, "complex": complex, "bytearray": bytearray}
_CORES = ("numpy.core", "numpy._core")
_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": np.dtype,
    "_codecs.encode": SafeFunction(_encode),
    **{f"{module}._reconstructor": SafeFunction(_new_inert) for module in ("copy_reg", "copyreg")},
    **{
        f"{module}.{name}": kind
        for module in ("__builtin__", "builtins")
        for name, kind in _BUILTINS.items()
    },
    **{f"{core}.multiarray._reconstruct": SafeFunction(_new_array) for core in _CORES},
    **{f"{core}.multiarray.scalar": SafeFunction(multiarray.scalar) for core in _CORES},
    **{
        f"{core}.numeric._frombuffer": SafeFunction(numeric._frombuffer)  # pyright: ignore
        for core in _CORES
    },
}
_KINDS = {
    **{f"{module}.Ch": "chumpy" for module in ("chumpy", "chumpy.ch")},
    **{
        f"{module}.{name}": "sparse"
        for module in ("scipy.sparse", "scipy.sparse.csc", "scipy.sparse._csc")
        for name in ("csc_matrix", "csc_array")
    },
}


class Unpickler(pickle.Unpickler):
    """Reads one pickle from a file that is open for reading; raises ForbiddenName."""

    def __init__(self, file: IO[bytes], known: Mapping[str, Any] = MappingProxyType({})):
        """Prepare to read.

        Args:
            file: it is read from its present position to the end of the pickle.
            known: further names ("module.name"), each with what stands for it. It must be
                immutable, so that no file can change it for the next.
        """
        super().__init__(file, encoding="latin1")
        self._known = known
        # Every file gets classes of its own, so that it cannot change them for the next.
        self._classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        for known in (self._known, _KNOWN):
            if full in known:
                return known[full]
        if full in _KINDS:
            return self.inert_class(full, _KINDS[full])
        raise ForbiddenName(full)

    def inert_class(self, name: str, kind: str = "") -> type[Inert]:
        """Return the class that stands for a foreign one in this file."""
        if name not in self._classes:
            self._classes[name] = type(name.rpartition(".")[2], (Inert,), {"kind": kind})
        return self._classes[name]

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenName(f"the external object {pid!r}")


def _plain(value: Any) -> Any:
    """Replace the stand-ins inside a value by the numpy and scipy objects they stand for."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if not isinstance(value, Inert):
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
        Dicts, lists, tuples, sets, text, numbers, numpy arrays and scipy csc matrices. A chumpy
        array becomes a numpy array.

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
        return _plain(Unpickler(io.BytesIO(raw)).load())
    except ForbiddenName as refused:
        raise RefusedPickle(
            f"{path} was refused: its pickle asks for {refused}, which plain data never needs; "
            "nothing was run. Get the file again from its publisher.",
            str(refused),
        ) from None
    # Broken bytes can raise nearly any exception, in the unpickler or in numpy.
    except Exception as error:
        if raw and not _START.match(raw):
            raise UserError(f"{path} is not a pickle; get the file again") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} is not a readable pickle ({reason}): it may be truncated; copy it again"
        ) from None
