"""First values of parameters, without compiling a program for every shape.

`jax.random.normal` is compiled anew for each shape, which made building a ResNet-50 take 17 s on
two cores. Drawing blocks of one size and cutting them to shape takes a second.
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
    """Draw float32 numbers around zero from a normal distribution of the given deviation."""
    key = rngs.params()
    count = math.prod(shape)
    indices = np.arange(-(-count // _BLOCK), dtype=np.uint32)
    blocks = [_block(key, index) for index in indices]
    if isinstance(key, jax.core.Tracer):  # Under nnx.eval_shape or nnx.jit.
        return jnp.concatenate(blocks)[:count].reshape(shape) * stddev
    return jnp.array(np.concatenate(blocks)[:count].reshape(shape) * np.float32(stddev))


def constant(shape: int | tuple[int, ...], value: float) -> Float[Array, "..."]:
    """Fill a float32 array with one value."""
    return jnp.array(np.full(shape, value, np.float32))
