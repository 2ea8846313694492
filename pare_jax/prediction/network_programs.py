"""Compiled programs of a predictor: network and body on inputs, and the body in known poses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from pare_jax import geometry
from pare_jax.body.model import BodyModel
from pare_jax.models.inference import predict_step

# The arrays of a batch of people by name; None for an array that the network does not have.
Arrays = dict[str, jax.Array | None]


def compiled_network(network: nnx.Module) -> tuple[Callable[..., Arrays], list[jax.Array]]:
    """Return a jitted function that predicts people, and the weights that it takes.

    The program for one person may hold them as constants, see `constants_for`.

    Args:
        network: maps normalised crops, or points, to a `Prediction`.

    Returns:
        (weights, body, inputs) -> arrays of `Person` by name, with inputs as a `NetworkInput`
        stacks them; and the weights.
    """
    graphdef, params, others = nnx.split(network, nnx.Param, ...)
    # The function keeps the graph, and weights are a flat list: hashing HRNet's graph at each
    # call would take 4 ms, and walking its state 0.9 ms.
    weights, structure = jax.tree.flatten((params, others))
    own = weights

    @jax.jit
    def predict_people(weights: list[jax.Array], body: BodyModel, inputs: jax.Array) -> Arrays:
        known = constants_for(len(inputs), own)
        params, others = jax.tree.unflatten(structure, known or weights)
        prediction = predict_step(params, others, inputs, graphdef=graphdef)
        translation = geometry.camera_translation(prediction.camera)
        return {
            **_posed_body(body, prediction.betas, prediction.rotations, translation),
            "camera_crop": prediction.camera,
            "attention": prediction.attention,
        }

    return predict_people, weights


def constants_for(count: int, weights: list[jax.Array]) -> list[np.ndarray] | None:
    """Return weights as constants of a program, where that is faster: for one person on a CPU.

    XLA packs constants for its matrix products once, and arguments in each call. For one person
    this is a third of the time (docs/results.md); for more it matters less, and each program would
    hold the weights again.

    Args:
        count: people that the program takes.
        weights: of the network.
    """
    if count > 1 or jax.default_backend() != "cpu":
        return None
    return [np.asarray(array) for array in weights]


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
