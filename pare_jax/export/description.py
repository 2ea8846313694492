"""Describes an exported file to programs that run it: the crops it takes and its outputs."""

from typing import Any

from pare_jax import crop
from pare_jax.skeleton import JOINT_NAMES

INPUT = "images"


def describe_file(image_size: int, crop_scale: float) -> dict[str, Any]:
    """Return what a program must know to make crops and to read outputs.

    Args:
        image_size: side of the crops, pixels.
        crop_scale: side of a crop over the longer side of its box.

    Returns:
        Values that JSON can hold; docs/export.md lists them.
    """
    return {
        "input": INPUT,
        "image_size": image_size,
        "crop_scale": crop_scale,
        "channels": "RGB",
        "normalisation": {
            "applied_by": "file",
            "mean": list(crop.IMAGENET_MEAN),
            "std": list(crop.IMAGENET_STD),
        },
        "focal_length": crop.FOCAL_LENGTH,
        "crop_resolution": crop.CROP_RESOLUTION,
        "joint_names": list(JOINT_NAMES),
    }
