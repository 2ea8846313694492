"""Arrays, sparse matrices and chumpy's views out of pickles, and ones that would be misread."""

import pickle

import numpy as np
import pytest
import scipy.sparse

from pare_jax.errors import UserError
from pare_jax.io.safe_pickle import Inert, RefusedPickle, load_pickle
from tests.io import legacy_pickle_writer as legacy

NDARRAY = b"cnumpy\nndarray\n"


def load(tmp_path, raw: bytes):
    (tmp_path / "file.pkl").write_bytes(raw)
    return load_pickle(tmp_path / "file.pkl")


def dtype(code: str, order: str = "<", flags: int = 0, parts: bytes = b"NNN") -> bytes:
    made = legacy.call("numpy", "dtype", legacy.text(code), b"I00\n", b"I01\n")
    sizes = legacy.number(-1) * 2 + legacy.number(flags)
    return made + b"(" + legacy.number(3) + legacy.text(order) + parts + sizes + b"tb"


def array(shape: bytes, kind: bytes, content: bytes) -> bytes:
    made = legacy.call("numpy.core.multiarray", "_reconstruct", NDARRAY, b"(K\x00t", b"U\x01b")
    return made + b"(K\x01" + shape + kind + b"I00\n" + content + b"tb"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        *(
            np.arange(6, dtype=kind).reshape(2, 3)
            for kind in ("i1", ">i2", "u8", "f2", ">f8", "c16")
        ),
        np.array([[True], [False]]),
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(["a", "caf\xe9\U0001f600"], ">U5"),
        np.array([b"a", b"bc"]),
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([[{"a": 1}, None], ["b", np.ones(2)]], object),
    ],
)
def test_arrays_of_every_plain_type(tmp_path, protocol, value):
    got = load(tmp_path, pickle.dumps(value, protocol))
    assert (got.shape, got.dtype) == (value.shape, value.dtype)
    for one, other in zip(got.ravel(), value.ravel(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.float64(1.5), np.int32(-3), np.bool_(True), np.str_("ab")])
def test_single_numbers(tmp_path, value):
    got = load(tmp_path, pickle.dumps(value))
    assert got == value
    assert got.dtype == value.dtype


