"""Squares of a photograph: a person's, turned so that the person is upright, and tiles."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, UInt8

from pare_jax.io.images import Picture, cut_crop

# BlazePose's square is centred on the middle of the hips. Its side is this many times the distance
# to the point that says the size.
SIDE_SCALE = 2.5
# Two squares agree well if their points are closer than this share of that distance.
_CLOSE = 0.25


@dataclasses.dataclass(frozen=True)
class Square:
    """A square of a photograph.

    Attributes:
        centre: x, y in pixels of the photograph.
        side: pixels of the photograph.
        angle: of its upright axis, clockwise from the photograph's, radians.
    """

    centre: Float[np.ndarray, "2"]
    side: float
    angle: float = 0.0

    @property
    def axes(self) -> Float[np.ndarray, "2 2"]:
        """The square's x and y axes in the photograph, as columns."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])

    def times(self, factor: float) -> "Square":
        """Return the square in a photograph that is enlarged by a factor."""
        return Square(self.centre * factor, self.side * factor, self.angle)

    def to_photo(self, points: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Convert points from shares of the square's side, 0 to 1, to pixels of the photograph."""
        return self.centre + self.side * (np.asarray(points) - 0.5) @ self.axes.T

    def turned_back(self, world: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Turn 3D points from the square's axes to the photograph's; z is the same."""
        world = np.array(world)
        world[:, :2] = world[:, :2] @ self.axes.T
        return world

    def cut(self, image: Picture, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """Cut the square out of a photograph; black outside it."""
        return cut_crop(image, self.centre, self.side, size, self.angle)

    def agreement(self, other: "Square") -> float:
        """Return how well two people's squares agree in place, size and direction, 0 to 1."""
        tops = [
            square.centre - square.axes[:, 1] * square.side / SIDE_SCALE for square in (self, other)
        ]
        distances = [math.dist(self.centre, other.centre), math.dist(*tops)]
        scale = _CLOSE * math.sqrt(self.side * other.side) / SIDE_SCALE
        return float(np.exp(-0.5 * np.square(np.divide(distances, scale))).mean())


def square_of(middle: Float[np.ndarray, "2"], top: Float[np.ndarray, "2"]) -> Square:
    """Return the square that BlazePose expects.

    Args:
        middle: of the hips, pixels.
        top: the point that says size and direction: in the square it is straight above the middle.
    """
    x, y = np.asarray(top, np.float64) - middle
    side = SIDE_SCALE * max(math.hypot(x, y), 1.0)
    return Square(np.asarray(middle, np.float64), side, math.atan2(x, -y))


def square_around(box: Float[np.ndarray, "4"], scale: float) -> Square:
    """Return the upright square around a box, `scale` times its longer side."""
    box = np.asarray(box, np.float64)
    return Square((box[:2] + box[2:]) / 2, scale * max(*(box[2:] - box[:2]), 1.0))


def tiles(width: int, height: int, side: float, overlap: float) -> list[Square]:
    """Return upright squares that cover a photograph.

    Args:
        width: of the photograph, pixels.
        height: pixels.
        side: of a tile, pixels; at most the photograph's shorter side, or its longer side.
        overlap: least share of its side that a tile shares with the next one.
    """

    def middles(length: int) -> np.ndarray:
        if side >= length:
            return np.array([length / 2])
        steps = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9)
        return np.linspace(side / 2, length - side / 2, steps + 1)

    return [Square(np.array([x, y]), side) for y in middles(height) for x in middles(width)]
