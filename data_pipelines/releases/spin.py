"""Reads SPIN's .npz files, as converted for SPIN, PARE, VIBE and EFT, joined to photographs.

Arrays over people: `imgname`, `center` (pixels), `scale` (side of the square / 200); perhaps `part`
(2D points and confidence, 24 of them if nothing else is said), `openpose` (25), `pose` (72 numbers,
axis-angle), `shape` (10), `has_smpl`, `S` (3D points in metres and confidence) and `gender`. The
file fits.npz of `python -m pare_jax.fit` is one, too.

Source: https://github.com/nkolot/SPIN, datasets/preprocess and datasets/base_dataset.py.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from data_pipelines.releases.label_arrays import (
    LabelArrays,
    clean_points,
    collect,
    rotations_of,
    square_mistake,
)
from data_pipelines.releases.labelled_people import LabelFile, LabelledPerson
from data_pipelines.releases.labelled_photographs import LabelledPhotographs
from data_pipelines.releases.sequence_names import sequence_of, sequences_note
from pare_jax.errors import UserError, counted
from pare_jax.keypoints.sets import (
    NUM_BODY_POINTS,
    OPENPOSE25,
    SETS,
    SPIN24,
    KeypointSet,
    find_set,
    point_index,
)
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS, joint_index

_ARRAYS = (
    *("center", "scale", "part", "openpose", "pose", "shape", "has_smpl", "S", "gender"),
    "pose_cam",  # BEDLAM's, for the message
)
# SMPL's joints that 3D points are, by the name of the body point. SMPL's hips and pelvis lie
# elsewhere in the body than those of motion capture, its spine, head, hands and feet have no point.
_POINT_OF_JOINT = {
    **{
        f"{side}_{name}": f"{side}_{name}"
        for side in ("left", "right")
        for name in ("shoulder", "elbow", "wrist", "knee", "ankle")
    },
    "neck": "neck",
}
_JOINTS = [joint_index(name) for name in _POINT_OF_JOINT]
_JOINT_POINTS = [point_index(name) for name in _POINT_OF_JOINT.values()]
_HIPS = [point_index("left_hip"), point_index("right_hip")]
_PELVIS = point_index("pelvis")
# Nobody is longer, in metres; points in millimetres are.
_LONGEST = 5.0
# 3D points in the camera's axes, scaled and shifted, lie on their 2D points but for perspective:
# on MPI-INF-3DHP up to 0.12 of the person's extent away. Those in other axes lie further away.
_FAR_FROM_2D = 0.2
_FEWEST_FOR_AXES = 6


class Spin(LabelledPhotographs):
    """People of a file of SPIN's arrays; see `labelled_photographs.LabelledPhotographs`."""

    kind = "spin"
    flags = (*LabelledPhotographs.flags, "keypoint_set")

    def _read_labels(self) -> LabelFile:
        labels = read_spin_labels(self.source, self.keypoint_set)
        labels.notes += sequences_note(labels.people)
        return labels


class OwnSpin(Spin):
    """People of a file of SPIN's arrays for photographs of one's own.

    Their pixels are those of the upright photograph. Each photograph is a sequence of its own,
    because cameras number unrelated photographs.
    """

    upright = True

    def _read_labels(self) -> LabelFile:
        labels = read_spin_labels(self.source, self.keypoint_set)
        people = [dataclasses.replace(person, group="") for person in labels.people]
        return dataclasses.replace(labels, people=people)


