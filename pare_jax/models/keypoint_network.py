"""A network on keypoints: a residual MLP from body points to a body and its camera.

Martinez et al., "A Simple Yet Effective Baseline for 3D Human Pose Estimation", ICCV 2017, lift 2D
joints by such a network. This one predicts rotations (6D), shape and camera.
"""

import jax
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.models.heads import SIXD, Linear, Mlp, ParameterHeads
from pare_jax.models.layers import full_precision
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# Numbers of a body point: x, y, confidence, depth, whether the depth is known.
POINT_CHANNELS = 5


class Block(nnx.Module):
    """Two layers after a layer norm, added to their input."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.into = Linear(width, width, stddev=(2 / width) ** 0.5, rngs=rngs)
        self.out = Linear(width, width, stddev=0.1 * (1 / width) ** 0.5, rngs=rngs)

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        return x + self.out(jax.nn.gelu(self.into(self.norm(x))))


class KeypointNetwork(nnx.Module):
    """Layers of equal width with skip connections, and heads for pose, shape and camera."""

    def __init__(self, num_points: int, *, width: int, num_blocks: int, rngs: nnx.Rngs):
        """Build the network.

        Args:
            num_points: body points of the input.
            width: channels of all layers.
            num_blocks: residual blocks.
            rngs: for the initial weights.
        """
        inputs = num_points * POINT_CHANNELS
        self.entry = Linear(inputs, width, stddev=(1 / inputs) ** 0.5, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(num_blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.heads = ParameterHeads(
            pose=Mlp(width, (), NUM_JOINTS * SIXD, rngs=rngs),
            shape=Mlp(width, (), NUM_BETAS, rngs=rngs),
            camera=Mlp(width, (), 3, rngs=rngs),
        )

    @full_precision
    def __call__(self, keypoints: Float[Array, "b points 5"]) -> Prediction:
        """Predict one person per row of keypoints.

        Args:
            keypoints: x and y in units of the person's square, confidence (0: unknown), depth about
                the hips (metres), 1 if the depth is known; zeros for unknown points.
        """
        x = self.entry(keypoints.reshape(keypoints.shape[0], -1))
        for block in self.blocks:
            x = block(x)
        features = jax.nn.gelu(self.norm(x))
        return self.heads(features, features)
