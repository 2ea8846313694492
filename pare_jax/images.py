"""Reading photographs, whatever they come as, and cutting square crops out of them.

Pictures are RGB uint8 arrays (height, width, 3). Coordinates are continuous: (0, 0) is the top-left
corner, pixel i covers [i, i + 1). Nothing here imports jax.
"""

import pathlib

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from pare_jax.errors import UserError

# Names that a folder's pictures end in.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# A crop's source is sampled at no more than this many pixels a side before it is averaged down.
_MAX_CANVAS = 4096

Picture = UInt8[np.ndarray, "height width 3"]


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
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; expected an image")
        with Image.open(path) as opened:
            return _to_rgb(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise UserError(f"there is no image at {path}") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image in a format that can be read") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} has too many pixels to be a photograph; shrink it first") from None
    # Pillow's decoders raise whatever their format makes of broken bytes.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {reason}") from None


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
    # OpenCV warps four channels in about half the time it takes for three, to the same bytes.
    canvas = cv2.warpAffine(
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA),
        affine,
        (size * finer, size * finer),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if finer > 1:
        canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)


def encode_png(image: Picture) -> bytes:
    """Encode an RGB picture as PNG."""
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    if not encoded:
        raise ValueError(f"cannot encode a picture of shape {image.shape}")
    return data.tobytes()
