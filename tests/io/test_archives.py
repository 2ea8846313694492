"""Archives and arrays: what NumPy reads, and files whose declared sizes are refused."""

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pare_jax.errors import UserError
from pare_jax.io.archives import Archive, read_npy, read_npz
from pare_jax.io.pickle_opcodes import ForbiddenName, allowance
from pare_jax.io.safe_pickle import RefusedPickle

ARRAYS = {
    "floats": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "texts": np.array(["a", "caf\xe9"]),
    "truth": np.array([True, False]),
    "scalar": np.array(2.5, np.float16),
    "empty": np.zeros((0, 3), np.float32),
}


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + content


def described(shape, kind: str = "<f8") -> str:
    return f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}}}"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_what_numpy_reads(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    got = read_npz(tmp_path / "a.npz")
    assert list(got) == list(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].dtype == value.dtype
        np.save(tmp_path / f"{name}.npy", value)
        np.testing.assert_array_equal(read_npy(tmp_path / f"{name}.npy"), value)
    assert list(read_npz(tmp_path / "a.npz", ["truth", "missing"])) == ["truth"]
    assert "texts" not in read_npz(tmp_path / "a.npz", without=["texts"])


def test_objects_are_read_only_when_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(2), sparse=csr_matrix(np.eye(2)), side={"a": 1})
    with pytest.raises(UserError, match="sparse"):
        read_npz(path)
    assert list(read_npz(path, ["x"])) == ["x"]
    got = read_npz(path, objects=True)
    np.testing.assert_array_equal(got["sparse"].item().toarray(), np.eye(2))
    assert got["side"].item() == {"a": 1}


class Shell:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_objects_is_refused_and_not_run(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.array(Shell(), object))
    with pytest.raises(RefusedPickle, match=r"builtins\.print"):
        read_npz(tmp_path / "a.npz", objects=True)
    assert capsys.readouterr().out == ""


def lying(entry: bytes, size: int) -> bytes:
    """Return an archive whose list declares another size than that of its only entry."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", entry)
    raw = bytearray(content.getvalue())
    for start, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = raw.index(start) + offset
        raw[place : place + 4] = struct.pack("<I", size)
    return bytes(raw)


def archive_of(entry: bytes, method: int = zipfile.ZIP_DEFLATED, times: int = 1) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for number in range(times):
            archive.writestr(f"{number}.npy", entry)
    return content.getvalue()


LARGE = npy(described((1 << 24,), "|u1"), bytes(1 << 24))
BOMBS = {
    "entries that expand to gigabytes": archive_of(LARGE, times=40),
    "an entry larger than declared": lying(LARGE, 200),
    "an entry declared as 4 GB": lying(LARGE, 2**32 - 2),
    "a compression without limits": archive_of(LARGE, zipfile.ZIP_LZMA),
    "a shape of terabytes": archive_of(npy(described((2**40,)))),
    "a shape that is empty and long": archive_of(npy(described((0, 2**40)))),
    "a negative shape": archive_of(npy(described((-1, 8)), bytes(8))),
    "items of no size": archive_of(npy(described((2**40,), "|S0"))),
    "a type of parts": archive_of(npy(described((1,), "<f4,<f4"), bytes(8))),
    "a header of brackets": archive_of(npy("(" * 60_000)),
    "a header of signs": archive_of(npy("-" * 9000 + "1")),
    "no array": archive_of(b"hello"),
    "no archive": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_declared_sizes_are_checked_before_anything_is_read(tmp_path, name):
    path = tmp_path / "bomb.npz"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(UserError, match=r"bomb\.npz") as caught:
            read_npz(path, objects=True)
        seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert seconds < 5
    assert peak < allowance(len(BOMBS[name])) * 1.2


def test_a_long_list_of_entries_is_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x", b"")
    raw = bytearray(content.getvalue())
    place = raw.index(b"PK\x05\x06")
    raw[place:place] = bytes(1 << 23)
    raw[-10:-6] = struct.pack("<I", 1 << 23)  # the length of the list
    with pytest.raises(zipfile.BadZipFile):
        Archive(io.BytesIO(bytes(raw)))


def test_reading_an_entry_again_and_again_ends():
    archive = Archive(io.BytesIO(archive_of(LARGE)))
    for _ in range(16):
        archive.read("0.npy")
    with pytest.raises(ForbiddenName):
        archive.read("0.npy")


@pytest.mark.parametrize("whole", [LARGE[:-1], LARGE[:40], archive_of(LARGE), b"", b"text"])
def test_an_array_alone_is_checked_too(tmp_path, whole):
    (tmp_path / "a.npy").write_bytes(whole)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"missing\.npy"):
        read_npy(tmp_path / "missing.npy")
