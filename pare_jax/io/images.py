"""Reads photographs of any format, cuts square crops out of them, encodes PNG and JPEG.

Images are RGB uint8 arrays (height, width, 3). Coordinates are continuous: (0, 0) is the top-left
corner, pixel i covers [i, i + 1). This module does not import JAX.
"""

import contextlib
import ctypes
import dataclasses
import functools
import logging
import math
import pathlib
import threading
import warnings
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from pare_jax.errors import UserError, reason_of
from pare_jax.io import exif
from pare_jax.io.file_kinds import (
    INSTALL_HEIF,
    RAW,
    advice_for,
    can_read_heif,
    is_raw,
    kind_of_content,
    read_head,
)
from pare_jax.io.pixel_modes import to_rgb

# A crop is sampled at no more than this many pixels a side before it is averaged down.
_MAX_CANVAS = 4096
_JPEG = b"\xff\xd8\xff"

# A larger photograph is reduced: 50 million pixels take 150 MB, and a person in them is still far
# larger than a network's crop.
MAX_PIXELS = 50_000_000

Picture = UInt8[np.ndarray, "height width 3"]


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph as it was read. A huge one has fewer pixels than its file.

    Attributes:
        image: RGB.
        size: the file's width and height, upright.
        orientation: the EXIF orientation that was undone, 1 to 8; 1: none.
        focal_length: from the EXIF tags, pixels of the file; None if unknown. It is wrong for a
            picture that was cropped.
    """

    image: Picture
    size: tuple[int, int]
    orientation: int = 1
    focal_length: float | None = None

    @property
    def scale(self) -> Float[np.ndarray, "2"]:
        """Pixels of `image` per pixel of the file, in x and y; 1 unless it was reduced."""
        height, width = self.image.shape[:2]
        return np.array([width, height]) / self.size

    def box_in_image(self, box: Sequence[float] | np.ndarray) -> Float[np.ndarray, "4"]:
        """Convert a box x0, y0, x1, y1 from the file's pixels to those of `image`."""
        return np.asarray(box, np.float64) * np.tile(self.scale, 2)


