"""Reads photographs of any format, cuts square crops out of them, encodes PNG and JPEG.

Images are RGB uint8 arrays (height, width, 3). Coordinates are continuous: (0, 0) is the top-left
corner, pixel i covers [i, i + 1). This module does not import JAX.
"""

import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from pare_jax.errors import UserError

# Endings of the images that are read from a folder.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# A crop is sampled at no more than this many pixels a side before it is averaged down.
_MAX_CANVAS = 4096
_ORIENTATION = 0x0112  # EXIF tag
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
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height

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
    """

    image: Picture
    size: tuple[int, int]

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
    with _reading(path):
        # Pillow's general opener limits the number of pixels, its JPEG reader does not.
        with path.open("rb") as file:
            is_jpeg = file.read(3) == b"\xff\xd8\xff"
        if not is_jpeg:
            image = read_image(path)
            return Photograph(image, (image.shape[1], image.shape[0]))
        with JpegImagePlugin.JpegImageFile(path) as opened:
            width, height = opened.size
            for factor in (1, 2, 4, 8):
                if width * height <= max_pixels * factor**2:
                    break
            else:
                raise _too_many_pixels(path, opened.size)
            while least_side and factor < 8 and max(width, height) // (2 * factor) >= least_side:
                factor *= 2
            if factor > 1:
                opened.draft(None, (width // factor, height // factor))
            upright, is_turned = _upright(opened)
            image = _to_rgb(upright)
    return Photograph(image, (height, width) if is_turned else (width, height))


def read_image(path: str | pathlib.Path) -> Picture:
    """Read a photograph as upright RGB with 8 bits a channel.

    The EXIF orientation is applied, grey and CMYK are converted, 16 bits are scaled to 8,
    transparency is drawn over white, and an animation's first frame is read.

    Args:
        path: a file in any format that Pillow reads.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        UserError: the file is missing, empty, truncated or not an image.
    """
    path = pathlib.Path(path)
    with _reading(path), warnings.catch_warnings():
        # Pillow warns at half the number of pixels that it refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as opened:
            return _to_rgb(_upright(opened)[0])


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
        raise UserError(f"{path} is not an image in a format that can be read") from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(path) from None
    except (UserError, MemoryError):
        raise
    # Broken bytes can raise nearly any exception in Pillow's decoders, for instance struct.error.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {reason}") from None


def _too_many_pixels(path: pathlib.Path, size: tuple[int, int] | None = None) -> UserError:
    sides = f" ({size[0]} x {size[1]})" if size else ""
    return UserError(f"{path} has too many pixels{sides} to be a photograph; shrink it first")


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Apply an image's EXIF orientation; return also whether that swaps its sides.

    Pillow's own `exif_transpose` rewrites the other tags too, and fails if one has a wrong type.
    """
    image.load()  # Some formats store the tags after the pixels.
    orientation = image.getexif().get(_ORIENTATION, 1)
    transpose = _UPRIGHT.get(orientation)
    return image if transpose is None else image.transpose(transpose), orientation in _TURNED


def _to_rgb(image: Image.Image) -> Picture:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    elif image.mode.startswith("I"):
        # convert("RGB") would clip 16-bit grey instead of scaling it.
        grey = np.clip(np.asarray(image, np.float64) / 257.0, 0, 255)
        image = Image.fromarray(np.round(grey).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    return np.array(image.convert("RGB"))


def crop_to_photo(
    centre: Float[np.ndarray, "2"], side: float, size: int
) -> Float[np.ndarray, "2 3"]:
    """Return the affine from a square crop's pixels to the photograph's.

    Args:
        centre: the crop's centre in the photograph, pixels.
        side: the crop's side in the photograph, pixels.
        size: the crop's own side, pixels.
    """
    scale = side / size
    corner = np.asarray(centre, np.float64) - side / 2.0
    return np.array([[scale, 0.0, corner[0]], [0.0, scale, corner[1]]])


def cut_crop(
    image: Picture, centre: Float[np.ndarray, "2"], side: float, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square crop out of a photograph without aliasing; black outside the photograph.

    To shrink, the photograph is sampled on a grid that is an integer number of times finer than
    the crop. The samples are then averaged.

    Args:
        image: the photograph, (height, width, 3) uint8.
        centre: the crop's centre in the photograph, pixels.
        side: the crop's side in the photograph, pixels.
        size: the crop's own side, pixels.

    Returns:
        The crop, (size, size, 3) uint8.
    """
    finer = int(np.clip(np.ceil(side / size), 1, max(1, _MAX_CANVAS // size)))
    affine = crop_to_photo(centre, side, size * finer)
    # OpenCV's coordinates start at the first pixel's centre: shift by half a pixel on both sides.
    affine[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    # OpenCV warps four channels in about half the time of three, with the same bytes. Only the part
    # that the crop shows gets a fourth.
    x, y = (_shown(centre[axis], side, image.shape[1 - axis]) for axis in (0, 1))
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
