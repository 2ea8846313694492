"""High-resolution networks (HRNet-W32 and W48): parallel maps of four sizes, fused repeatedly.

Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019,
https://arxiv.org/abs/1902.09212. As in PARE (Kocabas et al., ICCV 2021), all sizes are upsampled to
the finest one and concatenated. Names are those of the published weight files, so that these map
one to one.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.branches import Branch
from pare_jax.models.layers import BatchNorm, Conv
from pare_jax.models.resnet import BasicBlock, Bottleneck

# Channels of the finest maps; each coarser size has twice as many (Sun et al. 2019, section 3).
WIDTHS = {"hrnet_w32": 32, "hrnet_w48": 48}

# Channels of the published networks' stem, for both widths.
_STEM = 64
LAYER1_BLOCKS = 4
# Number of fusions in the stages of 2, 3 and 4 sizes, and of blocks before each fusion.
MODULES = (1, 4, 3)
BLOCKS = 4


class ConvBn(nnx.Module):
    """A convolution without bias and batch normalisation, with or without ReLU."""

    def __init__(
        self, in_features, features, size, strides=1, *, relu: bool, dtype, rngs: nnx.Rngs
    ):
        self.conv = Conv(in_features, features, size, strides, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(features)
        self.relu = relu

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W C"]:
        x = self.bn(self.conv(x))
        return nnx.relu(x) if self.relu else x


def repeat_pixels(x: Float[Array, "b h w c"], times: int) -> Float[Array, "b H W c"]:
    """Upsample by nearest neighbour: every pixel becomes a square of `times` by `times`.

    A broadcast has a sum as its gradient. A gather would have a scatter, which XLA's CPU backend
    computes one number at a time.
    """
    batch, height, width, features = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, times, width, times, features))
    return x.reshape(batch, height * times, width * times, features)


class HighResolutionModule(nnx.Module):
    """Residual blocks on the maps of each size, then fusion: every size gets the sum of all."""

    def __init__(self, features: tuple[int, ...], blocks: int, *, dtype, rngs: nnx.Rngs):
        """Build the module.

        Args:
            features: channels of each size, the finest first.
            blocks: residual blocks on each size.
            dtype: the type to compute in.
            rngs: random numbers for the weights.
        """
        keywords = {"dtype": dtype, "rngs": rngs}
        self.branches = nnx.List(
            nnx.List(BasicBlock(width, width, 1, **keywords) for _ in range(blocks))
            for width in features
        )

        def change(source: int, target: int) -> nnx.List | None:
            """Return the layers from maps of one size to another; None for the same size."""
            if source == target:
                return None
            before, after = features[source], features[target]
            if source > target:
                return nnx.List([ConvBn(before, after, 1, relu=False, **keywords)])
            steps = [
                ConvBn(before, before, 3, 2, relu=True, **keywords)
                for _ in range(target - source - 1)
            ]
            return nnx.List([*steps, ConvBn(before, after, 3, 2, relu=False, **keywords)])

        sizes = range(len(features))
        self.fuse_layers = nnx.List(
            nnx.List(change(source, target) for source in sizes) for target in sizes
        )

    def __call__(self, maps: list[Float[Array, "b _ _ _"]]) -> list[Float[Array, "b _ _ _"]]:
        """Take and return the maps of all sizes, the finest first, each half the size before."""
        maps = [_chain(branch, x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, changes in enumerate(self.fuse_layers):
            total = jnp.zeros((), maps[0].dtype)
            for source, (layers, x) in enumerate(zip(changes, maps, strict=True)):
                if layers is not None:
                    x = _chain(layers, x)
                if source > target:
                    x = repeat_pixels(x, 2 ** (source - target))
                total = total + x
            fused.append(nnx.relu(total))
        return fused


class HRNet(nnx.Module):
    """A high-resolution network that concatenates its maps at the finest size.

    Attributes:
        out_features: channels of the output maps, 15 times the finest size's: 480 for W32.
        stride: the crop's side over the maps'.
    """

    stride = 4

    def __init__(
        self,
        name: str,
        width: int = _STEM,
        *,
        align_corners: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Build the network.

        Args:
            name: one of `WIDTHS`.
            width: channels of the stem, 64 as published; all others are in proportion.
            align_corners: of the last layers; see `branches.upsampling_matrix`.
            dtype: the type to compute in.
            rngs: for the initial weights.
        """
        keywords = {"dtype": dtype, "rngs": rngs}
        finest = finest_features(name, width)
        features = tuple(finest * 2**index for index in range(4))
        self.conv1 = Conv(3, width, 3, 2, **keywords)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, width, 3, 2, **keywords)
        self.bn2 = BatchNorm(width)
        layer1 = width * Bottleneck.expansion
        self.layer1 = nnx.List(
            Bottleneck(layer1 if index else width, width, 1, **keywords)
            for index in range(LAYER1_BLOCKS)
        )
        # Each transition adds the next coarser size; the first also narrows the finest.
        self.transition1 = nnx.List(
            [
                ConvBn(layer1, features[0], 3, relu=True, **keywords),
                ConvBn(layer1, features[1], 3, 2, relu=True, **keywords),
            ]
        )
        self.transition2 = ConvBn(features[1], features[2], 3, 2, relu=True, **keywords)
        self.transition3 = ConvBn(features[2], features[3], 3, 2, relu=True, **keywords)

        def stage(sizes: int) -> nnx.List:
            count = MODULES[sizes - 2]
            return nnx.List(
                HighResolutionModule(features[:sizes], BLOCKS, **keywords) for _ in range(count)
            )

        self.stage2, self.stage3, self.stage4 = stage(2), stage(3), stage(4)

        def upsampling(times: int) -> Branch:
            width = features[times]
            return Branch(width, width, times, align_corners=align_corners, **keywords)

        self.upsample_stage_2 = upsampling(1)
        self.upsample_stage_3 = upsampling(2)
        self.upsample_stage_4 = upsampling(3)
        self.out_features = sum(features)

    def __call__(self, images: Float[Array, "b size size 3"]) -> Float[Array, "b h w c"]:
        """Return feature maps of normalised crops with sides divisible by 32, 4 times smaller."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        x = _chain(self.layer1, x)
        maps = [transition(x) for transition in self.transition1]
        maps = _chain(self.stage2, maps)
        maps = _chain(self.stage3, [*maps, self.transition2(maps[-1])])
        maps = _chain(self.stage4, [*maps, self.transition3(maps[-1])])
        upsampling = (self.upsample_stage_2, self.upsample_stage_3, self.upsample_stage_4)
        finest = [branch(x) for branch, x in zip(upsampling, maps[1:], strict=True)]
        return jnp.concatenate([maps[0], *finest], -1)


def finest_features(name: str, width: int) -> int:
    """Return the channels of the finest maps for a stem of `width`; 0 if they are fractional."""
    features, rest = divmod(WIDTHS[name] * width, _STEM)
    return 0 if rest else features


def _chain(layers, x):
    for layer in layers:
        x = layer(x)
    return x
