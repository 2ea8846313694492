"""Reads BEDLAM's and AGORA's .npz files, one or a folder of scenes, joined to photographs.

Arrays over people: `imgname`, `center` (pixels), `scale` (side of the square / 200), `pose_cam`
(axis-angle in the camera's frame; SMPL-X, whose first 22 joints are SMPL's), `gtkps` (2D points),
`cam_int`, `cam_ext` and `trans_cam` (the camera) and `gender`. SMPL-X's shape and hands are not
SMPL's and are left out. Files of the SMPL version have SMPL's shape and all its joints.

The camera tells which pictures are stored on their side ("closeup" and "portrait" scenes): their
principal point is the middle of the upright picture. They are turned by 90 degrees clockwise.

Source: https://github.com/pixelite1201/BEDLAM, data_processing and train/dataset/dataset.py.
"""

import dataclasses
from collections.abc import Sequence
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
from data_pipelines.releases.labelled_photographs import LabelledPhotograph, LabelledPhotographs
from data_pipelines.releases.named_photographs import (
    Picture,
    open_photograph,
    turned_clockwise,
)
from data_pipelines.releases.sequence_names import sequence_of, sequences_note
from pare_jax.errors import UserError
from pare_jax.keypoints.sets import NUM_BODY_POINTS, OPENPOSE25, point_index
from pare_jax.skeleton import JOINT_NAMES, NUM_BETAS, NUM_JOINTS, joint_index

_ARRAYS = (
    *("center", "scale", "pose_cam", "shape", "gtkps", "cam_int", "cam_ext", "trans_cam"),
    "gender",
)
# SMPL-X's body has SMPL's joints but for the hands.
_BODY_JOINTS = JOINT_NAMES[:22]
# The points that smplx appends to the joints (smplx/vertex_ids.py), and finger tips.
_SURFACE = (
    *("nose", "right_eye", "left_eye", "right_ear", "left_ear"),
    *("left_big_toe", "left_small_toe", "left_heel"),
    *("right_big_toe", "right_small_toe", "right_heel"),
)
# Joints of SMPL that are body points by the same name on every body.
_JOINT_POINTS = (
    *(
        f"{side}_{name}"
        for side in ("left", "right")
        for name in ("shoulder", "elbow", "wrist", "knee", "ankle")
    ),
    "neck",
)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The meaning of the points of `gtkps`.

    Attributes:
        joints: place of each SMPL joint, by name.
        points: place of each body point, by name.
    """

    joints: dict[str, int]
    points: dict[str, int]


def _layout(first: int, surface: int | None, joints: tuple[str, ...] = _BODY_JOINTS) -> _Layout:
    """Return a layout with SMPL's joints from a place on, and perhaps points of the surface."""
    own = {name: first + number for number, name in enumerate(joints)}
    points = {name: own[name] for name in _JOINT_POINTS}
    if surface is not None:
        points |= {name: surface + number for number, name in enumerate(_SURFACE)}
    return _Layout(own, points)


_SMPLX_JOINTS = 55
# BEDLAM 2 puts 25 points in OpenPose's order and 19 regressed ones before SMPL-X's.
_BEDLAM2_FIRST = 44
# By the number of points.
_LAYOUTS = {
    22: _layout(0, None),
    24: _layout(0, None),
    25: _Layout({}, {name: place for place, name in enumerate(OPENPOSE25.points)}),
    45: _layout(0, NUM_JOINTS, JOINT_NAMES),
    55: _layout(0, None),
    76: _layout(0, _SMPLX_JOINTS),
    127: _layout(0, _SMPLX_JOINTS),
    144: _layout(0, _SMPLX_JOINTS),
    171: _layout(_BEDLAM2_FIRST, _BEDLAM2_FIRST + _SMPLX_JOINTS),
    188: _layout(_BEDLAM2_FIRST, _BEDLAM2_FIRST + _SMPLX_JOINTS),
}
_SMPL_POINTS = 45
# How far the principal point may lie from the middle of the picture, as a share of its side.
_OFF_CENTRE = 0.05


