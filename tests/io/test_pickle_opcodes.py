"""The machine for pickles: it agrees with Python's, and its time and memory are bounded."""

import collections
import io
import pickle
import pickletools
import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from pare_jax.errors import UserError
from pare_jax.io import pickle_opcodes
from pare_jax.io.safe_pickle import RefusedPickle, Unpickler, load_pickle
from tests.body.small_bodies import random_body_fields
from tests.io import legacy_pickle_writer as legacy

PLAIN = [
    *(None, True, False, 0, -1, 255, 256, 70_000, -(2**31), 2**63, -(10**40), 1.5, -1e300),
    *(
        "text",
        "caf\xe9\n'\"\\",
        "\U0001f600\ud800",
        "x" * 300,
        b"",
        b"\x00\xff" * 200,
        b"y" * 70_000,
    ),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], list(range(2000)), {}, {1: {"a": 2}}),
    *({"a", 1}, frozenset([2.5]), bytearray(b"abc"), complex(1, -2)),
    dict.fromkeys([*range(2000), ("a", "b"), None, 1.5, b"z"]),
    collections.OrderedDict([("a", 1), ("b", [2])]),
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_what_python_reads(protocol):
    shared = ["shared"]
    value = [PLAIN, shared, shared]
    raw = pickle.dumps(value, protocol)
    got = Unpickler(io.BytesIO(raw)).load()
    assert got == value
    assert list(map(type, got[0][:-1])) == list(map(type, PLAIN[:-1]))
    assert type(got[0][-1]) is dict


def test_every_opcode_of_python_is_known():
    known = {opcode.code.encode("latin1") for opcode in pickletools.opcodes} - {pickle.STOP}
    assert set(pickle_opcodes._HANDLERS) == known


def test_python_2_wrote_texts_as_escapes():
    raw = b"(lp0\nS'\\x00\\xe9\\n'\np1\naI01\naL12L\na(dp2\nS\"k\"\nF1.5\nsa."
    assert Unpickler(io.BytesIO(raw)).load() == ["\x00\xe9\n", True, 12, {"k": 1.5}]
    # Old instances, and the opcodes of protocol 1.
    raw = b"(ichumpy.ch\nCh\n(dS'x'\n" + legacy.array(np.ones(2)) + b"sb."
    np.testing.assert_array_equal(Unpickler(io.BytesIO(raw)).load(), np.ones(2))


def doubled(times: int) -> bytes:
    value: list = []
    for _ in range(times):
        value = [value, value]
    return pickle.dumps(value, 4)


TEXT = b"X" + struct.pack("<I", 1 << 24) + bytes(1 << 24) + b"\x94"
BYTES = b"B" + TEXT[1:]
LIST = b"]\x94(" + b"K\x01" * 100_000 + b"e"
# Numbers with the same hash, larger than 64 bits.
EQUAL = [(k * (2**61 - 1) << 64).to_bytes(32, "little") for k in range(1, 50_000)]


def again(first: bytes, function: bytes) -> bytes:
    """A pickle that makes one value and calls a function with it thousands of times."""
    calls = b"(" + b"h\x01h\x00\x85R" * 20_000 + b"t."
    return b"\x80\x04" + first + b"c" + function + b"\n\x94" + calls


