"""Convolution, batch normalisation and pooling with PyTorch's conventions, channels last.

Weights trained elsewhere then mean the same here: padding is symmetric, and batch normalisation
keeps the unbiased variance.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# PyTorch's defaults; its momentum of 0.1 weighs the new batch, ours the old average.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9

_he_fan_out = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    in_features: int,
    out_features: int,
    kernel_size: int,
    strides: int = 1,
    *,
    use_bias: bool = False,
    kernel_init: nnx.Initializer = _he_fan_out,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Make a square convolution padded by half its kernel size on every side.

    Args:
        in_features: channels in.
        out_features: channels out.
        kernel_size: side of the kernel, odd.
        strides: step between outputs, pixels.
        use_bias: whether to add a bias.
        kernel_init: weights' initialiser; by default He's with fan out, as in torchvision.
        dtype: the type to compute in; parameters are float32.
        rngs: random numbers for the weights.

    Returns:
        The layer.
    """
    return nnx.Conv(
        in_features,
        out_features,
        (kernel_size, kernel_size),
        strides,
        padding=kernel_size // 2,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        rngs=rngs,
    )


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's running statistics.

    Differs from `flax.nnx.BatchNorm` in that the running variance is the unbiased one (n - 1 in
    the denominator, while the batch itself is normalised by n), and that statistics are computed
    and kept in float32 whatever the type of the activations. Under `jax.jit` with a sharded batch
    the statistics are those of the whole batch.

    `train()` and `eval()` of any enclosing module switch between batch and running statistics.

    Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, num_features: int, *, rngs: nnx.Rngs):
        del rngs  # Nothing random; taken so that all layers are made alike.
        self.scale = nnx.Param(jnp.ones(num_features))
        self.bias = nnx.Param(jnp.zeros(num_features))
        self.mean = nnx.BatchStat(jnp.zeros(num_features))
        self.var = nnx.BatchStat(jnp.ones(num_features))
        self.momentum = BATCH_NORM_MOMENTUM
        self.use_running_average = False

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Normalise each channel, and update the running statistics in train mode."""
        if self.use_running_average:
            mean, variance = self.mean[...], self.var[...]
        else:
            mean, variance = _moments(x)
            count = x.size // x.shape[-1]
            self._update(mean, variance * (count / max(count - 1, 1)))
        factor = self.scale[...] * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        shift = self.bias[...] - mean * factor
        return (x.astype(jnp.float32) * factor + shift).astype(x.dtype)

    def _update(self, mean: Float[Array, "features"], variance: Float[Array, "features"]) -> None:
        for average, new in ((self.mean, mean), (self.var, variance)):
            old = average[...]
            average[...] = old + (1 - self.momentum) * (jax.lax.stop_gradient(new) - old)


def _moments(
    x: Float[Array, "*batch features"],
) -> tuple[Float[Array, "features"], Float[Array, "features"]]:
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    return mean, jnp.mean(jnp.square(x - mean), axes)


def max_pool(x: Float[Array, "batch height width c"]) -> Float[Array, "batch h w c"]:
    """Take the maximum over 3x3 windows two pixels apart, padded by one."""
    return nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
