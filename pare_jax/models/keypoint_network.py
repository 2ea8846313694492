"""A network on keypoints: stages of residual MLPs that see how their body misses the keypoints.

The first stage lifts keypoints to a body (Martinez et al., "A Simple Yet Effective Baseline for 3D
Human Pose Estimation", ICCV 2017, lift 2D joints by such a network). Every further stage places
the body's points, projects them and corrects the body by what is left, as a learned step of
fitting (Song et al., "Human Body Model Fitting by Learned Gradient Descent", ECCV 2020).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax.geometry import camera_translation, project, sixd_to_matrix
from pare_jax.keypoints.body_points import CONSTANTS, PointBody, body_of_constants, constants_of
from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.models.heads import MEAN_CAMERA, SIXD, Linear, MeanParameter, mean_pose
from pare_jax.models.layers import full_precision
from pare_jax.models.prediction import Prediction
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

# Numbers of a body point: x, y, confidence, depth, whether the depth is known.
POINT_CHANNELS = 5
# Numbers of a body point that a further stage sees too: what is left of x and y, of the depth, and
# the body's own depth.
_LEFT_CHANNELS = 4
_PARAMETERS = NUM_JOINTS * SIXD + NUM_BETAS + 3
# A point further from the body than this is an outlier, crop units.
_FARTHEST = 1.0


class BodyConstant(nnx.Variable):
    """An array of the body model. It is in checkpoints but not trained."""


class Block(nnx.Module):
    """Two layers after a layer norm, added to their input."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.into = Linear(width, width, stddev=(2 / width) ** 0.5, rngs=rngs)
        self.out = Linear(width, width, stddev=0.1 * width**-0.5, rngs=rngs)

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b c"]:
        return x + self.out(jax.nn.gelu(self.into(self.norm(x))))


class Stage(nnx.Module):
    """Residual blocks from what a stage sees to a correction of the body's parameters."""

    def __init__(self, inputs: int, width: int, num_blocks: int, *, rngs: nnx.Rngs):
        self.entry = Linear(inputs, width, stddev=inputs**-0.5, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(num_blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.out = Linear(width, _PARAMETERS, stddev=0.1 * width**-0.5, rngs=rngs)

    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b parameters"]:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return self.out(jax.nn.gelu(self.norm(x)))


class KeypointNetwork(nnx.Module):
    """Stages from body points to a body; the points of its body are constants of the network."""

    def __init__(self, *, width: int, num_blocks: Sequence[int], rngs: nnx.Rngs):
        """Build the network; `set_body` gives it the body before it is trained.

        Args:
            width: channels of all layers.
            num_blocks: residual blocks of each stage.
            rngs: for the initial weights.
        """
        first = NUM_BODY_POINTS * POINT_CHANNELS
        further = first + NUM_BODY_POINTS * _LEFT_CHANNELS + _PARAMETERS
        inputs = [first] + [further] * (len(num_blocks) - 1)
        self.stages = nnx.List(
            [
                Stage(size, width, blocks, rngs=rngs)
                for size, blocks in zip(inputs, num_blocks, strict=True)
            ]
        )
        mean = np.concatenate([mean_pose().ravel(), np.zeros(NUM_BETAS), MEAN_CAMERA])
        self.mean = MeanParameter(jnp.asarray(mean, jnp.float32))
        for name, shape in CONSTANTS.items():
            setattr(self, name, BodyConstant(jnp.zeros(shape)))

    def set_body(self, body: PointBody) -> None:
        """Take over the points of the body that the network is trained for."""
        for name, value in constants_of(body).items():
            getattr(self, name)[...] = value

    @property
    def body(self) -> PointBody:
        """The points of the body that the network is trained for."""
        return body_of_constants({name: getattr(self, name)[...] for name in CONSTANTS})

    @full_precision
    def __call__(self, keypoints: Float[Array, "b points 5"]) -> Prediction:
        """Predict one person per row of keypoints.

        Args:
            keypoints: x and y in units of the person's square, confidence (0: unknown), depth about
                the hips (metres), 1 if the depth is known; zeros for unknown points.

        Returns:
            The last stage's prediction, with those of the stages before it in `earlier`.
        """
        seen = keypoints.reshape(keypoints.shape[0], -1)
        parameters = self.mean[...] + self.stages[0](seen)
        predictions = [_prediction(parameters)]
        for stage in list(self.stages)[1:]:
            left = _left_over(self.body, predictions[-1], keypoints)
            # Each stage is trained for its own output.
            context = jax.lax.stop_gradient(jnp.concatenate([seen, left, parameters], -1))
            parameters = jax.lax.stop_gradient(parameters) + stage(context)
            predictions.append(_prediction(parameters))
        return predictions[-1].replace(earlier=tuple(predictions[:-1]))


def _prediction(parameters: Float[Array, "b parameters"]) -> Prediction:
    pose, betas, camera = jnp.split(parameters, [NUM_JOINTS * SIXD, _PARAMETERS - 3], axis=-1)
    sixd = pose.reshape(-1, NUM_JOINTS, SIXD)
    return Prediction(rotations=sixd_to_matrix(sixd), betas=betas, camera=camera)


def _left_over(
    body: PointBody, prediction: Prediction, keypoints: Float[Array, "b points 5"]
) -> Float[Array, "b numbers"]:
    """Return how the predicted body misses the keypoints, and the depths of its points."""
    points, joints = body.place(prediction.rotations, prediction.betas)
    pixels = project(points, camera_translation(prediction.camera))
    depth = points[..., 2:] - joints[:, :1, 2:]
    is_known, has_depth = keypoints[..., 2:3] > 0, keypoints[..., 4:5] > 0
    missed = jnp.clip(keypoints[..., :2] - pixels, -_FARTHEST, _FARTHEST)
    missed = jnp.where(is_known, missed, 0.0)
    missed_depth = jnp.where(has_depth, keypoints[..., 3:4] - depth, 0.0)
    # About as large as the other inputs.
    numbers = jnp.concatenate([4.0 * missed, 2.0 * missed_depth, depth], -1)
    return numbers.reshape(numbers.shape[0], -1)
