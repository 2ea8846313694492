"""The files about the people of a photograph; `moving.py` writes those about a clip."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from pare_jax.io.images import Photograph, Picture, encode_jpeg
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.prediction.drawing import attention_pictures, overlay_picture, side_and_back_picture
from pare_jax.prediction.person import Person, people_json, people_npz
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.scene import scene_meshes

_PIXELS = ("principal_point", "joints_2d", "box", "crop_centre", "crop_side", "focal_length")


def photo_files(
    run: PredictionRun, name: str, source: str, photograph: Photograph, people: Sequence[Person]
) -> dict[str, bytes]:
    """Return the files about one photograph.

    Args:
        run: says which are wanted.
        name: what they are called after.
        source: what the user knows the photograph by.
        photograph: as it was read.
        people: found in it, in pixels of what was read.

    Returns:
        Contents by file name.
    """
    image, faces = photograph.image, run.predictor.faces
    in_file = [in_pixels_of_file(person, photograph) for person in people]
    size = photograph.size
    files: dict[str, bytes] = {}
    if run.wants("npz"):
        files[f"{name}.npz"] = people_npz(in_file, faces, photo_size=size)
    if run.wants("json"):
        files[f"{name}.json"] = people_json(in_file, source, photo_size=size).encode()
    if run.wants("overlay"):
        files[f"{name}_overlay.jpg"] = encode_jpeg(overlay_picture(image, people, faces))
    if run.wants("attention"):
        for number, sheet in enumerate(attention_pictures(image, people, faces)):
            ending = f"_{number}" if len(people) > 1 else ""
            files[f"{name}_attention{ending}.jpg"] = encode_jpeg(sheet)
    if run.wants("side") and people:
        files[f"{name}_side.jpg"] = encode_jpeg(side_and_back_picture(people, faces))
    for kind in ("obj", "ply", "glb"):
        if run.wants(kind) and people:
            meshes = scene_meshes(in_file, size, faces)
            files[f"{name}.{kind}"] = mesh_bytes(meshes, f".{kind}")
    return files


def in_pixels_of_file(person: Person, photograph: Photograph) -> Person:
    """Move a person from the pixels of a photograph that was reduced on reading to its file's."""
    factor = 1.0 / float(np.sqrt(photograph.scale.prod()))
    if factor == 1.0:
        return person
    return dataclasses.replace(person, **{name: getattr(person, name) * factor for name in _PIXELS})


def in_size(picture: Picture, size: tuple[int, ...]) -> Picture:
    """Return a frame in a video's size, (width, height); a few recordings change theirs."""
    if picture.shape[1::-1] == tuple(size):
        return picture
    return cv2.resize(picture, tuple(size), interpolation=cv2.INTER_AREA)
