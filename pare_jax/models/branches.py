"""The branches between the backbone and the heads, which bring coarse maps to a finer grid.

Both the part and the feature branch of PARE (Kocabas et al., "PARE: Part Attention Regressor for
3D Human Body Estimation", ICCV 2021, section 3) are this, with weights of their own.
"""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.layers import BatchNorm, Conv


@functools.cache
def upsampling_matrix(size: int, align_corners: bool) -> np.ndarray:
    """Write doubling a line of pixels by linear interpolation as a matrix.

    Args:
        size: pixels of the line.
        align_corners: True puts the first and last pixel of both lines in the same place
            (PARE's convention); False makes both lines span the same length, that is, pixel
            centres lie at half-integers and borders are repeated.

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
    """Return for each tap of a 3-tap filter the upsampling matrix as that tap sees it.

    Entry (i, k, j) says how much pixel j counts at place i + k - 1 of the upsampled line, which
    is what output i multiplies by weight k; beyond the line there are zeros.
    """
    padded = np.pad(upsampling_matrix(size, align_corners), ((1, 1), (0, 0)))
    return np.stack([padded[tap : tap + 2 * size] for tap in range(3)], 1)


def upsample_and_convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c C"], *, align_corners: bool = False
) -> Float[Array, "b 2*h 2*w C"]:
    """Double height and width by bilinear interpolation, then convolve with a 3x3 kernel.

    The same as doing one after the other, at about a quarter of the arithmetic: interpolation
    acts on every channel alike, so multiplying by each of the nine taps may come first, on the
    coarse grid; what is left is to interpolate, shift and add, one small matrix per axis.

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
    """A stack of blocks, each of which upsamples or none; the former make maps 2^blocks finer."""

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
            num_blocks: how many.
            upsampling: whether each block doubles height and width before it convolves.
            align_corners: how it does; see `upsampling_matrix`.
            dtype: the type to compute in.
            rngs: random numbers for the weights.
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
