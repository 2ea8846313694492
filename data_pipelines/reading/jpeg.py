"""JPEG pictures without more than is needed of them: the size alone, or fewer pixels.

A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size straight from its DCT coefficients, which
averages over the pixels between and takes half the time or less.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

START, END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
# OpenCV's flags for each reduction. Its reduced grey ones are the bits that mean the reduction
# alone; its reduced colour ones add BGR.
_FLAGS = {
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_COLOR_RGB,
}


def reduction_for(shrink: float) -> int:
    """Return the largest reduction, 8, 4, 2 or 1, that leaves a picture to be shrunk or kept.

    Args:
        shrink: how many of the picture's pixels one pixel of what is made of it covers, a side.
    """
    return next(reduction for reduction in _FLAGS if reduction <= shrink or reduction == 1)


def decode(encoded: bytes, reduction: int = 1) -> UInt8[np.ndarray, "height width 3"] | None:
    """Decode a picture as it is stored, whatever its orientation tag says.

    Args:
        encoded: the JPEG.
        reduction: 1, 2, 4 or 8: decode at so small a part of its size.

    Returns:
        RGB; None if it cannot be decoded.
    """
    flags = _FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)


def read_header(encoded: bytes) -> tuple[tuple[int, int] | None, int]:
    """Read a picture's header.

    Args:
        encoded: the JPEG, or its beginning.

    Returns:
        Width and height, None where they are not said, and where the header ends: the coefficients
        come next.
    """
    size, place = None, len(START)
    while encoded.startswith(START) and place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        # Start-of-frame markers hold the size; C4, C8 and CC share their range but are others.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(encoded[place + 5 : place + 7], "big")
            width = int.from_bytes(encoded[place + 7 : place + 9], "big")
            size = width, height
        place += 1 if marker == 0xFF else 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
        if marker == _SCAN:
            break
    return size, place
