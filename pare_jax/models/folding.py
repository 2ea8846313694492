"""Folds batch normalisation into the convolution before it, for inference.

In evaluation mode a batch normalisation multiplies each channel by a number and adds another. The
kernel takes the first, and only the addition remains. The predictions are the same up to rounding,
with one pass fewer over every map.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 3.2.
"""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.branches import Branch, UpsamplingBlock, upsampled_taps
from pare_jax.models.layers import BATCH_NORM_EPSILON, BatchNorm, Conv

Network = TypeVar("Network", bound=nnx.Module)


class Shift(nnx.Module):
    """The rest of a folded batch normalisation: adds a number to each channel, in float32."""

    def __init__(self, bias: Float[np.ndarray, "features"]):
        self.bias = nnx.Param(jnp.asarray(bias, jnp.float32))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        return (x.astype(jnp.float32) + self.bias[...]).astype(x.dtype)


class FoldedUpsamplingBlock(nnx.Module):
    """`UpsamplingBlock` for inference: same outputs, with the kernel stored as matrices.

    Attributes:
        kernel: a matrix for each row of the 3x3 kernel, from channels in to channels out for each
            of the three columns, (3, in_features, 3 * features).
    """

    def __init__(self, block: UpsamplingBlock):
        """Copy a block whose batch normalisation is already a `Shift`."""
        kernel = block.conv.kernel[...]
        in_features = kernel.shape[2]
        self.kernel = nnx.Param(kernel.transpose(0, 2, 1, 3).reshape(3, in_features, -1))
        self.bn = block.bn
        self.dtype = block.conv.dtype
        self.align_corners = block.align_corners

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w C"]:
        kernel = self.kernel[...].astype(self.dtype)
        batch, height, width, in_features = x.shape
        # The product with each of the nine taps comes first, on the coarse grid, as in
        # `branches.upsample_and_convolve`. Then rows are interpolated, shifted and added, and
        # after them columns, without a transposition in memory.
        flat = x.astype(self.dtype).reshape(-1, in_features)
        rows = [(flat @ row).reshape(batch, height, -1) for row in kernel]
        add, multiply = (
            functools.partial(way, width=width, align_corners=self.align_corners)
            for way in (_by_adding, _by_multiplying)
        )
        return nnx.relu(self.bn(jax.lax.platform_dependent(rows, cpu=add, default=multiply)))


def _by_multiplying(
    rows: list[Float[Array, "b h x"]], *, width: int, align_corners: bool
) -> Float[Array, "b 2*h 2*w C"]:
    """Interpolate, shift and add the taps' maps with a matrix product for each axis."""

    def combine(taps: Float[Array, "b n*3 x"], matrix: np.ndarray) -> Float[Array, "b 2*n x"]:
        # Repeated over the batch: with a single matrix XLA would transpose the result.
        matrices = jnp.broadcast_to(jnp.asarray(matrix, taps.dtype), (taps.shape[0], *matrix.shape))
        return matrices @ taps

    batch, height, _ = rows[0].shape
    by_row = upsampled_taps(height, align_corners).reshape(2 * height, -1)
    x = combine(jnp.concatenate(rows, 1), by_row)
    # Each row of maps holds its columns, and in each column the kernel's three columns.
    by_column = upsampled_taps(width, align_corners).swapaxes(1, 2).reshape(2 * width, -1)
    x = combine(x.reshape(batch * 2 * height, 3 * width, -1), by_column)
    return x.reshape(batch, 2 * height, 2 * width, -1)


def _by_adding(
    rows: list[Float[Array, "b h x"]], *, width: int, align_corners: bool
) -> Float[Array, "b 2*h 2*w C"]:
    """Return the result of `_by_multiplying`, computed from the matrices' nonzero entries.

    XLA compiles one loop for each axis, which on a CPU is faster than the products.
    """
    batch, height, _ = rows[0].shape
    x = _add_taps(rows, upsampled_taps(height, align_corners))
    x = x.reshape(batch * 2 * height, width, 3, -1)
    columns = [jax.lax.index_in_dim(x, tap, 2, keepdims=False) for tap in range(3)]
    x = _add_taps(columns, upsampled_taps(width, align_corners))
    return x.reshape(batch, 2 * height, 2 * width, -1)


def _add_taps(
    taps: list[Float[Array, "b n x"]], weights: Float[np.ndarray, "2*n 3 n"]
) -> Float[Array, "b 2*n x"]:
    """Multiply the maps of three taps, stacked along n, by a matrix with three diagonals."""
    batch, size, features = taps[0].shape
    place = np.arange(size)
    fine = []
    for phase in range(2):
        total = jnp.zeros((), taps[0].dtype)
        for tap, maps in enumerate(taps):
            # Beyond the ends the weight is 0.
            for neighbour in (-1, 0, 1):
                source = np.clip(place + neighbour, 0, size - 1)
                weight = weights[2 * place + phase, tap, source] * (source == place + neighbour)
                if weight.any():
                    weight = jnp.asarray(weight[:, None], maps.dtype)
                    total = total + weight * _neighbour(maps, neighbour)
        fine.append(total)
    return jnp.stack(fine, 2).reshape(batch, 2 * size, features)


def _neighbour(maps: Float[Array, "b n x"], offset: int) -> Float[Array, "b n x"]:
    """Shift maps by `offset` positions; the ends are repeated."""
    if not offset:
        return maps
    # `maps[:, 1:]` would become a gather where the batch's size is a symbol.
    cut = functools.partial(jax.lax.slice_in_dim, maps, axis=1)
    if offset < 0:
        return jnp.concatenate([cut(0, 1), cut(0, -1)], 1)
    return jnp.concatenate([cut(1, None), cut(-1, None)], 1)


def fold(network: Network) -> Network:
    """Return a copy of a network for inference, in evaluation mode and without batch statistics.

    In every module the batch normalisation `bn*` must directly follow the convolution `conv*`, for
    instance `bn1` and `conv1`.

    Args:
        network: any network of these layers; it is not changed.

    Returns:
        A network with the same predictions, up to rounding.

    Raises:
        ValueError: a module has a `bn*` without its `conv*`.
    """
    folded = nnx.clone(network)
    folded.eval()
    for _, module in nnx.iter_modules(folded):
        for name, value in list(vars(module).items()):
            if isinstance(value, BatchNorm):
                conv = getattr(module, name.replace("bn", "conv", 1), None)
                if not isinstance(conv, Conv):
                    raise ValueError(f"{type(module).__name__}.{name} follows no convolution")
                setattr(module, name, _fold_into(conv, value))
    for _, module in nnx.iter_modules(folded):
        if isinstance(module, Branch):
            blocks = nnx.List(
                FoldedUpsamplingBlock(block) if isinstance(block, UpsamplingBlock) else block
                for block in module.blocks
            )
            module.blocks = blocks  # pyright: ignore[reportAttributeAccessIssue]
    return folded


def _fold_into(conv: Conv, norm: BatchNorm) -> Shift:
    """Scale a convolution's weights by the batch normalisation after it; return its shift."""
    scale, bias, mean, variance = (
        np.asarray(value[...], np.float64) for value in (norm.scale, norm.bias, norm.mean, norm.var)
    )
    factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    conv.kernel[...] = jnp.asarray(np.asarray(conv.kernel[...]) * factor.astype(np.float32))
    if conv.bias is not None:
        mean = mean - np.asarray(conv.bias[...])
        conv.bias = None
    return Shift(bias - mean * factor)
