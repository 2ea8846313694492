"""Computes in float64 whatever JAX's global precision is, and returns float32.

Internals of `pare_jax.evaluation.metrics` and `pare_jax.evaluation.pckh`.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


def in_float64(*static: str) -> Callable[[Callable[_Params, _Result]], Callable[_Params, _Result]]:
    """Compile a function that computes in float64.

    Args:
        static: names of the arguments that are not arrays.
    """

    def decorate(function: Callable[_Params, _Result]) -> Callable[_Params, _Result]:
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def call(*args: _Params.args, **kwargs: _Params.kwargs) -> _Result:
            # float64 is enabled only while this is traced; callers keep their own precision.
            with jax.enable_x64(True):
                return compiled(*args, **kwargs)

        return call

    return decorate


def point_sets(pred: ArrayLike, true: ArrayLike, size: int = 3) -> tuple[Array, Array]:
    """Return two sets of equally many points in float64.

    Raises:
        ValueError: the sets differ in their number of points, or a point has not `size` numbers.
    """
    pred, true = jnp.asarray(pred, jnp.float64), jnp.asarray(true, jnp.float64)
    if pred.shape[-2:] != true.shape[-2:] or pred.shape[-1] != size:
        raise ValueError(
            f"expected two point sets of shape (..., N, {size}), got {pred.shape} and {true.shape}"
        )
    return pred, true


def select(
    values: Float[Array, "*batch joints"], joints: tuple[int, ...] | None
) -> Float[Array, "*batch chosen"]:
    """Return the values of some joints; of all joints for None.

    Raises:
        ValueError: a joint does not exist.
    """
    if joints is None:
        return values
    if max(joints) >= values.shape[-1]:
        raise ValueError(f"joint {max(joints)} does not exist: there are {values.shape[-1]} joints")
    return values[..., jnp.array(joints)]


def as_float32(values: Array) -> Array:
    """Round a metric's result to float32."""
    return values.astype(jnp.float32)
