"""Reads orientation and focal length from a photograph's EXIF tags; turns pictures and boxes.

Tags are described in CIPA DC-008, the EXIF standard.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_ORIENTATION = 0x0112
_EXIF_TAGS = 0x8769  # the table of the tags below
_FOCAL_LENGTH = 0x920A  # millimetres
_FOCAL_LENGTH_35MM = 0xA405  # millimetres, of a camera with 24 x 36 mm film and the same view
_STORED_SIZE = (0xA002, 0xA003)  # width and height that the camera or an editor wrote
_PLANE_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210  # pixels a unit on the sensor
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0}  # of an inch and so on

# Diagonal of 24 x 36 mm film, millimetres.
FILM_DIAGONAL = math.hypot(24.0, 36.0)
# Focal lengths of existing lenses, as equivalents for film, millimetres.
_SHORTEST, _LONGEST = 6.0, 2000.0
# Sides of a picture that was not cropped keep their ratio up to this share.
_SAME_RATIO = 0.01

# The transposition that undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that swap width and height


def orientation_of(image: Image.Image) -> int:
    """Return an image's EXIF orientation, 1 to 8; 1 if it has none."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return int(orientation) if orientation in _UPRIGHT else 1


def upright(pixels: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Undo an orientation: return the picture as the camera meant it to be seen.

    Pillow's own `exif_transpose` rewrites the other tags too, and fails if one has a wrong type.
    """
    transpose = _UPRIGHT.get(orientation)
    if transpose is None:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(transpose))


def swaps_sides(orientation: int) -> bool:
    """Return whether undoing an orientation swaps width and height."""
    return orientation in _ON_ITS_SIDE


def upright_box(
    box: Sequence[float] | np.ndarray, orientation: int, size: tuple[float, float]
) -> Float[np.ndarray, "4"]:
    """Convert a box from the pixels as stored to those of the upright picture.

    Args:
        box: x0, y0, x1, y1 in the picture as stored.
        orientation: the EXIF orientation, 1 to 8.
        size: width and height of the picture as stored.
    """
    width, height = size
    x, y = np.asarray(box, np.float64).reshape(2, 2).T
    left, up = width - x, height - y
    turned = {
        2: (left, y),
        3: (left, up),
        4: (x, up),
        5: (y, x),
        6: (up, x),
        7: (up, left),
        8: (y, left),
    }.get(orientation, (x, y))
    # A box with swapped corners stays as it is, and is refused later.
    is_ordered = x[0] <= x[1] and y[0] <= y[1]
    return np.sort(np.stack(turned), axis=1).T.reshape(4) if is_ordered else np.asarray(box)


def focal_length_of(image: Image.Image, size: tuple[int, int]) -> float | None:
    """Return the focal length that an image's EXIF tags give, in pixels of its file.

    The equivalent for film is preferred: it does not depend on the number of pixels. A picture
    whose sides have another ratio than the tags say was cropped, and its focal length is unknown.

    Args:
        image: opened by Pillow.
        size: width and height of the file, pixels.

    Returns:
        Pixels; None if there is no focal length, or none of an existing lens.
    """
    # Broken tags raise many kinds of exceptions; a photograph without tags is no error.
    with contextlib.suppress(Exception):
        tags = image.getexif().get_ifd(_EXIF_TAGS)
        stored = tuple(_number(tags, tag) for tag in _STORED_SIZE)
        if all(stored) and not _have_one_ratio(stored, size):
            return None
        film = _number(tags, _FOCAL_LENGTH_35MM)
        if not film:
            unit = _MILLIMETRES.get(round(_number(tags, _PLANE_UNIT) or 2), 0.0)
            if not unit:
                return None
            # Pixels of the picture as it was taken; it may have been resized.
            resized = max(size) / (max(stored) or max(size))
            pixels = _number(tags, _FOCAL_LENGTH) * _number(tags, _PLANE_RESOLUTION) / unit
            film = pixels * resized * FILM_DIAGONAL / math.hypot(*size)
        if _SHORTEST <= film <= _LONGEST:
            return film / FILM_DIAGONAL * math.hypot(*size)
    return None


def _have_one_ratio(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two sizes have the same ratio of sides, perhaps after a quarter turn."""
    ratios = [max(size) / min(size) for size in (first, second)]
    return abs(ratios[0] / ratios[1] - 1.0) <= _SAME_RATIO


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """Return a tag's positive number; 0 if it is missing, infinite or no number."""
    value = tags.get(tag)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        number = float(value)  # pyright: ignore[reportArgumentType]
        return number if math.isfinite(number) and number > 0 else 0.0
    return 0.0
