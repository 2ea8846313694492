"""Reads 3DPW's release into stored examples (von Marcard et al., ECCV 2018).

    SOURCE/sequenceFiles/{train,validation,test}/NAME.pkl
    SOURCE/imageFiles/NAME/image_00000.jpg ...

Each annotated person of each frame that the 3DPW challenge counts becomes an example: the camera's
pose is valid for the person, and the 2D detector found the person. The crop is centred on the tight
box of the 24 projected joints, inside the photograph or not.

`visible_weight` is 0: visible joints are not known. The stored detections are OpenPose's, which
places hidden joints too; its scores rate positions, not visibility.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.example import CROP_MARGIN, unknown_labels
from data_pipelines.preparing import part_labels
from data_pipelines.preparing.origin import fingerprint
from data_pipelines.reading.storage import SEQUENCES_FILE
from data_pipelines.releases.pw3d_sequence import (
    NEAREST,
    BrokenSequence,
    Pw3dSequence,
    load_sequence,
)
from data_pipelines.releases.release import Skipped, UnitResult, existing_folder
from data_pipelines.releases.stored_crop import (
    BrokenPhotographError,
    StoredCrop,
    inside,
    jpeg_names,
    read_whole_jpeg,
    seems_whole,
    square_around,
)
from pare_jax.body.io import load_body_data
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError, counted
from pare_jax.evaluation.sequences import BY_PROTOCOL
from pare_jax.skeleton import NUM_JOINTS

SPLITS = ("train", "validation", "test")
_FRAMES_A_UNIT = 100  # a few seconds
_OUTSIDE = "outside the photograph"
_FAR_OUTSIDE = "joint far outside the photograph"
# Largest distance of a joint from the photograph's edge, as a multiple of its longer side.
_SIDES_AWAY = 2.0


@dataclasses.dataclass(frozen=True)
class FrameRange:
    """Some frames of one sequence; `stamp` changes with their files."""

    split: str
    sequence: str
    start: int
    stop: int
    stamp: int

    @property
    def name(self) -> str:
        """The unit's name in messages."""
        return f"{self.sequence} frames {self.start} to {self.stop - 1}"


