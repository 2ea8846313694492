"""Draws predicted people: the overlay, views from the left and behind, and attention sheets."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.io.images import cut_crop
from pare_jax.prediction.person_arrays import Faces, PersonArrays
from pare_jax.rendering.attention_maps import attention_sheet
from pare_jax.rendering.camera import crop_camera
from pare_jax.rendering.keypoint_picture import draw_keypoints
from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.overlay import (
    BODY_COLOURS,
    LEFT_SIDE,
    draw_mesh,
    side_and_back_view,
    side_view,
)
from pare_jax.rendering.skeleton_lines import draw_skeleton
from pare_jax.rendering.text import (
    INK,
    Colour,
    Picture,
    caption,
    column,
    draw_text,
    grid,
    paper,
    row,
    text_width,
)

# Longer side of the photograph in an overlay at most, pixels.
MAX_OVERLAY_SIDE = 1600
# Side of each picture in a sheet of attention, pixels.
SHEET_CELL = 176
# People in a row of `side_and_back_picture`.
SIDES_A_ROW = 3
# Largest width of a figure beside the photograph, and smallest of one below it, pixels.
_MAX_PANEL_WIDTH = 640
_MIN_PANEL_WIDTH = 200

Normals = Float[np.ndarray, "vertices 3"]


def draw_people(
    image: Picture,
    people: Sequence[PersonArrays],
    faces: Faces | None = None,
    boxes: bool = True,
    max_side: int = MAX_OVERLAY_SIDE,
    normals: Sequence[Normals] | None = None,
) -> Picture:
    """Draw all people over the photograph, far ones first.

    Args:
        image: the photograph.
        people: found in it.
        faces: of their meshes; None: their own.
        boxes: whether to draw boxes, and numbers if there are several people or ids.
        max_side: a photograph with a longer side than this is shrunk to it, pixels.
        normals: of each person's vertices; None computes them.
    """
    picture, scale = _shrunk(image, max_side)
    # People are ordered by size in pixels: each has another camera, so depths do not compare.
    by_size = sorted(
        range(len(people)), key=lambda i: people[i].focal_length / people[i].translation[2]
    )
    for number in by_size:
        person = people[number]
        triangles = person.triangles(faces)
        camera = person.camera.seen_in((0.0, 0.0), scale)
        colour = person_colour(person, number)
        own = normals[number] if normals else None
        picture = draw_mesh(picture, person.vertices, triangles, camera, colour, normals=own)
    if boxes:
        numbered = len(people) > 1 or any(person.id is not None for person in people)
        for number, person in enumerate(people):
            label = person_number(person, number) if numbered else None
            _draw_box(picture, person.box * scale, label)
    return picture


def overlay_picture(
    image: Picture, people: Sequence[PersonArrays], faces: Faces | None = None
) -> Picture:
    """Draw all people over the photograph, and each again from the person's left.

    One person's figure is beside the photograph. Several figures are below it, numbered as on the
    photograph, which keeps its size.

    Args:
        image: the photograph; its longer side is shrunk to `MAX_OVERLAY_SIDE`.
        people: found in it.
        faces: of their meshes; None: their own.
    """
    normals = [_normals(person, person.triangles(faces)) for person in people]
    picture = draw_people(image, people, faces, normals=normals)
    if not people:
        return picture
    if len(people) == 1:
        height = picture.shape[0]
        return row([picture, *_figures(people, faces, height, _MAX_PANEL_WIDTH, normals)])
    return column([picture, _figures_below(people, faces, picture.shape[1], normals)], gap=8)


def keypoint_overlay(image: Picture, people: Sequence[PersonArrays]) -> Picture | None:
    """Draw people's keypoints over the photograph, shrunk as an overlay is; None without any."""
    known = [points for points in (one.body_keypoints() for one in people) if points is not None]
    if not known:
        return None
    picture, scale = _shrunk(image, MAX_OVERLAY_SIDE)
    for points in known:
        picture = draw_keypoints(picture, points * (scale, scale, 1.0))
    return picture


def side_and_back_picture(people: Sequence[PersonArrays], faces: Faces | None = None) -> Picture:
    """Draw each person from the left side and from behind, in rows of `SIDES_A_ROW`.

    Args:
        people: at least one; numbered if there are several.
        faces: of their meshes; None: their own.
    """
    views = []
    for number, person in enumerate(people):
        colour = person_colour(person, number)
        view = side_and_back_view(
            person.vertices, person.triangles(faces), person.rotations[0], colour=colour
        )
        if len(people) > 1:
            draw_text(view, f"{person_number(person, number)}", (14, 14), 18, INK)
        views.append(view)
    return grid(views, SIDES_A_ROW, gap=8)


def person_number(person: PersonArrays, number: int) -> int:
    """Return a person's id, or `number`, its index among the people, if it has none."""
    return number if person.id is None else person.id


