"""Reads the MPII Human Pose release into stored examples: photographs with 2D joints.

    SOURCE/mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat
    SOURCE/images/*.jpg

Every annotated person of the training images becomes an example. The test images' joints were never
released. Images of one video show the same people, so that splits are made by video: a hash of its
number puts about a tenth of the videos into "validation", the rest into "train". An image without
a video number is assigned by its own name.

Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR
2014.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.example import CROP_MARGIN, unknown_labels
from data_pipelines.preparing.origin import fingerprint
from data_pipelines.releases.mpii_annotations import AnnotatedImage, MpiiPerson, read_annotations
from data_pipelines.releases.release import STORED_SIDE, Skipped, UnitResult, existing_folder
from data_pipelines.releases.stored_crop import (
    BrokenPhotographError,
    StoredCrop,
    inside,
    jpeg_names,
    read_whole_jpeg,
    seems_whole,
)
from pare_jax.errors import UserError, be, counted
from pare_jax.keypoints.sets import MPII16
from pare_jax.skeleton import MPII_HEAD_TOP, MPII_TO_SMPL, NUM_JOINTS, joint_index

ANNOTATIONS = Path("mpii_human_pose_v1_u12_2", "mpii_human_pose_v1_u12_1.mat")
IMAGES = Path("images")
_ARCHIVES = {ANNOTATIONS: "mpii_human_pose_v1_u12_2.zip", IMAGES: "mpii_human_pose_v1.tar.gz"}

_HELD_OUT_SHARE = 0.1
_IMAGES_PER_UNIT = 32

# The usual crop since Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV
# 2016. Its centre is 15 px times the scale below the annotated position, to include the feet. Its
# side is 1.25 times the person's height, which is 200 px times the scale.
_HEIGHT = 200.0
_CENTRE_BELOW_POSITION = 15.0
_SIDE_OVER_HEIGHT = 1.25
# A joint farther outside the photograph than this share of the person's height is a mistake.
_FAR_OUTSIDE = 0.5

_MPII_IDS, _OUR_JOINTS = (list(joints) for joints in zip(*MPII_TO_SMPL, strict=True))
_PELVIS = joint_index("pelvis")
_HIPS = [joint_index("left_hip"), joint_index("right_hip")]


@dataclasses.dataclass(frozen=True)
class Unit:
    """Some photographs, with stamps that change with their files."""

    photographs: tuple[AnnotatedImage, ...]
    stamps: tuple[tuple[int, int] | None, ...]

    @property
    def name(self) -> str:
        """The unit's name in messages."""
        return f"{self.photographs[0].name} and {len(self.photographs) - 1} more"


class Mpii:
    """MPII's release; see `release.RawDataset`."""

    name = "mpii"
    splits = ("train", "validation")

    def __init__(self, source: Path):
        """Check that the folder exists; nothing is read yet.

        Raises:
            UserError: there is no such folder.
        """
        self._source = existing_folder(source)
        self._photographs: list[AnnotatedImage] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes need only the annotations in their units.
        return self.__dict__ | {"_photographs": None}

    def check(self) -> list[str]:
        """Return missing or broken training images and broken annotations, one line each.

        See `RawDataset.check`.
        """
        needed = [photograph.name for photograph in self._annotated() if photograph.people]
        folder = self._source / IMAGES
        present = jpeg_names(folder)
        missing = [name for name in needed if name not in present]
        broken = [name for name in needed if name in present and not seems_whole(folder / name)]
        lines = [
            f"{len(names)} of {counted(len(needed), 'training image')} {be(len(names))} {what} "
            f"{folder}, the first {names[0]}; unpack {_ARCHIVES[IMAGES]} again"
            for names, what in ((missing, "not in"), (broken, "broken or cut short in"))
            if names
        ]
        mistaken: dict[str, list[str]] = {}
        for item in (item for photograph in self._annotated() for item in photograph.skipped):
            if item.broken:
                mistaken.setdefault(item.reason, []).append(item.what)
        return lines + [
            f"{self._source / ANNOTATIONS}: {reason}: {len(people)} of the people, the first "
            f"{people[0]}"
            for reason, people in mistaken.items()
        ]

    def units(self, split: str) -> Sequence[Unit]:
        """Return the split's photographs, 32 per unit; see `RawDataset.units`."""
        if split not in self.splits:
            raise UserError(f"MPII has no split {split!r}; choose from {', '.join(self.splits)}")
        validation = split == "validation"
        chosen = [photo for photo in self._annotated() if held_out(photo) == validation]
        starts = range(0, len(chosen), _IMAGES_PER_UNIT)
        folder = self._source / IMAGES
        pieces = [tuple(chosen[start : start + _IMAGES_PER_UNIT]) for start in starts]
        return [
            Unit(piece, tuple(fingerprint(folder / photo.name) for photo in piece))
            for piece in pieces
        ]

    def read(self, unit: Unit) -> UnitResult:
        """Make the examples of some photographs; see `RawDataset.read`."""
        result = UnitResult()
        for photograph in unit.photographs:
            result.skipped += photograph.skipped
            for found in self._read_photograph(photograph):
                if isinstance(found, Skipped):
                    result.skipped.append(found)
                else:
                    result.examples.append(found)
        return result

    def _annotated(self) -> list[AnnotatedImage]:
        """Return the training images' annotations, read at the first call."""
        if self._photographs is None:
            missing = [path for path in _ARCHIVES if not (self._source / path).exists()]
            if missing:
                raise UserError(
                    f"{self._source} is not the MPII Human Pose release: it lacks "
                    f"{' and '.join(map(str, missing))}; unpack "
                    f"{' and '.join(_ARCHIVES[path] for path in missing)} there"
                )
            self._photographs = read_annotations(self._source / ANNOTATIONS)
        return self._photographs

    def _read_photograph(self, photograph: AnnotatedImage) -> list[dict[str, Any] | Skipped]:
        """Return an example or a `Skipped` per person; decodes the photograph once."""
        if not photograph.people:
            return []
        try:
            picture = read_whole_jpeg(self._source / IMAGES / photograph.name)
            size = np.array([picture.width, picture.height], float)
            mistakes = [_mistake(person, size) for person in photograph.people]
            good = [
                person
                for person, mistake in zip(photograph.people, mistakes, strict=True)
                if not mistake
            ]
            crops = iter(picture.cut([_stored_square(person) for person in good]) if good else [])
        except BrokenPhotographError as error:
            return [_skip(photograph, person, str(error)) for person in photograph.people]
        return [
            _skip(photograph, person, mistake)
            if mistake
            else _example(photograph.name, person, next(crops), size)
            for person, mistake in zip(photograph.people, mistakes, strict=True)
        ]


