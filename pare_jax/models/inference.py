"""Runs a network on uint8 crops: normalisation and one prediction step."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from pare_jax.crop import IMAGENET_MEAN, IMAGENET_STD
from pare_jax.models.prediction import Prediction


def normalise(images: UInt8[Array, "*b s s 3"]) -> Float[Array, "*b s s 3"]:
    """Scale uint8 RGB to [0, 1] and normalise it with ImageNet's mean and standard deviation."""
    return standardise(images.astype(jnp.float32) / 255.0)


def standardise(images: Float[Array, "*b s s 3"]) -> Float[Array, "*b s s 3"]:
    """Normalise RGB in [0, 1] with ImageNet's mean and standard deviation."""
    return (images - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def predict_step(
    params: nnx.State,
    batch_stats: nnx.State,
    images: UInt8[Array, "b s s 3"],
    *,
    graphdef: nnx.GraphDef,
) -> Prediction:
    """Run a network on crops.

    Args:
        params: the network's parameters.
        batch_stats: its batch statistics.
        images: RGB.
        graphdef: the network's static graph, in evaluation mode.
    """
    return nnx.merge(graphdef, params, batch_stats)(normalise(images))
