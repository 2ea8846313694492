"""Interprets the opcodes of pickles within bounds, without running any code.

Python's own unpickler can be made to allocate any amount of memory, and to read memory that is not
its own. This one is written in Python alone. It makes plain containers, text and numbers; all else
is left to its methods `find_class`, `call`, `build` and `persistent_load`. Its work is bounded by
`MOST_STEPS` and by `allowance` of the file's size.
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from typing import IO, Any

import numpy as np

# Opcodes in a file. A PARE checkpoint with its optimizer has some 200,000, an SMPL body 1,000.
MOST_STEPS = 500_000
# Bytes that even a small file may expand to, and times its size that any file may.
_FREE_BYTES = 1 << 28
_TIMES_SIZE = 8
# Approximate bytes of an item in a container.
ITEM = 64
# Longer arguments are compared with the rest of the file before they are read.
_LONG = 1 << 16
_LONGEST_NUMBER = 256  # bytes
_LARGEST_KEY = 2**64
_LONGEST_NAME = 1000
_LAST_PROTOCOL = 5


class ForbiddenName(Exception):
    """Raised for a pickle that names something outside the list, or that exceeds a bound."""


class SafeFunction:
    """A function that a pickle may call. Unlike a plain function it is immutable."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, *_):
        raise ForbiddenName("a change of a function")

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class ForeignClass:
    """Stands for a class that is not known: a pickle can make its objects, which do nothing."""

    def __init__(self, name: str, kind: str):
        self.name = name
        self.kind = kind


def allowance(size: int) -> int:
    """Return the bytes that the content of a file may expand to.

    Args:
        size: bytes of the file.
    """
    return _FREE_BYTES + _TIMES_SIZE * size


def shown(value: Any) -> str:
    """Return a short text of a value from a file, without control characters."""
    if not isinstance(value, str):
        return f"an object of type {type(value).__name__}"
    return value if len(value) <= 100 and value.isprintable() else ascii(value[:100])


