"""Tiny ONNX models for tests."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def constant_outputs(outputs):
    """Return nodes, output infos and values of a graph that ignores its input.

    Args:
        outputs: arrays, named out0, out1 ..., or arrays by name.
    """
    nodes, infos, values = [], [], []
    named = outputs if isinstance(outputs, dict) else {f"out{n}": a for n, a in enumerate(outputs)}
    for number, (name, array) in enumerate(named.items()):
        values.append(numpy_helper.from_array(array, f"value{number}"))
        nodes.append(helper.make_node("Identity", [f"value{number}"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        infos.append(helper.make_tensor_value_info(name, kind, array.shape))
    return nodes, infos, values


def constant_values(**arrays):
    """Return arrays as values of a graph."""
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def save_graph(path, nodes, infos, values, shape):
    """Save a graph whose input is "picture", or that has none for the shape None."""
    inputs = []
    if shape is not None:
        inputs.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape))
    graph = helper.make_graph(nodes, "tiny", inputs, infos, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)
