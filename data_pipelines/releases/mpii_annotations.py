"""Reads the annotations of the MPII Human Pose release from its MATLAB struct.

    RELEASE.annolist(i)       an image
        .image.name           its file in images/
        .vididx               number of the video it was taken from
        .annorect(p)          a person: x1 y1 x2 y2, the head's box
            .scale            the person's height over 200 pixels
            .objpos           x y, a rough centre
            .annopoints.point(k)  x y id is_visible, a joint; ids as `skeleton.MPII_JOINT_NAMES`
    RELEASE.img_train(i)      1 where the joints were released
    RELEASE.single_person{i}  numbers from 1 of the people that stand apart from the others

MPII's own evaluation counts only the people of `single_person`.

Any field may be missing or empty: images without people, people without joints, scale or position.
Joints come in any order, and `is_visible` is a number, a string or an empty matrix.

MATLAB counts pixels from 1, at their centres. Here the first pixel covers [0, 1), so half a pixel
is subtracted from every position.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.io import loadmat

from data_pipelines.releases.mpii_bounds import check_mat
from data_pipelines.releases.release import Skipped
from pare_jax.errors import UserError, reason_of
from pare_jax.skeleton import MPII_HEAD_TOP, MPII_JOINT_NAMES, MPII_TO_SMPL

# Converts MATLAB's positions to ones from the picture's corner.
_FROM_MATLAB = -0.5
# Length of a head over the diagonal of its box, from MPII's evaluation.
_HEAD_LENGTH = 0.6
_HEAD_BOX = ("x1", "y1", "x2", "y2")


@dataclasses.dataclass(frozen=True)
class MpiiPerson:
    """A person with enough annotations for an example; positions are the photograph's pixels.

    Attributes:
        number: counts the photograph's people from 0.
        position: the rough centre.
        scale: the person's height over 200 pixels, above 0.
        joints: NaN where not annotated.
        visible: 1 for visible, 0 for hidden, NaN for unknown.
        head_size: length of the head in pixels; 0 if unknown or if MPII's own evaluation does not
            count the person.
    """

    number: int
    position: Float[np.ndarray, "2"]
    scale: float
    joints: Float[np.ndarray, "16 2"]
    visible: Float[np.ndarray, "16"]
    head_size: float


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """A training image.

    Attributes:
        name: the file's name.
        video: number of the image's video; None if unknown.
        people: people that become examples.
        skipped: the other people, with reasons.
    """

    name: str
    video: int | None
    people: tuple[MpiiPerson, ...]
    skipped: tuple[Skipped, ...]


def read_annotations(path: Path) -> list[AnnotatedImage]:
    """Read the training images' annotations.

    Args:
        path: mpii_human_pose_v1_u12_1.mat.

    Returns:
        The training images in the release's order.

    Raises:
        UserError: the file cannot be read, is not MPII's struct, or names no training image.
    """
    again = "download and unpack mpii_human_pose_v1_u12_2.zip again"
    try:
        check_mat(path)
        (release,) = _structs(loadmat(path, variable_names=["RELEASE"]).get("RELEASE"))
        images = _structs(release["annolist"])
        is_train = np.asarray(release["img_train"], float).ravel() == 1
        if len(images) != len(is_train):
            raise ValueError(f"{len(images)} images, {len(is_train)} entries of img_train")
        counted = _counted_people(release, len(images))
    # On broken bytes loadmat raises errors of any type, and so do the lines above on other structs.
    except Exception as error:
        reason = reason_of(error, 100)
        raise UserError(
            f"{path} is not a MATLAB file with MPII's struct RELEASE ({reason}); {again}"
        ) from error
    photographs = [
        _photograph(image, who)
        for image, who, train in zip(images, counted, is_train, strict=True)
        if train
    ]
    if not photographs:
        raise UserError(f"{path} names no training images; {again}")
    return photographs


def _counted_people(release: Any, images: int) -> list[set[int] | None]:
    """Return for each image the people that MPII's evaluation counts, from 0; None is everybody.

    Raises:
        ValueError: the number of lists differs from the number of images.
    """
    cells = np.asarray(_field(release, "single_person"), object)
    if _field(release, "single_person") is None or not cells.size:
        return [None] * images
    if cells.size != images:
        raise ValueError(f"{images} images, {cells.size} entries of single_person")
    return [{int(one) - 1 for one in np.asarray(cell, float).ravel()} for cell in cells.ravel()]


def _photograph(image: Any, counted: set[int] | None) -> AnnotatedImage:
    name = next((_text(_field(inner, "name")) for inner in _structs(_field(image, "image"))), "")
    vididx = _number(_field(image, "vididx"))
    video = None if vididx is None or not np.isfinite(vididx) else int(vididx)
    people, skipped = [], []
    rects = _structs(_field(image, "annorect"))
    for number, rect in enumerate(rects):
        found = _person(rect, number)
        if isinstance(found, MpiiPerson):
            counts = counted is None or number in counted
            people.append(found if counts else dataclasses.replace(found, head_size=0.0))
        else:
            reason, broken = found
            skipped.append(Skipped(f"{name} person {number}", reason, broken))
    if not rects:
        skipped.append(Skipped(name, "nobody annotated", broken=False))
    return AnnotatedImage(name, video, tuple(people), tuple(skipped))


def _person(rect: Any, number: int) -> MpiiPerson | tuple[str, bool]:
    """Return the person, or the reason for skipping and whether the file is faulty."""
    joints = np.full((len(MPII_JOINT_NAMES), 2), np.nan)
    visible = np.full(len(MPII_JOINT_NAMES), np.nan)
    points = [
        point
        for annotated in _structs(_field(rect, "annopoints"))
        for point in _structs(_field(annotated, "point"))
    ]
    for point in points:
        joint = _number(_field(point, "id"))
        place = _position(point)
        if joint is None or joint not in range(len(MPII_JOINT_NAMES)):
            return "joint without a known id", True
        if place is None or not np.isfinite(place).all():
            return "joint without a finite position", True
        joints[int(joint)] = place
        seen = _number(_field(point, "is_visible"))
        visible[int(joint)] = np.nan if seen is None or np.isnan(seen) else float(seen > 0)
    if np.isnan(joints[[*(joint for joint, _ in MPII_TO_SMPL), MPII_HEAD_TOP], 0]).all():
        return "no joints annotated", False
    scale = _number(_field(rect, "scale"))
    if scale is None:
        return "no scale annotated", False
    position = next((_position(place) for place in _structs(_field(rect, "objpos"))), None)
    if position is None:
        return "no position annotated", False
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(position).all()):
        return "scale or position not finite", True
    return MpiiPerson(number, position, scale, joints, visible, _head_size(rect))


def _head_size(rect: Any) -> float:
    corners = [_number(_field(rect, name)) for name in _HEAD_BOX]
    x1, y1, x2, y2 = (np.nan if corner is None else corner for corner in corners)
    size = _HEAD_LENGTH * float(np.hypot(x2 - x1, y2 - y1))
    return size if np.isfinite(size) else 0.0


def _position(struct: Any) -> Float[np.ndarray, "2"] | None:
    x, y = _number(_field(struct, "x")), _number(_field(struct, "y"))
    return None if x is None or y is None else np.array([x, y]) + _FROM_MATLAB


def _structs(value: Any) -> list[Any]:
    """Return the elements of a struct array; [] for anything else."""
    array = np.asarray(value)
    return list(array.ravel()) if array.dtype.names else []


def _field(struct: Any, name: str) -> Any:
    return struct[name] if name in struct.dtype.names else None


def _number(value: Any) -> float | None:
    """Return the first number or numeric string; None if empty, NaN if not numeric."""
    array = np.asarray(value).ravel()
    if value is None or not array.size:
        return None
    try:
        return float(array[0])
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    array = np.asarray(value).ravel()
    return str(array[0]) if array.size else ""
