"""Photographs of datasets: read once, whole or not at all, and cut into stored crops."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.raw import STORED_SIDE
from pare_jax.images import cut_crop

_JPEG_QUALITY = 95
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# OpenCV can read a JPEG at these fractions of its size straight from the DCT coefficients.
_REDUCTIONS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class BrokenPhotographError(Exception):
    """A photograph that cannot be used; its text is the reason, the same for all of a kind."""


def read_jpeg(path: Path, reduction: int = 1) -> UInt8[np.ndarray, "height width 3"]:
    """Read a JPEG file, its channels in OpenCV's order and its pixels as they are stored.

    Args:
        path: the file.
        reduction: 1, 2, 4 or 8: of height and width, which are rounded up. Averages over the
            pixels left out, and saves most of the time.

    Raises:
        BrokenPhotographError: it is missing, cut short or no JPEG.
    """
    try:
        encoded = path.read_bytes()
    except FileNotFoundError:
        raise BrokenPhotographError("image missing") from None
    except OSError:
        raise BrokenPhotographError("image cannot be read") from None
    # OpenCV fills up what is lacking with grey and says nothing. No scan's data holds either mark.
    if encoded.rfind(_END_OF_IMAGE) < encoded.rfind(_START_OF_SCAN):
        raise BrokenPhotographError("image cut short")
    if not encoded:
        raise BrokenPhotographError("image empty")
    flags = _REDUCTIONS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None:
        raise BrokenPhotographError("image cannot be decoded")
    return image


def reduction_for(side: float) -> int:
    """Return how much smaller a photograph may be read whose smallest crop has this side, pixels.

    Stored crops lose nothing that they could hold: each of their pixels still covers at least one
    of the smaller photograph's.
    """
    return max(r for r in _REDUCTIONS if r == 1 or r * STORED_SIDE <= side)


def encode_crop(
    image: UInt8[np.ndarray, "height width 3"],
    reduction: int,
    centre: Float[np.ndarray, "2"],
    side: float,
) -> bytes:
    """Cut a stored crop out of a photograph from `read_jpeg` and encode it.

    Args:
        image: the photograph, reduced.
        reduction: by how much.
        centre: the crop's centre in the unreduced photograph, pixels from its corner.
        side: the crop's side there, pixels; `images.crop_to_photo` gives the affine.

    Returns:
        JPEG of STORED_SIDE pixels a side, black outside the photograph.
    """
    crop = cut_crop(image, np.asarray(centre) / reduction, side / reduction, STORED_SIDE)
    return cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
