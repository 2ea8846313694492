"""People of label files: their labels, what is wrong with them, and their stored examples."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.example import CROP_MARGIN, unknown_labels
from data_pipelines.releases.named_photographs import Picture
from data_pipelines.releases.release import Skipped
from data_pipelines.releases.stored_crop import StoredCrop, inside
from pare_jax.crop import BOX_SCALE
from pare_jax.keypoints.keypoints import Keypoints, box_of_keypoints
from pare_jax.keypoints.sets import point_index
from pare_jax.skeleton import JOINT_NAMES, MPII_JOINT_NAMES, MPII_TO_SMPL, NUM_JOINTS, joint_index

# The body point of each SMPL joint that has one, as `MPII_TO_SMPL` has them. The pelvis is the
# middle of the hips.
_JOINTS = [joint for _, joint in MPII_TO_SMPL]
_POINTS = [point_index(MPII_JOINT_NAMES[number]) for number, _ in MPII_TO_SMPL]
_NECK = joint_index("neck")
_NECK_POINT = point_index("neck")
_PELVIS = joint_index("pelvis")
_HIPS = [joint_index("left_hip"), joint_index("right_hip")]
_HEAD_TOP = point_index("head_top")
# A point further from the middle of the stored crop than this share of its side is taken as
# unknown: the joints of people who are cut off may be anywhere.
_FURTHEST = 2.0
# Elements of R R^T - I of a matrix that was rounded are smaller.
_NOT_ORTHOGONAL = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledPerson:
    """A person of a label file. Positions are pixels of the photograph.

    Attributes:
        what: its name in messages, for instance "annotation 9003".
        photograph: name of the photograph in the label file, with or without folders.
        number: stored as `person`.
        centre: of the square that the network sees.
        side: of that square, above 0.
        points: body points: x, y and confidence; 0: unknown.
        joints_3d: metres, camera frame, any origin if the pelvis is known.
        joints_3d_known: 1 for the joints of `joints_3d` that are known; None: all.
        rotations: as in `example.STORED_FIELDS`.
        rotations_known: 1 for the rotations that are known; None: all.
        betas: of the body model of `gender`.
        gender: "male", "female" or "neutral".
        visible: 1 for visible joints, 0 for hidden ones.
        visible_known: 1 where `visible` is known; None: all.
        group: people of one group are in one split; "": the photograph is the group.
        split: the split that the release itself gives; None: by a hash of the group.
        size: width and height of the photograph according to the labels; None: not given.
        frame: number of the frame in a clip; 0 for a photograph.
        joints_2d: x, y and confidence of SMPL's joints; None: from `points`.
    """

    what: str
    photograph: str
    number: int
    centre: Float[np.ndarray, "2"]
    side: float
    points: Float[np.ndarray, "points 3"]
    joints_3d: Float[np.ndarray, "24 3"] | None = None
    joints_3d_known: Float[np.ndarray, "24"] | None = None
    rotations: Float[np.ndarray, "24 3 3"] | None = None
    rotations_known: Float[np.ndarray, "24"] | None = None
    betas: Float[np.ndarray, "10"] | None = None
    gender: str = "neutral"
    visible: Float[np.ndarray, "24"] | None = None
    visible_known: Float[np.ndarray, "24"] | None = None
    group: str = ""
    split: str | None = None
    size: tuple[float, float] | None = None
    frame: int = 0
    joints_2d: Float[np.ndarray, "24 3"] | None = None


@dataclasses.dataclass
class LabelFile:
    """The content of a label file.

    Attributes:
        people: in the file's order.
        skipped: people of the file who cannot be used.
        notes: lines for the user.
    """

    people: list[LabelledPerson] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def person_of_keypoints(
    keypoints: Keypoints, what: str, photograph: str, number: int
) -> LabelledPerson:
    """Return a person with the square around the keypoints' box, and nothing but points.

    Raises:
        UserError: fewer than two points are known.
    """
    box = box_of_keypoints(keypoints)
    centre, side = (box[:2] + box[2:]) / 2.0, BOX_SCALE * float((box[2:] - box[:2]).max())
    return LabelledPerson(what, photograph, number, centre, side, keypoints.body_points())


def cut_people(
    sequence: str, people: Sequence[LabelledPerson], picture: Picture
) -> list[dict[str, Any] | Skipped]:
    """Return an example or a `Skipped` for each person of a picture.

    Raises:
        BrokenPhotographError: the picture cannot be decoded.
    """
    size = (picture.width, picture.height)
    mistakes = [_mistake(person, size) for person in people]
    good = [one for one, wrong in zip(people, mistakes, strict=True) if not wrong]
    crops = iter(picture.cut([_stored_square(one) for one in good]) if good else [])
    return [
        Skipped(f"{sequence} {person.what}", wrong)
        if wrong
        else make_example(sequence, person, next(crops), size)
        for person, wrong in zip(people, mistakes, strict=True)
    ]


def fault_of(person: LabelledPerson) -> str:
    """Return what is wrong with a person's numbers, or ""."""
    known = person.points[:, 2] != 0
    if not (np.isfinite(person.centre).all() and np.isfinite(person.side) and person.side > 0):
        return "square not finite or empty"
    if not np.isfinite(person.points[known]).all():
        return "point not finite"
    joints = np.zeros((NUM_JOINTS, 3)) if person.joints_3d is None else person.joints_3d
    if not np.isfinite(joints[_or_ones(person.joints_3d_known) > 0]).all():
        return "joint in 3D not finite"
    if person.rotations is not None:
        turns = person.rotations[_or_ones(person.rotations_known) > 0]
        error = np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max(initial=0.0)
        if not (error < _NOT_ORTHOGONAL and np.all(np.linalg.det(turns) > 0)):
            return "not a rotation matrix"
    if person.betas is not None and not np.isfinite(person.betas).all():
        return "betas not finite"
    if not known.any() and person.rotations is None and person.joints_3d is None:
        return "no labels"
    return ""


