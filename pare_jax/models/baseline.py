"""The report's baseline: a backbone, global average pooling and three MLPs."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.backbone import Backbone
from pare_jax.models.heads import SIXD, Mlp, ParameterHeads
from pare_jax.models.layers import full_precision
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS


class Baseline(nnx.Module):
    """Backbone, global average pooling, heads."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        pose_hidden: Sequence[int] = (),
        shape_hidden: Sequence[int] = (),
        camera_hidden: Sequence[int] = (),
        rngs: nnx.Rngs,
    ):
        """Build the network.

        Args:
            backbone: turns crops into feature maps.
            pose_hidden: hidden widths of the pose MLP, which predicts all joints together.
            shape_hidden: hidden widths of the shape MLP.
            camera_hidden: hidden widths of the camera MLP.
            rngs: for the initial weights.
        """
        self.backbone = backbone
        features = backbone.out_features
        self.heads = ParameterHeads(
            pose=Mlp(features, pose_hidden, NUM_JOINTS * SIXD, rngs=rngs),
            shape=Mlp(features, shape_hidden, NUM_BETAS, rngs=rngs),
            camera=Mlp(features, camera_hidden, 3, rngs=rngs),
        )

    @full_precision
    def __call__(self, images: Float[Array, "b size size 3"]) -> Prediction:
        """Predict one person per crop.

        Args:
            images: crops, normalised with ImageNet's statistics, sides divisible by 32.

        Returns:
            The prediction, without part maps and attention.
        """
        features = jnp.mean(self.backbone(images), axis=(1, 2), dtype=jnp.float32)
        return self.heads(features, features)
