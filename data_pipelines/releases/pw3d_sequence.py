"""Reads one sequence of 3DPW: loads its pickle safely, checks it, converts to the camera frame.

The release stores poses and joints in the world frame, and the camera's pose for each frame. This
module returns them in the camera frame and in the photograph's pixels.

The release's principal point is exactly half the picture's size. So its pixel coordinates are taken
as the continuous ones of `data_pipelines.example`, where (0, 0) is the top-left corner. If they
counted from pixel centres, labels would be off by half a pixel of the 1920x1080 picture.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from pare_jax.errors import UserError
from pare_jax.evaluation.sequences import CAMERA_NOT_TRUSTED, NOT_DETECTED
from pare_jax.io.safe_pickle import RefusedPickle, load_pickle
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female"}
_PEOPLE = ("genders", "betas", "poses", "jointPositions", "poses2d", "campose_valid")
_FRAMES = ("cam_poses", "img_frame_ids")
# 3DPW has two; a few bytes in a file can name thousands.
_MOST_PEOPLE = 100
NEAREST = 0.1  # least depth of a joint that can be projected, metres


class BrokenSequence(Exception):
    """A sequence that cannot be used; its text is the reason, the same for all of a kind."""


@dataclasses.dataclass(frozen=True)
class Pw3dPerson:
    """A person of a sequence in the camera frame; `n` is the number of frames.

    Attributes:
        gender: "male" or "female", the body that 3DPW fitted; "neutral" if unusable.
        betas: shape coefficients.
        rotations: relative to the parent, the root's into the camera frame.
        joints: metres, camera frame.
        joints_2d: the photograph's pixels.
        posed: whether the frame's annotation is finite and its camera pose valid. Then the person
            may hide others, even in a frame that gives no example of the person.
        problems: for each frame, the reason why it gives no example, or "".
    """

    gender: str
    betas: Float[np.ndarray, "10"]
    rotations: Float[np.ndarray, "n 24 3 3"]
    joints: Float[np.ndarray, "n 24 3"]
    joints_2d: Float[np.ndarray, "n 24 2"]
    posed: Bool[np.ndarray, " n"]
    problems: list[str]


@dataclasses.dataclass(frozen=True)
class Pw3dSequence:
    """A sequence.

    Attributes:
        frames: number of frames; picture i belongs to frame i.
        intrinsics: camera frame to the photograph's pixels.
        people: everybody annotated.
    """

    frames: int
    intrinsics: Float[np.ndarray, "3 3"]
    people: tuple[Pw3dPerson, ...]


def load_sequence(path: Path) -> Pw3dSequence:
    """Read a sequence's pickle; the latest one is cached until its file changes.

    Raises:
        BrokenSequence: the file is unreadable, asks to run code, or is no sequence of 3DPW.
    """
    try:
        status = path.stat()
    except OSError:
        raise BrokenSequence("sequence file unreadable") from None
    return _load(path, (status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=1)
def _load(path: Path, _stamp: tuple[int, int]) -> Pw3dSequence:
    try:
        fields = load_pickle(path)
    except RefusedPickle as refused:
        raise BrokenSequence(f"sequence file refused, it asks for {refused.culprit}") from None
    except UserError:
        raise BrokenSequence("sequence file unreadable") from None
    if not isinstance(fields, Mapping):
        raise BrokenSequence("sequence file is not 3DPW's")
    for name in (*_PEOPLE, *_FRAMES, "cam_intrinsics"):
        if name not in fields:
            raise BrokenSequence(f"sequence file lacks {name}")
    cameras, intrinsics = _numbers(fields["cam_poses"]), _numbers(fields["cam_intrinsics"])
    if cameras.ndim != 3 or cameras.shape[1:] not in ((4, 4), (3, 4)):
        raise BrokenSequence("sequence file has no cam_poses")
    if intrinsics.shape != (3, 3):
        raise BrokenSequence("sequence file has no cam_intrinsics")
    if not np.isfinite(intrinsics).all():
        raise BrokenSequence("sequence file's cam_intrinsics is not finite")
    if _numbers(fields["img_frame_ids"]).shape[:1] != (len(cameras),):
        raise BrokenSequence("sequence's array lengths disagree")
    if _count(fields) > _MOST_PEOPLE:
        raise BrokenSequence(f"sequence file has more than {_MOST_PEOPLE} people")
    people = [_person(fields, number, cameras, intrinsics) for number in range(_count(fields))]
    return Pw3dSequence(len(cameras), intrinsics, tuple(people))


def _count(fields: Mapping[str, Any]) -> int:
    """Return the number of people: the length of the longest list."""
    return max((len(fields[name]) for name in _PEOPLE if _is_list(fields[name])), default=0)


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _numbers(value: Any) -> np.ndarray:
    """Return the value as a float64 array; empty if it is not an array of numbers."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)
    return array if array.ndim else np.empty(0)


