"""Random textures for backgrounds and occluders: plain, gradient, noise, stripes, checks."""

import cv2
import numpy as np
from jaxtyping import UInt8

_NATURAL_SHARE = 0.7
_NATURAL = np.array(
    [
        (225, 222, 215),  # walls
        (200, 190, 170),
        (165, 165, 168),  # concrete
        (120, 122, 125),  # asphalt
        (150, 110, 75),  # wood
        (95, 65, 45),
        (165, 90, 70),  # brick
        (205, 185, 140),  # sand
        (95, 130, 65),  # leaves and grass
        (130, 150, 90),
        (150, 185, 220),  # sky
        (85, 110, 145),  # glass, water
        (60, 60, 65),
    ],
    float,
)
_KINDS = ("plain", "gradient", "noise", "noise", "stripes", "checks")


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour, mostly one of rooms and streets; sRGB in [0, 255]."""
    if rng.random() < _NATURAL_SHARE:
        base = _NATURAL[rng.integers(len(_NATURAL))] * rng.uniform(0.35, 1.25)
        return limit(base + rng.normal(0, 8, 3))
    grey = rng.uniform(10, 245)
    return limit(grey + rng.normal(0, 1, 3) * rng.uniform(0, 60))


def limit(colour: np.ndarray) -> np.ndarray:
    """Clip a colour to [0, 255]; several times faster than np.clip for a few numbers."""
    return np.minimum(np.maximum(colour, 0.0), 255.0)


def random_texture(
    rng: np.random.Generator, height: int, width: int, kind: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a texture.

    Args:
        rng: the example's random numbers.
        height: pixels.
        width: pixels.
        kind: plain, gradient, noise, stripes or checks; None draws one of them.

    Returns:
        sRGB.
    """
    kind = kind or _KINDS[rng.integers(len(_KINDS))]
    first, second = random_colour(rng), random_colour(rng)
    if kind == "plain":
        return np.full((height, width, 3), first, np.uint8)
    if kind == "noise":
        return value_noise(rng, height, width, first, second)
    if kind == "gradient":
        corners = rng.uniform(0, 1, (2, 2, 1))
        return _grow((first + corners * (second - first)).astype(np.uint8), height, width)
    # Stripes and checks: the phase of a turned wave in 1/256 of its period, so that bytes wrap it.
    turn, frequency = rng.uniform(0, np.pi), 256 / (rng.uniform(0.03, 0.2) * max(height, width))
    x, y = np.arange(width) * frequency, np.arange(height)[:, None] * frequency
    cosine, sine = np.cos(turn), np.sin(turn)
    is_first = _wrap(cosine * x) + _wrap(sine * y) < np.uint8(rng.uniform(50, 150))
    if kind == "checks":
        is_first ^= _wrap(cosine * y) + _wrap(-sine * x) < np.uint8(128)
    colours = np.zeros((1, 256, 3), np.uint8)
    colours[0, :2] = second, first
    return cv2.LUT(cv2.merge([is_first.view(np.uint8)] * 3), colours)


def _wrap(phase: np.ndarray) -> np.ndarray:
    return phase.astype(np.int64).astype(np.uint8)


def value_noise(
    rng: np.random.Generator, height: int, width: int, first: np.ndarray, second: np.ndarray
) -> UInt8[np.ndarray, "height width 3"]:
    """Blend two colours by smooth noise of two scales: foliage, stone, blurred crowds."""
    coarse, fine = rng.integers(2, 8), rng.integers(8, 32)
    low = rng.random((coarse, coarse, 1))
    high = rng.random((fine, fine, 1)) - 0.5 + 0.25 * (rng.random((fine, fine, 3)) - 0.5)
    picture = _grow((first + low * (second - first)).astype(np.uint8), height, width)
    detail = _grow((high * rng.uniform(20, 120) + 128).astype(np.uint8), height, width)
    return cv2.addWeighted(picture, 1.0, detail, 1.0, -128.0)


def _grow(small: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