class Bedlam(LabelledPhotographs):
    """People of BEDLAM's and AGORA's files; see `labelled_photographs.LabelledPhotographs`."""

    kind = "bedlam"

    def _read_labels(self) -> LabelFile:
        paths = [self.source]
        if self.source.is_dir():
            paths = sorted(path for path in self.source.glob("*.npz") if path.is_file())
            if not paths:
                raise UserError(f"{self.source} has no .npz file: name a scene's file or a folder")
        labels = LabelFile()
        for path in paths:
            scene = read_bedlam_labels(path, self._folder(path, len(paths)))
            labels.people += scene.people
            labels.skipped += scene.skipped
            labels.notes += scene.notes
        labels.notes += sequences_note(labels.people)
        return labels

    def _folder(self, path: Path, files: int) -> str:
        """Return the folder of a scene's photographs, relative to that of all scenes, or ""."""
        for folder in (f"{path.stem}/png", path.stem):
            if (self.images / folder).is_dir():
                return folder
        # Scenes use the same names.
        return path.stem if files > 1 else ""

    def _open(
        self, photograph: LabelledPhotograph, path: Path
    ) -> tuple[Picture, Sequence[LabelledPerson]]:
        picture: Picture = open_photograph(path, self.upright)
        size = next((one.size for one in photograph.people if one.size is not None), None)
        stored = float(picture.width), float(picture.height)
        if size and not _is_about(stored, size) and _is_about((stored[1], stored[0]), size):
            picture = turned_clockwise(path)
        shown = float(picture.width), float(picture.height)
        return picture, [
            dataclasses.replace(one, size=None) if one.size and _is_about(shown, one.size) else one
            for one in photograph.people
        ]


def _is_about(size: tuple[float, float], given: tuple[float, float]) -> bool:
    return all(abs(a - b) <= 2 * _OFF_CENTRE * a for a, b in zip(size, given, strict=True))


@dataclasses.dataclass(frozen=True)
class _BedlamPeople:
    """The checked arrays of a file, a row a person.

    Attributes:
        arrays: the file.
        folder: in front of the names of photographs, or "".
        centres: pixels.
        sides: pixels.
        points: body points.
        joints: SMPL's joints in 2D, x, y and confidence.
        vectors: axis-angle.
        known: of which joints `vectors` counts.
        betas: SMPL's; None without.
        sizes: of the photographs by their principal points; NaN without.
        depths: metres; NaN without.
        genders: None for an unknown word.
    """

    arrays: LabelArrays
    folder: str
    centres: Float[np.ndarray, "people 2"]
    sides: Float[np.ndarray, " people"]
    points: Float[np.ndarray, "people points 3"]
    joints: Float[np.ndarray, "people 24 3"]
    vectors: Float[np.ndarray, "people 24 3"]
    known: Bool[np.ndarray, "24"]
    betas: Float[np.ndarray, "people 10"] | None
    sizes: Float[np.ndarray, "people 2"]
    depths: Float[np.ndarray, " people"]
    genders: list[str | None]

    def mistake(self, row: int) -> str:
        """Return what is wrong with a person, or ""."""
        if not np.isfinite(self.vectors[row]).all():
            return "pose is not finite"
        if self.betas is not None and not np.isfinite(self.betas[row]).all():
            return "shape is not finite"
        if self.genders[row] is None:
            return "unknown gender"
        if self.depths[row] <= 0:
            return "person behind the camera"
        return square_mistake(self.centres[row], self.sides[row])

    def content(self, row: int) -> bytes:
        """Return a person's labels, to find people who are listed twice."""
        labels = self.centres, self.sides, self.points, self.joints, self.vectors
        return b"".join(values[row].tobytes() for values in labels)

    def person(self, row: int) -> LabelledPerson:
        """Return a person without a mistake."""
        name = self.arrays.photographs[row]
        photograph = f"{self.folder}/{name}" if self.folder else name
        width, height = self.sizes[row]
        return LabelledPerson(
            what=self.arrays.what(row),
            photograph=photograph,
            number=row,
            centre=self.centres[row],
            side=float(self.sides[row]),
            points=self.points[row],
            joints_2d=self.joints[row] if self.joints[row, :, 2].any() else None,
            rotations=rotations_of(self.vectors[row]),
            rotations_known=self.known.astype(np.float32),
            betas=None if self.betas is None else self.betas[row],
            gender=self.genders[row] or "neutral",
            group=sequence_of(photograph),
            size=(float(width), float(height)) if width > 0 and height > 0 else None,
        )