ADDRESS = legacy.text(b"\x41" * 8)
FORGED = {
    # NumPy makes a number type whose flags say that it has no objects, and reads an address.
    "a number that is an object": legacy.call(
        "numpy.core.multiarray", "scalar", dtype("O8", "|", flags=0), ADDRESS
    ),
    "a number of parts with an object": legacy.call(
        "numpy.core.multiarray",
        "scalar",
        dtype("V8", "|", 0, b"N(U\x01at}(U\x01a" + dtype("O8") + b"K\x00\x86u"),
        ADDRESS,
    ),
    "an array of objects out of bytes": array(b"(K\x01t", dtype("O8", "|"), ADDRESS),
    "a view of bytes as objects": legacy.call(
        "numpy.core.numeric", "_frombuffer", ADDRESS, dtype("O8"), b"(K\x01t", legacy.text("C")
    ),
    "an array larger than its bytes": array(b"(K\x02t", dtype("f8"), legacy.text(bytes(8))),
    "an array of nothing, many times": array(b"(J\xff\xff\xff\x7ft", dtype("S0"), legacy.text("")),
    "a negative length": array(b"(J\xff\xff\xff\xfft", dtype("f8"), legacy.text("")),
    "more axes than NumPy has": array(b"(" + b"K\x01" * 65 + b"t", dtype("b1"), legacy.text("x")),
    "text that is not Unicode": array(b"(K\x01t", dtype("U1"), legacy.text(b"\xff\xff\xff\x7f")),
    "a number type that is no text": legacy.call("numpy", "dtype", b"K\x08"),
    "another type": array(b"(K\x01t", dtype("M8"), legacy.text(bytes(8))),
    "an array without its state": legacy.call(
        "numpy.core.multiarray", "_reconstruct", NDARRAY, b"(K\x00t", b"U\x01b"
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_arrays_that_numpy_would_believe_are_refused(tmp_path, name):
    with pytest.raises(RefusedPickle, match=r"file\.pkl"):
        load(tmp_path, legacy.legacy_pickle(FORGED[name]))


def test_an_array_of_bytes_that_are_no_truths(tmp_path):
    got = load(
        tmp_path, legacy.legacy_pickle(array(b"(K\x02t", dtype("b1", "|"), b"U\x02\x00\x07"))
    )
    assert got.tolist() == [False, True]


def test_pointers_between_lines_are_checked(tmp_path):
    """Scipy's own full check passes these, and its conversion reads beyond the array."""
    matrix = scipy.sparse.csc_matrix(np.zeros((3, 3)))
    matrix.indptr[1] = 1_000_000_000
    with pytest.raises(UserError, match=r"file\.pkl"):
        load(tmp_path, legacy.legacy_pickle(legacy.sparse_columns(matrix)))


@pytest.mark.parametrize("module", ["scipy.sparse", "scipy.sparse.{}", "scipy.sparse._{}"])
@pytest.mark.parametrize("kind", ["csc", "csr"])
def test_compressed_matrices_under_all_their_names(tmp_path, module, kind):
    dense = np.array([[0, 2.0, 0], [1, 0, 3]])
    matrix = getattr(scipy.sparse, f"{kind}_matrix")(dense)
    parts = {name: legacy.array(getattr(matrix, name)) for name in ("data", "indices", "indptr")}
    for shape in ("_shape", "shape"):
        fields = {shape: b"(K\x02K\x03t", "maxprint": legacy.number(50), **parts}
        raw = legacy.instance(module.format(kind), f"{kind}_matrix", fields)
        got = load(tmp_path, legacy.legacy_pickle(raw))
        np.testing.assert_array_equal(got.toarray(), dense)


@pytest.mark.parametrize("kind", ["coo_matrix", "coo_array", "csr_array", "csc_array"])
def test_matrices_of_todays_scipy(tmp_path, kind):
    dense = np.array([[0, 2, 0], [1, 0, 3]])
    got = load(tmp_path, pickle.dumps(getattr(scipy.sparse, kind)(dense)))
    np.testing.assert_array_equal(got.toarray(), dense)


def test_coordinates_of_old_scipy(tmp_path):
    matrix = scipy.sparse.coo_matrix(np.array([[0, 2.0], [1, 0]]))
    fields = {name: legacy.array(getattr(matrix, name)) for name in ("row", "col", "data")}
    fields["_shape"] = b"(K\x02K\x02t"
    raw = legacy.legacy_pickle(legacy.instance("scipy.sparse.coo", "coo_matrix", fields))
    np.testing.assert_array_equal(load(tmp_path, raw).toarray(), matrix.toarray())
    for name in ("row", "col"):
        for wrong in (2, -1):
            changed = fields | {name: legacy.array(np.full(2, wrong))}
            raw = legacy.instance("scipy.sparse.coo", "coo_matrix", changed)
            with pytest.raises(UserError, match=r"file\.pkl"):
                load(tmp_path, legacy.legacy_pickle(raw))


def select(source: bytes, indices, shape: bytes) -> bytes:
    fields = {"a": source, "idxs": legacy.array(np.array(indices)), "preferred_shape": shape}
    return legacy.instance("chumpy.reordering", "Select", fields)


def test_views_of_chumpy(tmp_path):
    numbers = np.arange(24.0).reshape(2, 3, 4)
    inner = select(
        legacy.chumpy(numbers),
        np.arange(24).reshape(2, 3, 4)[:, :, :2].ravel(),
        b"(K\x02K\x03K\x02t",
    )
    got = load(tmp_path, legacy.legacy_pickle(inner))
    np.testing.assert_array_equal(got, numbers[:, :, :2])
    got = load(tmp_path, legacy.legacy_pickle(select(inner, [0, 11], b"(K\x02t")))
    np.testing.assert_array_equal(got, [0.0, numbers[1, 2, 1]])
    fields = {"a": inner, "newshape": b"(K\x04K\x03t"}
    raw = legacy.instance("chumpy.reordering", "Reshape", fields)
    assert load(tmp_path, legacy.legacy_pickle(raw)).shape == (4, 3)
    for indices in ([24], [-1]):
        with pytest.raises(UserError, match=r"file\.pkl"):
            load(
                tmp_path, legacy.legacy_pickle(select(legacy.chumpy(numbers), indices, b"(K\x01t"))
            )


def test_what_is_not_understood_is_named_and_not_computed(tmp_path):
    """A transposed array holds its source; a view of it is neither array nor error."""
    turned = legacy.instance(
        "chumpy.reordering", "transpose", {"a": legacy.chumpy(np.ones((2, 3)))}
    )
    items = {
        "plain": legacy.array(np.ones(2)),
        "turned": turned,
        "view": select(turned, [0], b"(K\x01t"),
    }
    items["bsr"] = legacy.instance("scipy.sparse.bsr", "bsr_matrix", {"data": b"N"})
    got = load(tmp_path, legacy.legacy_pickle(legacy.dictionary(items)))
    np.testing.assert_array_equal(got["plain"], np.ones(2))
    found = {name: value.name for name, value in got.items() if isinstance(value, Inert)}
    assert found == {
        "turned": "chumpy.reordering.transpose",
        "view": "chumpy.reordering.transpose",
        "bsr": "scipy.sparse.bsr.bsr_matrix",
    }


def test_a_view_that_is_much_larger_than_the_file_is_refused(tmp_path):
    indices = legacy.array(np.zeros(1 << 17, np.uint8)) + b"\x94"
    fields = {"a": legacy.chumpy(np.ones(1)) + b"\x94", "idxs": indices, "preferred_shape": b"N"}
    first = legacy.instance("chumpy.reordering", "Select", fields)
    again = {"a": b"h\x00", "idxs": b"h\x01", "preferred_shape": b"N"}
    more = b"".join(legacy.instance("chumpy.reordering", "Select", again) for _ in range(500))
    with pytest.raises(RefusedPickle, match="memory"):
        load(tmp_path, legacy.legacy_pickle(b"(" + first + more + b"l"))