def _of_person(fields: Mapping[str, Any], name: str, number: int) -> Any:
    values = fields[name]
    return values[number] if _is_list(values) and number < len(values) else None


def _person(
    fields: Mapping[str, Any], number: int, cameras: np.ndarray, intrinsics: np.ndarray
) -> Pw3dPerson:
    frames = len(cameras)
    values = {
        name: _numbers(_of_person(fields, name, number)) for name in _PEOPLE if name != "genders"
    }
    gender = _GENDERS.get(str(_of_person(fields, "genders", number)).lower(), "")
    problem = _structure(values, frames) or ("" if gender else "person of unknown gender")
    if problem:
        return _nobody(frames, problem)
    poses = values["poses"].reshape(frames, NUM_JOINTS, 3)
    world = values["jointPositions"].reshape(frames, NUM_JOINTS, 3)
    detections = values["poses2d"].reshape(frames, -1)
    valid = values["campose_valid"].reshape(frames, -1)
    betas = values["betas"].reshape(-1)[:NUM_BETAS]
    sound = _finite(poses, world, cameras) & np.isfinite(betas).all()

    # Frames that are not finite become zeros here and are reported below.
    poses, world, cameras = (
        np.where(sound[:, None, None], value, 0.0) for value in (poses, world, cameras)
    )
    turn, shift = cameras[:, :3, :3], cameras[:, :3, 3]
    rotations = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()
    rotations = rotations.reshape(frames, NUM_JOINTS, 3, 3)
    rotations[:, 0] = turn @ rotations[:, 0]
    joints = np.einsum("nij,nkj->nki", turn, world) + shift[:, None]
    pixels = np.einsum("ij,nkj->nki", intrinsics, joints)
    near = joints[..., 2].min(1) < NEAREST
    joints_2d = pixels[..., :2] / np.where(near[:, None], 1.0, pixels[..., 2])[..., None]

    off = np.abs(turn @ turn.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    no_rotation = (off > 1e-2) | (np.linalg.det(turn) < 0)
    # The first that applies is reported. The protocol's reasons come first: they are no faults.
    reasons = {
        CAMERA_NOT_TRUSTED: valid.min(1) == 0,
        NOT_DETECTED: ~detections.any(1),
        "annotation is not finite": ~(sound & _finite(detections, valid)),
        "camera pose is no rotation": no_rotation,
        "joint behind the camera": near,
        "joints all in one place": np.ptp(joints_2d, axis=1).max(1) < 1.0,
    }
    problems = np.select(list(reasons.values()), list(reasons), default="")
    posed = sound & (valid > 0).all(1) & ~no_rotation
    return Pw3dPerson(gender, betas, rotations, joints, joints_2d, posed, problems.tolist())


def _nobody(frames: int, problem: str) -> Pw3dPerson:
    """Return a person whose arrays cannot be used, with one problem in all frames."""
    return Pw3dPerson(
        gender="neutral",
        betas=np.zeros(NUM_BETAS),
        rotations=np.zeros((frames, NUM_JOINTS, 3, 3)),
        joints=np.zeros((frames, NUM_JOINTS, 3)),
        joints_2d=np.zeros((frames, NUM_JOINTS, 2)),
        posed=np.zeros(frames, bool),
        problems=[problem] * frames,
    )


def _structure(values: Mapping[str, np.ndarray], frames: int) -> str:
    """Return the problem with the shapes of a person's arrays, or ""."""
    for name, what in (("jointPositions", "joints"), ("poses", "pose")):
        if not values[name].size:
            return f"person without {what}"
    if values["betas"].size < NUM_BETAS:
        return "person without betas"
    for name in ("poses", "jointPositions"):
        if values[name].size != frames * NUM_JOINTS * 3:
            return "person's array lengths disagree"
    for name in ("poses", "jointPositions", "poses2d", "campose_valid"):
        if not values[name].size or len(values[name]) != frames:
            return "person's array lengths disagree"
    return ""


def _finite(*arrays: np.ndarray) -> Bool[np.ndarray, " n"]:
    return np.all([np.isfinite(array).reshape(len(array), -1).all(1) for array in arrays], axis=0)
