"""Initial values of parameters, drawn without compiling a program for each shape.

`jax.random.normal` is compiled for each shape: building a ResNet-50 took 17 s on two cores. Drawing
blocks of one size and cutting them to shape takes 1 s.
"""

import math

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

_BLOCK = 1 << 16


@jax.jit
def _block(key: Array, index: Array) -> Float[Array, "block"]:
    return jax.random.normal(jax.random.fold_in(key, index), (_BLOCK,))


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], stddev: float) -> Float[Array, "..."]:
    """Draw float32 numbers from a normal distribution with mean zero."""
    key = rngs.params()
    count = math.prod(shape)
    indices = np.arange(-(-count // _BLOCK), dtype=np.uint32)
    blocks = [_block(key, index) for index in indices]
    if isinstance(key, jax.core.Tracer):  # Under nnx.eval_shape or nnx.jit.
        return jnp.concatenate(blocks)[:count].reshape(shape) * stddev
    return jnp.array(np.concatenate(blocks)[:count].reshape(shape) * np.float32(stddev))


def constant(shape: int | tuple[int, ...], value: float) -> Float[Array, "..."]:
    """Return a float32 array filled with one value."""
    return jnp.array(np.full(shape, value, np.float32))
