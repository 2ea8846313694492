"""From features to body parameters: small MLPs whose outputs are added to mean parameters.

The heads compute in float32, in its full precision on accelerators too: they cost next to nothing,
and rotations do not bear less.
"""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.geometry import sixd_to_matrix
from pare_jax.models.initializers import constant, normal
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, joint_index

SIXD = 6

# The weak-perspective camera under which a standing person fills a crop (SPIN's).
MEAN_CAMERA = (0.9, 0.0, 0.0)

# How far the mean pose lowers the arms from the T-pose, radians.
_ARMS_DOWN = np.deg2rad(65.0)

# The last layer of a head starts this much smaller than Glorot's initialisation (Kanazawa et al.
# 2018), so that the first prediction is nearly the mean person.
_LAST_LAYER_GAIN = 0.01


class MeanParameter(nnx.Variable):
    """A parameter that predictions are added to: kept in checkpoints, not trained."""


def mean_pose() -> np.ndarray:
    """Return the pose training starts from: upright, facing the camera, arms hanging.

    The root turns by pi about x, from the body's frame (y up, facing z) into the camera's (y down,
    z forward). The shoulders turn about z until the arms, which lie along x in the T-pose, point
    65 degrees downwards. All other joints are at rest.

    Returns:
        The first two columns of each rotation matrix, row by row, (24, 6) float32.
    """
    matrices = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    matrices[0] = np.diag([1.0, -1.0, -1.0])
    for side, angle in (("left", -_ARMS_DOWN), ("right", _ARMS_DOWN)):
        cos, sin = np.cos(angle), np.sin(angle)
        matrices[joint_index(f"{side}_shoulder"), :2, :2] = [[cos, -sin], [sin, cos]]
    return matrices[:, :, :2].reshape(NUM_JOINTS, SIXD).astype(np.float32)


class Linear(nnx.Module):
    """A linear layer; with `copies`, several side by side, each with its own input and weights."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        copies: tuple[int, ...] = (),
        stddev: float,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(normal(rngs, (*copies, in_features, out_features), stddev))
        self.bias = nnx.Param(constant((*copies, out_features), 0.0))

    def __call__(self, x: Float[Array, "b *copies c"]) -> Float[Array, "b *copies C"]:
        y = jnp.einsum("b...c,...cd->b...d", x, self.kernel[...], precision="highest")
        return y + self.bias[...]


class Mlp(nnx.Module):
    """Linear layers with ReLU between; the last one starts near zero."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        copies: tuple[int, ...] = (),
        rngs: nnx.Rngs,
    ):
        """Build the layers.

        Args:
            in_features: length of the input.
            hidden: widths of the hidden layers; empty for a single linear layer.
            out_features: length of the output.
            copies: (24,) for an MLP per joint, all of them in one product; else empty.
            rngs: random numbers for the weights.
        """
        widths = (in_features, *hidden)
        layers = [
            Linear(before, after, copies=copies, stddev=math.sqrt(2 / before), rngs=rngs)
            for before, after in itertools.pairwise(widths)
        ]
        stddev = _LAST_LAYER_GAIN * math.sqrt(2 / (widths[-1] + out_features))
        layers.append(Linear(widths[-1], out_features, copies=copies, stddev=stddev, rngs=rngs))
        self.layers = nnx.List(layers)

    def __call__(self, x: Float[Array, "b *copies c"]) -> Float[Array, "b *copies C"]:
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = layer(nnx.relu(x))
        return x


class ParameterHeads(nnx.Module):
    """Three MLPs, for pose, shape and camera, and the means they are added to."""

    def __init__(self, pose: Mlp, shape: Mlp, camera: Mlp):
        self.pose = pose
        self.shape = shape
        self.camera = camera
        self.mean_pose = MeanParameter(jnp.array(mean_pose()))
        self.mean_betas = MeanParameter(constant(NUM_BETAS, 0.0))
        self.mean_camera = MeanParameter(jnp.array(np.asarray(MEAN_CAMERA, np.float32)))

    def __call__(
        self,
        pose_features: Float[Array, "b ..."],
        features: Float[Array, "b c"],
    ) -> Prediction:
        """Predict body parameters.

        Args:
            pose_features: the pose MLP's input, which it turns into 6D rotations: (b, 24, c) or,
                for an MLP that predicts all joints together, (b, c).
            features: input of the shape and camera MLPs.

        Returns:
            The prediction, without part maps.
        """
        sixd = self.pose(pose_features).reshape(-1, NUM_JOINTS, SIXD) + self.mean_pose[...]
        return Prediction(
            rotations=sixd_to_matrix(sixd),
            betas=self.shape(features) + self.mean_betas[...],
            camera=self.camera(features) + self.mean_camera[...],
        )
