"""Reading photographs, whatever they come as, and cutting square crops out of them.

Pictures are RGB uint8 arrays (height, width, 3). Coordinates are continuous: (0, 0) is the top-left
corner, pixel i covers [i, i + 1). Nothing here imports jax.
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

# Names that a folder's pictures end in.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# A crop's source is sampled at no more than this many pixels a side before it is averaged down.
_MAX_CANVAS = 4096
_ORIENTATION = 0x0112  # the EXIF tag, and what undoes each of its values
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # those that swap width and height

# Pixels a photograph is read with at most. A person in it is still far larger than any crop that a
# network looks at, and 50 million take 150 MB.
MAX_PIXELS = 50_000_000

Picture = UInt8[np.ndarray, "height width 3"]


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph as it was read, which for a huge one is smaller than its file.

    Attributes:
        image: RGB.
        size: the file's width and height, upright.
    """

    image: Picture
    size: tuple[int, int]

    @property
    def scale(self) -> Float[np.ndarray, "2"]:
        """Pixels of `image` for one of the file, in x and y; 1 unless the photograph is huge."""
        height, width = self.image.shape[:2]
        return np.array([width, height]) / self.size

    def box_in_image(self, box: Sequence[float] | np.ndarray) -> Float[np.ndarray, "4"]:
        """Move a box, x0, y0, x1, y1, from the file's pixels to those of `image`."""
        return np.asarray(box, np.float64) * np.tile(self.scale, 2)

    def box_in_file(self, box: Sequence[float]) -> Float[np.ndarray, "4"]:
        """Move a box, x0, y0, x1, y1, from the pixels of `image` to the file's."""
        return np.asarray(box, np.float64) / np.tile(self.scale, 2)


def read_photograph(
    path: str | pathlib.Path, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> Photograph:
    """Read a photograph as `read_image` does, a huge JPEG at a half, a quarter or an eighth.

    A JPEG is reduced while it is decoded, so that one of 20,000 x 20,000 pixels takes the memory
    of 2,500 x 2,500 to 5,000 x 5,000.

    Args:
        path: a file in any format Pillow reads.
        max_pixels: above this many a JPEG is reduced, by the least factor that suffices.
        least_side: where given, a JPEG of any size is reduced as far as the longer side keeps so
            many pixels: all that a small picture of it needs, in a fraction of the time.

    Returns:
        The photograph and its file's size.

    Raises:
        UserError: as `read_image`; too many pixels even at an eighth, or in another format.
    """
    path = pathlib.Path(path)
    with _said_plainly(path):
        # Pillow's limit on pixels, meant against files that unpack to gigabytes, lies in its
        # general opener; a JPEG's own reader leaves the decision to us.
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
    """Read a photograph as it is meant to be seen.

    The EXIF orientation is applied, grey becomes RGB, 16 bits a channel are scaled to 8, CMYK is
    converted, transparency is laid over white, and of an animation the first frame counts.

    Args:
        path: a file in any format Pillow reads.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        UserError: the file is missing, empty, cut short or not an image.
    """
    path = pathlib.Path(path)
    with _said_plainly(path), warnings.catch_warnings():
        # What Pillow warns of is decided by its limit, at twice as many pixels.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as opened:
            return _to_rgb(_upright(opened)[0])


@contextlib.contextmanager
def _said_plainly(path: pathlib.Path) -> Iterator[None]:
    """Turn what may happen to a file on reading it into one line."""
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
    # Pillow's decoders raise whatever their format makes of broken bytes, struct.error for one.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {reason}") from None


def _too_many_pixels(path: pathlib.Path, size: tuple[int, int] | None = None) -> UserError:
    said = f" ({size[0]} x {size[1]})" if size else ""
    return UserError(f"{path} has too many pixels{said} to be a photograph; shrink it first")


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Turn a picture as its EXIF orientation says; whether that swaps its sides comes with it.

    Pillow's own `exif_transpose` also writes the other tags anew, and fails over one of a wrong
    type, which says nothing about the picture.
    """
    image.load()  # the tags of some formats lie behind the pixels
    orientation = image.getexif().get(_ORIENTATION, 1)
    transpose = _UPRIGHT.get(orientation)
    return image if transpose is None else image.transpose(transpose), orientation in _TURNED


def _to_rgb(image: Image.Image) -> Picture:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    elif image.mode.startswith(
        "I"
    ):  # 16-bit grey, which convert("RGB") would clip instead of scale
        grey = np.clip(np.asarray(image, np.float64) / 257.0, 0, 255)
        image = Image.fromarray(np.round(grey).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    return np.array(image.convert("RGB"))


def crop_to_photo(
    centre: Float[np.ndarray, "2"], side: float, size: int
) -> Float[np.ndarray, "2 3"]:
    """Return the affine from the coordinates of a square crop to the photograph's.

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
    """Cut a square out of a photograph and resample it without aliasing; black outside.

    Where the crop shrinks, the photograph is sampled on a grid a whole number of times finer than
    the result, whose cells are then averaged.

    Args:
        image: the photograph, (height, width, 3) uint8.
        centre: the crop's centre in the photograph, pixels.
        side: the crop's side in the photograph, pixels.
        size: the side of the result, pixels.

    Returns:
        The crop, (size, size, 3) uint8.
    """
    finer = int(np.clip(np.ceil(side / size), 1, max(1, _MAX_CANVAS // size)))
    affine = crop_to_photo(centre, side, size * finer)
    # OpenCV counts from pixel centres: shift by half a pixel on both ends.
    affine[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    # OpenCV warps four channels in about half the time it takes for three, to the same bytes; only
    # what the crop shows of the photograph is given a fourth.
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
    """Return which of a photograph's pixels along one axis a crop interpolates; at least one."""
    start = int(np.clip(np.floor(centre - side / 2) - 2, 0, length - 1))
    stop = int(np.clip(np.ceil(centre + side / 2) + 2, start + 1, length))
    return slice(start, stop)


def encode_png(image: Picture) -> bytes:
    """Encode an RGB picture as PNG."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"cannot encode a picture of shape {image.shape}")
    return data.tobytes()


def encode_jpeg(image: Picture, quality: int = 90) -> bytes:
    """Encode an RGB picture as JPEG, in a fraction of the time and bytes that PNG takes."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not encoded:
        raise ValueError(f"cannot encode a picture of shape {image.shape}")
    return data.tobytes()
