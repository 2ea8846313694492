"""What a prediction says of one person, in a form that needs no jax to read or keep.

Coordinates follow `data_pipelines/example.py`: photo pixels are continuous with the origin at the
top-left corner; the camera frame is x right, y down, z forward, in metres.
"""

import dataclasses
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pare_jax.errors import UserError
from pare_jax.files import write_together
from pare_jax.images import Picture, crop_to_photo
from pare_jax.meshes.files import MESH_SUFFIXES, mesh_bytes
from pare_jax.meshes.mesh import Mesh
from pare_jax.rendering.camera import Camera
from pare_jax.rendering.overlay import side_and_back_view
from pare_jax.rendering.people import draw_people, person_colour, person_number
from pare_jax.skeleton import JOINT_NAMES, NUM_BETAS, NUM_JOINTS

# What stands in a file where only some people have a number of this name.
_UNKNOWN = {"id": -1, "frame": -1, "score": math.nan}

Faces = Int[np.ndarray, "faces 3"]


@dataclasses.dataclass(frozen=True)
class Person:
    """One person's parameters, body and camera.

    The camera is the network crop's own, written for the whole photograph: its axes are the
    crop camera's, its principal point the crop's centre, its focal length the crop's 5000 px (at
    224 px) in pixels of the photograph. So it draws the very pixels that the crop's camera drew,
    anywhere in the photograph.

    Attributes:
        betas: shape coefficients.
        rotations: of each joint relative to its parent, the root's into the camera frame.
        pose: the same as 24 axis-angle vectors, radians, flattened.
        camera_crop: the network's own (s, tx, ty), see `pare_jax.geometry.camera_translation`.
        translation: of the body in the camera frame, metres; joints_3d and vertices contain it.
        focal_length: pixels of the photograph.
        principal_point: pixels of the photograph (x, y).
        joints_3d: camera frame, metres.
        joints_2d: their pixels in the photograph; they may lie outside of it.
        vertices: camera frame, metres.
        box: the person's box as given (x0, y0, x1, y1), pixels of the photograph.
        crop_centre: of the square the network saw, pixels of the photograph.
        crop_side: of that square, pixels of the photograph.
        attention: where in the crop each joint was read off, each map summing to 1; None for a
            network without attention.
        faces: triangles of the mesh, counter-clockwise seen from outside; the same array for all
            people of a predictor.
        id: the same number for the same person of a clip; None for photographs.
        frame: number of the clip's frame, from 0.
        score: the detector's confidence in the box, 0 to 1; None for a box that was given.
    """

    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "24 3 3"]
    pose: Float[np.ndarray, "72"]
    camera_crop: Float[np.ndarray, "3"]
    translation: Float[np.ndarray, "3"]
    focal_length: float
    principal_point: Float[np.ndarray, "2"]
    joints_3d: Float[np.ndarray, "24 3"]
    joints_2d: Float[np.ndarray, "24 2"]
    vertices: Float[np.ndarray, "vertices 3"]
    box: Float[np.ndarray, "4"]
    crop_centre: Float[np.ndarray, "2"]
    crop_side: float
    attention: Float[np.ndarray, "h w 24"] | None = None
    faces: Int[np.ndarray, "faces 3"] | None = dataclasses.field(default=None, repr=False)
    id: int | None = None
    frame: int | None = None
    score: float | None = None

    @property
    def camera(self) -> Camera:
        """The photograph's camera, as the drawing functions take it."""
        x, y = self.principal_point
        return Camera(self.focal_length, (float(x), float(y)))

    @property
    def crop_to_photo(self) -> Float[np.ndarray, "2 3"]:
        """Affine from crop units, [-1, 1] over the crop, to pixels of the photograph."""
        affine = crop_to_photo(self.crop_centre, self.crop_side, 2)
        affine[:, 2] = self.crop_centre
        return affine

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every field but the faces by name; one that is None is left out.

        Numbers are 32 bits wide: integers for `id` and `frame`, floats for all others.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["faces"]
        return {
            name: np.asarray(value, np.int32 if name in ("id", "frame") else np.float32)
            for name, value in fields.items()
            if value is not None
        }

    def triangles(self, faces: Faces | None = None) -> Faces:
        """Return `faces`, or else the person's own.

        Raises:
            UserError: there are neither.
        """
        faces = self.faces if faces is None else faces
        if faces is None:
            raise UserError("this person has no faces; give those of the predictor, `.faces`")
        return faces

    def to_mesh(self, faces: Faces | None = None) -> Mesh:
        """Return the body's surface; `pare_jax.scene` puts several people's together.

        Args:
            faces: None: the person's own.

        Raises:
            UserError: there are no faces, or the person was kept without vertices.
        """
        triangles = self.triangles(faces)
        if not len(self.vertices):
            raise UserError("this person was kept without its mesh; predict it again")
        colour = person_colour(self, 0)
        return Mesh(self.vertices, triangles, colour, f"person {person_number(self, 0)}")

    def to_glb(self, faces: Faces | None = None) -> bytes:
        """Return the body as a GLB file's content, in the viewer's frame (`pare_jax.meshes.mesh`).

        Nothing is written; `save` writes files.

        Args:
            faces: None: the person's own.

        Raises:
            UserError: as `to_mesh`.
        """
        return mesh_bytes([self.to_mesh(faces)], ".glb")

    def overlay(self, image: Picture, faces: Faces | None = None) -> Picture:
        """Draw the body and the box over the photograph, in the photograph's own size.

        Args:
            image: the photograph, (height, width, 3) uint8.
            faces: None: the person's own.

        Raises:
            UserError: there are no faces.
        """
        return draw_people(image, [self], faces, max_side=max(image.shape[:2]))

    def side_and_back_view(self, height: int = 480, faces: Faces | None = None) -> Picture:
        """Draw the body from the side and from behind on plain ground.

        Args:
            height: of the two panels, pixels.
            faces: None: the person's own.

        Returns:
            The panels side by side, each three quarters as wide as high, and below them a strip
            with their captions: of `height` 480, (520, 724, 3).

        Raises:
            UserError: there are no faces.
        """
        colour = person_colour(self, 0)
        return side_and_back_view(self.vertices, self.triangles(faces), height, colour=colour)

    def save(self, path: str | Path) -> None:
        """Write one file about the person; it is there whole or not at all.

        A file of that name is overwritten, and folders of the path that are missing are made.

        Args:
            path: its suffix says what: `.npz` as `people_npz` and `.json` as `people_json` write
                them for several people, `.obj`, `.ply` or `.glb` the mesh.

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
            raise UserError(f"{path}: people are saved as {known}; choose one of these endings")
        write_together(path.parent, {path.name: content})


_PERSON_FIELDS = tuple(field.name for field in dataclasses.fields(Person) if field.name != "faces")


def people_npz(
    people: Sequence[Person],
    faces: Faces | None,
    photo_size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
    mesh: bool = True,
) -> bytes:
    """Encode the people of one photograph, or one person in frames of a clip, as an .npz file.

    Every field of `Person` is there under its name with a leading axis of people, and besides
    `faces` (F, 3), `joint_names` (24,), `photo_size` (width, height) and `frame_rate`, each where
    it is known. Where only some people have an id, a frame or a score, the others have -1, -1, NaN.

    Args:
        people: any number.
        faces: of their meshes.
        photo_size: width and height of the photograph or of the clip's frames, pixels, if known.
        frame_rate: of the clip, frames a second.
        mesh: whether vertices and faces are kept; long tracks are large with them.
    """
    arrays = people_arrays(people, faces, photo_size, frame_rate)
    if not mesh:
        arrays.pop("vertices", None)
        arrays.pop("faces", None)
    return npz_bytes(arrays)


def people_arrays(
    people: Sequence[Person],
    faces: Faces | None,
    photo_size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays that `people_npz` writes, meshes included."""
    stacked = _stacked([person.arrays() for person in people])
    if "frame" in stacked:  # NaN says that the box was given; 0, that there is none in this frame
        stacked.setdefault("score", np.full(len(people), np.nan, np.float32))
    if faces is not None:
        stacked["faces"] = np.asarray(faces, np.int32)
    stacked["joint_names"] = np.array(JOINT_NAMES)
    if photo_size is not None:
        stacked["photo_size"] = np.array(photo_size, np.int32)
    if frame_rate is not None:
        stacked["frame_rate"] = np.array(frame_rate, np.float64)
    return stacked