def read_photograph(
    path: str | pathlib.Path, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> Photograph:
    """Read a photograph as `read_image` does; reduce a huge JPEG by 2, 4 or 8.

    A JPEG is reduced while it is decoded: one of 20,000 x 20,000 pixels takes the memory of
    5,000 x 5,000.

    Args:
        path: a file in any format that Pillow reads.
        max_pixels: a larger JPEG is reduced by the smallest factor that suffices.
        least_side: if given, every JPEG is reduced as long as its longer side keeps this many
            pixels. This saves time where only a small image is needed.

    Returns:
        The photograph and its file's size.

    Raises:
        UserError: as `read_image`; or too many pixels, for a JPEG even when reduced by 8.
    """
    path = pathlib.Path(path)
    with _reading(path), _opened(path) as opened:
        size = opened.size
        if isinstance(opened, JpegImagePlugin.JpegImageFile):
            factor = _reduction(path, size, max_pixels, least_side)
            if factor > 1:
                opened.draft(None, (size[0] // factor, size[1] // factor))
        return _decoded(path, opened, size)


def read_image(path: str | pathlib.Path) -> Picture:
    """Read a photograph as upright RGB with 8 bits a channel.

    The EXIF orientation is applied, grey and CMYK are converted, 16 bits are scaled to 8,
    transparency is drawn over white, and an animation's first frame is read.

    Args:
        path: a file in any format that Pillow reads, or HEIC where pillow-heif is installed.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        UserError: the file is missing, empty, truncated or not an image; or it needs pillow-heif.
    """
    path = pathlib.Path(path)
    with _reading(path), _opened(path, limit=True) as opened:
        return _decoded(path, opened, opened.size).image


def read_size(path: str | pathlib.Path) -> tuple[tuple[int, int], int]:
    """Return a photograph's width and height, upright, and its EXIF orientation.

    Only the file's header is read.

    Raises:
        UserError: as `read_image`.
    """
    path = pathlib.Path(path)
    with _reading(path), _opened(path) as opened:
        orientation = exif.orientation_of(opened)
        return _upright_size(opened, opened.size, orientation), orientation


def read_format(path: str | pathlib.Path) -> tuple[str | None, tuple[int, int]]:
    """Return a file's format as Pillow calls it, "JPEG" for every JPEG, and its stored size.

    Only the file's header is read, by the reader that `read_photograph` uses.

    Raises:
        UserError: as `read_image`.
    """
    path = pathlib.Path(path)
    with _reading(path), _opened(path) as opened:
        return opened.format, opened.size


def _reduction(
    path: pathlib.Path, size: tuple[int, int], max_pixels: int, least_side: int | None
) -> int:
    """Return the factor by which a JPEG is reduced while it is decoded: 1, 2, 4 or 8."""
    for factor in (1, 2, 4, 8):
        if size[0] * size[1] <= max_pixels * factor**2:
            break
    else:
        raise _too_many_pixels(path, size)
    while least_side and factor < 8 and max(size) // (2 * factor) >= least_side:
        factor *= 2
    return factor


def _decoded(path: pathlib.Path, image: Image.Image, size: tuple[int, int]) -> Photograph:
    # Pillow turns a TIFF when it reads the pixels, and removes the tag.
    orientation = exif.orientation_of(image)
    is_tiff = image.format == "TIFF"
    image.load()
    if not is_tiff:
        orientation = exif.orientation_of(image)  # Some formats store the tags after the pixels.
    upright = exif.upright(to_rgb(path, image), 1 if is_tiff else orientation)
    size = _upright_size(image, size, orientation)
    return Photograph(upright, size, orientation, exif.focal_length_of(image, size))


def _upright_size(image: Image.Image, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    # Pillow gives the upright size of a TIFF.
    is_turned = exif.swaps_sides(orientation) and image.format != "TIFF"
    return (size[1], size[0]) if is_turned else size


@contextlib.contextmanager
def _opened(path: pathlib.Path, limit: bool = False) -> Iterator[Image.Image]:
    """Open an image without decoding it.

    Args:
        path: the file.
        limit: whether Pillow's limit of pixels also holds for JPEGs, which can be reduced.
    """
    head = read_head(path)
    if is_raw(path, head):
        raise UserError(f"{path} is a {RAW.noun}: {RAW.way_out}")
    if kind_of_content(head) == "heif":
        _register_heif(path)
    # Pillow's general opener limits the number of pixels, its JPEG reader does not.
    is_jpeg = head.startswith(_JPEG) and not limit
    with _quiet(), JpegImagePlugin.JpegImageFile(path) if is_jpeg else Image.open(path) as opened:
        yield opened


def _register_heif(path: pathlib.Path) -> None:
    """Let Pillow open HEIC, the format of iPhones. Its reader turns pictures upright itself."""
    if not can_read_heif():
        raise UserError(f"{path} is in HEIC, which needs pillow-heif: {INSTALL_HEIF}")
    _heif_registration()


@functools.cache
def _heif_registration() -> None:
    import pillow_heif  # pyright: ignore[reportMissingImports]

    pillow_heif.register_heif_opener(thumbnails=False)


class _Quiet:
    """Silences Pillow and libtiff, whose errors are reported here in one line.

    Python's warnings belong to the whole process: several threads that read share one silence.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._readers = 0
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                _silence_libtiff()
                self._stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._stack.enter_context(_silent_log(logging.getLogger("PIL")))
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._stack.close()


_quiet = _Quiet()


@contextlib.contextmanager
def _silent_log(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _silence_libtiff() -> None:
    """Remove the handlers with which Pillow's libtiff prints its errors and warnings."""
    # The library of Pillow's decoders gives access to the functions of the libraries it uses.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(Image.core.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Turn the errors of reading an image into UserErrors of one line."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; expected an image")
        yield
    except FileNotFoundError:
        raise UserError(f"there is no image at {path}") from None
    except UnidentifiedImageError:
        advice = advice_for(path, read_head(path))
        what = f"a {advice}" if advice else "not an image in a format that can be read"
        raise UserError(f"{path} is {what}") from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(path) from None
    except (UserError, MemoryError):
        raise
    # Broken bytes can raise nearly any exception in Pillow's decoders, for instance struct.error.
    except Exception as error:
        reason = reason_of(error)
        raise UserError(f"{path} cannot be read as an image: {reason}") from None


def _too_many_pixels(path: pathlib.Path, size: tuple[int, int] | None = None) -> UserError:
    sides = f" ({size[0]} x {size[1]})" if size else ""
    return UserError(f"{path} has too many pixels{sides} to be a photograph; shrink it first")


def crop_to_photo(
    centre: Float[np.ndarray, "2"], side: float, size: int, angle: float = 0.0
) -> Float[np.ndarray, "2 3"]:
    """Return the affine from a square crop's pixels to the photograph's.

    Args:
        centre: the crop's centre in the photograph, pixels.
        side: the crop's side in the photograph, pixels.
        size: the crop's own side, pixels.
        angle: by which the crop is turned in the photograph, clockwise, radians.
    """
    x, y = side / size * math.cos(angle), side / size * math.sin(angle)
    turn = np.array([[x, -y], [y, x]])
    corner = np.asarray(centre, np.float64) - turn @ (size / 2.0, size / 2.0)
    return np.column_stack([turn, corner])


def cut_crop(
    image: Picture, centre: Float[np.ndarray, "2"], side: float, size: int, angle: float = 0.0
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square crop out of a photograph without aliasing; black outside the photograph.

    To shrink, the photograph is sampled on a grid that is an integer number of times finer than
    the crop. The samples are then averaged.

    Args:
        image: the photograph, (height, width, 3) uint8.
        centre: the crop's centre in the photograph, pixels.
        side: the crop's side in the photograph, pixels.
        size: the crop's own side, pixels.
        angle: by which the crop is turned in the photograph, clockwise, radians.

    Returns:
        The crop, (size, size, 3) uint8.
    """
    finer = int(np.clip(np.ceil(side / size), 1, max(1, _MAX_CANVAS // size)))
    affine = crop_to_photo(centre, side, size * finer, angle)
    # OpenCV's coordinates start at the first pixel's centre: shift by half a pixel on both sides.
    affine[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    # OpenCV warps four channels in about half the time of three, with the same bytes. Only the part
    # that the crop shows gets a fourth.
    extent = side * (abs(math.cos(angle)) + abs(math.sin(angle)))
    x, y = (_shown(centre[axis], extent, image.shape[1 - axis]) for axis in (0, 1))
    affine[:, 2] -= (x.start, y.start)
    canvas = cv2.warpAffine(
        cv2.cvtColor(np.ascontiguousarray(image[y, x]), cv2.COLOR_RGB2RGBA),
        affine,
        (size * finer, size * finer),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if finer > 1:
        canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)


def _shown(centre: float, side: float, length: int) -> slice:
    """Return the range of a photograph's pixels that a crop reads along one axis; at least one."""
    start = int(np.clip(np.floor(centre - side / 2) - 2, 0, length - 1))
    stop = int(np.clip(np.ceil(centre + side / 2) + 2, start + 1, length))
    return slice(start, stop)


def encode_png(image: Picture) -> bytes:
    """Encode an RGB image as PNG."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return data.tobytes()


def encode_jpeg(image: Picture, quality: int = 90) -> bytes:
    """Encode an RGB image as JPEG, which is faster and smaller than PNG."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not encoded:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return data.tobytes()
