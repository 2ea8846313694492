"""Surfaces for things that are not people: plain, graded, noisy, striped or checked colour."""

import cv2
import numpy as np
from jaxtyping import UInt8

_KINDS = ("plain", "gradient", "noise", "noise", "stripes", "checks")


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour, grey more often than vivid; sRGB in [0, 255]."""
    grey = rng.uniform(10, 245)
    return np.clip(grey + rng.normal(0, 1, 3) * rng.uniform(0, 60), 0, 255)


def random_texture(
    rng: np.random.Generator, height: int, width: int, kind: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a textured surface.

    Args:
        rng: the example's random numbers.
        height: pixels.
        width: pixels.
        kind: one of plain, gradient, noise, stripes, checks; None draws one.

    Returns:
        sRGB.
    """
    kind = kind or _KINDS[rng.integers(len(_KINDS))]
    first, second = random_colour(rng), random_colour(rng)
    if kind == "plain":
        return np.full((height, width, 3), first, np.uint8)
    if kind == "noise":
        return value_noise(rng, height, width, first, second)
    corners = rng.uniform(0, 1, (2, 2, 1)).astype(np.float32)
    if kind == "gradient":
        return _grow((first + corners * (second - first)).astype(np.uint8), height, width)
    turn = rng.uniform(0, np.pi)
    period = rng.uniform(0.03, 0.2) * max(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = (np.cos(turn) * x + np.sin(turn) * y) / period
    mask = np.mod(along, 1.0) < rng.uniform(0.2, 0.6)
    if kind == "checks":
        mask ^= np.mod((np.cos(turn) * y - np.sin(turn) * x) / period, 1.0) < 0.5
    return np.where(mask[..., None], first, second).astype(np.uint8)


def value_noise(
    rng: np.random.Generator, height: int, width: int, first: np.ndarray, second: np.ndarray
) -> UInt8[np.ndarray, "height width 3"]:
    """Blend two colours by smooth noise with two scales (foliage, stone, crowds out of focus)."""
    coarse, fine = rng.integers(2, 8), rng.integers(8, 32)
    low = rng.random((coarse, coarse, 1), dtype=np.float32)
    high = rng.random((fine, fine, 3), dtype=np.float32)
    base = (first + low * (second - first)).astype(np.float32)
    detail = (high - 0.5) * rng.uniform(20, 120)
    picture = _grow(np.clip(base, 0, 255).astype(np.uint8), height, width)
    detail = _grow(np.clip(detail + 128, 0, 255).astype(np.uint8), height, width)
    return cv2.addWeighted(picture, 1.0, detail, 1.0, -128.0)


def _grow(small: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
