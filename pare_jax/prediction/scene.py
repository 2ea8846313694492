"""People of one photograph or clip together in one scene, seen by one camera.

Every `Person` has the camera of the network's own crop: far away, its axis through the crop's
centre. Two people of one photograph, or one person in two frames, therefore have two cameras, and
their positions do not compare. Here everybody is moved into the frame of one camera that took the
whole picture, its axis through the picture's centre (CLIFF, Li et al. 2022, section 3.2).
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from pare_jax.errors import UserError
from pare_jax.meshes.animation import BodyMotion
from pare_jax.meshes.mesh import Mesh
from pare_jax.prediction.drawing import person_colour, person_number
from pare_jax.prediction.person_arrays import PersonArrays
from pare_jax.rendering.camera import Camera


def scene_focal_length(photo_size: tuple[int, int]) -> float:
    """Guess a photograph's focal length: its diagonal, pixels, a field of view of 53 degrees."""
    return math.hypot(*photo_size)


def scene_camera(photo_size: tuple[int, int], focal_length: float | None = None) -> Camera:
    """Return the one camera that took the whole picture, its axis through the picture's centre.

    Args:
        photo_size: width and height, pixels.
        focal_length: pixels; None: `scene_focal_length`.
    """
    if focal_length is None:
        focal_length = scene_focal_length(photo_size)
    return Camera(focal_length, (photo_size[0] / 2.0, photo_size[1] / 2.0))


def scene_translation(
    person: PersonArrays, photo_size: tuple[int, int], focal_length: float | None = None
) -> Float[np.ndarray, "3"]:
    """Return where a person's body stands in the frame of the photograph's one camera.

    The body keeps its size in pixels and its middle its place in the picture.

    Args:
        person: with the camera of its crop.
        photo_size: width and height, pixels.
        focal_length: of the photograph's camera, pixels; None: `scene_focal_length`.

    Returns:
        Translation, metres, instead of `person.translation`.
    """
    camera = scene_camera(photo_size, focal_length)
    metres_per_pixel = float(person.translation[2]) / person.focal_length
    off_centre = np.asarray(person.principal_point, np.float64) - camera.principal_point
    x, y = np.asarray(person.translation[:2], np.float64) + off_centre * metres_per_pixel
    return np.array([x, y, camera.focal_length * metres_per_pixel])


def scene_meshes(
    people: Sequence[PersonArrays],
    photo_size: tuple[int, int],
    faces: Int[np.ndarray, "faces 3"] | None = None,
) -> list[Mesh]:
    """Return everybody's mesh, standing in one scene, named and coloured as in the overlay.

    Args:
        people: of one photograph.
        photo_size: its width and height, pixels.
        faces: of their meshes; None: their own.
    """
    meshes = []
    for number, person in enumerate(people):
        mesh = person_mesh(person, number, faces)
        move = scene_translation(person, photo_size) - person.translation
        meshes.append(dataclasses.replace(mesh, vertices=person.vertices + move))
    return meshes


def person_mesh(
    person: PersonArrays, number: int, faces: Int[np.ndarray, "faces 3"] | None = None
) -> Mesh:
    """Return a person's mesh in the person's own camera frame, named and coloured as in overlays.

    Args:
        person: with vertices.
        number: of the person among others, for name and colour.
        faces: of the mesh; None: the person's own.

    Raises:
        UserError: there are no faces, or the person was stored without vertices.
    """
    triangles = person.triangles(faces)
    if not len(person.vertices):
        raise UserError("this person was stored without its mesh: predict it again")
    name = f"person {person_number(person, number)}"
    return Mesh(person.vertices, triangles, person_colour(person, number), name)


def track_motion(people: Iterable[PersonArrays], photo_size: tuple[int, int]) -> BodyMotion:
    """Return one tracked person's motion in the frame of the clip's one camera.

    Args:
        people: the same person in frames of a clip, in any order, each with its `frame`; taken one
            at a time, and none is kept.
        photo_size: width and height of the frames, pixels.

    Returns:
        The motion; its shape is the mean of the betas.

    Raises:
        ValueError: nobody, somebody without a frame number, or a frame twice.
    """
    frames, betas, rotations, translations = [], [], [], []
    first: PersonArrays | None = None
    for person in people:
        if person.frame is None:
            raise ValueError("a motion needs people with frame numbers")
        frames.append(person.frame)
        betas.append(person.betas)
        rotations.append(person.rotations)
        translations.append(scene_translation(person, photo_size))
        if first is None or person.frame < (first.frame or 0):
            first = person
    if first is None:
        raise ValueError("a motion needs people with frame numbers")
    order = sorted(range(len(frames)), key=frames.__getitem__)
    return BodyMotion(
        betas=np.stack([betas[row] for row in order]).mean(0),
        rotations=np.stack([rotations[row] for row in order]),
        translations=np.stack([translations[row] for row in order]),
        frames=np.array([frames[row] for row in order]),
        colour=person_colour(first, 0),
        name=f"person {person_number(first, 0)}",
    )
