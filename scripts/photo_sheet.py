"""Draws predicted body points and annotators' labels on photographs, for `measure_photos.py`."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float
from photo_labels import PhotoPerson
from photo_scores import PhotoAnswer

from pare_jax.io.images import Picture, crop_to_photo, cut_crop, read_image
from pare_jax.keypoints.sets import LIMB_POINTS, POINT_NAMES, point_index
from pare_jax.rendering.skeleton_lines import LEFT, MIDDLE, RIGHT
from pare_jax.rendering.text import INK, Colour, grid, row, titled

_SIDE = 320
# Of the shown square over the person's box.
_SCALE = 1.3
_SHIFT = 4
_CHAINS = (
    *(("left_shoulder", "left_elbow", "left_wrist"), ("left_hip", "left_knee", "left_ankle")),
    *(("right_shoulder", "right_elbow", "right_wrist"), ("right_hip", "right_knee", "right_ankle")),
    *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
    *(("left_shoulder", "left_hip"), ("right_shoulder", "right_hip")),
)
_TRUTH: Colour = (80, 230, 90)


def sheet(
    people: Sequence[PhotoPerson],
    answers: Sequence[PhotoAnswer | None],
    titles: Sequence[str],
    columns: int = 3,
) -> Picture:
    """Draw people on one sheet: labels in green, the answer's left side blue, its right orange.

    Args:
        people: with their labels.
        answers: of each person.
        titles: of each cell, ASCII.
        columns: cells in a row.
    """
    cells = [
        titled(_cell(one, answer), title)
        for one, answer, title in zip(people, answers, titles, strict=True)
    ]
    return grid(cells, columns, gap=8)


def _cell(person: PhotoPerson, answer: PhotoAnswer | None) -> Picture:
    """Draw a person's square: skeletons, and the predicted mesh beside it if there is one."""
    image = read_image(person.photo)
    box = person.box
    centre, side = (box[:2] + box[2:]) / 2, _SCALE * float((box[2:] - box[:2]).max())
    picture = cut_crop(image, centre, side, _SIDE)
    affine = crop_to_photo(centre, side, _SIDE)
    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]

    def moved(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        return points @ inverse[:, :2].T + inverse[:, 2]

    truth = person.points
    known = np.where(truth[:, 2:] > 0, truth[:, :2], np.nan)
    if answer is not None:
        _draw(picture, moved(answer.points), 2)
    _draw(picture, moved(known), 1, _TRUTH)
    if answer is None or answer.person is None:
        return picture
    mesh = cut_crop(answer.person.overlay(image), centre, side, _SIDE)
    return row([picture, mesh])


def _draw(
    picture: Picture,
    points: Float[np.ndarray, "points 2"],
    width: int,
    colour: Colour | None = None,
) -> None:
    known = np.isfinite(points).all(1) & (np.abs(points) < 1e4).all(1)
    fixed = np.round((np.where(known[:, None], points, 0.0) - 0.5) * 2**_SHIFT).astype(int)
    pairs = [
        (point_index(start), point_index(end))
        for chain in _CHAINS
        for start, end in itertools.pairwise(chain)
    ]
    for own, extra in ((INK, 2), (None, 0)):  # a dark outline first
        for start, end in pairs:
            if known[start] and known[end]:
                side = colour or _side_colour(start, end)
                ends = tuple(map(int, fixed[start])), tuple(map(int, fixed[end]))
                cv2.line(picture, *ends, own or side, width + extra, cv2.LINE_AA, _SHIFT)
    for point in LIMB_POINTS:
        if known[point]:
            place = tuple(map(int, fixed[point]))
            own = colour or _side_colour(point, point)
            cv2.circle(picture, place, (width + 1) << _SHIFT, own, -1, cv2.LINE_AA, _SHIFT)


def _side_colour(*points: int) -> Colour:
    sides = {POINT_NAMES[point].partition("_")[0] for point in points}
    return {"left": LEFT, "right": RIGHT}[sides.pop()] if len(sides) == 1 else MIDDLE
