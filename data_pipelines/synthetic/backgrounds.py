"""Draws the background behind synthetic people: simple rooms and streets, or photographs."""

import functools
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipelines.synthetic.settings import SyntheticSettings
from data_pipelines.synthetic.textures import limit, random_colour, random_texture
from pare_jax.errors import UserError

_MOST_THINGS = 28  # mean number of things at clutter 1
_PHOTO_SIDE = 640  # photographs are kept in memory at most this large
_SHIFT = 4  # OpenCV draws in steps of 1 / 16 pixel with this shift


def draw_background(
    rng: np.random.Generator, settings: SyntheticSettings, size: int, horizon: float
) -> UInt8[np.ndarray, "size size 3"]:
    """Draw the background of a square picture.

    Args:
        rng: the example's random numbers.
        settings: clutter and the folder of photographs.
        size: side in pixels.
        horizon: row of the horizon, where the floor meets the wall; may lie outside the picture.

    Returns:
        sRGB.
    """
    if settings.background_folder:
        return _photo_background(rng, settings, size)
    picture = _surface(rng, settings.clutter, size)
    ground = int(np.clip(horizon + rng.normal(0.1, 0.15) * size, 0, size))
    if ground < size:
        picture[ground:] = _surface(rng, settings.clutter, size)[ground:]
    amount = settings.clutter * rng.uniform(0.3, 1.0)
    for _ in range(rng.poisson(amount * _MOST_THINGS)):
        _draw_thing(rng, picture, ground)
    if rng.random() < 0.6:  # out of focus
        sigma = rng.uniform(0.4, 2.5) * size / 128
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    return picture


def _surface(rng: np.random.Generator, clutter: float, size: int) -> np.ndarray:
    """Draw a wall or floor; the more clutter, the less often it is smooth."""
    return random_texture(rng, size, size, None if rng.random() < 1.5 * clutter else "gradient")


def _draw_thing(rng: np.random.Generator, picture: np.ndarray, ground: int) -> None:
    """Draw a window, a pillar, a box, a ball, a bush or a wire in place."""
    size = len(picture)
    kind = rng.integers(6)
    x, y = rng.uniform(-0.1, 1.1, 2) * size
    width, height = rng.uniform(0.04, 0.45, 2) * size
    colour = random_colour(rng)
    if kind == 0:  # a window or poster
        _rectangle(picture, x, y, width, height, colour)
        _rectangle(picture, x, y, 0.8 * width, 0.8 * height, random_colour(rng))
    elif kind == 1:  # a pillar or trunk
        _rectangle(picture, x, size / 2, width / 3, 2 * size, colour)
    elif kind == 2:  # furniture: a front, a side and a top
        bottom = ground + rng.uniform(0, 0.4) * max(size - ground, 0.2 * size)
        _box(picture, rng, x, bottom, width, height, colour)
    elif kind == 3:
        turn = rng.uniform(0, 180)
        axes = (round(width / 2 * 2**_SHIFT), round(height / 2 * 2**_SHIFT))
        cv2.ellipse(
            picture, (_fixed(x), _fixed(y)), axes, turn, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT
        )
    elif kind == 4:  # a bush or crowd: many blobs
        for _ in range(rng.integers(4, 12)):
            centre = (_fixed(x + rng.normal() * width / 3), _fixed(y + rng.normal() * height / 3))
            shade = limit(colour * rng.uniform(0.7, 1.3))
            radius = round(rng.uniform(0.1, 0.3) * width * 2**_SHIFT)
            cv2.circle(picture, centre, radius, shade, -1, cv2.LINE_AA, _SHIFT)
    else:  # wires, poles, limbs of trees
        ends = rng.uniform(-0.2, 1.2, (2, 2)) * size
        a, b = ((_fixed(p[0]), _fixed(p[1])) for p in ends)
        line = max(1, round(rng.uniform(0.005, 0.06) * size))
        cv2.line(picture, a, b, colour, line, cv2.LINE_AA, _SHIFT)


def _rectangle(picture, x, y, width, height, colour) -> None:
    left, top = round(x - width / 2), round(y - height / 2)
    right, bottom = round(x + width / 2), round(y + height / 2)
    picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def _box(picture, rng, x, bottom, width, height, colour) -> None:
    """Draw a block that stands on the ground, its front darker than its top."""
    top = bottom - height
    skew = np.array([rng.uniform(-0.4, 0.4) * width, -rng.uniform(0.05, 0.3) * height])
    front = np.array([(x, top), (x + width, top), (x + width, bottom), (x, bottom)])
    lid = np.array([front[0], front[1], front[1] + skew, front[0] + skew])
    near = (1, 2) if skew[0] > 0 else (0, 3)
    side = np.array([front[near[0]], front[near[1]], front[near[1]] + skew, front[near[0]] + skew])
    for polygon, shade in ((side, 0.6), (lid, 1.1), (front, 0.8)):
        corners = np.rint(polygon * 2**_SHIFT).astype(np.int32)
        shaded = limit(colour * shade)
        cv2.fillConvexPoly(picture, corners, shaded, cv2.LINE_AA, _SHIFT)


def _fixed(value: float) -> int:
    """Return OpenCV's fixed-point coordinate; its integers are pixel centres."""
    return round((value - 0.5) * 2**_SHIFT)


def _photo_background(
    rng: np.random.Generator, settings: SyntheticSettings, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a random square out of a random photograph; mirrored in half of the pictures."""
    photos = _photos(settings)
    photo = _read_photo(photos[rng.integers(len(photos))])
    height, width = photo.shape[:2]
    side = max(1, round(rng.uniform(0.4, 1.0) * min(height, width)))
    left = round(rng.uniform(0, width - side))
    top = round(rng.uniform(0, height - side))
    square = photo[top : top + side, left : left + side]
    # Averages over all pixels when it shrinks; `warpAffine` would skip some and alias.
    kind = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    square = cv2.resize(square, (size, size), interpolation=kind)
    return cv2.flip(square, 1) if rng.random() < 0.5 else square


@functools.lru_cache(maxsize=4)
def _photos(settings: SyntheticSettings) -> list[Path]:
    return settings.photos()


@functools.lru_cache(maxsize=256)
def _read_photo(path: Path) -> np.ndarray:
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if photo is None:
        raise UserError(f"cannot read the background photograph {path}; remove or replace it")
    scale = _PHOTO_SIDE / max(photo.shape[:2])
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return photo
