"""What a prediction says of one person, in a form that needs no jax to read or keep.

Coordinates follow `data_pipelines/example.py`: photo pixels are continuous with the origin at the
top-left corner; the camera frame is x right, y down, z forward, in metres.
"""

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.example import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.files import write_together
from pare_jax.images import Picture, crop_to_photo
from pare_jax.rendering.camera import Camera
from pare_jax.skeleton import JOINT_NAMES, NUM_BETAS, NUM_JOINTS

# A box this many times larger than the picture is a mistake: of a person in it nothing can be seen.
_LARGEST_BOX = 20.0


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
        """Return every field by name as 32-bit floats; one that is None is left out."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: np.asarray(value, np.float32)
            for name, value in fields.items()
            if value is not None
        }

    def save(self, path: str | Path) -> None:
        """Write `arrays` into an .npz file; the file is there whole or not at all."""
        path = Path(path)
        write_together(path.parent, {path.name: npz_bytes(self.arrays())})


def check_box(box: Sequence[float], height: int, width: int) -> Float[np.ndarray, "4"]:
    """Return a box as float64 after checking that a person can be in it.

    Args:
        box: x0, y0, x1, y1 in pixels of the photograph; it may reach beyond the photograph.
        height: of the photograph.
        width: of the photograph.

    Raises:
        UserError: not four finite numbers, corners swapped, less than a pixel wide or high, many
            times larger than the photograph, or nowhere in it.
    """
    try:
        corners = np.asarray(box, np.float64)
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.shape != (4,):
        raise UserError(f"box {_short(box)} is not four numbers x0,y0,x1,y1")
    name = "box " + ",".join(f"{value:g}" for value in corners)
    if not np.isfinite(corners).all():
        raise UserError(f"{name} has a number that is not finite")
    x0, y0, x1, y1 = corners
    if x1 < x0 or y1 < y0:
        raise UserError(f"{name} has its corners swapped: x0,y0 is top left, x1,y1 bottom right")
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise UserError(f"{name} is less than a pixel wide or high; boxes are in pixels")
    if max(x1 - x0, y1 - y0) > _LARGEST_BOX * max(width, height):
        raise UserError(
            f"{name} is more than {_LARGEST_BOX:.0f} times as large as the picture, which is "
            f"{width} x {height} pixels; boxes are in its pixels"
        )
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise UserError(f"{name} lies outside the picture, which is {width} x {height} pixels")
    return corners


def crop_of_box(box: Float[np.ndarray, "4"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Return the centre and side of the square the network sees for a tight box."""
    centre = (box[:2] + box[2:]) / 2.0
    return centre, BOX_SCALE * float((box[2:] - box[:2]).max())


def people_npz(
    people: Sequence[Person], faces: Int[np.ndarray, "faces 3"], picture: Picture
) -> bytes:
    """Encode the people of one photograph as an .npz file.

    Every field of `Person` is there under its name with a leading axis of people, and besides
    `faces` (F, 3), `joint_names` (24,) and `photo_size` (width, height).
    """
    each = [person.arrays() for person in people]
    stacked = {name: np.stack([fields[name] for fields in each]) for name in (each or [{}])[0]}
    stacked["faces"] = np.asarray(faces, np.int32)
    stacked["joint_names"] = np.array(JOINT_NAMES)
    stacked["photo_size"] = np.array(picture.shape[1::-1], np.int32)
    return npz_bytes(stacked)


def people_json(people: Sequence[Person], photo: str, picture: Picture) -> str:
    """Describe the people of one photograph for a reader: rounded, each joint by its name."""
    described = {
        "photo": photo,
        "photo_size_px": list(picture.shape[1::-1]),
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
    """Encode arrays as a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _described(person: Person) -> dict[str, Any]:
    pose = person.pose.reshape(NUM_JOINTS, 3)
    return {
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


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
