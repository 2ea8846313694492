"""Cuts a release's photographs into stored crops, and detects incomplete JPEG files.

Most people in a photograph of 1920x1080 pixels are larger than their stored crop. Then the
photograph is decoded at a fraction of its size.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.reading import jpeg
from data_pipelines.releases.release import STORED_SIDE
from pare_jax.io.images import crop_to_photo, cut_crop

_JPEG_QUALITY = 95


class BrokenPhotographError(Exception):
    """A photograph that cannot be used; its text is the reason, the same for all of a kind."""


@dataclasses.dataclass(frozen=True)
class StoredCrop:
    """A square cut out of a photograph.

    Attributes:
        image: JPEG, STORED_SIDE pixels a side, black outside the photograph.
        to_photo: affine from the crop's coordinates to the photograph's.
    """

    image: bytes
    to_photo: Float[np.ndarray, "2 3"]

    def points(self, pixels: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Move points from the photograph's pixels to the crop's."""
        return (pixels - self.to_photo[:, 2]) / np.diag(self.to_photo[:, :2])


@dataclasses.dataclass(frozen=True)
class WholeJpeg:
    """The bytes of a complete JPEG file.

    Attributes:
        encoded: the file's bytes.
        width: pixels.
        height: pixels.
    """

    encoded: bytes
    width: int
    height: int

    def cut(self, squares: Sequence[tuple[Float[np.ndarray, "2"], float]]) -> list[StoredCrop]:
        """Cut out squares; decodes the photograph once.

        Args:
            squares: centre and side of each in the photograph's pixels, at least one.

        Returns:
            A `StoredCrop` for each.

        Raises:
            BrokenPhotographError: the picture cannot be decoded.
        """
        shrink = min(side for _, side in squares) / STORED_SIDE
        reduction = jpeg.reduction_for(shrink)
        # Ignores orientation tags, as annotations count the stored pixels.
        picture = jpeg.decode(self.encoded, reduction)
        if picture is None:
            raise BrokenPhotographError("picture cannot be decoded")
        return [
            StoredCrop(
                image=encode_jpeg(
                    cut_crop(picture, centre / reduction, side / reduction, STORED_SIDE)
                ),
                to_photo=crop_to_photo(centre, side, STORED_SIDE),
            )
            for centre, side in squares
        ]


def read_whole_jpeg(path: Path) -> WholeJpeg:
    """Read a JPEG and check that it is complete, without decoding it.

    OpenCV decodes an incomplete file without an error; its missing pixels become grey.

    Raises:
        BrokenPhotographError: the file is missing, unreadable, no JPEG or cut short.
    """
    try:
        encoded = path.read_bytes()
    except FileNotFoundError:
        raise BrokenPhotographError("picture missing") from None
    except OSError:
        raise BrokenPhotographError("picture unreadable") from None
    width, height = jpeg_size(encoded)
    return WholeJpeg(encoded, width, height)


def jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Return a complete JPEG's width and height.

    Raises:
        BrokenPhotographError: the bytes are no JPEG or cut short.
    """
    if not encoded.startswith(jpeg.START):
        raise BrokenPhotographError("picture is no JPEG")
    size, place = jpeg.read_header(encoded)
    # Within the coefficients after the header, FF is never followed by D9; that pair is the end.
    if size is None or not all(size) or encoded.find(jpeg.END, place) < 0:
        raise BrokenPhotographError("picture cut short")
    return size


def jpeg_names(folder: Path) -> set[str]:
    """Return the names of a folder's JPEGs; empty if the folder is missing."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.name.endswith(".jpg")}
    except OSError:
        return set()


def seems_whole(path: Path) -> bool:
    """Return whether a file is a complete JPEG; reads it all only if its ends look wrong."""
    try:
        with path.open("rb") as file:
            started = file.read(2) == jpeg.START
            file.seek(-2, os.SEEK_END)
            if started and file.read() == jpeg.END:
                return True
        read_whole_jpeg(path)
    except (OSError, BrokenPhotographError):
        return False
    return True


def encode_jpeg(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encode an RGB picture as a stored crop's JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def inside(points: Float[np.ndarray, "*n 2"], width: int, height: int) -> Bool[np.ndarray, "*n"]:
    """Return which points lie on a photograph of this size."""
    return np.all((points >= 0) & (points < (width, height)), axis=-1)


def square_around(
    points: Float[np.ndarray, "points 2"], scale: float
) -> tuple[Float[np.ndarray, "2"], float]:
    """Return centre and side of the square around the points' tight box.

    Args:
        points: pixels.
        scale: the square's side over the box's longer side.
    """
    low, high = points.min(0), points.max(0)
    return (low + high) / 2.0, float(scale * (high - low).max())
