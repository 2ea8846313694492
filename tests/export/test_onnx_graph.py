"""Each translated operation in onnxruntime agrees with JAX."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from pare_jax.export.onnx_graph import onnx_model  # noqa: E402

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=s).astype(np.float32) for s in ((4, 5), (3, 4, 6), (7, 5)))
KERNEL = RNG.normal(size=(3, 3, 3, 6)).astype(np.float32)
NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(x, strides=1, groups=1, padding=(1, 0)):
    return jax.lax.conv_general_dilated(
        x,
        KERNEL[:, :, : 3 // groups],
        (strides, 1),
        (padding, padding),
        dimension_numbers=NHWC,
        feature_group_count=groups,
    )


# Functions of x, (batch, 4, 5, 3).
FUNCTIONS = {
    "elementwise": lambda x: jnp.sqrt(jnp.exp(x) / (1 + x * x)) - jnp.abs(x),
    "roots and powers": lambda x: jax.lax.rsqrt(x**2 + 1) + jnp.square(x),
    "relu and where": lambda x: jnp.where(x > 0.2, jax.nn.relu(x - 0.5), jnp.minimum(x, -1)),
    "softmax": lambda x: jax.nn.softmax(x, axis=(1, 2)),
    "convolution": convolve,
    "strided": lambda x: convolve(x, 2, padding=(0, 2)),
    "groups": lambda x: convolve(x, groups=3),
    "product": lambda x: jnp.einsum("bhwc,hw->bc", x, A),
    "product of rows": lambda x: x @ B[:, :, 0],
    "batched product": lambda x: jnp.einsum("bhwc,chd->bdwc", x, B),
    "product in another order": lambda x: jnp.einsum("xw,bhwc->bxhc", C, x),
    "broadcast in a product": lambda x: jnp.broadcast_to(C, (x.shape[0], 7, 5)) @ x[:, 0],
    "constant for each": lambda x: jnp.broadcast_to(A, (x.shape[0], 4, 5)),
    "joined to a constant": lambda x: jnp.concatenate(
        [x[..., 0], jnp.broadcast_to(A, (x.shape[0], 4, 5))], 1
    ),
    "batch merged": lambda x: x.reshape(-1, 5, 3)[..., ::2] @ np.ones((2, 2), np.float32),
    "slices": lambda x: jax.lax.slice(x, (0, 1, 0, 0), x.shape, (1, 2, 3, 1)),
    "indices": lambda x: x[:, 1, -1] + x[:, 0, :1, 2],
    "places": lambda x: x.transpose(1, 2, 3, 0)[np.array([2, 0, 0, 3])],
    "padding": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (3, 0)), constant_values=-1.5),
    "stacks": lambda x: jnp.stack([x[:, 0], 2 * x[:, 1]], 2),
    "unstacks": lambda x: sum(jnp.unstack(x, axis=2)),
    "sums": lambda x: jnp.sum(x, (1, 3)) + jnp.max(x, (1, 3)) * jnp.min(x, 3).sum(1),
    "types": lambda x: (x * 3).astype(jnp.int32).astype(jnp.float32),
    "platforms": lambda x: jax.lax.platform_dependent(
        x, cpu=lambda x: x + 1, default=lambda x: 1 + x
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    def function(x):
        return {"answer": FUNCTIONS[name](x), "also": x[:, 0, 0, 0]}

    (batch,) = jax.export.symbolic_shape("b")
    described = jax.ShapeDtypeStruct((batch, 4, 5, 3), jnp.float32)
    session = onnxruntime.InferenceSession(onnx_model(function, described, "x"))
    assert [output.name for output in session.get_outputs()] == ["also", "answer"]
    for size in (1, 2):
        x = RNG.normal(size=(size, 4, 5, 3)).astype(np.float32)
        also, answer = session.run(None, {"x": x})
        expected = function(x)
        assert answer.dtype == expected["answer"].dtype
        np.testing.assert_allclose(answer, expected["answer"], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(also, expected["also"])


UNKNOWN = {
    "cumsum": lambda x: jnp.cumsum(x, 1),
    "cond": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "while": lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x),
    "scan": lambda x: jax.lax.scan(lambda c, row: (c + row, c), x[0], x)[1],
    "reduce": lambda x: jax.lax.reduce(x, 0.0, lambda a, b: a * b + 1, (1,)),
    "remat": jax.checkpoint(jnp.sin),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_operation_is_named(name):
    """Also one that holds an inner function, which is not to be called instead."""
    described = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    with pytest.raises(NotImplementedError, match=name):
        onnx_model(lambda x: {"y": UNKNOWN[name](x)}, described, "x")


def test_inner_functions_that_are_only_called_are_translated():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, gradient: (2 * gradient,))
    described = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    model = onnx_model(lambda x: {"y": jax.nn.relu(jax.jit(double)(x))}, described, "x")
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_array_equal(found, np.maximum(2 * x, 0))
