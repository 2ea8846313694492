"""Attention maps laid over the crop they belong to."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.rendering.text import Picture, caption, grid
from pare_jax.skeleton import JOINT_NAMES, joint_index

# How much of the picture is left under no attention, so that the attended places stand out.
_DIMMED = 0.55
# How many equal shares a place must get, at least, for the brightest colour.
_FULL_COLOUR = 4.0


def draw_attention(picture: Picture, attention: Float[np.ndarray, "h w"]) -> Picture:
    """Lay one attention map over the crop as a heat map, brightest where it is largest.

    Colour starts where a place gets more than an equal share and is brightest at the map's own
    maximum, so that maps of any sharpness can be read; an even map has no colour.

    Args:
        picture: the network's crop at any resolution, (height, width, 3) uint8.
        attention: the joint's map over the same square, non-negative.

    Returns:
        Picture of the same size.
    """
    attention = np.asarray(attention, np.float32)
    equal = float(attention.mean())
    peak = max(float(attention.max()), _FULL_COLOUR * equal, 1e-12)
    heat = (attention - equal) / (peak - equal)
    heat = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    # Tables of 256 steps of heat do what arithmetic on every pixel would, in a third of the time.
    steps = np.round(np.clip(heat, 0.0, 1.0) * 255).astype(np.uint8)
    # Grey below, so that colour means attention and nothing else.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    ground = cv2.multiply(grey, cv2.LUT(steps, _GROUND), dtype=cv2.CV_32F)
    return cv2.add(
        cv2.cvtColor(ground, cv2.COLOR_GRAY2RGB),
        cv2.LUT(cv2.cvtColor(steps, cv2.COLOR_GRAY2RGB), _COLOURS),
        dtype=cv2.CV_8U,
    )


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """How much is left of the grey ground, and what colour is added, at every step of heat."""
    steps = np.arange(256, dtype=np.uint8)
    weight = np.sqrt(steps / np.float32(255.0))[:, None] * 0.85
    colours = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO).reshape(256, 3)[:, ::-1]
    ground = (1.0 - weight[:, 0]) * _DIMMED
    return ground.astype(np.float32), (weight * colours).astype(np.float32)[None]


_GROUND, _COLOURS = _tables()


def attention_sheet(
    picture: Picture,
    attention: Float[np.ndarray, "h w joints"],
    joints: Sequence[str] = JOINT_NAMES,
    columns: int = 6,
    cell: int = 192,
) -> Picture:
    """Draw the maps of several joints over the crop, each with the joint's name below.

    Args:
        picture: the network's crop at any resolution.
        attention: maps of all 24 joints.
        joints: names of those to show.
        columns: cells a row.
        cell: side of each picture in pixels.

    Returns:
        The sheet.
    """
    return grid(attention_cells(picture, attention, joints, cell), columns)


def attention_cells(
    picture: Picture,
    attention: Float[np.ndarray, "h w joints"],
    joints: Sequence[str],
    cell: int,
) -> list[Picture]:
    """Return one captioned picture a joint, as `attention_sheet` sets them."""
    attention = np.asarray(attention)
    picture = fit(picture, cell)
    return [
        caption(draw_attention(picture, attention[..., joint_index(name)]), name.replace("_", " "))
        for name in joints
    ]


def fit(picture: Picture, side: int) -> Picture:
    """Resample a square picture to `side` pixels."""
    shrinks = picture.shape[0] > side
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=interpolation)