@dataclasses.dataclass(frozen=True)
class _SpinPeople:
    """The checked arrays of a file, a row a person.

    Attributes:
        arrays: the file.
        centres: pixels.
        sides: pixels.
        points: body points.
        joints: metres about the pelvis, camera axes, NaN where unknown; None without `S`.
        vectors: axis-angle.
        posed: whether `vectors` counts.
        betas: None without `shape`, or if it is not SMPL's.
        genders: None for an unknown word.
    """

    arrays: LabelArrays
    centres: Float[np.ndarray, "people 2"]
    sides: Float[np.ndarray, " people"]
    points: Float[np.ndarray, "people points 3"]
    joints: Float[np.ndarray, "people 24 3"] | None
    vectors: Float[np.ndarray, "people 24 3"]
    posed: Bool[np.ndarray, " people"]
    betas: Float[np.ndarray, "people 10"] | None
    genders: list[str | None]

    def mistake(self, row: int) -> str:
        """Return what is wrong with a person, or ""."""
        if self.posed[row]:
            if not np.isfinite(self.vectors[row]).all():
                return "pose is not finite"
            if self.betas is not None and not np.isfinite(self.betas[row]).all():
                return "shape is not finite"
        if self.genders[row] is None:
            return "unknown gender"
        return square_mistake(self.centres[row], self.sides[row])

    def content(self, row: int) -> bytes:
        """Return a person's labels, to find people who are listed twice."""
        labels = [self.centres, self.sides, self.points]
        labels += [self.vectors] if self.posed[row] else []
        return b"".join(values[row].tobytes() for values in labels)

    def person(self, row: int) -> LabelledPerson:
        """Return a person without a mistake."""
        posed = bool(self.posed[row])
        joints = known = None
        if self.joints is not None and np.isfinite(self.joints[row]).any():
            known = np.isfinite(self.joints[row, :, 0])
            joints = np.where(known[:, None], self.joints[row], 0.0).astype(np.float32)
        return LabelledPerson(
            what=self.arrays.what(row),
            photograph=self.arrays.photographs[row],
            number=row,
            centre=self.centres[row],
            side=float(self.sides[row]),
            points=self.points[row],
            joints_3d=joints,
            joints_3d_known=None if known is None else known.astype(np.float32),
            rotations=rotations_of(self.vectors[row]) if posed else None,
            rotations_known=np.ones(NUM_JOINTS, np.float32) if posed else None,
            betas=self.betas[row] if posed and self.betas is not None else None,
            gender=self.genders[row] or "neutral",
            group=sequence_of(self.arrays.photographs[row]),
        )


def read_spin_labels(path: Path, set_name: str | None = None) -> LabelFile:
    """Read the people of a file; see the module's docstring.

    Args:
        path: of the file.
        set_name: the set of `part` and `S`, one of `sets.SETS`; None: SPIN's 24 points.

    Raises:
        RefusedPickle: an array of objects asks for more than plain data.
        UserError: the file cannot be read, or an array is missing or has another shape.
    """
    arrays = LabelArrays(path, _ARRAYS)
    if "pose_cam" in arrays:
        raise UserError(f"{path} has BEDLAM's array pose_cam: use --dataset=bedlam")
    if not any(name in arrays for name in ("part", "openpose", "pose", "S")):
        raise UserError(f'{path} has no labels: give a file with "part", "openpose", "pose" or "S"')
    notes: list[str] = []
    points = _points(arrays, set_name, notes)
    people = _SpinPeople(
        arrays,
        *arrays.squares(),
        points,
        _joints(arrays, set_name, points, notes),
        *_poses(arrays),
        _betas(arrays, notes),
        arrays.genders(),
    )
    return collect(arrays, people.mistake, people.content, people.person, notes)


def _set_of(arrays: LabelArrays, name: str, count: int, set_name: str | None) -> KeypointSet:
    """Return the set of an array's points.

    Raises:
        UserError: the set is unknown, or has another number of points.
    """
    own = SPIN24 if set_name is None else find_set(set_name)
    if len(own.points) != count:
        fits = [one.name for one in SETS.values() if len(one.points) == count]
        raise UserError(
            f"{arrays.path}: {name} has {count} points, but {own.name} has {len(own.points)}; "
            f"give --keypoint-set as one of {', '.join(fits or SETS)}"
        )
    return own


def _points(
    arrays: LabelArrays, set_name: str | None, notes: list[str]
) -> Float[np.ndarray, "people points 3"]:
    """Return body points: those of `part`; `openpose` gives those that `part` lacks."""
    points = np.zeros((len(arrays), NUM_BODY_POINTS, 3))
    for name in ("openpose", "part"):
        if name in arrays:
            rows = arrays.numbers(name, None, 3)
            count = rows.shape[1]
            own = _set_of(arrays, name, count, OPENPOSE25.name if name == "openpose" else set_name)
            found = own.spread(clean_points(arrays, name, rows, notes))
            points = np.where(found[..., 2:] > 0, found, points)
    return points