BOMBS = {
    "a list doubled sixty times": doubled(60),
    "a tuple doubled sixty times as a key": b"\x80\x04})" + b"2\x86" * 60 + b"Ns.",
    "lists in lists": b"\x80\x04" + b"](" * 100_000 + b"e" * 100_000 + b".",
    "tuples in tuples": b"\x80\x04]" + b"\x85" * 100_000 + b".",
    "a list in itself": b"\x80\x04]\x94h\x00a.",
    "more steps than any file": b"\x80\x04" + b"N0" * 300_000 + b"N.",
    "sets": b"\x80\x04(" + b"\x8f" * 600_000 + b"l.",
    "a byte string of 2**50 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.",
    "a byte array of 2**50 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"x.",
    "a text of 4 GB": b"\x80\x04X\xff\xff\xff\xff.",
    "a text of -1 bytes": b"\x80\x02T\xff\xff\xff\xff.",
    "a frame of 2**60 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "a number of 2**31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a number of 100,000 digits": b"I" + b"9" * 100_000 + b"\n.",
    "a long text encoded again and again": again(TEXT, b"_codecs\nencode"),
    "a byte string copied again and again": again(BYTES, b"builtins\nbytearray"),
    "a set made of a long list again and again": again(LIST, b"builtins\nset"),
    "a long name again and again": b"\x80\x04" + TEXT + b"h\x00h\x00\x930" * 20_000 + b"N.",
    "long and equal keys": b"\x80\x04" + TEXT * 2 + b"}" + b"h\x00Nsh\x01Ns" * 20_000 + b".",
    "keys with one hash": b"\x80\x04}(" + b"".join(b"\x8a\x20" + k + b"N" for k in EQUAL) + b"u.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_all_memory_or_time_is_refused_at_once(tmp_path, name):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(UserError, match=r"bomb\.pkl"):
            load_pickle(path)
        seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 30  # of minutes to years; tracing costs most of it
    assert peak < pickle_opcodes.allowance(len(BOMBS[name])) * 1.5


def test_the_allowance_grows_with_the_file():
    shared = "x" * (1 << 20)
    fine = pickle.dumps([shared] * 200)
    assert len(Unpickler(io.BytesIO(fine)).load()) == 200
    with pytest.raises(pickle_opcodes.ForbiddenName):
        Unpickler(io.BytesIO(pickle.dumps([shared] * 400))).load()
    whole = [shared + str(number) for number in range(400)]
    assert Unpickler(io.BytesIO(pickle.dumps(whole))).load() == whole


@pytest.mark.parametrize(
    "body",
    [
        b"\x82\x01",  # an extension
        b"\x97",  # a buffer outside the file
        b"N(K\x01e",  # appended to None
        b")(K\x01e",
        b"](K\x01K\x02u",
        b"](K\x01\x90",
        b"NN\x86NR",
        b"N}b",
        b"K\x01K\x02\x93",
        b"c__builtin__\nobject\n)R",
        b"c__builtin__\nobject\n}b",
        b"}(]Nu",
    ],
)
def test_opcodes_in_places_where_plain_data_has_none(tmp_path, body):
    (tmp_path / "odd.pkl").write_bytes(b"\x80\x05" + body + b".")
    with pytest.raises(RefusedPickle, match=r"odd\.pkl"):
        load_pickle(tmp_path / "odd.pkl")


def test_a_refusal_shows_no_control_characters(tmp_path):
    (tmp_path / "odd.pkl").write_bytes(b"\x80\x02cos\x1b[2J\nsystem\r\n.")
    with pytest.raises(RefusedPickle, match=r"os\\x1b\[2J\.system") as caught:
        load_pickle(tmp_path / "odd.pkl")
    assert str(caught.value).isprintable()


NAMES = (
    *(b"numpy\ndtype\n", b"numpy\nndarray\n", b"numpy.core.multiarray\n_reconstruct\n"),
    *(b"numpy.core.multiarray\nscalar\n", b"numpy._core.numeric\n_frombuffer\n"),
    *(b"copy_reg\n_reconstructor\n", b"__builtin__\nobject\n", b"__builtin__\nset\n"),
    *(b"chumpy.ch\nCh\n", b"chumpy.reordering\nSelect\n", b"scipy.sparse\ncsc_matrix\n"),
    *(b"collections\nOrderedDict\n", b"os\nsystem\n", b"_codecs\nencode\n"),
)
TEXTS = ("f8", "O8", "U4", "S3", "b1", "V8", "<", "|", "x", "data", "indices", "_shape", "\xff" * 8)


def drawn_opcode(rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return b"c" + rng.choice(NAMES)
    if kind == 1:
        return legacy.text(rng.choice(TEXTS))
    if kind == 2:
        return legacy.number(rng.choice([-1, 0, 1, 3, 63, 2**31 - 1]))
    if kind == 3:
        return b"h" + bytes([rng.randrange(8)])
    if kind == 4:
        return legacy.array(np.arange(rng.randrange(4)) * rng.choice([1, 1.5]))
    return bytes([rng.choice(b"(tR2b0]})NQaesuldo.\x81\x85\x94")])


def changed(rng: random.Random, whole: bytes) -> bytes:
    raw = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 5])):
        start = rng.randrange(len(raw))
        piece = raw[start : start + rng.randrange(1, 40)]
        extreme, byte = b"\xff\xff\xff\x7f", rng.randbytes(1)
        other = rng.choice([b"", byte, piece * 2, extreme, drawn_opcode(rng)])
        raw[start : start + rng.choice([0, 1, 4, len(piece)])] = other
    return bytes(raw)


def outcome(path) -> str:
    """Read a pickle; return "read", or the type of the refusal."""
    try:
        load_pickle(path)
    except UserError as error:
        return type(error).__name__ if str(error).isprintable() else "a message with control codes"
    return "read"


def test_damaged_and_made_up_pickles_are_read_or_refused(tmp_path):
    """A small part of a longer search: no crash, no other exception, quick."""
    value = {
        "array": np.arange(6.0).reshape(2, 3),
        "texts": np.array(["x", "yy"]),
        "objects": np.array([{"a": 1}, None], object),
        "scalar": np.float32(3),
        "sparse": [kind(np.eye(2)) for kind in (csc_matrix, csr_matrix, coo_matrix)],
        "list": [1, 2.5, "text", {3}],
    }
    whole = [pickle.dumps(value, protocol) for protocol in range(6)]
    whole.append(legacy.smpl_file(random_body_fields(vertices=4)))
    rng = random.Random(0)
    path, outcomes = tmp_path / "file.pkl", collections.Counter()
    for number in range(4000):
        if number % 2:
            raw = changed(rng, rng.choice(whole))
        else:
            body = b"".join(drawn_opcode(rng) for _ in range(rng.randrange(2, 40)))
            raw = legacy.legacy_pickle(body)
        path.write_bytes(raw)
        outcomes[outcome(path)] += 1
    assert set(outcomes) == {"read", "UserError", "RefusedPickle"}
    assert min(outcomes.values()) > 40
