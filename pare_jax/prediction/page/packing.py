"""Encodes pictures and bodies for a page in few bytes."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped

from pare_jax.body.io import BodyData
from pare_jax.body.numpy_body import skin_transforms, vertices_and_joints
from pare_jax.errors import UserError
from pare_jax.io.images import Picture, read_photograph
from pare_jax.io.media import Clip, FrameReader
from pare_jax.meshes.animation import four_weights, rest_body
from pare_jax.meshes.mesh import to_viewer
from pare_jax.prediction.drawing import person_colour, person_number
from pare_jax.prediction.person import Person
from pare_jax.prediction.scene import scene_translation
from pare_jax.skeleton import JOINT_NAMES

# The longer side of a card's picture, pixels, and its JPEG quality: some 40 kB.
THUMBNAIL_SIDE = 480
_JPEG_QUALITY = 80
_STEPS = 65535  # of a quantised coordinate: 0.03 mm for a person


class Data:
    """Numbers and descriptions for the page's script.

    Arrays are base64 in `<script type="text/plain">` elements, which the browser does not decode
    until a body is shown. An array that several bodies share is stored once.
    """

    def __init__(self, body: BodyData | None):
        """Start without scenes; `body` poses people who have no vertices."""
        self.scenes: list[dict[str, Any]] = []
        self._body = body
        self._blocks: dict[str, str] = {}
        self._known: dict[bytes, str] = {}

    def photo_scene(
        self, title: str, people: Sequence[Person], photo_size: tuple[int, int] | None
    ) -> int:
        """Store the people of a photograph in one scene, and return the scene's number."""
        described = [
            self._described(person, number, self._still(person, photo_size))
            for number, person in enumerate(people)
        ]
        return self._add({"title": title, "people": described})

    def track_scene(self, title: str, people: Sequence[Person], number: int, rate: float) -> int:
        """Store a track with the pelvis at the origin, and return the scene's number."""
        people = sorted(people, key=lambda person: person.frame or 0)
        return self._add(
            {"title": title, "people": [self._described(people[0], number, self._moving(people))]}
            | {"frames": [_place_in_clip(person, rate) for person in people], "rate": rate}
        )

    def has_bodies(self, scene: int) -> bool:
        """Return whether a scene has a body for the 3D view."""
        return any(person["body"] for person in self.scenes[scene]["people"])

    def html(self) -> str:
        """Return the elements with all data."""
        run = {"joints": [name.replace("_", " ") for name in JOINT_NAMES], "scenes": self.scenes}
        blocks = [
            f'<script type="text/plain" id="{name}">{text}</script>'
            for name, text in self._blocks.items()
        ]
        # "<" occurs only in JSON's strings, where the escape is equivalent.
        text = json.dumps(run, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        return "\n".join([*blocks, f'<script type="application/json" id="run">{text}</script>'])

    def _add(self, scene: dict[str, Any]) -> int:
        self.scenes.append(scene)
        return len(self.scenes) - 1

    def _described(self, person: Person, number: int, body: dict[str, Any] | None) -> Any:
        relative = person.joints_3d - person.joints_3d[0]
        return {
            "label": f"person {person_number(person, number)}",
            "colour": list(person_colour(person, number)),
            "box": np.round(person.box).astype(int).tolist(),
            "joints": [
                [*np.round(pixel, 1).tolist(), *np.round(place, 3).tolist()]
                for pixel, place in zip(
                    person.joints_2d.astype(np.float64), relative.astype(np.float64), strict=True
                )
            ],
            "body": body,
        }

    def _still(self, person: Person, photo_size: tuple[int, int] | None) -> dict[str, Any] | None:
        faces, vertices = person.faces, person.vertices
        if not len(vertices) and self._body is not None:
            betas, rotations = (
                np.asarray(value, np.float64) for value in (person.betas, person.rotations)
            )
            vertices, _ = vertices_and_joints(self._body, betas, rotations)
            vertices, faces = vertices + person.translation, self._body.faces
        if faces is None and self._body is not None:
            faces = self._body.faces
        if faces is None or not len(vertices):
            return None
        if photo_size is not None:
            vertices = vertices + scene_translation(person, photo_size) - person.translation
        axes = np.round(to_viewer(person.rotations[0].T.astype(np.float64)), 3)
        return self._mesh(to_viewer(vertices), faces) | {"axes": axes.tolist()}

    def _moving(self, people: Sequence[Person]) -> dict[str, Any] | None:
        if self._body is None:
            return None
        betas = np.stack([person.betas for person in people]).mean(0, dtype=np.float64)
        rotations = np.stack([person.rotations for person in people]).astype(np.float64)
        shape = np.tile(betas, (len(people), 1))
        transforms, joints = skin_transforms(self._body, shape, rotations)
        transforms[..., 3] -= joints[:, :1]
        # In the viewer's frame the second and third rows have the other sign.
        transforms *= np.array([1.0, -1.0, -1.0])[:, None]
        places, weights = four_weights(self._body.weights)
        skin = np.concatenate([places, np.round(weights * 255).astype(np.uint8)], 1)
        mesh = self._mesh(rest_body(self._body, betas)[0], self._body.faces)
        return mesh | {
            "skin": self._block(skin),
            "matrices": self._block(transforms.astype("<f4")),
        }

    def _mesh(
        self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
    ) -> dict[str, Any]:
        columns = np.ascontiguousarray(vertices.T)  # NumPy is slow on short rows
        low, high = columns.min(1), columns.max(1)
        size = np.maximum(high - low, 1e-6)
        steps = np.round((vertices - low) / size * _STEPS).astype("<u2")
        wide = len(vertices) > _STEPS
        return {
            "vertices": self._block(steps),
            "faces": self._block(np.asarray(faces, "<u4" if wide else "<u2")),
            "wide": wide,
            "low": np.round(low, 5).tolist(),
            "size": np.round(size, 5).tolist(),
        }

    def _block(self, values: Shaped[np.ndarray, "..."]) -> str:
        content = np.ascontiguousarray(values).tobytes()
        digest = hashlib.sha256(content).digest()
        if digest not in self._known:
            name = f"d{len(self._known)}"
            self._known[digest] = name
            self._blocks[name] = base64.b64encode(content).decode("ascii")
        return self._known[digest]


def thumbnail(picture: Picture | Path) -> tuple[str, int, int]:
    """Return a small JPEG as a data URL, its width and its height.

    Raises:
        UserError: the file cannot be read.
    """
    if isinstance(picture, Path):
        # A JPEG is shrunk while it is decoded, but not below the thumbnail's size.
        picture = read_photograph(picture, least_side=THUMBNAIL_SIDE).image
    scale = min(1.0, THUMBNAIL_SIDE / max(picture.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in picture.shape[1::-1])
    # Down to a half, bilinear sampling uses every pixel and is several times as fast as areas.
    kind = cv2.INTER_LINEAR if scale >= 0.5 else cv2.INTER_AREA
    small = cv2.resize(picture, (width, height), interpolation=kind)
    bgr = np.ascontiguousarray(small[..., ::-1])
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data_url("image/jpeg", content.tobytes()), width, height


def first_frame(video: Path) -> Picture | None:
    """Return a video's first frame; None if it cannot be read."""
    with contextlib.suppress(UserError), FrameReader(Clip(video)) as reader:
        return next(iter(reader)).image
    return None


def _place_in_clip(person: Person, rate: float) -> float:
    """Return a person's time in frames of the clip's mean rate, which the page plays."""
    return (person.frame or 0) if person.time is None else round(person.time * rate, 3)


def data_url(kind: str, content: bytes) -> str:
    """Return bytes of a media type as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def embedded_file(path: Path, kind: str) -> str:
    """Return a file's content as a data URL.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return data_url(kind, path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