def _poses(
    arrays: LabelArrays,
) -> tuple[Float[np.ndarray, "people 24 3"], Bool[np.ndarray, " people"]]:
    """Return axis-angle vectors, and of whom they are labels."""
    if "pose" not in arrays:
        return np.zeros((len(arrays), NUM_JOINTS, 3)), np.zeros(len(arrays), bool)
    vectors = arrays.numbers("pose", 3 * NUM_JOINTS).reshape(len(arrays), NUM_JOINTS, 3)
    if "has_smpl" not in arrays:
        return vectors, np.ones(len(arrays), bool)
    return vectors, arrays.numbers("has_smpl") > 0


def _betas(arrays: LabelArrays, notes: list[str]) -> Float[np.ndarray, "people 10"] | None:
    """Return the shape; None, and a note, if it has another number of coefficients."""
    if "shape" not in arrays:
        return None
    betas = arrays.numbers("shape", None)
    if betas.shape[1] == NUM_BETAS:
        return betas
    notes.append(
        f"shape of {arrays.path.name} has {betas.shape[1]} numbers, not SMPL's {NUM_BETAS}: left "
        "out"
    )
    return None


def _joints(
    arrays: LabelArrays,
    set_name: str | None,
    points: Float[np.ndarray, "people points 3"],
    notes: list[str],
) -> Float[np.ndarray, "people 24 3"] | None:
    """Return SMPL's joints from `S` about its pelvis, NaN where unknown; None without any."""
    if "S" not in arrays:
        return None
    rows = arrays.numbers("S", None, 4)
    own = _set_of(arrays, "S", rows.shape[1], set_name)
    places = own.spread(np.where(rows[..., 3:] > 0, rows[..., :3], np.nan), fill=np.nan)
    middle = places[:, _HIPS].mean(1)  # NaN without both
    pelvis = np.where(np.isfinite(places[:, _PELVIS]), places[:, _PELVIS], middle)
    places = places - pelvis[:, None]
    furthest = np.nanmax(np.abs(places), axis=(1, 2), initial=0.0)
    long = furthest > _LONGEST
    if long.any():
        notes.append(
            f"S of {counted(int(long.sum()), 'person')} of {arrays.path.name} reaches over "
            f"{_LONGEST:g} m from the pelvis: left out; S must be in metres"
        )
        places[long] = np.nan
    _check_axes(arrays, places, points, notes)
    joints = np.full((len(arrays), NUM_JOINTS, 3), np.nan)
    joints[:, _JOINTS] = places[:, _JOINT_POINTS]
    return joints if np.isfinite(joints).any() else None


def _check_axes(
    arrays: LabelArrays,
    places: Float[np.ndarray, "people points 3"],
    points: Float[np.ndarray, "people points 3"],
    notes: list[str],
) -> None:
    """Add a note if most people's 3D points do not lie on their 2D points."""
    known = np.isfinite(places[..., 0]) & (points[..., 2] > 0)
    checked = known.sum(1) >= _FEWEST_FOR_AXES
    far = sum(
        _distance(places[row, known[row], :2], points[row, known[row], :2]) > _FAR_FROM_2D
        for row in np.flatnonzero(checked)
    )
    if 2 * far > checked.sum():
        notes.append(
            f"S of {far} of {counted(int(checked.sum()), 'person')} of {arrays.path.name} does not "
            "project to the 2D points: if its axes are not the camera's (x right, y down, z "
            "forward), turn S or remove it"
        )


def _distance(places: Float[np.ndarray, "k 2"], pixels: Float[np.ndarray, "k 2"]) -> float:
    """Return the RMS distance after the best scale and shift, over the extent of the pixels."""
    places, centred = places - places.mean(0), pixels - pixels.mean(0)
    size = max(float((places**2).sum()), 1e-9)
    scale = max(float((places * centred).sum()) / size, 0.0)
    off = np.sqrt(((scale * places - centred) ** 2).sum(1).mean())
    return float(off / max(np.ptp(pixels, axis=0).max(), 1e-9))
