"""Runs a network on crops or keypoints: its input, and one prediction step."""

from collections.abc import Container

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


def input_field(batch: Container[str]) -> str:
    """Return the field of a batch that the network reads: `keypoints` if it is there, or `image`.

    Batches have one of them; see `data_pipelines/example.py`.
    """
    return "keypoints" if "keypoints" in batch else "image"


def prepared(
    inputs: UInt8[Array, "b s s 3"] | Float[Array, "b points 5"],
) -> Float[Array, "b ..."]:
    """Return crops normalised, and keypoints as they are."""
    return normalise(inputs) if inputs.dtype == jnp.uint8 else inputs


def predict_step(
    params: nnx.State,
    batch_stats: nnx.State,
    inputs: UInt8[Array, "b s s 3"] | Float[Array, "b points 5"],
    *,
    graphdef: nnx.GraphDef,
) -> Prediction:
    """Run a network on crops or keypoints.

    Args:
        params: the network's parameters.
        batch_stats: its batch statistics.
        inputs: RGB crops, which are normalised here, or keypoints, which are taken as they are.
        graphdef: the network's static graph, in evaluation mode.
    """
    return nnx.merge(graphdef, params, batch_stats)(prepared(inputs))
