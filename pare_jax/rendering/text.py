"""Writes text, captions and titles on pictures, and sets pictures in rows, columns and grids."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "height width 3"]
Colour = tuple[int, int, int]

INK: Colour = (32, 32, 36)
PAPER: Colour = (246, 246, 244)
# Colour and height, pixels, of the band behind a title.
_BAND: Colour = (214, 217, 222)
_TITLE_HEIGHT = 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def paper(height: int, width: int) -> Picture:
    """Return an empty picture, several times faster than numpy's `full`."""
    corner = np.array([[PAPER]], np.uint8)
    return cv2.copyMakeBorder(corner, 0, height - 1, 0, width - 1, cv2.BORDER_CONSTANT, value=PAPER)


def draw_text(
    picture: Picture, text: str, corner: tuple[float, float], height: float, colour: Colour = PAPER
) -> None:
    """Write one line of text into a picture; bright colours get a dark outline.

    Args:
        picture: changed in place.
        text: ASCII.
        corner: top left of the text, pixels (x, y).
        height: of the capitals, pixels.
        colour: RGB.
    """
    scale = height / 22.0  # Hershey's capitals are 22 pixels high at scale 1
    width = max(1, round(height / 9))
    place = (round(corner[0]), round(corner[1] + height))
    if sum(colour) > 3 * 128:
        cv2.putText(picture, text, place, _FONT, scale, INK, width + 2, cv2.LINE_AA)
    cv2.putText(picture, text, place, _FONT, scale, colour, width, cv2.LINE_AA)


def text_width(text: str, height: float) -> int:
    """Return the width in pixels that `draw_text` needs."""
    return cv2.getTextSize(text, _FONT, height / 22.0, max(1, round(height / 9)))[0][0]


def caption(picture: Picture, text: str) -> Picture:
    """Return the picture with a strip below it that holds `text`, shrunk to fit the width."""
    width = picture.shape[1]
    strip = paper(max(14, round(min(picture.shape[:2]) * 0.11)), width)
    letters = strip.shape[0] * 0.5
    letters *= min(1.0, 0.96 * width / max(1, text_width(text, letters)))
    x = (width - text_width(text, letters)) / 2.0
    draw_text(strip, text, (x, (strip.shape[0] - letters) / 2.0), letters, INK)
    return np.concatenate([picture, strip])


def titled(picture: Picture, text: str) -> Picture:
    """Return the picture below a grey band that holds `text` at its left end.

    The band is above everything that the text names, so that it cannot be read as the title of
    what follows.
    """
    width = picture.shape[1]
    band = np.empty((_TITLE_HEIGHT, width, 3), np.uint8)
    band[:] = _BAND
    letters = _TITLE_HEIGHT * 0.5
    letters *= min(1.0, 0.96 * width / max(1, text_width(text, letters)))
    draw_text(band, text, (8, (_TITLE_HEIGHT - letters) / 2.0), letters, INK)
    return np.concatenate([band, paper(4, width), picture])


def column(pictures: Sequence[Picture], gap: int = 16) -> Picture:
    """Set pictures of any size below each other, aligned at the left."""
    width = max(p.shape[1] for p in pictures)
    sheet = paper(sum(p.shape[0] + gap for p in pictures) - gap, width)
    y = 0
    for picture in pictures:
        sheet[y : y + picture.shape[0], : picture.shape[1]] = picture
        y += picture.shape[0] + gap
    return sheet


def grid(pictures: Sequence[Picture], columns: int, gap: int = 4) -> Picture:
    """Set pictures of any size into rows of `columns`, aligned at their top-left corners.

    Rows are four gaps apart, so that a caption is closest to its own picture.
    """
    height = max(p.shape[0] for p in pictures) + 4 * gap
    width = max(p.shape[1] for p in pictures) + gap
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = paper(rows * height - 4 * gap, columns * width - gap)
    for number, picture in enumerate(pictures):
        y, x = (number // columns) * height, (number % columns) * width
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def row(pictures: Sequence[Picture], gap: int = 4) -> Picture:
    """Set pictures of any size side by side, aligned at the top."""
    height = max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] + gap for p in pictures) - gap
    sheet = paper(height, width)
    x = 0
    for picture in pictures:
        sheet[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + gap
    return sheet
