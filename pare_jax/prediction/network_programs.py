"""Compiled programs of a predictor: network and body on inputs, and the body in known poses."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.models.inference import predict_step
from pare_jax.models.prediction import Prediction

# The arrays of a batch of people by name; None for an array that the network does not have.
Arrays = dict[str, jax.Array | None]
Weights = Sequence[jax.Array | np.ndarray]


def pure_network(
    network: nnx.Module,
) -> tuple[Callable[[Weights, jax.Array], Prediction], list[jax.Array]]:
    """Return a pure function of weights and inputs, not compiled, and the weights.

    Args:
        network: maps normalised crops, or points, to a `Prediction`.
    """
    graphdef, params, others = nnx.split(network, nnx.Param, ...)
    # The function keeps the graph, and weights are a flat list: hashing HRNet's graph at each
    # call would take 4 ms, and walking its state 0.9 ms.
    weights, structure = jax.tree.flatten((params, others))

    def predict(weights: Weights, inputs: jax.Array) -> Prediction:
        params, others = jax.tree.unflatten(structure, weights)
        return predict_step(params, others, inputs, graphdef=graphdef)

    return predict, weights


def constants(weights: list[jax.Array]) -> list[np.ndarray]:
    """Return weights as a traced function takes them for constants of its program."""
    return [np.asarray(array) for array in weights]


class NetworkProgram:
    """Compiled programs of a network: (body, inputs) -> arrays of `Person` by name.

    Attributes:
        holds_weights: True if the program for one person on a CPU has the weights as constants.
            XLA packs constants for its matrix products once, and arguments in each call. This is
            for networks that answer many times: the program takes longer to compile and to read
            from the cache, where it has the size of the weights (docs/results.md has the times).
    """

    def __init__(self, network: nnx.Module, *, holds_weights: bool = False):
        """Split a network; nothing is compiled before the first call.

        Args:
            network: maps normalised crops, or points, to a `Prediction`.
            holds_weights: see the attribute.
        """
        self.holds_weights = holds_weights
        predict, self._weights = pure_network(network)

        def predict_people(weights: Weights, body: BodyModel, inputs: jax.Array) -> Arrays:
            prediction = predict(weights, inputs)
            translation = geometry.camera_translation(prediction.camera)
            return {
                **_posed_body(body, prediction.betas, prediction.rotations, translation),
                "camera_crop": prediction.camera,
                "attention": prediction.attention,
            }

        self._several = jax.jit(predict_people)
        self._one = jax.jit(
            lambda body, inputs: predict_people(constants(self._weights), body, inputs)
        )

    def __call__(self, body: BodyModel, inputs: np.ndarray | jax.Array) -> Arrays:
        """Predict people.

        Args:
            body: the body model.
            inputs: as a `NetworkInput` stacks them.
        """
        if self._is_held(inputs):
            return self._one(body, inputs)
        return self._several(self._weights, body, inputs)

    def lower(self, body: BodyModel, inputs: np.ndarray | jax.Array) -> jax.stages.Lowered:
        """Return the program of a call, not compiled."""
        if self._is_held(inputs):
            return self._one.lower(body, inputs)
        return self._several.lower(self._weights, body, inputs)

    def _is_held(self, inputs: np.ndarray | jax.Array) -> bool:
        return self.holds_weights and len(inputs) == 1 and jax.default_backend() == "cpu"


def pose_people(
    body: BodyModel,
    betas: Float[np.ndarray, "n 10"],
    rotations: Float[np.ndarray, "n 24 3 3"],
    translation: Float[np.ndarray, "n 3"],
) -> dict[str, np.ndarray]:
    """Return the arrays of people in known poses, without attention.

    Args:
        body: the body model.
        betas: shape coefficients.
        rotations: relative to the parent joint, the root's into the camera frame.
        translation: in the frame of each crop's camera, metres.
    """
    count = len(betas)
    # A power of two, so that few programs are compiled.
    padding = (1 << (count - 1).bit_length()) - count
    padded = [
        np.concatenate([value, np.repeat(value[:1], padding, axis=0)]).astype(np.float32)
        for value in map(np.asarray, (betas, rotations, translation))
    ]
    found = _known_people(body, *padded)
    return {name: np.asarray(value)[:count] for name, value in found.items()}


@jax.jit
def _known_people(
    body: BodyModel,
    betas: Float[Array, "n 10"],
    rotations: Float[Array, "n 24 3 3"],
    translation: Float[Array, "n 3"],
) -> Arrays:
    # The crop camera is the inverse of `geometry.camera_translation`.
    depth = translation[:, 2:]
    scale = 2.0 * geometry.FOCAL_LENGTH / (geometry.CROP_RESOLUTION * depth)
    return {
        **_posed_body(body, betas, rotations, translation),
        "camera_crop": jnp.concatenate([scale, translation[:, :2]], axis=1),
    }


def _posed_body(
    body: BodyModel,
    betas: Float[Array, "n 10"],
    rotations: Float[Array, "n 24 3 3"],
    translation: Float[Array, "n 3"],
) -> Arrays:
    posed = body(betas, rotations, translation)
    pose = geometry.matrix_to_axis_angle(rotations)
    return {
        "betas": betas,
        "rotations": rotations,
        "pose": pose.reshape(len(betas), -1),
        "translation": translation,
        "joints_3d": posed.joints,
        "vertices": posed.vertices,
    }
