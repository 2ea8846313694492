"""Compiled programs of a predictor: network and body on inputs, and the body in known poses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.prediction.network_inputs import NetworkInput

# The arrays of a batch of people by name; None for an array that the network does not have.
Arrays = dict[str, jax.Array | None]


def compiled_network(
    network: nnx.Module, network_input: NetworkInput
) -> tuple[Callable[..., Arrays], list[jax.Array]]:
    """Return a jitted function that predicts people, and the weights that it takes.

    Args:
        network: maps normalised inputs to a `Prediction`.
        network_input: prepares the inputs.

    Returns:
        (weights, body, inputs) -> arrays of `Person` by name, with inputs as `network_input`
        stacks them; and the weights.
    """
    graphdef, params, others = nnx.split(network, nnx.Param, ...)
    # The function keeps the graph, and weights are a flat list: hashing HRNet's graph at each
    # call would take 4 ms, and walking its state 0.9 ms.
    weights, structure = jax.tree.flatten((params, others))

    @jax.jit
    def predict_people(weights: list[jax.Array], body: BodyModel, inputs: jax.Array) -> Arrays:
        state = jax.tree.unflatten(structure, weights)
        prediction = nnx.merge(graphdef, *state)(network_input.prepared(inputs))
        translation = geometry.camera_translation(prediction.camera)
        return {
            **_posed_body(body, prediction.betas, prediction.rotations, translation),
            "camera_crop": prediction.camera,
            "attention": prediction.attention,
        }

    return predict_people, weights


@jax.jit
def known_people(
    body: BodyModel,
    betas: Float[Array, "n 10"],
    rotations: Float[Array, "n 24 3 3"],
    translation: Float[Array, "n 3"],
) -> Arrays:
    """Return the arrays of people in known poses, without attention.

    Args:
        body: the body model.
        betas: shape coefficients.
        rotations: relative to the parent joint, the root's into the camera frame.
        translation: in the frame of each crop's camera, metres.
    """
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