def read_bedlam_labels(path: Path, folder: str = "") -> LabelFile:
    """Read the people of a scene; see the module's docstring.

    Args:
        path: the .npz file.
        folder: put in front of the names of photographs.

    Raises:
        RefusedPickle: an array of objects asks for more than plain data.
        UserError: the file cannot be read, or an array is missing or has another shape.
    """
    arrays = LabelArrays(path, _ARRAYS)
    if "pose_cam" not in arrays:
        raise UserError(
            f"{path} has no array pose_cam, as BEDLAM has: use --dataset=spin for SPIN's"
        )
    notes: list[str] = []
    points, joints, count = _points(arrays, notes)
    vectors, numbers = _poses(arrays)
    is_smpl = count == _SMPL_POINTS and numbers == 3 * NUM_JOINTS
    known = np.array([is_smpl or name in _BODY_JOINTS for name in JOINT_NAMES])
    vectors[:, ~known] = 0.0
    people = _BedlamPeople(
        arrays,
        folder,
        *arrays.squares(),
        points,
        joints,
        vectors,
        known,
        _betas(arrays) if is_smpl else None,
        *_cameras(arrays),
        arrays.genders(),
    )
    return collect(arrays, people.mistake, people.content, people.person, notes)


def _poses(arrays: LabelArrays) -> tuple[Float[np.ndarray, "people 24 3"], int]:
    """Return axis-angle vectors of SMPL's joints, and how many numbers the file has of each."""
    poses = arrays.numbers("pose_cam", None)
    numbers = poses.shape[1]
    least = 3 * len(_BODY_JOINTS)
    if numbers < least or numbers % 3:
        raise UserError(
            f"{arrays.path}: pose_cam has {numbers} numbers for each person; it must have three "
            f"for each joint, at least {least}"
        )
    vectors = np.zeros((len(arrays), NUM_JOINTS, 3))
    joints = min(numbers // 3, NUM_JOINTS)
    vectors[:, :joints] = poses[:, : 3 * joints].reshape(len(arrays), joints, 3)
    return vectors, numbers


def _betas(arrays: LabelArrays) -> Float[np.ndarray, "people 10"] | None:
    """Return SMPL's shape; None without ten coefficients."""
    if "shape" not in arrays:
        return None
    betas = arrays.numbers("shape", None)
    return betas if betas.shape[1] == NUM_BETAS else None


def _points(
    arrays: LabelArrays, notes: list[str]
) -> tuple[Float[np.ndarray, "people points 3"], Float[np.ndarray, "people 24 3"], int]:
    """Return body points and SMPL's joints in 2D, and how many points the file has of each."""
    points = np.zeros((len(arrays), NUM_BODY_POINTS, 3))
    joints = np.zeros((len(arrays), NUM_JOINTS, 3))
    if "gtkps" not in arrays:
        notes.append(f"{arrays.path.name} has no gtkps: its people have no 2D points")
        return points, joints, 0
    rows = arrays.numbers("gtkps", None, None)
    count = rows.shape[1]
    if count not in _LAYOUTS:
        raise UserError(
            f"{arrays.path}: gtkps has {count} points for each person, an unknown layout; give a "
            f"file with {', '.join(map(str, _LAYOUTS))} points"
        )
    if rows.shape[2] == 2:
        rows = np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=2)
    if rows.shape[2] != 3:
        raise UserError(
            f"{arrays.path}: gtkps has {rows.shape[2]} numbers for each point; it must have x, y "
            "and perhaps a confidence"
        )
    rows = clean_points(arrays, "gtkps", rows, notes)
    layout = _LAYOUTS[count]
    for name, place in layout.points.items():
        points[:, point_index(name)] = rows[:, place]
    for name, place in layout.joints.items():
        joints[:, joint_index(name)] = rows[:, place]
    return points, joints, count


def _cameras(
    arrays: LabelArrays,
) -> tuple[Float[np.ndarray, "people 2"], Float[np.ndarray, " people"]]:
    """Return the photographs' sizes by their principal points, and depths; NaN where unknown."""
    sizes, depths = np.full((len(arrays), 2), np.nan), np.full(len(arrays), np.nan)
    if "cam_int" in arrays:
        sizes = np.round(2.0 * arrays.numbers("cam_int", 3, 3)[:, :2, 2])
    if "trans_cam" in arrays:
        depths = arrays.numbers("trans_cam", 3)[:, 2]
        if "cam_ext" in arrays:
            depths = depths + arrays.numbers("cam_ext", None, 4)[:, 2, 3]
    return sizes, depths
