"""`Person`: one predicted person, with methods that draw and save it; reads people from files.

Needs no JAX. `person_arrays` has the fields and their coordinates.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError
from pare_jax.io.files import write_together
from pare_jax.io.images import Picture
from pare_jax.meshes.formats import MESH_SUFFIXES, mesh_bytes
from pare_jax.meshes.mesh import Mesh
from pare_jax.prediction.drawing import draw_people, person_colour
from pare_jax.prediction.person_arrays import (
    ASSUMED,
    KEYPOINT_FIELDS,
    NOT_FITTED,
    PERSON_FIELDS,
    Faces,
    PersonArrays,
)
from pare_jax.prediction.person_files import UNKNOWN, read_arrays
from pare_jax.prediction.person_files import npz_bytes as npz_bytes
from pare_jax.prediction.person_files import people_arrays as people_arrays
from pare_jax.prediction.person_files import people_json as people_json
from pare_jax.prediction.person_files import people_npz as people_npz
from pare_jax.prediction.scene import person_mesh
from pare_jax.rendering.camera import Camera
from pare_jax.rendering.overlay import side_and_back_view


@dataclasses.dataclass(frozen=True, repr=False)
class Person(PersonArrays):
    """One predicted person, with methods that draw it and save it; see `PersonArrays`."""

    def to_mesh(self, faces: Faces | None = None) -> Mesh:
        """Return the body's surface; `pare_jax.prediction.scene` combines several people.

        Args:
            faces: None: the person's own.

        Raises:
            UserError: the person has no faces or no vertices.
        """
        return person_mesh(self, 0, faces)

    def to_glb(self, faces: Faces | None = None) -> bytes:
        """Return the body as a GLB file's content, in the viewer's frame (`pare_jax.meshes.mesh`).

        Args:
            faces: None: the person's own.

        Raises:
            UserError: as `to_mesh`.
        """
        return mesh_bytes([self.to_mesh(faces)], ".glb")

    def overlay(self, image: Picture, faces: Faces | None = None) -> Picture:
        """Draw the body and the box over the photograph, in the photograph's size.

        Args:
            image: the photograph, (height, width, 3) uint8.
            faces: None: the person's own.

        Raises:
            UserError: the person has no faces.
        """
        return draw_people(image, [self], faces, max_side=max(image.shape[:2]))

    def side_and_back_view(self, height: int = 480, faces: Faces | None = None) -> Picture:
        """Draw the body from the person's left and from behind on a plain background.

        Args:
            height: of the two panels, pixels.
            faces: None: the person's own.

        Returns:
            The panels side by side, each three quarters as wide as high, above their captions:
            (520, 724, 3) for a `height` of 480.

        Raises:
            UserError: the person has no faces.
        """
        colour = person_colour(self, 0)
        return side_and_back_view(
            self.vertices, self.triangles(faces), self.rotations[0], height, colour=colour
        )

    def save(self, path: str | Path) -> None:
        """Write the person to a file, completely or not at all.

        An existing file is overwritten; missing folders are made.

        Args:
            path: its suffix selects the format: `.npz` (see `people_npz`), `.json` (see
                `people_json`), or the mesh as `.obj`, `.ply` or `.glb`.

        Raises:
            UserError: another suffix, a mesh without faces, or a file that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".npz":
            content = people_npz([self], self.faces)
        elif suffix == ".json":
            content = people_json([self]).encode()
        elif suffix in MESH_SUFFIXES:
            content = mesh_bytes([self.to_mesh()], suffix)
        else:
            known = ", ".join((".npz", ".json", *MESH_SUFFIXES))
            raise UserError(f"cannot save a person as {path}: use a name ending in {known}")
        write_together(path.parent, {path.name: content})


@dataclasses.dataclass(frozen=True)
class SavedPeople:
    """The content of a file that `people_npz` wrote.

    Attributes:
        people: with the file's faces; vertices are (0, 3) if the file has none or they were not
            read.
        photo_size: width and height, pixels, if known.
        frame_rate: of a clip, frames a second.
        full_camera: see `scene`; None in files without photo_size.
        full_translations: of each person in the frame of the full camera, metres.
    """

    people: list[Person]
    photo_size: tuple[int, int] | None
    frame_rate: float | None
    full_camera: Camera | None = None
    full_translations: Float[np.ndarray, "people 3"] | None = None


def read_people(path: str | Path, *, vertices: bool = True) -> SavedPeople:
    """Read a file that `people_npz` or `Person.save` wrote.

    Args:
        path: the file.
        vertices: whether to read vertices; a track's may exceed the memory.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    fields = read_arrays(path, without=() if vertices else ("vertices",))
    if "joint_names" not in fields:
        raise UserError(
            f"{path} has no people, because joint_names is missing; give a file that "
            "pare_jax.predict wrote"
        )
    size, rate = fields.get("photo_size"), fields.get("frame_rate")
    try:
        people = list(people_of_arrays(fields))
        camera = None
        if "full_focal_length" in fields:
            x, y = fields["full_principal_point"]
            camera = Camera(float(fields["full_focal_length"]), (float(x), float(y)))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} has no people that can be read ({error}); give a file that pare_jax.predict "
            "wrote"
        ) from None
    return SavedPeople(
        people,
        None if size is None else (int(size[0]), int(size[1])),
        None if rate is None else float(rate),
        camera,
        None if camera is None else fields.get("full_translation", np.zeros((0, 3), np.float32)),
    )


def people_of_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[Person]:
    """Yield the people of arrays from `people_arrays`; their fields are views.

    Args:
        arrays: if they have no vertices, the people's are (0, 3).

    Raises:
        KeyError, IndexError, TypeError: the arrays are not from `people_arrays`.
    """
    each = {name: arrays[name] for name in PERSON_FIELDS if name in arrays}
    count = len(each["betas"]) if each else 0
    each.setdefault("vertices", np.zeros((count, 0, 3), np.float32))
    source = str(arrays.get("full_focal_length_from", ASSUMED))
    focal_length = None if source == ASSUMED else float(arrays["full_focal_length"])
    keypoint_set = str(arrays["keypoint_set"]) if "keypoint_set" in arrays else None
    for number in range(count):
        own = {name: rows[number] for name, rows in each.items()}
        own["keypoint_set"] = keypoint_set
        yield Person(
            faces=arrays.get("faces"),
            full_focal_length=focal_length,
            full_focal_length_from=source,
            **_restored(own),
        )


def _restored(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return one person's fields with the types of `Person`."""
    result = dict(fields)
    if "keypoints" in fields and not np.any(fields["keypoints"][:, 2] > 0):
        result |= dict.fromkeys(KEYPOINT_FIELDS)
        fields = {name: value for name, value in fields.items() if name not in KEYPOINT_FIELDS}
    if "fit_error" in fields and str(fields["fit_problems"]) == NOT_FITTED:
        result |= {"fit_error": None, "fit_problems": None, "fit_ignored": None}
    elif "fit_error" in fields:
        result["fit_error"] = float(fields["fit_error"])
        result["fit_problems"] = str(fields["fit_problems"])
    for name in ("focal_length", "crop_side"):
        result[name] = float(fields[name])
    for name, unknown in UNKNOWN.items():
        value = fields.get(name, unknown)
        is_real = isinstance(unknown, float) and np.isnan(unknown)
        known = np.isfinite(value) if is_real else value != unknown
        result[name] = (float(value) if is_real else int(value)) if known else None
    return result
