"""Titles and captions on sheets stand closer to what they name than to anything else."""

import numpy as np

from pare_jax.rendering.text import PAPER, caption, column, grid, titled


def picture(value: int) -> np.ndarray:
    return np.full((40, 120, 3), value, np.uint8)


def rows_of(sheet: np.ndarray, value: int) -> np.ndarray:
    """Return the rows of a sheet that show a picture of one grey value."""
    return np.flatnonzero((sheet == value).all((1, 2)))


def text_rows(sheet: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the rows between two others that have dark letters."""
    return start + np.flatnonzero((sheet[start:stop] < 100).any((1, 2)))


def test_a_title_is_closer_to_its_own_picture_than_to_the_one_above():
    sheet = column([titled(picture(150), "first"), titled(picture(160), "second")])
    above, below = rows_of(sheet, 150), rows_of(sheet, 160)
    assert len(above) == len(below) == 40
    letters = text_rows(sheet, above[-1] + 1, below[0])
    assert below[0] - letters[-1] < 0.6 * (letters[0] - above[-1])
    # Between the two there is paper, which ends the picture above.
    assert (sheet[above[-1] + 1 : above[-1] + 17] == PAPER).all()


def test_a_caption_is_closer_to_its_own_picture_than_to_the_one_below():
    sheet = grid([caption(picture(150), "first"), caption(picture(160), "second")], columns=1)
    above, below = rows_of(sheet, 150), rows_of(sheet, 160)
    letters = text_rows(sheet, above[-1] + 1, below[0])
    assert letters[0] - above[-1] < 0.6 * (below[0] - letters[-1])
