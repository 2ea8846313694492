"""Residual networks without their classifier, in torchvision's variant.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385. As in torchvision, a bottleneck's stride is in its 3x3
convolution, and padding is symmetric. Names are torchvision's, so that its weights map one to one.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.layers import BatchNorm, Conv, max_pool


class Downsample(nnx.Module):
    """The shortcut of a block that changes the shape: strided 1x1 convolution and BatchNorm."""

    def __init__(self, in_features, out_features, strides, *, dtype, rngs: nnx.Rngs):
        self.conv = Conv(in_features, out_features, 1, strides, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        return self.bn(self.conv(x))


def _shortcut(in_features, out_features, strides, *, dtype, rngs: nnx.Rngs) -> Downsample | None:
    if strides == 1 and in_features == out_features:
        return None
    return Downsample(in_features, out_features, strides, dtype=dtype, rngs=rngs)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and 34)."""

    expansion = 1

    def __init__(self, in_features, features, strides, *, dtype, rngs: nnx.Rngs):
        self.conv1 = Conv(in_features, features, 3, strides, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(features)
        self.conv2 = Conv(features, features, 3, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(features)
        self.downsample = _shortcut(in_features, features, strides, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return nnx.relu(x + shortcut)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, in_features, features, strides, *, dtype, rngs: nnx.Rngs):
        out_features = features * self.expansion
        self.conv1 = Conv(in_features, features, 1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(features)
        self.conv2 = Conv(features, features, 3, strides, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(features)
        self.conv3 = Conv(features, out_features, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(out_features)
        self.downsample = _shortcut(in_features, out_features, strides, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return nnx.relu(x + shortcut)


# Type of block and number of blocks in each of the four stages (He et al. 2016, table 1).
DEPTHS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nnx.Module):
    """A residual network without global pooling.

    Attributes:
        out_features: channels of the output maps.
        stride: the crop's side over the maps'.
    """

    stride = 32

    def __init__(
        self, name: str, width: int = 64, *, maps: int = 0, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        """Build the network.

        Args:
            name: one of `DEPTHS`.
            width: channels of the stem; all others are in proportion.
            maps: 0 for crops in RGB; else the channels of maps of a quarter of the crop's side,
                which a 3x3 convolution takes in place of the stem.
            dtype: the type to compute in.
            rngs: for the initial weights.
        """
        block, depths = DEPTHS[name]
        stem = (maps, width, 3, 1) if maps else (3, width, 7, 2)
        self.conv1 = Conv(*stem, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.pools = not maps

        def stage(index: int, in_features: int) -> nnx.List:
            features = width * 2**index
            strides = 1 if index == 0 else 2
            blocks = [block(in_features, features, strides, dtype=dtype, rngs=rngs)]
            for _ in range(depths[index] - 1):
                blocks.append(
                    block(features * block.expansion, features, 1, dtype=dtype, rngs=rngs)
                )
            return nnx.List(blocks)

        self.layer1 = stage(0, width)
        self.layer2 = stage(1, width * block.expansion)
        self.layer3 = stage(2, width * 2 * block.expansion)
        self.layer4 = stage(3, width * 4 * block.expansion)
        self.out_features = width * 8 * block.expansion

    def __call__(self, images: Float[Array, "b size size 3"]) -> Float[Array, "b h w c"]:
        """Return feature maps of normalised crops, or of maps; 32 times smaller than the crop."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        if self.pools:
            x = max_pool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x)
        return x
