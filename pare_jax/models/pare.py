"""The part-attention network: the report's `shallow` and `final` models.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021,
https://arxiv.org/abs/2104.08527.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.attention import attend, part_attention
from pare_jax.models.backbone import Backbone
from pare_jax.models.branches import Branch
from pare_jax.models.heads import SIXD, Mlp, ParameterHeads
from pare_jax.models.layers import Conv, full_precision
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, NUM_PART_LABELS

# Standard deviation of the part convolution's initial weights (Xiao et al., "Simple Baselines for
# Human Pose Estimation", 2018). Attention then starts almost uniform over the crop.
_FLAT = 0.001


# The crop's side over that of PARE's part maps: 224 over 56.
FINE_STRIDE = 4


def needs_upsampling(backbone_stride: int) -> bool:
    """Return whether the branches upsample: after a ResNet they do, after an HRNet not."""
    return backbone_stride > FINE_STRIDE


def map_stride(backbone_stride: int, num_blocks: int) -> float:
    """Return the crop's side over that of the part maps."""
    if not needs_upsampling(backbone_stride):
        return backbone_stride
    return backbone_stride / 2**num_blocks


class Pare(nnx.Module):
    """Backbone, part branch, feature branch, attention, heads."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_blocks: int,
        branch_features: int,
        shape_features: int,
        pose_hidden: Sequence[int] = (),
        shape_hidden: Sequence[int] = (),
        camera_hidden: Sequence[int] = (),
        align_corners: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Build the network.

        Args:
            backbone: turns crops into feature maps. The branches upsample maps that are coarser
                than `FINE_STRIDE`.
            num_blocks: blocks in each branch.
            branch_features: channels of both branches.
            shape_features: channels of the features for shape and camera.
            pose_hidden: hidden widths of each joint's MLP.
            shape_hidden: hidden widths of the shape MLP.
            camera_hidden: hidden widths of the camera MLP.
            align_corners: see `branches.upsampling_matrix`.
            dtype: the type to compute in.
            rngs: for the initial weights.
        """
        self.align_corners = align_corners
        self.backbone = backbone
        self.part_branch, self.feature_branch = (
            Branch(
                backbone.out_features,
                branch_features,
                num_blocks,
                upsampling=needs_upsampling(backbone.stride),
                align_corners=align_corners,
                dtype=dtype,
                rngs=rngs,
            )
            for _ in range(2)
        )
        self.part_conv = Conv(
            branch_features,
            NUM_PART_LABELS,
            1,
            use_bias=True,
            stddev=_FLAT,
            dtype=dtype,
            rngs=rngs,
        )
        self.shape_conv = Conv(
            branch_features, shape_features, 1, use_bias=True, dtype=dtype, rngs=rngs
        )
        attended = NUM_JOINTS * shape_features
        self.heads = ParameterHeads(
            pose=Mlp(branch_features, pose_hidden, SIXD, copies=(NUM_JOINTS,), rngs=rngs),
            shape=Mlp(attended, shape_hidden, NUM_BETAS, rngs=rngs),
            camera=Mlp(attended, camera_hidden, 3, rngs=rngs),
        )

    @full_precision
    def __call__(self, images: Float[Array, "b size size 3"]) -> Prediction:
        """Predict one person per crop.

        Args:
            images: crops, normalised with ImageNet's statistics, sides divisible by 32.

        Returns:
            The prediction, with part maps and attention of the side that `map_stride` gives.
        """
        maps = self.backbone(images)
        part_logits = self.part_conv(self.part_branch(maps)).astype(jnp.float32)
        features = self.feature_branch(maps)
        attention = part_attention(part_logits)
        shape_features = attend(attention, self.shape_conv(features))
        prediction = self.heads(
            attend(attention, features), shape_features.reshape(images.shape[0], -1)
        )
        return prediction.replace(
            part_logits=part_logits, attention=attention, align_corners=self.align_corners
        )
