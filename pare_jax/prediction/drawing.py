"""Draws predicted people: the overlay, views from the side, and sheets of attention maps."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float

from pare_jax.io.images import cut_crop
from pare_jax.prediction.person_arrays import Faces, PersonArrays
from pare_jax.rendering.attention_maps import attention_sheet
from pare_jax.rendering.camera import crop_camera
from pare_jax.rendering.normals import vertex_normals
from pare_jax.rendering.overlay import BODY_COLOURS, draw_mesh, side_and_back_view, side_view
from pare_jax.rendering.skeleton_lines import draw_skeleton
from pare_jax.rendering.text import INK, Colour, Picture, caption, draw_text, paper, row

# Longer side of the photograph in an overlay at most, pixels.
MAX_OVERLAY_SIDE = 1600
# Side of each picture in a sheet of attention, pixels.
SHEET_CELL = 176
_MAX_PANEL_WIDTH = 640

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
    scale = min(1.0, max_side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
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
    """Draw all people over the photograph, and each from the side in columns to its right.

    Args:
        image: the photograph; its longer side is shrunk to `MAX_OVERLAY_SIDE`.
        people: found in it.
        faces: of their meshes; None: their own.
    """
    normals = [_normals(person, person.triangles(faces)) for person in people]
    picture = draw_people(image, people, faces, normals=normals)
    if not people:
        return picture
    return row([picture, _side_views(people, faces, picture.shape[0], normals)])


def side_and_back_picture(people: Sequence[PersonArrays], faces: Faces | None = None) -> Picture:
    """Draw each person from the side and from behind, in a row.

    Args:
        people: at least one; numbered if there are several.
        faces: of their meshes; None: their own.
    """
    views = []
    for number, person in enumerate(people):
        colour = person_colour(person, number)
        view = side_and_back_view(person.vertices, person.triangles(faces), colour=colour)
        if len(people) > 1:
            draw_text(view, f"{person_number(person, number)}", (14, 14), 18, INK)
        views.append(view)
    return row(views)


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
    side = side_view(person.vertices, triangles, cell, cell, colour, normals)
    title = "the network's input" if person.frame is None else f"input, frame {person.frame}"
    top = row(
        [
            caption(crop, title),
            caption(mesh, "mesh"),
            caption(draw_skeleton(crop, joints), "blue left, orange right"),
            caption(side, "from the side"),
        ]
    )
    maps = attention_sheet(crop, attention, cell=cell)
    sheet = paper(top.shape[0] + 12 + maps.shape[0], maps.shape[1])
    sheet[: top.shape[0], : top.shape[1]] = top
    sheet[top.shape[0] + 12 :] = maps
    return sheet


def _normals(person: PersonArrays, triangles: Faces) -> Normals:
    return vertex_normals(np.asarray(person.vertices, np.float64), triangles)


def _side_views(
    people: Sequence[PersonArrays], faces: Faces | None, height: int, normals: Sequence[Normals]
) -> Picture:
    """Draw one panel for each person, in columns as high as the photograph."""
    rows = max(1, min(len(people), height // 200))
    panel_height = height // rows
    panel_width = min(panel_height, _MAX_PANEL_WIDTH)
    columns = -(-len(people) // rows)
    sheet = paper(height, columns * panel_width)
    for number, person in enumerate(people):
        colour = person_colour(person, number)
        triangles = person.triangles(faces)
        panel = side_view(
            person.vertices, triangles, panel_height, panel_width, colour, normals[number]
        )
        alone = len(people) == 1 and person.id is None
        text = "from the side" if alone else f"{person_number(person, number)}"
        margin = panel_width * 0.04
        draw_text(panel, text, (margin, margin), max(9, panel_width // 32), INK)
        y, x = (number % rows) * panel_height, (number // rows) * panel_width
        sheet[y : y + panel_height, x : x + panel_width] = panel
    return sheet


def _draw_box(picture: Picture, box: np.ndarray, number: int | None) -> None:
    """Draw a box, and a number if it is given, into the picture."""
    corners = np.clip(np.round(box), -10_000, 10_000).astype(int)
    line = max(1, round(max(picture.shape[:2]) / 700))
    start, end = tuple(map(int, corners[:2])), tuple(map(int, corners[2:]))
    cv2.rectangle(picture, start, end, (255, 255, 255), line, cv2.LINE_AA)
    if number is not None:
        letters = max(10, round(max(picture.shape[:2]) / 60))
        place = (max(2, start[0] + 4), max(2, start[1] + 4))
        draw_text(picture, f"{number}", place, letters)
