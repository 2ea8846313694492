"""Draws occluders in front of people: blocks, ellipses, boards, blobs, posts and ledges."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.synthetic.textures import random_texture

_KINDS = ("block", "ellipse", "board", "blob", "post", "ledge")
_SMALLEST = 0.18  # share of the person's box
_LEAST_HIDDEN, _MOST_HIDDEN = 0.03, 0.6  # shares of the person's pixels
_TRIES = 6
_SHIFT = 4


@dataclasses.dataclass(frozen=True)
class Occluder:
    """An object in front of a person.

    Attributes:
        colours: sRGB, valid where `cover` is positive.
        cover: opacity of each pixel, 0 to 255.
        hidden: share of the person's visible pixels that it hides.
    """

    colours: UInt8[np.ndarray, "size size 3"]
    cover: UInt8[np.ndarray, "size size"]
    hidden: float

    def over(self, picture: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """Return the picture with the occluder over it."""
        share = self.cover.astype(np.float32) / 255
        return cv2.blendLinear(self.colours, picture, share, 1 - share)


def place_occluder(
    rng: np.random.Generator,
    person: Bool[np.ndarray, "size size"],
    box_side: float,
    largest: float,
) -> Occluder:
    """Draw an occluder that hides a part of the person.

    Args:
        rng: the example's random numbers.
        person: pixels that show the person.
        box_side: longer side of the person's box in pixels.
        largest: largest side of the occluder as a share of `box_side`.

    Returns:
        An occluder that hides 3 to 60 % of the person, or the closest of six tries.
    """
    rows, columns = np.nonzero(person)
    size = len(person)
    best = None
    for attempt in range(_TRIES):
        if len(rows):
            pick = rng.integers(len(rows))
            centre = np.array([columns[pick], rows[pick]], float) + 0.5
        else:
            centre = rng.uniform(0.3, 0.7, 2) * size
        shrink = 1.0 - 0.5 * attempt / (_TRIES - 1)
        extent = rng.uniform(min(_SMALLEST, largest), largest) * shrink * box_side
        cover, shading = _draw_shape(rng, size, centre, extent)
        hidden = float((person & (cover > 127)).sum() / max(len(rows), 1))
        off = abs(hidden - np.clip(hidden, _LEAST_HIDDEN, _MOST_HIDDEN))
        if best is None or off < best[0]:
            best = off, cover, shading, hidden
        if off == 0:
            break
    _, cover, shading, hidden = best
    surface = random_texture(rng, size, size)
    colours = cv2.multiply(surface, cv2.merge([shading] * 3), scale=1 / 200)
    return Occluder(colours, cover, hidden)


def _draw_shape(rng, size: int, centre: np.ndarray, extent: float):
    """Draw a shape's cover and its shading; a shading of 200 keeps the colour."""
    kind = _KINDS[rng.integers(len(_KINDS))]
    cover = np.zeros((size, size), np.uint8)
    shading = np.full((size, size), 200, np.uint8)
    if kind == "block":
        _draw_block(rng, cover, shading, centre, extent)
    elif kind == "ellipse":
        axes = tuple(round(a * 2**_SHIFT) for a in 0.5 * extent * rng.uniform(0.5, 1.0, 2))
        turn = rng.uniform(0, 180)
        middle = _fixed(centre)
        cv2.ellipse(cover, middle, axes, turn, 0, 360, 255, -1, cv2.LINE_AA, _SHIFT)
        for step in range(1, 6):  # rounded: lighter towards the middle
            ring = tuple(round(a * (1 - step / 6)) for a in axes)
            cv2.ellipse(
                shading, middle, ring, turn, 0, 360, 200 + 9 * step, -1, cv2.LINE_AA, _SHIFT
            )
    elif kind == "board":
        half = 0.5 * extent * np.array([1.0, rng.uniform(0.25, 1.0)])
        _fill(
            cover, centre + _turned(rng, np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half), 255
        )
    elif kind == "blob":
        angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        radius = 0.5 * extent * rng.uniform(0.4, 1.0, 10)
        _fill(cover, centre + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None], 255)
    elif kind == "post":  # from the top or the bottom of the picture
        half = 0.5 * extent * rng.uniform(0.25, 0.5)
        lean = rng.normal(0, 0.1) * size
        top = -size if rng.random() < 0.6 else centre[1]
        corners = [(-half + lean, top), (half + lean, top), (half, 2 * size), (-half, 2 * size)]
        _fill(cover, np.array(corners) + np.array([centre[0], 0]), 255)
    else:  # a table or wall: everything below a line
        depth = max(centre[1], size / 2 + 0.1 * extent)
        tilt = rng.normal(0, 0.05) * size
        corners = [
            (-size, depth - tilt),
            (2 * size, depth + tilt),
            (2 * size, 2 * size),
            (-size, 2 * size),
        ]
        _fill(cover, np.array(corners), 255)
    return cover, shading


def _draw_block(rng, cover, shading, centre, extent) -> None:
    """Draw a cuboid seen from above: its two nearest walls and its lid."""
    sides = 0.8 * extent * rng.uniform(0.4, 1.0, (3, 1))
    turn, tilt = rng.uniform(0, np.pi / 2), rng.uniform(0.1, 0.7)
    right, left, up = sides * [
        (np.cos(turn), -np.sin(turn) * np.sin(tilt)),
        (-np.sin(turn), -np.cos(turn) * np.sin(tilt)),
        (0.0, -np.cos(tilt)),
    ]
    near = centre - 0.5 * (right + left + up)
    for corner, first, second, shade in (
        (near, right, up, 180),
        (near, left, up, 130),
        (near + up, right, left, 225),
    ):
        face = np.array([corner, corner + first, corner + first + second, corner + second])
        _fill(cover, face, 255)
        _fill(shading, face, shade)


def _turned(rng, corners: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return corners @ np.array([[c, s], [-s, c]])


def _fill(picture: np.ndarray, polygon: Float[np.ndarray, "corners 2"], value: int) -> None:
    corners = np.rint((polygon - 0.5) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(picture, [corners], value, cv2.LINE_AA, _SHIFT)


def _fixed(point) -> tuple[int, int]:
    """Return OpenCV's fixed-point coordinates; its integers are pixel centres."""
    x, y = np.rint((np.asarray(point) - 0.5) * 2**_SHIFT).astype(int)
    return int(x), int(y)