def _mistake(person: LabelledPerson, size: tuple[int, int]) -> str:
    """Return the mistake in a person's labels, given the photograph's size, or ""."""
    if person.size is not None and tuple(person.size) != size:
        return "photograph of another size than its labels say"
    away = np.abs(np.asarray(person.centre) - np.array(size) / 2.0)
    if np.any(away >= (np.array(size) + float(person.side)) / 2.0):
        return "square outside the photograph"
    return ""


def _stored_square(person: LabelledPerson) -> tuple[Float[np.ndarray, "2"], float]:
    """Return centre and side of the stored crop, in pixels of the photograph."""
    return np.asarray(person.centre, np.float64), CROP_MARGIN * float(person.side)


def make_example(
    sequence: str, person: LabelledPerson, crop: StoredCrop, photo_size: tuple[int, int]
) -> dict[str, Any]:
    """Return a person's fields, see `example.STORED_FIELDS`."""
    points = np.array(person.points, np.float64)
    points[:, 2] = np.clip(points[:, 2], 0.0, 1.0)
    points[~_near(person, points), 2] = 0.0
    if person.joints_2d is None:
        joints = smpl_joints(points)
    else:
        joints = np.array(person.joints_2d, np.float64)
        joints[~_near(person, joints), 2] = 0.0
    fields: dict[str, Any] = {
        "image": crop.image,
        "crop_to_photo": crop.to_photo.astype(np.float32),
        "gender": person.gender,
        "sequence": sequence,
        "person": np.int32(person.number),
        "frame": np.int32(person.frame),
    }
    for name, rows in (
        ("points_2d", points),
        ("joints_2d", joints),
        ("head_top", points[_HEAD_TOP]),
    ):
        known = rows[..., 2] > 0
        places = crop.points(rows[..., :2])
        fields[name] = np.where(known[..., None], places, 0.0).astype(np.float32)
        fields[f"{name}_weight"] = np.where(known, rows[..., 2], 0.0).astype(np.float32)
    if person.visible is not None:
        known = _or_ones(person.visible_known)
        in_photo = inside(joints[:, :2], *photo_size) | (joints[:, 2] == 0)
        fields["visible"] = ((person.visible > 0) & in_photo & (known > 0)).astype(np.float32)
        fields["visible_weight"] = known
    return unknown_labels() | fields | _labels_3d(person)


def _labels_3d(person: LabelledPerson) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if person.joints_3d is not None:
        known = _or_ones(person.joints_3d_known)
        joints = person.joints_3d - person.joints_3d[0] * known[0]
        fields["joints_3d"] = np.where(known[:, None] > 0, joints, 0.0).astype(np.float32)
        fields["joints_3d_known"] = known
        fields["joints_3d_weight"] = np.float32(1.0)
    if person.rotations is not None:
        known = _or_ones(person.rotations_known)
        kept = known[:, None, None] > 0
        fields["rotations"] = np.where(kept, person.rotations, np.eye(3)).astype(np.float32)
        fields["rotations_known"] = known
        fields["pose_weight"] = np.float32(1.0)
    if person.betas is not None:
        fields["betas"] = np.asarray(person.betas, np.float32)
        fields["betas_weight"] = np.float32(1.0)
    return fields


def _or_ones(known: Iterable[float] | None) -> Float[np.ndarray, "24"]:
    return np.ones(NUM_JOINTS, np.float32) if known is None else np.asarray(known, np.float32)


def _near(person: LabelledPerson, points: Float[np.ndarray, "points 3"]) -> np.ndarray:
    centre, side = _stored_square(person)
    return np.all(np.abs(points[:, :2] - centre) <= _FURTHEST * side, axis=1)


def smpl_joints(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "24 3"]:
    """Return x, y and confidence of SMPL's joints; 0 where unknown."""
    joints = np.zeros((len(JOINT_NAMES), 3))
    joints[_JOINTS] = points[_POINTS]
    if not joints[_NECK, 2]:
        joints[_NECK] = points[_NECK_POINT]
    joints[_PELVIS, :2] = joints[_HIPS, :2].mean(0)
    joints[_PELVIS, 2] = joints[_HIPS, 2].min()
    return joints
