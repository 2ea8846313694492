"""The restricted unpickler: it reads plain data of Python 2 and 3 and refuses everything else."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from pare_jax.errors import UserError
from pare_jax.io.safe_pickle import load_pickle
from tests.io import legacy_pickle_writer as legacy


def load(tmp_path, raw: bytes):
    (tmp_path / "file.pkl").write_bytes(raw)
    return load_pickle(tmp_path / "file.pkl")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_modern_plain_data(tmp_path, protocol):
    value = {
        "a": [1, 2.5, None, True, "text", b"bytes\xff"],
        "array": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "texts": np.array(["x", "yy"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "scalar": np.float32(3),
        "sparse": csc_matrix(np.eye(3)),
    }
    got = load(tmp_path, pickle.dumps(value, protocol))
    assert got["a"] == value["a"]
    assert got["scalar"] == 3
    for name in ("array", "fortran", "texts", "objects"):
        np.testing.assert_array_equal(got[name], value[name])
    np.testing.assert_array_equal(got["sparse"].toarray(), np.eye(3))


def test_legacy_dialect(tmp_path):
    matrix = csc_matrix(np.array([[0, 2.0, 0], [1, 0, 0]]))
    items = {
        "text": legacy.text("caf\xe9"),
        "chumpy": legacy.chumpy(np.arange(6.0).reshape(1, 2, 3)),
        "sparse": legacy.sparse_columns(matrix),
        "list": b"](" + legacy.chumpy(np.ones(2)) + b"e",
    }
    got = load(tmp_path, legacy.legacy_pickle(legacy.dictionary(items)))
    assert got["text"] == "caf\xe9"
    np.testing.assert_array_equal(got["chumpy"], np.arange(6.0).reshape(1, 2, 3))
    np.testing.assert_array_equal(got["sparse"].toarray(), matrix.toarray())
    np.testing.assert_array_equal(got["list"][0], np.ones(2))


@pytest.mark.parametrize(
    "body",
    [
        legacy.call("os", "system", legacy.text("true")),
        legacy.call("numpy.testing._private.utils", "runstring", legacy.text("1")),
        legacy.call("numpy", "load", legacy.text("x")),
        legacy.call("numpy", "ndarray", b"K\x02"),
        legacy.call("copy_reg", "_reconstructor", b"cnumpy\ndtype\n", b"N", b"N"),
        legacy.call("numpy.core.multiarray", "_reconstruct", b"c__builtin__\nobject\n", b"N", b"N"),
        # A change of the reader: attributes set on a function that it knows.
        b"c_codecs\nencode\n(N}(" + legacy.text("_function") + b"Nutb",
        b"Pexternal\n",
    ],
)
def test_anything_else_is_refused(tmp_path, body):
    with pytest.raises(UserError, match=r"file\.pkl") as caught:
        load(tmp_path, legacy.legacy_pickle(body))
    assert "\n" not in str(caught.value)
    test_legacy_dialect(tmp_path)


def test_sparse_indices_out_of_range_are_refused(tmp_path):
    matrix = csc_matrix(np.eye(3))
    matrix.indices[:] = 1_000_000
    with pytest.raises(UserError, match=r"file\.pkl"):
        load(tmp_path, legacy.legacy_pickle(legacy.sparse_columns(matrix)))


@pytest.mark.parametrize("text", [b"not a pickle", b"hello\n", b"<html>", b'{"a": 1}', b"PK\x03"])
def test_other_files_are_not_called_truncated(tmp_path, text):
    with pytest.raises(UserError, match=r"file\.pkl") as caught:
        load(tmp_path, text)
    assert "truncated" not in str(caught.value)


def test_a_truncated_pickle_is_called_so(tmp_path):
    for whole in (pickle.dumps({"a": np.ones(9)}, protocol=p) for p in range(6)):
        with pytest.raises(UserError, match="truncated"):
            load(tmp_path, whole[:-20])
    with pytest.raises(UserError, match="truncated"):
        load(tmp_path, b"")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pkl"):
        load_pickle(tmp_path / "nothing.pkl")