class PickleMachine:
    """Reads one pickle from a file.

    Attributes:
        left: bytes that the content may still expand to.
    """

    def __init__(self, file: IO[bytes]):
        """Prepare to read.

        Args:
            file: seekable; it is read from its present position to the end of the pickle.
        """
        start = file.tell()
        self._end = file.seek(0, 2)
        file.seek(start)
        self._file = file
        self.left = allowance(self._end - start)
        self._stack: list = []
        self._marked: list[list] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the pickled object.

        Raises:
            ForbiddenName: it needs more than is known, or exceeds a bound.
            Exception: of nearly any type, for a damaged file.
        """
        read, handlers = self._file.read, _HANDLERS
        for _ in range(MOST_STEPS):
            code = read(1)
            if code == pickle.STOP:
                return self._stack.pop()
            if not code:
                raise EOFError("it ends too early")
            if code not in handlers:
                raise ValueError(f"its opcode {code.hex()} is not known")
            handlers[code](self)
        raise ForbiddenName(f"more than {MOST_STEPS:,} steps")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        raise ForbiddenName(f"{shown(module)}.{shown(name)}")

    def call(self, function: Any, args: tuple) -> Any:
        """Return the result of a call."""
        if not isinstance(function, SafeFunction):
            raise ForbiddenName(f"a call of {shown(function)}")
        for value in args:
            self.spend_on(value)
        return function(*args)

    def build(self, value: Any, state: Any) -> None:
        """Set the attributes of an object."""
        raise ForbiddenName(f"a change of {shown(value)}")

    def persistent_load(self, pid: Any) -> Any:
        """Return an object that is stored outside the pickle."""
        raise ForbiddenName(f"the external object {shown(pid)}")

    def spend(self, count: int) -> None:
        """Count bytes that are allocated; raise ForbiddenName above the allowance."""
        self.left -= count
        if self.left < 0:
            raise ForbiddenName("much more memory than the file's size")

    def spend_on(self, value: Any) -> None:
        """Count the bytes of a shallow copy of a value."""
        if isinstance(value, str | bytes | bytearray):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict | set | frozenset):
            self.spend(4 * ITEM * len(value))  # and its time

    def _take(self, count: int) -> bytes:
        if count > _LONG and count > self._end - self._file.tell():
            raise EOFError("it ends too early")
        raw = self._file.read(count) if count >= 0 else b""
        if len(raw) != count:
            raise EOFError("it ends too early")
        return raw

    def _line(self) -> bytes:
        raw = self._file.readline()
        if raw[-1:] != b"\n":
            raise EOFError("it ends too early")
        return raw[:-1]

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_mark(self) -> list:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _store(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def _digits(self) -> bytes:
        line = self._line()
        if len(line) > 2 * _LONGEST_NUMBER:
            raise ForbiddenName(f"a number of {len(line):,} digits")
        return line

    def _text_number(self) -> int:
        number = int(self._digits())
        if not 0 <= number < 2**32:
            raise ValueError("a number of its memory is out of range")
        return number

    def _int(self) -> None:
        line = self._digits()
        truths = {b"00": False, b"01": True}
        self._push(truths[line] if line in truths else int(line, 0))

    def _long(self, form: str) -> None:
        count = self._unpack(form)
        if not 0 <= count <= _LONGEST_NUMBER:
            raise ForbiddenName(f"a number of {count:,} bytes")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _string(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise ValueError("a text without quotes")
        self._push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))  # pyright: ignore

    def _unicode(self, form: str) -> None:
        self._push(self._take(self._unpack(form)).decode("utf-8", "surrogatepass"))

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("its stack is empty")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _append(self, items: list) -> None:
        if not isinstance(self._stack[-1], list):
            raise ForbiddenName(f"items appended to {shown(self._stack[-1])}")
        self._stack[-1].extend(items)

    def _set_items(self, items: list) -> None:
        if not isinstance(self._stack[-1], dict):
            raise ForbiddenName(f"items in {shown(self._stack[-1])}")
        self._stack[-1].update(paired(items))

    def _add_items(self) -> None:
        items = self._pop_mark()
        if not isinstance(self._stack[-1], set):
            raise ForbiddenName(f"items added to {shown(self._stack[-1])}")
        self._stack[-1].update(map(checked_key, items))

    def _named(self, module: Any, name: Any) -> Any:
        texts = isinstance(module, str) and isinstance(name, str)
        if not texts or len(module) + len(name) > _LONGEST_NAME:
            raise ForbiddenName("a name that is no name")
        return self.find_class(module, name)

    def _global(self) -> None:
        self._push(self._named(self._line().decode(), self._line().decode()))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._named(module, name))

    def _reduce(self) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        if not isinstance(args, tuple):
            raise ForbiddenName(f"a call with {shown(args)}")
        self._push(self.call(function, args))

    def _reduce_with_names(self) -> None:
        if self._stack.pop() != {}:
            raise ForbiddenName("a call with named arguments")
        self._reduce()

    def _instance(self) -> None:
        function = self._named(self._line().decode(), self._line().decode())
        self._push(self.call(function, tuple(self._pop_mark())))

    def _object(self) -> None:
        function, *args = self._pop_mark()
        self._push(self.call(function, tuple(args)))

    def _build(self) -> None:
        state = self._stack.pop()
        self.build(self._stack[-1], state)

    def _protocol(self) -> None:
        number = self._unpack("B")
        if number > _LAST_PROTOCOL:
            raise ValueError(f"protocol {number} is not known")

    def _frame(self) -> None:
        if self._unpack("<Q") > self._end - self._file.tell():
            raise EOFError("it ends too early")

    def _bytearray(self) -> None:
        count = self._unpack("<Q")
        self.spend(count)
        self._push(bytearray(self._take(count)))

    def _outside(self) -> None:
        raise ForbiddenName("data outside the file")


def checked_key(key: Any) -> Any:
    """Return the key of a dict or an item of a set, if its hash is quick and hard to repeat.

    Many equal hashes and long texts would make a dict slow, and nested tuples take for ever to
    hash.
    """
    if isinstance(key, str | bytes):
        safe = len(key) <= _LONGEST_NAME
    elif isinstance(key, int):
        safe = -_LARGEST_KEY < key < _LARGEST_KEY
    elif isinstance(key, tuple):
        safe = len(key) <= 8 and all(isinstance(item, str) and len(item) < 100 for item in key)
    else:
        safe = key is None or isinstance(key, float | np.integer | ForeignClass | SafeFunction)
    if not safe:
        raise ForbiddenName(f"{shown(key)} as a key")
    return key


def paired(items: list) -> dict:
    """Return the dict of a list of keys and values that take turns."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    return dict(zip(map(checked_key, items[::2]), items[1::2], strict=True))


