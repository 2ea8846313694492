"""The branches between backbone and heads, which upsample coarse maps.

PARE's part branch and feature branch have the same layers and separate weights (Kocabas et al.,
"PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021, section 3).
"""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.layers import BatchNorm, Conv


@functools.cache
def upsampling_matrix(size: int, align_corners: bool) -> np.ndarray:
    """Return the matrix that doubles a row of pixels by linear interpolation.

    Args:
        size: number of pixels in the row.
        align_corners: True aligns the centres of the first and last pixels, as PARE does. False
            aligns the outer edges: pixel centres lie at half-integers, borders are repeated.

    Returns:
        Weights, (2 * size, size) float32; rows sum to one.
    """
    target = np.arange(2 * size, dtype=np.float64)
    position = target * (size - 1) / (2 * size - 1) if align_corners else (target + 0.5) / 2 - 0.5
    position = np.clip(position, 0, size - 1)
    distance = np.abs(position[:, None] - np.arange(size))
    return np.maximum(0, 1 - distance).astype(np.float32)


def upsample(
    x: Float[Array, "b h w c"], *, align_corners: bool = False
) -> Float[Array, "b 2*h 2*w c"]:
    """Double height and width by bilinear interpolation; see `upsampling_matrix`."""
    rows = jnp.asarray(upsampling_matrix(x.shape[1], align_corners), x.dtype)
    columns = jnp.asarray(upsampling_matrix(x.shape[2], align_corners), x.dtype)
    return jnp.einsum("Hh,bhXc->bHXc", rows, jnp.einsum("Ww,bhwc->bhWc", columns, x))


@functools.cache
def upsampled_taps(size: int, align_corners: bool) -> np.ndarray:
    """Return the upsampling matrix shifted for each tap of a 3-tap filter.

    Entry (i, k, j) is the weight of pixel j at position i + k - 1 of the upsampled row, which
    output i multiplies by tap k. Beyond the row it is zero.
    """
    padded = np.pad(upsampling_matrix(size, align_corners), ((1, 1), (0, 0)))
    return np.stack([padded[tap : tap + 2 * size] for tap in range(3)], 1)


def upsample_and_convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c C"], *, align_corners: bool = False
) -> Float[Array, "b 2*h 2*w C"]:
    """Double height and width by bilinear interpolation, then convolve with a 3x3 kernel.

    The result is that of one after the other, with a quarter of the arithmetic. Interpolation is
    the same for every channel, so the product with each of the nine taps can come first, on the
    coarse grid. One small matrix per axis then interpolates, shifts and adds.

    Args:
        x: coarse maps.
        kernel: weights; the fine maps are padded with one zero on every side.
        align_corners: see `upsampling_matrix`.

    Returns:
        Fine maps.
    """
    _, height, width, in_features = x.shape
    rows = jnp.asarray(upsampled_taps(height, align_corners), x.dtype)
    columns = jnp.asarray(upsampled_taps(width, align_corners), x.dtype)
    kernel = kernel.transpose(2, 0, 1, 3)
    taps = x.reshape(-1, in_features) @ kernel.reshape(in_features, -1)
    taps = taps.reshape(*x.shape[:3], *kernel.shape[1:])
    taps = jnp.einsum("Wlw,bhwklc->bhkWc", columns, taps)
    return jnp.einsum("Hkh,bhkWc->bHWc", rows, taps)


class UpsamplingBlock(nnx.Module):
    """2x bilinear upsampling, a 3x3 convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, in_features: int, features: int, *, align_corners: bool, dtype, rngs: nnx.Rngs
    ):
        self.conv = Conv(in_features, features, 3, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(features)
        self.align_corners = align_corners

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w C"]:
        dtype = self.conv.dtype
        x = upsample_and_convolve(
            x.astype(dtype), self.conv.kernel[...].astype(dtype), align_corners=self.align_corners
        )
        return nnx.relu(self.bn(x))


class ConvBlock(nnx.Module):
    """A 3x3 convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_features: int, features: int, *, dtype, rngs: nnx.Rngs):
        self.conv = Conv(in_features, features, 3, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w C"]:
        return nnx.relu(self.bn(self.conv(x)))


class Branch(nnx.Module):
    """A stack of blocks. If they upsample, the maps become 2^blocks finer."""

    def __init__(
        self,
        in_features: int,
        features: int,
        num_blocks: int,
        *,
        upsampling: bool = True,
        align_corners: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Build the blocks.

        Args:
            in_features: channels in.
            features: channels of every block.
            num_blocks: number of blocks.
            upsampling: whether each block doubles height and width before it convolves.
            align_corners: see `upsampling_matrix`.
            dtype: the type to compute in.
            rngs: for the initial weights.
        """

        def block(index: int) -> UpsamplingBlock | ConvBlock:
            before = features if index else in_features
            if not upsampling:
                return ConvBlock(before, features, dtype=dtype, rngs=rngs)
            return UpsamplingBlock(
                before, features, align_corners=align_corners, dtype=dtype, rngs=rngs
            )

        self.blocks = nnx.List(block(index) for index in range(num_blocks))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        for block in self.blocks:
            x = block(x)
        return x