def person_colour(person: PersonArrays, number: int) -> Colour:
    """Return a person's colour, the same for the same id."""
    return BODY_COLOURS[person_number(person, number) % len(BODY_COLOURS)]


def attention_pictures(
    image: Picture, people: Sequence[PersonArrays], faces: Faces | None = None
) -> Iterator[Picture]:
    """Draw a sheet of attention maps for each person who has them.

    Args:
        image: the photograph.
        people: found in it.
        faces: of their meshes; None: their own.

    Yields:
        A row with the crop, the mesh, the skeleton and the side view, above each joint's map.
    """
    for number, person in enumerate(people):
        if person.attention is None:
            continue
        crop = cut_crop(image, person.crop_centre, person.crop_side, SHEET_CELL)
        yield attention_picture(crop, person, person.attention, faces, number)


def attention_picture(
    crop: Picture,
    person: PersonArrays,
    attention: Float[np.ndarray, "h w 24"],
    faces: Faces | None = None,
    number: int = 0,
) -> Picture:
    """Draw one person's sheet of attention maps; see `attention_pictures`.

    Args:
        crop: the person's crop, `SHEET_CELL` pixels a side.
        person: with vertices; a frame number is written below the crop.
        attention: the person's maps.
        faces: of the mesh; None: the person's own.
        number: index among the people, for the colour.
    """
    cell = SHEET_CELL
    triangles, colour = person.triangles(faces), person_colour(person, number)
    normals = _normals(person, triangles)
    mesh = draw_mesh(crop, person.vertices, triangles, crop_camera(cell), colour, normals=normals)
    to_crop = cell / person.crop_side
    joints = (person.joints_2d - person.crop_centre) * to_crop + cell / 2.0
    side = side_view(person.vertices, triangles, person.rotations[0], cell, cell, colour, normals)
    title = "the network's input" if person.frame is None else f"input, frame {person.frame}"
    top = row(
        [
            caption(crop, title),
            caption(mesh, "mesh"),
            caption(draw_skeleton(crop, joints), "left blue, right orange"),
            caption(side, LEFT_SIDE),
        ]
    )
    maps = attention_sheet(crop, attention, cell=cell)
    sheet = paper(top.shape[0] + 12 + maps.shape[0], maps.shape[1])
    sheet[: top.shape[0], : top.shape[1]] = top
    sheet[top.shape[0] + 12 :] = maps
    return sheet


def _shrunk(image: Picture, max_side: int) -> tuple[Picture, float]:
    """Return a photograph whose longer side is at most `max_side`, and its scale."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    if scale == 1.0:
        return np.array(image), scale
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _normals(person: PersonArrays, triangles: Faces) -> Normals:
    return vertex_normals(np.asarray(person.vertices, np.float64), triangles)


def _figures_below(
    people: Sequence[PersonArrays], faces: Faces | None, width: int, normals: Sequence[Normals]
) -> Picture:
    """Draw one figure for each person, in rows as wide as the photograph."""
    columns = min(len(people), max(2, width // _MIN_PANEL_WIDTH))
    gap = 4
    panel = (width + gap) // columns - gap
    height = min(round(1.3 * panel), _MAX_PANEL_WIDTH)
    return grid(_figures(people, faces, height, panel, normals), columns, gap)


def _figures(
    people: Sequence[PersonArrays],
    faces: Faces | None,
    height: int,
    most_width: int,
    normals: Sequence[Normals],
) -> list[Picture]:
    """Draw each person from the left side, with a title if there is one or numbers if several."""
    panels = []
    width = min(height, most_width)
    for number, person in enumerate(people):
        colour, root = person_colour(person, number), person.rotations[0]
        triangles = person.triangles(faces)
        own = normals[number]
        panel = side_view(person.vertices, triangles, root, height, width, colour, own)
        alone = len(people) == 1 and person.id is None
        text = LEFT_SIDE if alone else f"{person_number(person, number)}: left side"
        margin = width * 0.04
        letters = max(9.0, width / (32 if alone else 18))
        letters *= min(1.0, (width - 2 * margin) / text_width(text, letters))
        draw_text(panel, text, (margin, margin), letters, INK)
        panels.append(panel)
    return panels


def _draw_box(picture: Picture, box: np.ndarray, number: int | None) -> None:
    """Draw a box, and a number if it is given, into the picture."""
    corners = np.clip(np.round(box), -10_000, 10_000).astype(int)
    line = max(1, round(max(picture.shape[:2]) / 700))
    start, end = tuple(map(int, corners[:2])), tuple(map(int, corners[2:]))
    cv2.rectangle(picture, start, end, (255, 255, 255), line, cv2.LINE_AA)
    if number is not None:
        letters = max(10, round(max(picture.shape[:2]) / 60))
        above = start[1] - letters - 6  # where it hides nobody
        place = (max(2, start[0] + 4), above if above >= 2 else max(2, start[1] + 4))
        draw_text(picture, f"{number}", place, letters)
