"""Converts images that Pillow has read, in any of its modes, to RGB with 8 bits a channel."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

# TIFF's tags for the bits of a sample and for the meaning of its numbers.
_BITS, _MEANING = 258, 262
_ZERO_IS_WHITE = 0
# Where a PNG file has the bits of a sample, after its signature and its picture's size.
_PNG_BITS = 24

Picture = UInt8[np.ndarray, "height width 3"]


def to_rgb(path: Path, image: Image.Image) -> Picture:
    """Convert an image to RGB; transparency is drawn over white.

    Args:
        path: the image's file.
        image: decoded, of any mode.

    Raises:
        ValueError: the numbers of its pixels have no fixed range.
    """
    if image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = _with_alpha(path, image)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _from_deep_grey(image: Image.Image) -> Picture:
    """Scale grey of 12 or 16 bits to 8.

    Pillow would clip it. It also leaves a TIFF in which 0 is white as it is.
    """
    stored = np.asarray(image)
    values, largest = stored.astype(np.float64), 65535.0
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        if image.mode == "I":
            raise ValueError("signed and 32-bit pixels have no fixed range; save it with 16 bits")
        largest = 2.0 ** tags.get(_BITS, (16,))[0] - 1
        if tags.get(_MEANING) == _ZERO_IS_WHITE:
            values = largest - values
    grey = np.round(np.clip(values * (255.0 / largest), 0, 255)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[stored == transparent] = 255
    return np.repeat(grey[..., None], 3, -1)


def _with_alpha(path: Path, image: Image.Image) -> Image.Image:
    """Convert an image with transparency to RGBA.

    A PNG may name one colour as transparent, in the bits of the file. Pillow compares this colour
    with pixels that it has scaled to 8 bits.
    """
    transparent = image.info.get("transparency")
    if image.format == "PNG" and image.mode in ("L", "RGB") and transparent is not None:
        content = path.read_bytes()
        bits = content[_PNG_BITS]
        if bits == 16:
            # OpenCV reads all 16 bits of a colour.
            deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if deep is not None and deep.dtype == np.uint16 and deep.shape[2:] == (4,):
                shallow = np.round(deep / 257.0).astype(np.uint8)
                return Image.fromarray(cv2.cvtColor(shallow, cv2.COLOR_BGRA2RGBA))
        elif bits < 8:
            image.info["transparency"] = round(transparent * 255 / (2**bits - 1))
    return image.convert("RGBA")