@dataclasses.dataclass(frozen=True)
class SavedPeople:
    """What `people_npz` wrote.

    Attributes:
        people: with the file's faces; their vertices are (0, 3) if the file has no mesh.
        photo_size: width and height, pixels, if known.
        frame_rate: frames a second, of a clip.
    """

    people: list[Person]
    photo_size: tuple[int, int] | None
    frame_rate: float | None


def read_people(path: str | Path) -> SavedPeople:
    """Read a file that `people_npz` or `Person.save` wrote.

    Raises:
        UserError: it is missing, damaged or something else.
    """
    fields = _read_arrays(path)
    if "joint_names" not in fields:
        raise UserError(f"{path} holds no people: it has no joint_names")
    size, rate = fields.get("photo_size"), fields.get("frame_rate")
    shared = {"faces": fields.get("faces")}
    each = {name: fields[name] for name in _PERSON_FIELDS if name in fields}
    try:
        count = len(each["betas"]) if each else 0
        each.setdefault("vertices", np.zeros((count, 0, 3), np.float32))
        people = [
            Person(**shared, **_restored({name: rows[i] for name, rows in each.items()}))
            for i in range(count)
        ]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} holds people of another kind: {error}") from None
    return SavedPeople(
        people,
        None if size is None else (int(size[0]), int(size[1])),
        None if rate is None else float(rate),
    )


