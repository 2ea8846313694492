"""Pictures of predicted people: an overlay on the photograph, a sheet of attention for each."""

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

# The longer side of the photograph in an overlay is reduced to this.
MAX_OVERLAY_SIDE = 1600
# Side in pixels of each picture of a sheet of attention.
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
    """Draw everybody over the photograph.

    Args:
        image: the photograph.
        people: found in it; farther ones are drawn first.
        faces: of their meshes; None: their own.
        boxes: whether boxes are drawn, and numbers where there are several people or ids.
        max_side: a photograph whose longer side has more pixels is reduced to them.
        normals: of each person's vertices; None: they are computed.

    Returns:
        The picture.
    """
    scale = min(1.0, max_side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # Depths of people with cameras of their own do not compare; their sizes in pixels do.
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
    """Draw everybody over the photograph, and each from the side in a column to its right.

    Args:
        image: the photograph.
        people: found in it; farther ones are drawn first.
        faces: of their meshes; None: their own.

    Returns:
        The picture, the photograph's part at most `MAX_OVERLAY_SIDE` pixels a side.
    """
    normals = [_normals(person, person.triangles(faces)) for person in people]
    picture = draw_people(image, people, faces, normals=normals)
    if not people:
        return picture
    return row([picture, _side_views(people, faces, picture.shape[0], normals)])


def side_and_back_picture(people: Sequence[PersonArrays], faces: Faces | None = None) -> Picture:
    """Draw everybody from the side and from behind, one after the other in a row.

    Args:
        people: at least one; numbered where there are several.
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
    """Return what a person is called by: its id where it has one, else its place `number`."""
    return number if person.id is None else person.id


def person_colour(person: PersonArrays, number: int) -> Colour:
    """Return a person's colour, which stays the same for the same id."""
    return BODY_COLOURS[person_number(person, number) % len(BODY_COLOURS)]


def attention_pictures(
    image: Picture, people: Sequence[PersonArrays], faces: Faces | None = None
) -> Iterator[Picture]:
    """Draw a sheet for each person whose network has attention.

    Args:
        image: the photograph.
        people: found in it.
        faces: of their meshes; None: their own.

    Yields:
        The crop, the mesh and the skeleton over it, the side view; below them each joint's map.
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
    """Draw one person's sheet of attention.

    Args:
        crop: what the network saw of the person, `SHEET_CELL` pixels a side.
        person: with vertices; the frame of somebody in a clip is said.
        attention: the person's maps.
        faces: of the mesh; None: the person's own.
        number: of the person among others, for the colour.

    Returns:
        As `attention_pictures` draws it.
    """
    cell = SHEET_CELL
    triangles, colour = person.triangles(faces), person_colour(person, number)
    normals = _normals(person, triangles)
    mesh = draw_mesh(crop, person.vertices, triangles, crop_camera(cell), colour, normals=normals)
    to_crop = cell / person.crop_side
    joints = (person.joints_2d - person.crop_centre) * to_crop + cell / 2.0
    side = side_view(person.vertices, triangles, cell, cell, colour, normals)
    seen = "what the network sees" if person.frame is None else f"seen in frame {person.frame}"
    top = row(
        [
            caption(crop, seen),
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
    """Panels in columns as high as the photograph."""
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
    """Draw a box, and its person's number where there are several, in place."""
    corners = np.clip(np.round(box), -10_000, 10_000).astype(int)
    line = max(1, round(max(picture.shape[:2]) / 700))
    start, end = tuple(map(int, corners[:2])), tuple(map(int, corners[2:]))
    cv2.rectangle(picture, start, end, (255, 255, 255), line, cv2.LINE_AA)
    if number is not None:
        letters = max(10, round(max(picture.shape[:2]) / 60))
        place = (max(2, start[0] + 4), max(2, start[1] + 4))
        draw_text(picture, f"{number}", place, letters)
