"""Moves the people of one photograph or clip into the frame of the full camera.

Each `Person` has the camera of its crop: far away, its axis through the crop's centre. Two people
of one photograph, or one person in two frames, therefore have two cameras, and their positions do
not compare. The full camera took the whole photograph; its axis goes through the photograph's
centre (CLIFF, Li et al. 2022, section 3.2). Its focal length is the photograph's where that is
known, else the diagonal; distances are proportional to it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.meshes.animation import BodyMotion, rigged_glb
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.meshes.mesh import Mesh
from pare_jax.prediction.drawing import person_colour, person_number
from pare_jax.prediction.person_arrays import PersonArrays
from pare_jax.rendering.camera import Camera


def scene_focal_length(photo_size: tuple[int, int]) -> float:
    """Return the guess of a full camera's focal length: the diagonal, pixels (53 degrees)."""
    return math.hypot(*photo_size)


def scene_camera(photo_size: tuple[int, int], focal_length: float | None = None) -> Camera:
    """Return the full camera, with its axis through the photograph's centre.

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
    """Return a person's translation in the frame of the full camera.

    The body keeps its size in pixels, and its origin keeps its place in the photograph.

    Args:
        person: in the frame of its crop's camera.
        photo_size: width and height, pixels.
        focal_length: of the full camera, pixels; None: the person's `full_focal_length`, or
            `scene_focal_length` where that is unknown.

    Returns:
        Translation, metres, to use instead of `person.translation`.
    """
    if focal_length is None:
        focal_length = person.full_focal_length
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
    """Return each person's mesh in the frame of the full camera, coloured as in the overlay.

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


def scene_poses(people: Sequence[PersonArrays], photo_size: tuple[int, int]) -> list[BodyMotion]:
    """Return each person's still pose in the frame of the full camera, for `rigged_glb`.

    Args:
        people: of one photograph; vertices are not needed.
        photo_size: its width and height, pixels.
    """
    return [
        BodyMotion(
            betas=person.betas,
            rotations=person.rotations[None],
            translations=scene_translation(person, photo_size)[None],
            frames=np.zeros(1, int),
            colour=person_colour(person, number),
            name=f"person {person_number(person, number)}",
        )
        for number, person in enumerate(people)
    ]


def scene_glb(
    people: Sequence[PersonArrays],
    photo_size: tuple[int, int],
    body: BodyData | None,
    faces: Int[np.ndarray, "faces 3"] | None = None,
) -> bytes:
    """Return the people of one photograph as a GLB file's content, rigged where possible.

    Args:
        people: of one photograph, at least one.
        photo_size: its width and height, pixels.
        body: the body model, for the skeleton; None: meshes without one.
        faces: of the meshes without a skeleton; None: the people's own.
    """
    if body is None:
        return mesh_bytes(scene_meshes(people, photo_size, faces), ".glb")
    return rigged_glb(body, scene_poses(people, photo_size))


def person_mesh(
    person: PersonArrays, number: int, faces: Int[np.ndarray, "faces 3"] | None = None
) -> Mesh:
    """Return a person's mesh in the frame of its own camera, coloured as in the overlay.

    Args:
        person: with vertices.
        number: index among the people, for name and colour.
        faces: of the mesh; None: the person's own.

    Raises:
        UserError: the person has no faces or no vertices.
    """
    triangles = person.triangles(faces)
    if not len(person.vertices):
        raise UserError("this person was saved without vertices: predict it again")
    name = f"person {person_number(person, number)}"
    return Mesh(person.vertices, triangles, person_colour(person, number), name)


def track_motion(people: Iterable[PersonArrays], photo_size: tuple[int, int]) -> BodyMotion:
    """Return one track's motion in the frame of the clip's full camera.

    Args:
        people: the same person in frames of a clip, in any order, each with its `frame`; an
            iterator is consumed one person at a time.
        photo_size: width and height of the frames, pixels.

    Returns:
        The motion; its shape is the mean of the betas.

    Raises:
        ValueError: nobody, a person without a frame number, or a frame twice.
    """
    frames, times, betas, rotations, translations = [], [], [], [], []
    first: PersonArrays | None = None
    for person in people:
        if person.frame is None:
            raise ValueError("a motion needs people with frame numbers")
        frames.append(person.frame)
        times.append(np.nan if person.time is None else person.time)
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
        times=None if np.isnan(times).any() else np.array(times)[order],
    )
