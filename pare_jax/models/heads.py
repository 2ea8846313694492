"""From features to body parameters: small MLPs whose outputs are added to mean parameters.

The heads compute in float32: they cost next to nothing, and rotations do not bear less.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.geometry import sixd_to_matrix
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, joint_index

SIXD = 6

# The weak-perspective camera under which a standing person fills a crop (SPIN's).
MEAN_CAMERA = (0.9, 0.0, 0.0)

# How far the mean pose lowers the arms from the T-pose, radians.
_ARMS_DOWN = np.deg2rad(65.0)

# Hidden layers get He's initialisation; the last layer starts near zero (Kanazawa et al. 2018),
# so that the first prediction is the mean person.
_he = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
_near_zero = nnx.initializers.variance_scaling(1e-4, "fan_avg", "uniform")


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


class JointLinear(nnx.Module):
    """A linear layer per joint, all in one product."""

    def __init__(
        self, in_features: int, out_features: int, *, kernel_init: nnx.Initializer, rngs: nnx.Rngs
    ):
        keys = jax.random.split(rngs.params(), NUM_JOINTS)
        self.kernel = nnx.Param(
            jax.vmap(lambda key: kernel_init(key, (in_features, out_features)))(keys)
        )
        self.bias = nnx.Param(jnp.zeros((NUM_JOINTS, out_features)))

    def __call__(self, x: Float[Array, "b 24 c"]) -> Float[Array, "b 24 C"]:
        return jnp.einsum("bjc,jcd->bjd", x, self.kernel[...]) + self.bias[...]


def _linear(in_features, out_features, *, kernel_init: nnx.Initializer, rngs: nnx.Rngs):
    return nnx.Linear(in_features, out_features, kernel_init=kernel_init, rngs=rngs)


class Mlp(nnx.Module):
    """Linear layers with ReLU between; the last one starts near zero."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        linear=_linear,
        rngs: nnx.Rngs,
    ):
        """Build the layers.

        Args:
            in_features: length of the input.
            hidden: widths of the hidden layers; empty for a single linear layer.
            out_features: length of the output.
            linear: the kind of layer; `JointLinear` makes 24 MLPs side by side.
            rngs: random numbers for the weights.
        """
        widths = (in_features, *hidden, out_features)
        last = len(widths) - 2
        self.layers = nnx.List(
            linear(
                widths[index],
                widths[index + 1],
                kernel_init=_near_zero if index == last else _he,
                rngs=rngs,
            )
            for index in range(len(widths) - 1)
        )

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch C"]:
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
        self.mean_pose = MeanParameter(jnp.asarray(mean_pose()))
        self.mean_betas = MeanParameter(jnp.zeros(NUM_BETAS))
        self.mean_camera = MeanParameter(jnp.asarray(MEAN_CAMERA))

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