# What each opcode does, by its byte.
_HANDLERS: dict[bytes, Callable[[PickleMachine], Any]] = {
    pickle.MARK: PickleMachine._mark,
    pickle.POP: PickleMachine._pop,
    pickle.POP_MARK: PickleMachine._pop_mark,
    pickle.DUP: lambda m: m._push(m._stack[-1]),
    pickle.NONE: lambda m: m._push(None),
    pickle.NEWTRUE: lambda m: m._push(True),
    pickle.NEWFALSE: lambda m: m._push(False),
    pickle.INT: PickleMachine._int,
    pickle.BININT: lambda m: m._push(m._unpack("<i")),
    pickle.BININT1: lambda m: m._push(m._unpack("B")),
    pickle.BININT2: lambda m: m._push(m._unpack("<H")),
    pickle.LONG: lambda m: m._push(int(m._digits().rstrip(b"L"))),
    pickle.LONG1: lambda m: m._long("B"),
    pickle.LONG4: lambda m: m._long("<i"),
    pickle.FLOAT: lambda m: m._push(float(m._digits())),
    pickle.BINFLOAT: lambda m: m._push(m._unpack(">d")),
    pickle.STRING: PickleMachine._string,
    pickle.BINSTRING: lambda m: m._push(m._take(m._unpack("<i")).decode("latin1")),
    pickle.SHORT_BINSTRING: lambda m: m._push(m._take(m._unpack("B")).decode("latin1")),
    pickle.UNICODE: lambda m: m._push(m._line().decode("raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: lambda m: m._unicode("B"),
    pickle.BINUNICODE: lambda m: m._unicode("<I"),
    pickle.BINUNICODE8: lambda m: m._unicode("<Q"),
    pickle.SHORT_BINBYTES: lambda m: m._push(m._take(m._unpack("B"))),
    pickle.BINBYTES: lambda m: m._push(m._take(m._unpack("<I"))),
    pickle.BINBYTES8: lambda m: m._push(m._take(m._unpack("<Q"))),
    pickle.BYTEARRAY8: PickleMachine._bytearray,
    pickle.EMPTY_TUPLE: lambda m: m._push(()),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.TUPLE: lambda m: m._push(tuple(m._pop_mark())),
    pickle.EMPTY_LIST: lambda m: m._push([]),
    pickle.LIST: lambda m: m._push(m._pop_mark()),
    pickle.APPEND: lambda m: m._append([m._stack.pop()]),
    pickle.APPENDS: lambda m: m._append(m._pop_mark()),
    pickle.EMPTY_DICT: lambda m: m._push({}),
    pickle.DICT: lambda m: m._push(paired(m._pop_mark())),
    pickle.SETITEM: lambda m: m._set_items([m._stack.pop(), m._stack.pop()][::-1]),
    pickle.SETITEMS: lambda m: m._set_items(m._pop_mark()),
    pickle.EMPTY_SET: lambda m: m._push(set()),
    pickle.ADDITEMS: PickleMachine._add_items,
    pickle.FROZENSET: lambda m: m._push(frozenset(map(checked_key, m._pop_mark()))),
    pickle.PUT: lambda m: m._store(m._text_number()),
    pickle.BINPUT: lambda m: m._store(m._unpack("B")),
    pickle.LONG_BINPUT: lambda m: m._store(m._unpack("<I")),
    pickle.MEMOIZE: lambda m: m._store(len(m._memo)),
    pickle.GET: lambda m: m._push(m._memo[m._text_number()]),
    pickle.BINGET: lambda m: m._push(m._memo[m._unpack("B")]),
    pickle.LONG_BINGET: lambda m: m._push(m._memo[m._unpack("<I")]),
    pickle.GLOBAL: PickleMachine._global,
    pickle.STACK_GLOBAL: PickleMachine._stack_global,
    pickle.REDUCE: PickleMachine._reduce,
    pickle.NEWOBJ: PickleMachine._reduce,
    pickle.NEWOBJ_EX: PickleMachine._reduce_with_names,
    pickle.INST: PickleMachine._instance,
    pickle.OBJ: PickleMachine._object,
    pickle.BUILD: PickleMachine._build,
    pickle.PERSID: lambda m: m._push(m.persistent_load(m._line().decode())),
    pickle.BINPERSID: lambda m: m._push(m.persistent_load(m._stack.pop())),
    pickle.PROTO: PickleMachine._protocol,
    pickle.FRAME: PickleMachine._frame,
    **dict.fromkeys(
        (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        PickleMachine._outside,
    ),
}
