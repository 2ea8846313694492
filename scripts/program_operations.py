"""Reads the operations of a compiled program from its text: kind, part of the step, arithmetic."""

import dataclasses
import math
import re
from collections.abc import Iterator

PRODUCT, MOVE, OTHER = "product", "copy or transpose", "elementwise or sum"
FORWARD, GRADIENT, REST = "forward", "gradient", "rest"

_LINE = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<opcode>[\w\-]+)"
    r"\((?P<operands>.*?)\)(?P<rest>.*)$"
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_MOVES = frozenset(
    (
        *("bitcast", "broadcast", "concatenate", "constant", "copy", "get-tuple-element", "iota"),
        *("pad", "parameter", "reshape", "reverse", "slice", "transpose", "tuple"),
    )
)
_CONTAINERS = frozenset(("while", "conditional", "call"))
_DEPTH = 4  # of the search for an operand with a name


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        name: in the program's text and in profiles.
        type: element type and shape of the result, with its layout.
        opcode: XLA's.
        operands: names of other operations of the computation.
        rest: attributes and metadata.
    """

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result; () for tuples."""
        found = re.match(r"\w+\[([\d,]*)\]", self.type)
        return tuple(int(size) for size in found[1].split(",") if size) if found else ()

    @property
    def source(self) -> str:
        """The path of JAX's transformations and functions that led here; "" if XLA made it."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


class Program:
    """The operations of a compiled program."""

    def __init__(self, text: str):
        """Read the text of `jax.stages.Compiled.as_text`."""
        self._computations: dict[str, dict[str, Operation]] = {}
        inside: dict[str, Operation] = {}
        for line in text.splitlines():
            if begin := _COMPUTATION.match(line):
                inside = self._computations.setdefault(begin[1], {})
            elif found := _LINE.match(line):
                operands = tuple(re.findall(r"%([\w.\-]+)", found["operands"]))
                inside[found["name"]] = Operation(
                    found["name"], found["type"], found["opcode"], operands, found["rest"]
                )
        self._owners = {name: inner for inner in self._computations.values() for name in inner}

    def __contains__(self, name: str) -> bool:
        """Return whether this is an operation that does not only hold others."""
        return name in self._owners and self._owners[name][name].opcode not in _CONTAINERS

    def _with_inner(self, name: str) -> Iterator[tuple[Operation, dict[str, Operation]]]:
        """Yield an operation and those that are fused in it, with their computations."""
        owner = self._owners[name]
        yield owner[name], owner
        if found := re.search(r"calls=%?([\w.\-]+)", owner[name].rest):
            inner = self._computations.get(found[1], {})
            yield from ((operation, inner) for operation in inner.values())

    def kind(self, name: str) -> str:
        """Return PRODUCT (of matrices, or a convolution), MOVE or OTHER."""
        opcodes = {operation.opcode for operation, _ in self._with_inner(name)} - {"fusion"}
        if opcodes & {"dot", "convolution"}:
            return PRODUCT
        return MOVE if opcodes <= _MOVES else OTHER

    def part(self, name: str, depth: int = _DEPTH) -> str:
        """Return FORWARD, GRADIENT or REST, by the names that JAX gives.

        XLA drops some names; then those of operands count.
        """
        operations = [operation for operation, _ in self._with_inner(name)]
        sources = [one.source for one in operations if one.source and one.opcode != "parameter"]
        if sources:
            own = operations[0].source or sources[-1]
            if "jvp(" not in own:
                return REST
            return GRADIENT if "transpose(jvp(" in own else FORWARD
        if not depth:
            return REST
        parts = {self.part(one, depth - 1) for one in operations[0].operands if one in self._owners}
        return next((part for part in (GRADIENT, FORWARD) if part in parts), REST)

    def describe(self, name: str) -> str:
        """Return kind, name, shape of the result, and source of an operation."""
        operation = self._owners[name][name]
        shape = " x ".join(map(str, operation.shape))
        return f"{self.kind(name)} {name} ({shape}) {operation.source}".rstrip()

    def flops(self, name: str) -> float:
        """Return twice the multiplications of an operation's products, with those by padding."""
        return sum(_flops(operation, owner) for operation, owner in self._with_inner(name))


def _flops(operation: Operation, owner: dict[str, Operation]) -> float:
    shapes = [owner[one].shape for one in operation.operands if one in owner]
    if len(shapes) < 2:
        return 0.0
    if operation.opcode == "dot":
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", operation.rest)
        sizes = [shapes[0][int(axis)] for axis in summed[1].split(",") if axis] if summed else []
    elif operation.opcode == "convolution":
        labels = re.search(r"dim_labels=\w+_(\w+)->", operation.rest)
        sizes = [
            n for n, at in zip(shapes[1], labels[1] if labels else "", strict=False) if at != "o"
        ]
    else:
        return 0.0
    return 2.0 * math.prod(operation.shape) * math.prod(sizes)
