"""Writes pickles as Python 2, old numpy, old scipy and chumpy did, opcode by opcode."""

import pickle
import struct

import numpy as np


def call(module: str, name: str, *args: bytes) -> bytes:
    """The opcodes that call `module.name` with arguments that are themselves opcodes."""
    return b"c%s\n%s\n(%stR" % (module.encode(), name.encode(), b"".join(args))


def text(value: str | bytes) -> bytes:
    """A Python 2 byte string."""
    raw = value.encode("latin1") if isinstance(value, str) else value
    return b"T" + struct.pack("<i", len(raw)) + raw


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(value: np.ndarray) -> bytes:
    """A numpy array as numpy 1 pickled it."""
    value = np.ascontiguousarray(value)
    shape = b"(" + b"".join(number(n) for n in value.shape) + b"t"
    dtype = call("numpy", "dtype", text(value.dtype.str[1:]), number(0), number(1))
    order = value.dtype.str[:1]
    dtype += b"(" + number(3) + text(order) + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    empty = b"cnumpy\nndarray\n(" + number(0) + b"t" + text("b")
    made = b"cnumpy.core.multiarray\n_reconstruct\n(" + empty + b"tR"
    return made + b"(" + number(1) + shape + dtype + b"I00\n" + text(value.tobytes()) + b"tb"


def instance(module: str, name: str, attributes: dict[str, bytes]) -> bytes:
    """An object of a class, made by copy_reg and given its attributes."""
    kind = f"c{module}\n{name}\nc__builtin__\nobject\nN".encode()
    return b"ccopy_reg\n_reconstructor\n(" + kind + b"tR" + dictionary(attributes) + b"b"


def chumpy(value: np.ndarray) -> bytes:
    return instance("chumpy.ch", "Ch", {"x": array(value), "_dirty_vars": b"I00\n"})


def sparse_columns(matrix) -> bytes:
    """A scipy csc_matrix as old scipy pickled it."""
    fields = {
        "_shape": b"(" + b"".join(number(n) for n in matrix.shape) + b"t",
        "maxprint": number(50),
        "data": array(matrix.data),
        "indices": array(matrix.indices),
        "indptr": array(matrix.indptr),
    }
    return instance("scipy.sparse.csc", "csc_matrix", fields)


def dictionary(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def legacy_pickle(body: bytes) -> bytes:
    """A whole file of protocol 2 around one value."""
    return pickle.PROTO + b"\x02" + body + b"."


def smpl_file(fields: dict, **more: bytes) -> bytes:
    """A released SMPL model: chumpy shapes, sparse regressor, plain arrays and text."""
    from scipy.sparse import csc_matrix

    items = {name: array(value) for name, value in fields.items()}
    items["shapedirs"] = chumpy(fields["shapedirs"])
    items["J_regressor"] = sparse_columns(csc_matrix(fields["J_regressor"]))
    items["bs_type"] = text("lrotmin")
    return legacy_pickle(dictionary(items | more))
