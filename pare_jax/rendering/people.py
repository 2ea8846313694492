"""Pictures of predicted people: an overlay on the photograph, a sheet of attention for each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Int

from pare_jax.images import cut_crop
from pare_jax.rendering.attention import attention_sheet
from pare_jax.rendering.camera import crop_camera
from pare_jax.rendering.overlay import BODY_COLOURS, draw_mesh, side_view
from pare_jax.rendering.skeleton_lines import draw_skeleton
from pare_jax.rendering.text import INK, PAPER, Picture, caption, draw_text, row

if TYPE_CHECKING:
    from pare_jax.people import Person

# The longer side of the photograph in an overlay is reduced to this.
MAX_OVERLAY_SIDE = 1600
_CELL = 224
_MAX_PANEL_WIDTH = 640

Faces = Int[np.ndarray, "faces 3"]


def overlay_picture(image: Picture, people: "Sequence[Person]", faces: Faces) -> Picture:
    """Draw everybody over the photograph, and each from the side in a column to its right.

    Args:
        image: the photograph.
        people: found in it; farther ones are drawn first.
        faces: of their meshes.

    Returns:
        The picture, the photograph's part at most `MAX_OVERLAY_SIDE` pixels a side.
    """
    scale = min(1.0, MAX_OVERLAY_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # Depths of people with cameras of their own do not compare; their sizes in pixels do.
    by_size = sorted(
        range(len(people)), key=lambda i: people[i].focal_length / people[i].translation[2]
    )
    for number in by_size:
        camera = people[number].camera.seen_in((0.0, 0.0), scale)
        picture = draw_mesh(picture, people[number].vertices, faces, camera, _colour(number))
    for number, person in enumerate(people):
        _draw_box(picture, person.box * scale, number if len(people) > 1 else None)
    if not people:
        return picture
    return row([picture, _side_views(people, faces, picture.shape[0])])


def attention_pictures(
    image: Picture, people: "Sequence[Person]", faces: Faces
) -> Iterator[Picture]:
    """Draw a sheet for each person whose network has attention.

    Args:
        image: the photograph.
        people: found in it.
        faces: of their meshes.

    Yields:
        The crop, the mesh and the skeleton over it, the side view; below them each joint's map.
    """
    for number, person in enumerate(people):
        if person.attention is None:
            continue
        crop = cut_crop(image, person.crop_centre, person.crop_side, _CELL)
        mesh = draw_mesh(crop, person.vertices, faces, crop_camera(_CELL), _colour(number))
        to_crop = _CELL / person.crop_side
        joints = (person.joints_2d - person.crop_centre) * to_crop + _CELL / 2.0
        side = side_view(person.vertices, faces, _CELL, _CELL, _colour(number))
        top = row(
            [
                caption(crop, "what the network sees"),
                caption(mesh, "mesh"),
                caption(draw_skeleton(crop, joints), "blue left, orange right"),
                caption(side, "from the side"),
            ]
        )
        maps = attention_sheet(crop, person.attention, cell=_CELL)
        sheet = np.full((top.shape[0] + 12 + maps.shape[0], maps.shape[1], 3), PAPER, np.uint8)
        sheet[: top.shape[0], : top.shape[1]] = top
        sheet[top.shape[0] + 12 :] = maps
        yield sheet


def _side_views(people: "Sequence[Person]", faces: Faces, height: int) -> Picture:
    """Panels in columns as high as the photograph."""
    rows = max(1, min(len(people), height // 200))
    panel_height = height // rows
    panel_width = min(panel_height, _MAX_PANEL_WIDTH)
    columns = -(-len(people) // rows)
    sheet = np.full((height, columns * panel_width, 3), PAPER, np.uint8)
    for number, person in enumerate(people):
        panel = side_view(person.vertices, faces, panel_height, panel_width, _colour(number))
        text = "from the side" if len(people) == 1 else f"{number}"
        margin = panel_width * 0.04
        draw_text(panel, text, (margin, margin), max(9, panel_width // 32), INK)
        y, x = (number % rows) * panel_height, (number // rows) * panel_width
        sheet[y : y + panel_height, x : x + panel_width] = panel
    return sheet


def _colour(number: int) -> tuple[int, int, int]:
    return BODY_COLOURS[number % len(BODY_COLOURS)]


def _draw_box(picture: Picture, box: np.ndarray, number: int | None) -> None:
    """Draw a box, and its person's number where there are several, in place."""
    corners = np.clip(np.round(box), -10_000, 10_000).astype(int)
    line = max(1, round(max(picture.shape[:2]) / 700))
    start, end = tuple(map(int, corners[:2])), tuple(map(int, corners[2:]))
    cv2.rectangle(picture, start, end, (255, 255, 255), line, cv2.LINE_AA)
    if number is not None:
        letters = max(10, round(max(picture.shape[:2]) / 60))
        place = (max(2, start[0] + 4), max(2, start[1] + 4))
        draw_text(picture, f"{number}", place, letters)
