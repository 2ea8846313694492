"""Builds an ONNX graph node by node, and translates each JAX operation to ONNX operators.

Reference of the operators: https://onnx.ai/onnx/operators/
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[Any, ...]  # integers and multiples of the symbolic batch size


class Tensor(NamedTuple):
    """A result in the graph.

    Attributes:
        name: name of the node's output.
        shape: shape in the graph. A dimension that JAX broadcasts may still be 1 here: most ONNX
            operators broadcast it themselves; for others use `Graph.whole`.
    """

    name: str
    shape: Shape


Value = Tensor | np.ndarray


class Graph:
    """Nodes and constants of an ONNX graph, in the order of their addition."""

    def __init__(self, onnx: Any, argument: str, batch: Any):
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._onnx = onnx
        self._argument = argument
        self._batch = batch
        self._names: dict[Any, str] = {}
        self._count = 0

    def name_of(self, value: Value) -> str:
        """Return a value's name; adds a constant to the graph at its first use."""
        if isinstance(value, Tensor):
            return value.name
        # Equal constants are stored once. The key holds a digest, because weights are large.
        key = (value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest())
        if key not in self._names:
            name = self._names[key] = f"constant_{len(self.constants)}"
            array = np.ascontiguousarray(value).reshape(value.shape)
            self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return self._names[key]

    def add(
        self,
        operator: str,
        inputs: Sequence[Value],
        shape: Shape,
        output: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Add a node and return its output."""
        self._count += 1
        name = output or f"{operator}_{self._count}"
        names = [self.name_of(value) for value in inputs]
        self.nodes.append(self._onnx.helper.make_node(operator, names, [name], **attributes))
        return Tensor(name, tuple(shape))

    def whole(self, value: Value, shape: Shape) -> Value:
        """Broadcast a value to its full shape; see `Tensor.shape`."""
        if value.shape == tuple(shape):
            return value
        if all(isinstance(size, int) for size in shape) and isinstance(value, np.ndarray):
            return np.broadcast_to(value, shape)
        if len(value.shape) < len(shape):
            value = self.reshape(value, (1,) * (len(shape) - len(value.shape)) + value.shape)
        sizes = [self._size(size) for size in shape]
        target = self.add("Concat", sizes, (len(shape),), axis=0)
        return self.add("Expand", [value, target], shape)

    def _size(self, size: Any) -> Value:
        """Return a dimension as an array of one integer."""
        if isinstance(size, int):
            return np.array([size], np.int64)
        sizes = self.add("Shape", [Tensor(self._argument, ())], (1,), start=0, end=1)
        return self.add("Mul", [sizes, np.array([int(size // self._batch)], np.int64)], (1,))

    def reshape(self, value: Value, shape: Shape) -> Value:
        """Reshape a value."""
        if value.shape == tuple(shape):
            return value
        if isinstance(value, np.ndarray):
            return value.reshape(shape)
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if sizes.count(-1) > 1:
            raise NotImplementedError(f"a reshape to {shape}, with two symbolic dimensions")
        return self.add("Reshape", [value, np.array(sizes, np.int64)], shape)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Reorder a value's axes."""
        if list(order) == list(range(len(order))):
            return value
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value.transpose(order))
        shape = tuple(value.shape[axis] for axis in order)
        return self.add("Transpose", [value], shape, perm=list(order))

    def type_of(self, dtype: Any) -> int:
        """Return ONNX's number for a NumPy type."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "convert_element_type": "Cast",
    "cos": "Cos",
    "div": "Div",
    "eq": "Equal",
    "exp": "Exp",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "integer_pow": "Mul",
    "le": "LessOrEqual",
    "log": "Log",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "rsqrt": "Reciprocal",
    "select_n": "Where",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "square": "Mul",
    "stop_gradient": "Identity",
    "sub": "Sub",
    "tanh": "Tanh",
}


def elementwise(
    graph: Graph, name: str, inputs: list[Value], shape: Shape, parameters: Mapping[str, Any]
) -> Tensor:
    """Add the nodes of an operation in `ELEMENTWISE`."""
    # A dimension that is 1 in all inputs stays 1; see `Tensor.shape`.
    actual = list(shape)
    for axis in range(len(shape)):
        sizes = [v.shape[axis] for v in inputs if len(v.shape) == len(shape)]
        if all(isinstance(size, int) and size == 1 for size in sizes):
            actual[axis] = 1
    shape = tuple(actual)
    if name == "convert_element_type":
        kind = graph.type_of(parameters["new_dtype"])
        return graph.add("Cast", inputs, shape, to=kind)
    if name == "rsqrt":
        return graph.add("Reciprocal", [graph.add("Sqrt", inputs, shape)], shape)
    if name == "square" or (name == "integer_pow" and parameters["y"] == 2):
        return graph.add("Mul", inputs * 2, shape)
    if name == "integer_pow" and parameters["y"] == 3:
        return graph.add("Mul", [graph.add("Mul", inputs * 2, shape), *inputs], shape)
    if name == "integer_pow":
        raise NotImplementedError(f"the operation integer_pow with exponent {parameters['y']}")
    if name == "select_n":
        if_false, if_true = inputs[1:]
        return graph.add("Where", [inputs[0], if_true, if_false], shape)
    if name == "max" and isinstance(inputs[1], np.ndarray) and not inputs[1].any():
        return graph.add("Relu", inputs[:1], shape)
    return graph.add(ELEMENTWISE[name], inputs, shape)


def _reshape(graph: Graph, inputs: list[Value], shape: Shape, _: Mapping) -> Value:
    return graph.reshape(inputs[0], shape)


def _transpose(graph: Graph, inputs: list[Value], _: Shape, parameters: Mapping) -> Value:
    return graph.transpose(inputs[0], parameters["permutation"])


def _broadcast(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    """Insert new axes of size 1; see `Tensor.shape`."""
    actual: list[Any] = [1] * len(shape)
    for axis, size in zip(parameters["broadcast_dimensions"], inputs[0].shape, strict=True):
        actual[axis] = size
    return graph.reshape(inputs[0], tuple(actual))


def _concatenate(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    return graph.add("Concat", inputs, shape, axis=parameters["dimension"])


def _stack(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    axis = parameters["axis"]
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    return graph.add("Concat", [graph.reshape(x, single) for x in inputs], shape, axis=axis)


def _unstack(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> list[Value]:
    axis = parameters["axis"]
    return [
        graph.reshape(_cut(graph, inputs[0], {axis: (index, index + 1, 1)}), shape)
        for index in range(inputs[0].shape[axis])
    ]


def _split(graph: Graph, inputs: list[Value], _: Shape, parameters: Mapping) -> list[Value]:
    axis = parameters["axis"]
    ends = np.cumsum(parameters["sizes"])
    return [
        _cut(graph, inputs[0], {axis: (int(end - size), int(end), 1)})
        for size, end in zip(parameters["sizes"], ends, strict=True)
    ]


def _cut(graph: Graph, value: Value, ranges: Mapping[int, tuple[int, int, int]]) -> Value:
    """Slice a value; `ranges` holds start, end and step by axis."""
    if not ranges:
        return value
    shape = list(value.shape)
    for axis, (start, end, step) in ranges.items():
        shape[axis] = -(-(end - start) // step)
    starts, ends, steps = (
        np.array(column, np.int64) for column in zip(*ranges.values(), strict=True)
    )
    axes = np.array(list(ranges), np.int64)
    return graph.add("Slice", [value, starts, ends, axes, steps], tuple(shape))


def _slice(graph: Graph, inputs: list[Value], _: Shape, parameters: Mapping) -> Value:
    steps = parameters["strides"] or (1,) * len(inputs[0].shape)
    ranges = {}
    for axis, size in enumerate(inputs[0].shape):
        start, end = parameters["start_indices"][axis], parameters["limit_indices"][axis]
        if isinstance(size, int) and (start, end, steps[axis]) != (0, size, 1):
            ranges[axis] = (start, end, steps[axis])
    return _cut(graph, inputs[0], ranges)


def _gather(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    """Translate gather with constant indices: ranges of axes, or entries along one axis."""
    value, indices = inputs
    numbers, sizes = parameters["dimension_numbers"], parameters["slice_sizes"]
    if not isinstance(indices, np.ndarray):
        raise NotImplementedError("the operation gather with indices that are not constant")
    if indices.ndim == 1:
        ranges = {}
        for axis, index in zip(numbers.start_index_map, indices, strict=True):
            start = int(np.clip(index, 0, value.shape[axis] - sizes[axis]))
            ranges[axis] = (start, start + sizes[axis], 1)
        return graph.reshape(_cut(graph, value, ranges), shape)
    axis = numbers.start_index_map[0]
    others = tuple(other for other in range(len(value.shape)) if other != axis)
    if numbers.collapsed_slice_dims != (axis,) or numbers.offset_dims != others:
        raise NotImplementedError("the operation gather other than along one axis")
    entries = np.clip(indices[:, 0], 0, value.shape[axis] - 1).astype(np.int64)
    return graph.add("Gather", [value, entries], shape, axis=axis)


def _pad(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    low, high, interior = (
        np.array(c, np.int64) for c in zip(*parameters["padding_config"], strict=True)
    )
    if interior.any():
        raise NotImplementedError("the operation pad with padding between elements")
    return graph.add("Pad", [inputs[0], np.concatenate([low, high]), inputs[1]], shape)


def _reduce(operator: str) -> Callable:
    def reduce(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
        axes = np.array(parameters["axes"], np.int64)
        return graph.add(operator, [inputs[0], axes], shape, keepdims=0)

    return reduce


def _convolve(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    numbers = parameters["dimension_numbers"]
    if set(parameters["lhs_dilation"]) != {1} or parameters["batch_group_count"] != 1:
        raise NotImplementedError("a transposed or batch-grouped convolution")
    x, kernel = (
        graph.transpose(value, order)
        for value, order in zip(inputs, (numbers.lhs_spec, numbers.rhs_spec), strict=True)
    )
    result = graph.add(
        "Conv",
        [x, kernel],
        tuple(shape[axis] for axis in numbers.out_spec),
        strides=list(parameters["window_strides"]),
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
        pads=[pair[end] for end in (0, 1) for pair in parameters["padding"]],
    )
    return graph.transpose(result, [int(axis) for axis in np.argsort(numbers.out_spec)])


def _dot(graph: Graph, inputs: list[Value], shape: Shape, parameters: Mapping) -> Value:
    """Translate a tensor product to a batched matrix product."""
    contracted, batch = parameters["dimension_numbers"]
    ordered, free = [], []
    for side, value in enumerate(inputs):
        axes = [a for a in range(len(value.shape)) if a not in (*contracted[side], *batch[side])]
        inner = (contracted[side], axes) if side else (axes, contracted[side])
        order = [*batch[side], *inner[0], *inner[1]]
        ordered.append(graph.transpose(value, order))
        free.append(len(axes))
    left, right = ordered
    count, depth = len(batch[0]), len(contracted[0])
    if not count and depth == 1 and free[1] == 1 and free[0]:
        return graph.add("MatMul", [left, right], shape)  # MatMul takes any leading axes

    def merge(value: Value, split: int) -> Value:
        """Merge the axes from `count` to `split` into one, and those after `split` into one."""
        parts = value.shape[:count], value.shape[count:split], value.shape[split:]
        return graph.reshape(value, (*parts[0], math.prod(parts[1]), math.prod(parts[2])))

    left, right = merge(left, count + free[0]), merge(right, count + depth)
    stacks = shape[:count]
    product = graph.add("MatMul", [left, right], (*stacks, left.shape[-2], right.shape[-1]))
    return graph.reshape(product, shape)


# These take inputs that are not broadcast yet; see `Tensor.shape`.
BROADCASTING = {"transpose", "broadcast_in_dim", "dot_general"}
OPERATIONS: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolve,
    "dot_general": _dot,
    "expand_dims": _reshape,
    "gather": _gather,
    "pad": _pad,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_sum": _reduce("ReduceSum"),
    "reshape": _reshape,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
