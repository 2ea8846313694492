"""Settings of a synthetic dataset: sizes, seed and a number for every difficulty."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from pare_jax.errors import UserError

# Part of each split's random seed. Never renumber: every picture would change.
SPLITS = {"train": 0, "validation": 1, "test": 2, "test_occluded": 3}
MESHES = ("full", "coarse")
# Raise it with every change to the pictures or labels that the same settings give. Datasets of an
# earlier version are then prepared again.
DRAWING = 5
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_PROBABILITIES = (
    "everyday",
    "clutter",
    "occluders",
    "other_people",
    "truncation",
    "truncation_depth",
    "light",
    "degradation",
)
# For each field's type, the types of its values and their description.
_ACCEPTED = {
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "a string"),
}


@dataclasses.dataclass(frozen=True)
class SyntheticSettings:
    """Settings of a synthetic dataset; examples are a function of these, the split and the index.

    Attributes:
        seed: start of every random stream.
        train: number of people in the training split.
        validation: number of people in the validation split.
        test: number of people in the test split.
        test_occluded: number of people in the split that has an occluder in every picture.
        image_size: side of the stored crop in pixels, CROP_MARGIN times the nominal crop's side.
        mesh: "full", or "coarse" for pictures up to about 128 pixels.
        everyday: share of everyday actions; the other poses are drawn from the whole range of
            motion.
        yaw: largest turn of the person away from facing the camera, degrees.
        pitch: largest angle by which the camera looks down (more often) or up, degrees.
        roll: largest turn of the camera about its axis, degrees.
        focal_min: shortest focal length, in millimetres on a 36 x 24 mm film.
        focal_max: longest focal length, in millimetres on a 36 x 24 mm film.
        clutter: 0 for a plain background, 1 for a very busy one.
        occluders: probability of an object in front of the person.
        occluder_size: largest side of such an object, as a share of the person's box.
        other_people: probability of another person, in front or behind.
        truncation: probability that an edge of the photograph cuts the person off.
        truncation_depth: largest share of the person's box beyond that edge.
        light: 0 for even light from everywhere, 1 for hard light from one side.
        degradation: 0 for a clean picture, 1 for strong blur, noise, compression and colour cast.
        background_folder: folder of photographs to use as backgrounds; empty draws backgrounds.
    """

    seed: int = 0
    train: int = 30_000
    validation: int = 1_000
    test: int = 2_000
    test_occluded: int = 2_000
    image_size: int = 96
    mesh: str = "coarse"
    everyday: float = 0.85
    yaw: float = 180.0
    pitch: float = 25.0
    roll: float = 6.0
    focal_min: float = 35.0
    focal_max: float = 85.0
    clutter: float = 0.4
    occluders: float = 0.3
    occluder_size: float = 0.45
    other_people: float = 0.1
    truncation: float = 0.15
    truncation_depth: float = 0.5
    light: float = 0.5
    degradation: float = 0.3
    background_folder: str = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            accepted, kind = _ACCEPTED[field.type]
            if not isinstance(value, accepted) or isinstance(value, bool):
                raise UserError(f"synthetic setting {field.name!r} is {value!r}; give {kind}")
            # 1 and 1.0 get one digest.
            object.__setattr__(self, field.name, field.type(value))
        for name in _PROBABILITIES:
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "between 0 and 1")
        for name in SPLITS:
            self._check(name, 0 <= getattr(self, name) < 2**31, "0 or more")
        self._check("seed", 0 <= self.seed < 2**63, "0 or more")
        self._check("image_size", 32 <= self.image_size <= 2048, "between 32 and 2048")
        self._check("image_size", self.image_size % 2 == 0, "even")
        self._check("mesh", self.mesh in MESHES, f"one of {', '.join(MESHES)}")
        self._check("yaw", 0.0 <= self.yaw <= 180.0, "between 0 and 180 degrees")
        self._check("pitch", 0.0 <= self.pitch <= 60.0, "between 0 and 60 degrees")
        self._check("roll", 0.0 <= self.roll <= 45.0, "between 0 and 45 degrees")
        self._check("focal_min", 10.0 <= self.focal_min <= 300.0, "between 10 and 300 mm")
        self._check("focal_max", self.focal_min <= self.focal_max <= 300.0, "focal_min to 300 mm")
        self._check("occluder_size", 0.1 <= self.occluder_size <= 1.0, "between 0.1 and 1")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            value = getattr(self, name)
            raise UserError(f"synthetic setting {name!r} is {value!r}; it must be {wanted}")

    def size(self, split: str) -> int:
        """Return the number of examples in `split`; raises UserError for an unknown split."""
        if split not in SPLITS:
            raise UserError(f"unknown synthetic split {split!r}; choose from {', '.join(SPLITS)}")
        return getattr(self, split)

    def digest(self) -> str:
        """Return 10 hex digits that identify the pictures and labels of these settings."""
        values = dataclasses.asdict(self) | {"drawing": DRAWING}
        values["photos"] = [(path.name, path.stat().st_size) for path in self.photos()]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def name(self) -> str:
        """Return a readable name for the dataset, different for different settings."""
        return f"{self.image_size}px_{self.train}_{self.digest()}"

    def photos(self) -> list[Path]:
        """Return the background photographs in a fixed order; empty for drawn backgrounds.

        Raises:
            UserError: the folder is missing, has no photograph, or has one that cannot be read.
        """
        if not self.background_folder:
            return []
        folder = Path(self.background_folder)
        if not folder.is_dir():
            raise UserError(
                f"background_folder: {folder} is not a folder; name a folder of photographs"
            )
        photos = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()
        )
        if not photos:
            endings = ", ".join(PHOTO_SUFFIXES)
            raise UserError(
                f"background_folder: {folder} has no photograph ({endings}); name another folder"
            )
        for photo in photos:
            # Reads the first bytes only. A bad file is reported now, not after hours of drawing.
            if not cv2.haveImageReader(str(photo)):
                raise UserError(
                    f"cannot read the background photograph {photo}; remove or replace it"
                )
        return photos


def from_mapping(values: Mapping[str, Any]) -> SyntheticSettings:
    """Make settings from a mapping (a config's `data.synthetic`, or command-line pairs).

    Args:
        values: field names to values; float fields accept integers.

    Returns:
        The settings, with defaults for missing names.

    Raises:
        UserError: a name is unknown or a value is out of its range.
    """
    known = [field.name for field in dataclasses.fields(SyntheticSettings)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UserError(f"unknown synthetic setting {name!r}; {hint}")
    return SyntheticSettings(**values)