def _read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            is_archive = file.read(2) == b"PK"
        if not is_archive:
            raise UserError(
                f"{path} is not a readable .npz file; give one that pare_jax.predict wrote"
            )
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except UserError:
        raise
    # A damaged archive raises whatever zlib, zipfile or numpy stumble over.
    except Exception as error:
        # NumPy would have the user unpickle what an array of objects holds.
        is_pickle = "allow_pickle" in str(error)
        reason = "it holds Python objects" if is_pickle else " ".join(str(error).split())
        raise UserError(f"{path} is not a readable .npz file ({reason})") from None


def people_json(
    people: Sequence[Person],
    photo: str | None = None,
    photo_size: tuple[int, int] | None = None,
) -> str:
    """Describe the people of one photograph for a reader: rounded, each joint by its name.

    Args:
        people: any number.
        photo: what the photograph is called, if known.
        photo_size: its width and height, pixels, if known.
    """
    described: dict[str, Any] = {} if photo is None else {"photo": photo}
    if photo_size is not None:
        described["photo_size_px"] = list(photo_size)
    described |= {
        "units": {
            "px": "pixels of the photograph from its top-left corner, x right, y down",
            "m": "metres in the camera's frame, x right, y down, z forward",
            "rotations": "axis-angle in radians, relative to the parent joint",
        },
        "people": [_described(person) for person in people],
    }
    text = json.dumps(described, indent=2, allow_nan=False)
    # Lists of numbers on one line each.
    numbers = re.compile(r"\[\s+([-+\d.eE,\s]+?)\s+\]")
    return numbers.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode arrays as an .npz file; equal arrays make equal files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=1) as archive:
        for name, value in arrays.items():
            value = np.asanyarray(value)
            content = io.BytesIO()
            np.lib.format.write_array(content, value, allow_pickle=False)
            archive.writestr(npz_entry(name, value.dtype), content.getbuffer(), compresslevel=1)
    return buffer.getvalue()


def npz_entry(name: str, kind: np.dtype | type) -> zipfile.ZipInfo:
    """Return what an array of some kind is in an .npz file, for a `zipfile.ZipFile`.

    Fractions are stored as they are: their digits are noise that hardly shrinks, and compressing
    them would take most of the time. All else is compressed.
    """
    # The time in an archive says nothing; without it equal arrays make equal files.
    entry = zipfile.ZipInfo(f"{name}.npy")
    is_noise = np.issubdtype(kind, np.inexact)
    entry.compress_type = zipfile.ZIP_STORED if is_noise else zipfile.ZIP_DEFLATED
    return entry


def _stacked(each: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Fields with a leading axis of people; what some lack is filled in or left out."""
    names = dict.fromkeys(name for fields in each for name in fields)
    result = {}
    for name in names:
        if name in _UNKNOWN:
            unknown = np.asarray(_UNKNOWN[name], np.float32 if name == "score" else np.int32)
            result[name] = np.stack([fields.get(name, unknown) for fields in each])
        elif all(name in fields for fields in each):
            result[name] = np.stack([fields[name] for fields in each])
    return result


def _restored(fields: Mapping[str, Any]) -> dict[str, Any]:
    """One person's fields as `Person` has them."""
    result = dict(fields)
    for name in ("focal_length", "crop_side"):
        result[name] = float(fields[name])
    for name, unknown in _UNKNOWN.items():
        value = fields.get(name, unknown)
        known = np.isfinite(value) if name == "score" else value != unknown
        result[name] = (float(value) if name == "score" else int(value)) if known else None
    return result


def _described(person: Person) -> dict[str, Any]:
    pose = person.pose.reshape(NUM_JOINTS, 3)
    given = {"id": person.id, "frame": person.frame, "score": person.score}
    known = {name: value for name, value in given.items() if value is not None}
    if person.frame is not None:
        known["score"] = person.score  # null: the box was given; 0: there is none in this frame
    return {
        **known,
        "box_px": _rounded(person.box, 1),
        "crop": {
            "centre_px": _rounded(person.crop_centre, 1),
            "side_px": _rounded(person.crop_side, 1),
        },
        "camera": {
            "focal_length_px": _rounded(person.focal_length, 2),
            "principal_point_px": _rounded(person.principal_point, 2),
            "translation_m": _rounded(person.translation, 4),
            "crop_s_tx_ty": _rounded(person.camera_crop, 5),
        },
        "betas": _rounded(person.betas[:NUM_BETAS], 4),
        "joints": {
            name: {
                "photo_px": _rounded(person.joints_2d[joint], 1),
                "camera_m": _rounded(person.joints_3d[joint], 4),
                "rotation": _rounded(pose[joint], 4),
            }
            for joint, name in enumerate(JOINT_NAMES)
        },
    }


def _rounded(values: Any, digits: int) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()
