"""The heads: small MLPs from features to body parameters, added to mean parameters.

The heads always compute in full float32: they cost little, and rotations need the precision.
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

# Angle by which the mean pose lowers the arms from the rest pose, radians.
_ARMS_DOWN = np.deg2rad(65.0)

# Factor on Glorot's initialisation of a head's last layer (Kanazawa et al. 2018). The first
# prediction is then nearly the mean parameters.
_LAST_LAYER_GAIN = 0.01


class MeanParameter(nnx.Variable):
    """A parameter that is added to the heads' outputs. It is in checkpoints but not trained."""


def mean_pose() -> np.ndarray:
    """Return the initial pose: upright, facing the camera, arms lowered.

    The root turns by pi about x, from the body's frame (y up, facing z) into the camera's (y down,
    z forward). The shoulders lower the arms by 65 degrees from the rest pose. All other joints are
    as in the rest pose.

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
    """A linear layer, or with `copies` several in parallel, each with its own input and weights."""

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
    """Linear layers with ReLU between them. The last one's initial weights are near zero."""

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
            in_features: channels in.
            hidden: widths of the hidden layers; empty for a single linear layer.
            out_features: channels out.
            copies: (24,) for an MLP per joint, computed in one product; else empty.
            rngs: for the initial weights.
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
    """Three MLPs, for pose, shape and camera, and the mean parameters added to their outputs."""

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
            pose_features: input of the pose MLP: (b, 24, c), or (b, c) for an MLP that predicts all
                joints together.
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
