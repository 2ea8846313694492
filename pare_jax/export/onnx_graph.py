"""Translates a JAX function to an ONNX model, operation by operation of its jaxpr.

Results that depend only on constants are computed during the translation and stored. Supported are
the operations that this project's networks and bodies use; any other raises NotImplementedError
with its name. One symbolic dimension is supported, the batch's.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core
import numpy as np

from pare_jax.errors import UserError
from pare_jax.export.onnx_operations import (
    BROADCASTING,
    ELEMENTWISE,
    OPERATIONS,
    Graph,
    Tensor,
    Value,
    elementwise,
)

# Old enough for the onnxruntime versions in use.
_OPSET = 18
_IR_VERSION = 10
# Calls of an inner jaxpr, by primitive, and the parameter that holds it. Loops also hold jaxprs,
# but do more than call them once.
_CALLS = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "jit": "jaxpr"}


def onnx_model(
    function: Callable,
    argument: jax.ShapeDtypeStruct,
    name: str,
    description: Mapping[str, Any] | None = None,
) -> bytes:
    """Translate a function of one array.

    Args:
        function: returns a dict of arrays; arrays it closes over become the model's weights.
        argument: shape and type of the array; the first dimension is a symbol from
            `jax.export.symbolic_shape`.
        name: name of the model's input.
        description: values to store in the model's metadata, each as JSON.

    Returns:
        The serialized model; its outputs are named by the dict's keys.

    Raises:
        UserError: the package onnx is missing.
        NotImplementedError: an operation has no translation; the message names it.
    """
    onnx = _import_onnx()
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(argument)
    graph = Graph(onnx, name, argument.shape[0])
    outputs = _run(graph, traced, [Tensor(name, argument.shape)])
    leaves = jax.tree.leaves(shapes)
    for key, value, leaf in zip(sorted(shapes), outputs, leaves, strict=True):
        graph.add("Identity", [graph.whole(value, leaf.shape)], leaf.shape, output=key)
    helper = onnx.helper

    def describe(name: str, array: Any) -> Any:
        shape = [d if isinstance(d, int) else "batch" for d in array.shape]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype))
        return helper.make_tensor_value_info(name, kind, shape)

    described = [describe(key, leaf) for key, leaf in zip(sorted(shapes), leaves, strict=True)]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "pare_jax", [describe(name, argument)], described, graph.constants
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="pare_jax",
    )
    texts = {key: json.dumps(value) for key, value in (description or {}).items()}
    helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise UserError(
            "writing .onnx needs the package onnx: pip install 'pare-jax[onnx]'"
        ) from None
    return onnx


def _run(graph: Graph, program: Any, arguments: Sequence[Value]) -> list[Value]:
    """Add the equations of a closed jaxpr to the graph and return its results."""
    values: dict[Any, Value] = {}

    def read(variable: Any) -> Value:
        if isinstance(variable, jax.extend.core.Literal):
            return np.asarray(variable.val)
        return values[variable]

    jaxpr = program.jaxpr
    values |= zip(jaxpr.constvars, map(np.asarray, program.consts), strict=True)
    values |= zip(jaxpr.invars, arguments, strict=True)
    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        results = _equation(graph, equation, inputs)
        values |= zip(equation.outvars, results, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, inputs: list[Value]) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    if name == "platform_index":
        return [np.asarray(parameters["platforms"].index(None), np.int32)]
    if name == "cond" and isinstance(inputs[0], np.ndarray):
        return _run(graph, parameters["branches"][int(inputs[0])], inputs[1:])
    if name in _CALLS:
        return _run(graph, parameters[_CALLS[name]], inputs)
    shapes = [variable.aval.shape for variable in equation.outvars]
    known = all(isinstance(size, int) for shape in shapes for size in shape)
    if known and all(isinstance(value, np.ndarray) for value in inputs):
        results = equation.primitive.bind(*inputs, **parameters)
        results = results if equation.primitive.multiple_results else [results]
        return [np.asarray(result) for result in results]
    if name in ELEMENTWISE:
        return [elementwise(graph, name, inputs, shapes[0], parameters)]
    if name not in OPERATIONS:
        raise NotImplementedError(f"the operation {name} has no translation")
    if name not in BROADCASTING:
        avals = [variable.aval.shape for variable in equation.invars]
        inputs = [graph.whole(*pair) for pair in zip(inputs, avals, strict=True)]
    result = OPERATIONS[name](graph, inputs, shapes[0], parameters)
    return result if isinstance(result, list) else [result]
