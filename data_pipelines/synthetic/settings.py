"""What a synthetic dataset contains: sizes, seed and a number for every difficulty."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from pare_jax.errors import UserError

# Numbers that keep the splits' random streams apart; never renumber, old seeds would change.
SPLITS = {"train": 0, "validation": 1, "test": 2, "test_occluded": 3}
MESHES = ("full", "coarse")
# Raise it with every change to the pictures or labels that the same settings give, so that sets
# prepared before are not taken for new ones.
DRAWING = 2
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
        mesh: "full", or "coarse" for pictures up to about 128 pixels, four times as fast.
        everyday: share of everyday actions; the others are joint angles drawn from the whole
            range of motion.
        yaw: the person is turned by up to this many degrees from facing the camera, either way.
        pitch: the camera looks down or up by up to this many degrees (down more often).
        roll: the camera is turned about its axis by up to this many degrees.
        focal_min: shortest focal length, in millimetres on a 36 x 24 mm film.
        focal_max: longest focal length, in the same measure.
        clutter: 0 a plain background, 1 a very busy one.
        occluders: probability that a thing stands in front of the person.
        occluder_size: largest side of such a thing, as a share of the person's box.
        other_people: probability that another person is in the picture, before or behind.
        truncation: probability that an edge of the photograph cuts the person off.
        truncation_depth: largest share of the person's box beyond that edge.
        light: 0 even light from everywhere, 1 hard light from one side.
        degradation: 0 a clean picture, 1 strong blur, noise, compression and colour cast.
        background_folder: folder of photographs to use as backgrounds; empty: drawn ones.
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
            number = int if field.type is int else (int, float)
            wanted = str if field.type is str else number
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise UserError(
                    f"synthetic setting {field.name!r} is {value!r}; "
                    f"give {'a text' if wanted is str else 'a number'}"
                    f"{' without a fraction' if wanted is int else ''}"
                )
            object.__setattr__(self, field.name, field.type(value))  # 1 and 1.0 are one setting
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
            raise UserError(f"unknown synthetic split {split!r}; there are {', '.join(SPLITS)}")
        return getattr(self, split)

    def digest(self) -> str:
        """Return 10 hex digits that differ when the pictures or labels would differ."""
        values = dataclasses.asdict(self) | {"drawing": DRAWING}
        values["photos"] = [(path.name, path.stat().st_size) for path in self.photos()]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def name(self) -> str:
        """Return a name for the dataset that a person can read and that tells settings apart."""
        return f"{self.image_size}px_{self.train}_{self.digest()}"

    def photos(self) -> list[Path]:
        """Return the background photographs in a fixed order; empty when they are drawn.

        Raises:
            UserError: the folder does not exist or holds no picture.
        """
        if not self.background_folder:
            return []
        folder = Path(self.background_folder)
        if not folder.is_dir():
            raise UserError(f"no folder of background photographs at {folder}; name one that is")
        photos = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()
        )
        if not photos:
            endings = ", ".join(PHOTO_SUFFIXES)
            raise UserError(f"no photograph ({endings}) in {folder}; name a folder that has some")
        for photo in photos:
            # Looks at the first bytes only; better now than after hours of drawing.
            if not cv2.haveImageReader(str(photo)):
                raise UserError(
                    f"cannot read the background photograph {photo}; remove or replace it"
                )
        return photos


def from_mapping(values: Mapping[str, Any]) -> SyntheticSettings:
    """Make settings from a mapping (a config's `data.synthetic`, or command-line pairs).

    Args:
        values: field names to values; whole numbers are accepted for fields with fractions.

    Returns:
        The settings, defaults where `values` says nothing.

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
