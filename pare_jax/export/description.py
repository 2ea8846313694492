"""Describes an exported file to programs that run it: the input it takes and its outputs."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from pare_jax import crop
from pare_jax.keypoints.keypoints import SQUARE_SCALE
from pare_jax.keypoints.sets import NUM_BODY_POINTS, POINT_NAMES
from pare_jax.skeleton import JOINT_NAMES

# The numbers of a body point; zeros for an unknown point.
_COLUMNS = {
    "x": "from the centre of the square to the right, in units of half its side",
    "y": "likewise, down",
    "confidence": "above 0 up to 1; 0: the point is unknown",
    "depth": "metres behind the middle of the hips; 0: unknown",
    "has_depth": "1: the depth is known",
}


class FileInput(NamedTuple):
    """The input of an exported file.

    Attributes:
        name: of the array.
        shape: without the batch.
        dtype: of the array.
        text: shape and type, for people.
        about: what a program must know to make inputs and to read outputs, as JSON can hold it;
            docs/export.md lists the entries.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DTypeLike
    text: str
    about: dict[str, Any]


def crop_input(image_size: int, crop_scale: float = crop.BOX_SCALE) -> FileInput:
    """Return the input of a network on images.

    Args:
        image_size: side of the crops, pixels.
        crop_scale: side of a crop over the longer side of its box.
    """
    about = {
        "input": "images",
        "image_size": image_size,
        "crop_scale": crop_scale,
        "channels": "RGB",
        "normalisation": {
            "applied_by": "file",
            "mean": list(crop.IMAGENET_MEAN),
            "std": list(crop.IMAGENET_STD),
        },
        **_outputs(),
    }
    text = f"(batch, {image_size}, {image_size}, 3) uint8 RGB"
    return FileInput("images", (image_size, image_size, 3), jnp.uint8, text, about)


def keypoint_input() -> FileInput:
    """Return the input of a network on keypoints."""
    about = {
        "input": "keypoints",
        "point_names": list(POINT_NAMES),
        "columns": _COLUMNS,
        "square": f"{SQUARE_SCALE:g} times the longer side of the known points' extent",
        **_outputs(),
    }
    shape = (NUM_BODY_POINTS, len(_COLUMNS))
    text = f"(batch, {shape[0]}, {shape[1]}) float32 keypoints"
    return FileInput("keypoints", shape, jnp.float32, text, about)


def _outputs() -> dict[str, Any]:
    return {
        "focal_length": crop.FOCAL_LENGTH,
        "crop_resolution": crop.CROP_RESOLUTION,
        "joint_names": list(JOINT_NAMES),
    }
