"""Draws attention maps as heat maps over the crop."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.rendering.text import Picture, caption, grid
from pare_jax.skeleton import JOINT_NAMES, joint_index

# Brightness of the picture where there is no attention, so that attended places stand out.
_DIMMED = 0.55
# The brightest colour needs at least this many times the mean attention.
_FULL_COLOUR = 4.0


def draw_attention(picture: Picture, attention: Float[np.ndarray, "h w"]) -> Picture:
    """Draw one attention map over the crop as a heat map, brightest where it is largest.

    Colour starts above the map's mean and is brightest at its maximum, so that maps of any
    sharpness can be read. An even map has no colour.

    Args:
        picture: the network's crop at any resolution, (height, width, 3) uint8.
        attention: one joint's map over the same square, non-negative.

    Returns:
        Picture of the same size.
    """
    attention = np.asarray(attention, np.float32)
    mean = float(attention.mean())
    peak = max(float(attention.max()), _FULL_COLOUR * mean, 1e-12)
    heat = (attention - mean) / (peak - mean)
    heat = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    # Tables of 256 heat levels take a third of the time of arithmetic on every pixel.
    levels = np.round(np.clip(heat, 0.0, 1.0) * 255).astype(np.uint8)
    # The picture is grey, so that all colour means attention.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    dimmed = cv2.multiply(grey, cv2.LUT(levels, _GREY_WEIGHTS), dtype=cv2.CV_32F)
    return cv2.add(
        cv2.cvtColor(dimmed, cv2.COLOR_GRAY2RGB),
        cv2.LUT(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), _COLOURS),
        dtype=cv2.CV_8U,
    )


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the grey picture's weight and the colour to add for each heat level."""
    levels = np.arange(256, dtype=np.uint8)
    weight = np.sqrt(levels / np.float32(255.0))[:, None] * 0.85
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO).reshape(256, 3)[:, ::-1]
    grey_weights = (1.0 - weight[:, 0]) * _DIMMED
    return grey_weights.astype(np.float32), (weight * colours).astype(np.float32)[None]


_GREY_WEIGHTS, _COLOURS = _tables()


def attention_sheet(
    picture: Picture,
    attention: Float[np.ndarray, "h w joints"],
    joints: Sequence[str] = JOINT_NAMES,
    columns: int = 6,
    cell: int = 192,
) -> Picture:
    """Draw the attention maps of several joints in a grid, each with the joint's name below.

    Args:
        picture: the network's crop at any resolution.
        attention: maps of all 24 joints.
        joints: names of the joints to show.
        columns: cells in a row.
        cell: side of each picture, pixels.

    Returns:
        The grid.
    """
    return grid(attention_cells(picture, attention, joints, cell), columns)


def attention_cells(
    picture: Picture,
    attention: Float[np.ndarray, "h w joints"],
    joints: Sequence[str],
    cell: int,
    prefix: str = "",
) -> list[Picture]:
    """Return the pictures of `attention_sheet`, captioned by `prefix` and the joint's name."""
    attention = np.asarray(attention)
    picture = fit(picture, cell)
    return [
        caption(
            draw_attention(picture, attention[..., joint_index(name)]),
            prefix + name.replace("_", " "),
        )
        for name in joints
    ]


def fit(picture: Picture, side: int) -> Picture:
    """Resize a square picture to `side` pixels."""
    interpolation = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=interpolation)
