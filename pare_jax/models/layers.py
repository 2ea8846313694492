"""Convolution, batch normalisation and pooling with PyTorch's conventions, channels last.

PyTorch's weights give the same outputs: padding is symmetric, and batch normalisation keeps the
unbiased variance.

Some operations are not written in the usual way, which is slow in XLA's CPU backend. The numbers
are the same up to rounding, and GPUs and TPUs lose nothing. Measured with jax 0.10.2 on two cores,
batch 32, forward and backward:
  - 1x1 convolution as a matrix product: 2-4x in the weights' gradient;
  - 3x3 convolution to maps of 2x2 or less through explicit patches: 5-80x;
  - max pooling as maxima of shifted slices: 8x, nearly all of it in the gradient.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.initializers import constant, normal

# PyTorch's defaults. Its momentum of 0.1 is the weight of the new batch, ours of the old average.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9

# Decorates a network's call. By default GPUs and TPUs multiply float32 as TF32 or bfloat16.
# Products of bfloat16 are not changed.
full_precision = jax.default_matmul_precision("highest")

# Maps with a side of at most this are convolved through explicit patches.
_TINY = 2


class Conv(nnx.Module):
    """A square convolution padded by half its kernel size on every side.

    Attributes:
        kernel: weights, (size, size, in_features, out_features).
        bias: (out_features,), or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        strides: int = 1,
        *,
        use_bias: bool = False,
        stddev: float | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        """Create the weights.

        Args:
            in_features: channels in.
            out_features: channels out.
            kernel_size: side of the kernel, odd.
            strides: distance between outputs, pixels.
            use_bias: whether to add a bias.
            stddev: standard deviation of the initial weights; by default He's with fan out, as in
                torchvision.
            dtype: the type to compute in; parameters are float32.
            rngs: for the initial weights.
        """
        shape = (kernel_size, kernel_size, in_features, out_features)
        if stddev is None:
            stddev = math.sqrt(2 / (kernel_size**2 * out_features))
        self.kernel = nnx.Param(normal(rngs, shape, stddev))
        self.bias = nnx.Param(constant(out_features, 0.0)) if use_bias else None
        self.strides = strides
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        y = convolve(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.strides)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c C"], strides: int
) -> Float[Array, "b H W C"]:
    """Convolve maps with an odd square kernel; zeros pad half its size on every side."""
    size, _, in_features, out_features = kernel.shape
    if size == 1:
        x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, strides, strides, 1))
        flat = x.reshape(-1, in_features) @ kernel[0, 0]
        return flat.reshape(*x.shape[:3], out_features)
    if size == 3 and -(-min(x.shape[1:3]) // strides) <= _TINY:
        patches = _patches(x, strides)
        flat = patches.reshape(-1, 9 * in_features) @ kernel.reshape(-1, out_features)
        return flat.reshape(*patches.shape[:3], out_features)
    padding = (size // 2, size // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _patches(x: Float[Array, "b h w c"], strides: int) -> Float[Array, "b H W 9*c"]:
    batch, height, width, features = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # `x[:, row:end:strides]` would become a gather where the batch's size is a symbol.
    patches = [
        jax.lax.slice(
            x,
            (0, row, column, 0),
            (batch, row + height, column + width, features),
            (1, strides, strides, 1),
        )
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(patches, -1)


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's running statistics.

    Differs from `flax.nnx.BatchNorm` in two ways. The running variance is unbiased (n - 1 in the
    denominator, while the batch is normalised with n). Statistics are float32 for activations of
    any type. Under `jax.jit` with a sharded batch they are those of the whole batch.

    `train()` and `eval()` of an enclosing module switch between batch and running statistics.

    Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, num_features: int):
        self.scale = nnx.Param(constant(num_features, 1.0))
        self.bias = nnx.Param(constant(num_features, 0.0))
        self.mean = nnx.BatchStat(constant(num_features, 0.0))
        self.var = nnx.BatchStat(constant(num_features, 1.0))
        self.momentum = BATCH_NORM_MOMENTUM
        self.use_running_average = False

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Normalise each channel; in train mode update the running statistics."""
        if self.use_running_average:
            mean, variance = self.mean[...], self.var[...]
        else:
            mean, variance = _moments(x.astype(jnp.float32), self.mean[...])
            count = x.size // x.shape[-1]
            self._update(mean, variance * (count / max(count - 1, 1)))
        factor = self.scale[...] * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        shift = self.bias[...] - mean * factor
        return (x.astype(jnp.float32) * factor + shift).astype(x.dtype)

    def _update(self, mean: Float[Array, "features"], variance: Float[Array, "features"]) -> None:
        for average, new in ((self.mean, mean), (self.var, variance)):
            old = average[...]
            # `average[...] =` would ask for shardings. While tracing, flax then searches the whole
            # program for each layer, which takes a minute for an HRNet.
            average.set_value(old + (1 - self.momentum) * (jax.lax.stop_gradient(new) - old))


def _moments(
    x: Float[Array, "*batch features"], guess: Float[Array, "features"]
) -> tuple[Float[Array, "features"], Float[Array, "features"]]:
    """Return mean and variance in one pass; a `guess` near the mean keeps their precision."""
    axes = tuple(range(x.ndim - 1))
    guess = jax.lax.stop_gradient(guess)
    offset = jnp.mean(x - guess, axes)
    square = jnp.mean(jnp.square(x - guess), axes)
    return guess + offset, jnp.maximum(square - jnp.square(offset), 0.0)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    """Return the maxima of 3x3 windows with stride 2 and padding 1, for maps of even sides."""
    return _max_pool_axis(_max_pool_axis(x, 2), 1)


def _max_pool_axis(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "b H W c"]:
    pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, which, axis + 1, keepdims=False) for which in (0, 1))
    before = [(1, 0) if index == axis else (0, 0) for index in range(x.ndim)]
    shifted = jnp.pad(odd, before, constant_values=-jnp.inf)
    shifted = jax.lax.slice_in_dim(shifted, 0, odd.shape[axis], axis=axis)
    return jnp.maximum(jnp.maximum(even, odd), shifted)
