"""The annotations of the MPII Human Pose release: a MATLAB struct in, plain data out.

    RELEASE.annolist(i)       an image
        .image.name           its file in images/
        .vididx               number of the video it was taken from
        .annorect(p)          a person: x1 y1 x2 y2, the head's box
            .scale            the person's height over 200 pixels
            .objpos           x y, a rough centre
            .annopoints.point(k)  x y id is_visible, a joint; ids as `skeleton.MPII_JOINT_NAMES`
    RELEASE.img_train(i)      1 where the joints were released
    RELEASE.single_person{i}  numbers from 1 of the people that stand apart from the others

MPII's own evaluation counts the people of `single_person` alone.

Any of it may be absent or empty: images without people, people without joints, scale or position,
joints in any order, `is_visible` as a number, a text or an empty matrix.

MATLAB counts pixels from 1 and puts whole numbers at their centres; here the first pixel covers
[0, 1), so that half a pixel is taken off every position.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.io import loadmat

from data_pipelines.releases.release import Skipped
from pare_jax.errors import UserError
from pare_jax.skeleton import MPII_HEAD_TOP, MPII_JOINT_NAMES, MPII_TO_SMPL

# From positions that MATLAB counts to those counted from the picture's corner.
_FROM_MATLAB = -0.5
# A head's length over the diagonal of its box, as MPII's own evaluation has it.
_HEAD_LENGTH = 0.6
_HEAD_BOX = ("x1", "y1", "x2", "y2")


@dataclasses.dataclass(frozen=True)
class MpiiPerson:
    """A person that an example can be made of. Positions are in the photograph, (0, 0) its corner.

    Attributes:
        number: among the people of the photograph, the first being 0.
        position: the rough centre, pixels, (2,).
        scale: the person's height over 200 pixels, above 0.
        joints: pixels, (16, 2); NaN where not annotated.
        visible: 1: seen, 0: hidden, NaN: not said, (16,).
        head_size: length of the head in pixels; 0 where not known, and for people whom MPII's own
            evaluation does not count.
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
        name: of its file.
        video: number of the video it is a picture of; None where not said.
        people: those that an example can be made of.
        skipped: whoever cannot become an example.
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
        UserError: the file cannot be read or holds something else.
    """
    again = "download and unpack mpii_human_pose_v1_u12_2.zip again"
    try:
        (release,) = _structs(loadmat(path, variable_names=["RELEASE"]).get("RELEASE"))
        images = _structs(release["annolist"])
        is_train = np.asarray(release["img_train"], float).ravel() == 1
        if len(images) != len(is_train):
            raise ValueError(f"{len(images)} images, {len(is_train)} marks of training images")
        counted = _counted_people(release, len(images))
    # loadmat raises whatever broken bytes lead it to; the lines above what another struct does.
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(
            f"{path} is not MPII's struct RELEASE in a MATLAB file that can be read ({reason}); "
            f"{again}"
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
    """Return by image the numbers from 0 of the people MPII's evaluation counts; None: everybody.

    Raises:
        ValueError: there are lists of them, but not one for each image.
    """
    cells = np.asarray(_field(release, "single_person"), object)
    if _field(release, "single_person") is None or not cells.size:
        return [None] * images
    if cells.size != images:
        raise ValueError(f"{images} images, {cells.size} lists of single people")
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
    """Return the person, or why there is none and whether that is a fault of the file."""
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
    """Return the elements of a struct array; anything else has none."""
    array = np.asarray(value)
    return list(array.ravel()) if array.dtype.names else []


def _field(struct: Any, name: str) -> Any:
    return struct[name] if name in struct.dtype.names else None


def _number(value: Any) -> float | None:
    """Return a number written as one or as text; None if there is none, NaN if it is not one."""
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