class Pw3d:
    """3DPW's release; see `release.RawDataset`."""

    name = "pw3d"
    flags = ("body",)

    def __init__(self, source: str | Path, bodies: Mapping[str, Path] | None = None):
        """Check the folder and the bodies.

        Args:
            source: the folder with sequenceFiles and imageFiles.
            bodies: SMPL files by gender, "male" and "female", for head tops and part labels.

        Raises:
            UserError: the folder is not 3DPW, a body cannot be read, no body is male or female, or
                the two meshes differ.
        """
        self._source = existing_folder(source)
        if not self.splits or not (self._source / "imageFiles").is_dir():
            raise UserError(
                f"{source} is not 3DPW: looked for sequenceFiles/{{{','.join(SPLITS)}}}/*.pkl and "
                "imageFiles/; name the folder with both"
            )
        self._bodies = tuple(
            (gender, body.resolve(), hashlib.sha256(body.read_bytes()).hexdigest())
            for gender, body in sorted((bodies or {}).items())
            if gender in ("male", "female")
        )
        if bodies and not self._bodies:
            raise UserError(
                "--body: 3DPW's labels need the male and the female SMPL, not the neutral one; "
                "give both, or leave --body out to prepare without head tops and part labels"
            )
        loaded = [load_body_data(body) for _, body, _ in self._bodies]
        counts = [len(body.template) for body in loaded]
        if len(set(counts)) > 1:
            found = " and ".join(
                f"{path} has {count} vertices"
                for (_, path, _), count in zip(self._bodies, counts, strict=True)
            )
            raise UserError(
                f"--body: {found}, but 3DPW's men and women have the same mesh; name SMPL_MALE and "
                "SMPL_FEMALE of the same release"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits in the folder."""
        return tuple(split for split in SPLITS if any(self._folder(split).glob("*.pkl")))

    def notes(self) -> list[str]:
        """Return a line about the labels that examples will lack, if any."""
        given = {gender for gender, _, _ in self._bodies}
        missing = [gender for gender in ("male", "female") if gender not in given]
        if not missing:
            return []
        hidden = "" if len(missing) == 2 else ", and do not hide others in their part labels"
        return [
            f"--body names no {' and no '.join(missing)} SMPL: these people get no head top (used "
            f"by the 2D loss) and no part labels (needed by the part loss){hidden}"
        ]

    def settings(self) -> dict[str, Any]:
        """Return the bodies, by digests of their files; see `release.HasSettings.settings`."""
        return {"body": [f"{gender} {digest[:8]}" for gender, _, digest in self._bodies]}

    def check(self) -> list[str]:
        """Check splits, sequence files and pictures; see `release.RawDataset.check`."""
        lines = [
            f"no sequences in {self._folder(split)}" for split in SPLITS if split not in self.splits
        ]
        for split in self.splits:
            for name in self._sequences(split):
                lines += self._check_sequence(split, name)
        return lines

    def _check_sequence(self, split: str, name: str) -> Iterator[str]:
        path = self._folder(split) / f"{name}.pkl"
        try:
            sequence = load_sequence(path)
        except BrokenSequence as broken:
            yield f"{path}: {broken}"
            return
        wanted = [picture_name(frame) for frame in range(sequence.frames)]
        present = self._pictures(name)
        missing = [picture for picture in wanted if picture not in present]
        total = counted(len(wanted), "picture")
        folder = self._source / "imageFiles" / name
        if missing:
            yield f"{folder}: {len(missing)} of {total} missing, {missing[0]} first"
        broken = [
            picture
            for picture in wanted
            if picture in present and not seems_whole(folder / picture)
        ]
        if broken:
            count = counted(len(broken), "picture")
            yield f"{folder}: {count} broken or cut short, {broken[0]} first"
        frames = counted(len(wanted), "frame")
        for number, person in enumerate(sequence.people):
            counts: dict[str, int] = {}
            for problem in person.problems:
                if problem and problem not in BY_PROTOCOL:
                    counts[problem] = counts.get(problem, 0) + 1
            for problem, count in counts.items():
                yield f"{path}: person {number}: {problem} in {count} of {frames}"

    def units(self, split: str) -> list[FrameRange]:
        """Return ranges of frames; see `release.RawDataset.units`."""
        ranges = []
        for name in self._sequences(split):
            path, pictures = self._folder(split) / f"{name}.pkl", self._pictures(name)
            annotations = fingerprint(path, whole=True)
            try:
                frames = load_sequence(path).frames
            except BrokenSequence:
                frames = max(1, len(pictures))
            folder = self._source / "imageFiles" / name
            for start in range(0, frames, _FRAMES_A_UNIT):
                stop = min(start + _FRAMES_A_UNIT, frames)
                files = [fingerprint(folder / picture_name(n)) for n in range(start, stop)]
                stamp = zlib.crc32(repr((annotations, files)).encode())
                ranges.append(FrameRange(split, name, start, stop, stamp))
        return ranges

    def read(self, unit: FrameRange) -> UnitResult:
        """Make the examples of a range of frames; see `release.RawDataset.read`."""
        result = UnitResult()
        frames = range(unit.start, unit.stop)
        path = self._folder(unit.split) / f"{unit.sequence}.pkl"
        try:
            sequence = load_sequence(path)
        except BrokenSequence as broken:
            # The number of people is unknown, so each frame counts once.
            names = [f"{unit.sequence} frame {frame}" for frame in frames]
            result.skipped = [Skipped(name, str(broken)) for name in names]
            return result
        for frame in frames:
            self._read_frame(unit.sequence, sequence, frame, result)
        return result

    def side_files(self) -> dict[str, Any]:
        """Return sequences.json: people, frames, picture size and genders of each sequence."""
        return {
            SEQUENCES_FILE: {
                split: {
                    name: described
                    for name in self._sequences(split)
                    if (described := self._describe(split, name))
                }
                for split in self.splits
            }
        }

    def _describe(self, split: str, name: str) -> dict[str, Any] | None:
        try:
            sequence = load_sequence(self._folder(split) / f"{name}.pkl")
        except BrokenSequence:
            return None
        return {
            "people": len(sequence.people),
            "frames": sequence.frames,
            "image_size": self._image_size(name),
            "genders": [person.gender for person in sequence.people],
        }

    def _image_size(self, name: str) -> tuple[int, int] | None:
        for picture in sorted(self._pictures(name)):
            try:
                photo = read_whole_jpeg(self._source / "imageFiles" / name / picture)
            except BrokenPhotographError:
                continue
            return photo.width, photo.height
        return None

    def _folder(self, split: str) -> Path:
        return self._source / "sequenceFiles" / split

    def _sequences(self, split: str) -> list[str]:
        return sorted(path.stem for path in self._folder(split).glob("*.pkl"))

    def _pictures(self, name: str) -> set[str]:
        return jpeg_names(self._source / "imageFiles" / name)

    def _read_frame(
        self, name: str, sequence: Pw3dSequence, frame: int, result: UnitResult
    ) -> None:
        wanted = []
        for number, person in enumerate(sequence.people):
            problem = person.problems[frame]
            if problem:
                broken = problem not in BY_PROTOCOL
                result.skipped.append(Skipped(_name_of(name, frame, number), problem, broken))
            else:
                wanted.append(number)
        if not wanted:
            return
        try:
            photo = read_whole_jpeg(self._source / "imageFiles" / name / picture_name(frame))
            joints = {n: sequence.people[n].joints_2d[frame] for n in wanted}
            size = (photo.width, photo.height)
            in_photo = [n for n in wanted if inside(joints[n], *size).any()]
            usable = [n for n in in_photo if not _far_outside(joints[n], size)]
            squares = [square_around(joints[n], BOX_SCALE * CROP_MARGIN) for n in usable]
            crops = photo.cut(squares) if usable else []
        except BrokenPhotographError as broken:
            result.skipped += [Skipped(_name_of(name, frame, n), str(broken)) for n in wanted]
            return
        for n in wanted:
            if n not in in_photo:
                result.skipped.append(Skipped(_name_of(name, frame, n), _OUTSIDE, broken=False))
            elif n not in usable:
                result.skipped.append(Skipped(_name_of(name, frame, n), _FAR_OUTSIDE))
        meshes = self._meshes(sequence, frame) if usable else {}
        by_person = dict(zip(usable, crops, strict=True))
        parts = _part_labels(meshes, by_person, size)
        for number, crop in by_person.items():
            example = _example(sequence, number, frame, crop) | {"sequence": name}
            if number in meshes:
                example |= _mesh_labels(meshes[number], crop, parts[number])
            result.examples.append(example)

    def _meshes(self, sequence: Pw3dSequence, frame: int) -> dict[int, part_labels.ProjectedMesh]:
        """Pose everybody's mesh whose body is known; people without an example hide others too."""
        bodies = {gender: path for gender, path, _ in self._bodies}
        meshes = {}
        for number, person in enumerate(sequence.people):
            if person.posed[frame] and person.gender in bodies:
                meshes[number] = part_labels.pose_mesh(
                    bodies[person.gender],
                    person.betas,
                    person.rotations[frame],
                    person.joints[frame, 0],
                    sequence.intrinsics,
                )
        return meshes


def _part_labels(
    meshes: Mapping[int, part_labels.ProjectedMesh],
    crops: Mapping[int, StoredCrop],
    size: tuple[int, int],
) -> dict[int, bytes]:
    """Draw the part labels of everybody with a mesh and a crop."""
    order = list(meshes)
    return {
        number: part_labels.draw_part_labels(
            list(meshes.values()), order.index(number), crops[number].to_photo, size
        )
        for number in order
        if number in crops
    }


def _mesh_labels(mesh: part_labels.ProjectedMesh, crop: StoredCrop, parts: bytes) -> dict[str, Any]:
    """Return the fields that need a mesh: part labels and head top."""
    *head_top, depth = mesh.points[mesh.head_top].astype(np.float64)
    labels: dict[str, Any] = {"part_labels": parts, "parts_weight": np.float32(1)}
    if depth < NEAREST:
        return labels
    point = crop.points(np.array([head_top]))[0]
    return labels | {"head_top": point.astype(np.float32), "head_top_weight": np.float32(1)}


def _far_outside(points: Float[np.ndarray, "24 2"], size: tuple[int, int]) -> bool:
    """Return whether a joint is too far outside the photograph to be right.

    A person half in the photograph has joints up to about its side outside. Joints farther away are
    annotation mistakes, and a crop around them would show nothing.
    """
    distance = np.maximum(-points, points - np.array(size)).max()
    return bool(distance > _SIDES_AWAY * max(size))


def picture_name(frame: int) -> str:
    """Return the file name of a frame's picture."""
    return f"image_{frame:05d}.jpg"


def _example(sequence: Pw3dSequence, number: int, frame: int, crop: StoredCrop) -> dict[str, Any]:
    person = sequence.people[number]
    joints = person.joints[frame]
    return unknown_labels() | {
        "image": crop.image,
        "crop_to_photo": crop.to_photo.astype(np.float32),
        "joints_2d": crop.points(person.joints_2d[frame]).astype(np.float32),
        "joints_2d_weight": np.ones(NUM_JOINTS, np.float32),
        "joints_3d": (joints - joints[0]).astype(np.float32),
        "joints_3d_weight": np.float32(1),
        "rotations": person.rotations[frame].astype(np.float32),
        "pose_weight": np.float32(1),
        "betas": person.betas.astype(np.float32),
        "betas_weight": np.float32(1),
        "gender": person.gender,
        "person": np.int32(number),
        "frame": np.int32(frame),
    }


def _name_of(name: str, frame: int, number: int) -> str:
    return f"{name} frame {frame} person {number}"