def held_out(photograph: AnnotatedImage) -> bool:
    """Return whether an image belongs to "validation", by its video or else its name alone."""
    known = photograph.video is not None
    decisive = f"video {photograph.video}" if known else photograph.name
    digest = hashlib.sha256(decisive.encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


def _skip(photograph: AnnotatedImage, person: MpiiPerson, reason: str) -> Skipped:
    return Skipped(f"{photograph.name} person {person.number}", reason)


def _mistake(person: MpiiPerson, size: Float[np.ndarray, "2"]) -> str:
    """Return the mistake in a person's annotation, given the photograph's size, or ""."""
    centre, side = _stored_square(person)
    outside = np.nanmax(np.maximum(-person.joints, person.joints - size))
    if outside > _FAR_OUTSIDE * _HEIGHT * person.scale:
        return "joint far outside the photograph"
    if np.any(np.abs(centre - size / 2.0) >= (size + side) / 2.0):
        return "position far outside the photograph"
    return ""


def _stored_square(person: MpiiPerson) -> tuple[Float[np.ndarray, "2"], float]:
    """Return centre and side of the stored crop, in pixels of the photograph."""
    centre = person.position + np.array([0.0, _CENTRE_BELOW_POSITION * person.scale])
    return centre, CROP_MARGIN * _SIDE_OVER_HEIGHT * _HEIGHT * person.scale


def _example(
    name: str, person: MpiiPerson, crop: StoredCrop, photo_size: Float[np.ndarray, "2"]
) -> dict[str, Any]:
    """Return a person's fields, see `example.STORED_FIELDS`."""
    _, side = _stored_square(person)
    joints, visible = _smpl_joints(person)
    known = np.isfinite(joints[:, 0])
    annotated = np.isfinite(person.joints[:, :1])
    rows = np.concatenate([np.where(annotated, crop.points(person.joints), 0), annotated], axis=1)
    points = MPII16.spread(rows).astype(np.float32)
    in_photo = inside(joints, *photo_size)
    in_crop = crop.points(joints)
    head_top = crop.points(person.joints[[MPII_HEAD_TOP]])[0]
    top_known = np.isfinite(head_top).all()
    return unknown_labels() | {
        "image": crop.image,
        "crop_to_photo": crop.to_photo.astype(np.float32),
        "joints_2d": np.where(known[:, None], in_crop, 0.0).astype(np.float32),
        "joints_2d_weight": known.astype(np.float32),
        "head_top": np.where(top_known, head_top, 0.0).astype(np.float32),
        "head_top_weight": np.float32(top_known),
        "head_size": np.float32(person.head_size * STORED_SIDE / side),
        "points_2d": points[:, :2],
        "points_2d_weight": points[:, 2],
        "visible": ((visible == 1) & in_photo).astype(np.float32),
        "visible_weight": np.isfinite(visible).astype(np.float32),
        "sequence": name,
        "person": np.int32(person.number),
    }


def _smpl_joints(
    person: MpiiPerson,
) -> tuple[Float[np.ndarray, "24 2"], Float[np.ndarray, "24"]]:
    """Return SMPL's joints in the photograph and their visibility, NaN where unknown."""
    joints = np.full((NUM_JOINTS, 2), np.nan)
    visible = np.full(NUM_JOINTS, np.nan)
    joints[_OUR_JOINTS] = person.joints[_MPII_IDS]
    visible[_OUR_JOINTS] = person.visible[_MPII_IDS]
    # NaN if either hip is.
    joints[_PELVIS] = joints[_HIPS].mean(0)
    visible[_PELVIS] = np.minimum(*visible[_HIPS])
    return joints, visible
