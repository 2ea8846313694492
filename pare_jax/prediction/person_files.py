"""Encodes people as .npz and JSON files, and reads .npz files.

People may come as a stream: JSON is made person by person, and arrays in blocks of people, so that
a long clip needs little memory.
"""

import dataclasses
import io
import itertools
import json
import math
import re
import textwrap
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.io.archives import read_npz
from pare_jax.keypoints.sets import find_set
from pare_jax.prediction.person_arrays import (
    ASSUMED,
    KEYPOINT_FIELDS,
    NOT_FITTED,
    Faces,
    PersonArrays,
)
from pare_jax.prediction.scene import scene_camera, scene_translation
from pare_jax.skeleton import JOINT_NAMES, NUM_BETAS, NUM_JOINTS

# Values for people without a field that other people of the file have.
UNKNOWN = {"id": -1, "frame": -1, "score": math.nan, "time": math.nan}
_UNKNOWN_KEYPOINTS = {
    "keypoints": 0.0,
    "fit_error": math.nan,
    "fit_problems": NOT_FITTED,
    "fit_ignored": False,
}
_KINDS = {"id": np.int32, "frame": np.int32, "score": np.float32, "time": np.float64}
# People whose arrays are stacked at once.
_BLOCK = 256
# Number of people, and their fields with a leading axis of people.
_Block = tuple[int, dict[str, np.ndarray]]


def people_npz(
    people: Sequence[PersonArrays],
    faces: Faces | None,
    photo_size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
    mesh: bool = True,
) -> bytes:
    """Encode the people of one photograph, or one person in frames of a clip, as an .npz file.

    The file has every field of `Person` with a leading axis of people. It also has `joint_names`
    (24,) and, if they are known, `faces` (F, 3), `photo_size` (width, height) and `frame_rate`.
    With the photograph's size it has the full camera (see `scene`), `full_focal_length` () and
    `full_principal_point` (2,), pixels, and `full_translation` (people, 3) in its frame, metres;
    `full_focal_length_from` () is "assumed", "exif", "flag" or "given".
    If only some people have an id, a frame, a score or a time, the others have -1, -1, NaN, NaN.
    With keypoints it has `keypoint_set` () and `keypoint_names` (k,), "" for points of the set that
    are no body points. People without keypoints, or with those of another set, have zeros;
    bodies that were not fitted where others were have "not fitted" in `fit_problems`.

    Args:
        people: any number.
        faces: of their meshes.
        photo_size: width and height of the photograph or of the clip's frames, pixels, if known.
        frame_rate: of the clip, frames a second.
        mesh: whether to write vertices and faces, which are most of a long track's file.
    """
    arrays = people_arrays(people, faces, photo_size, frame_rate)
    if not mesh:
        arrays.pop("vertices", None)
        arrays.pop("faces", None)
    return npz_bytes(arrays)


def people_arrays(
    people: Iterable[PersonArrays],
    faces: Faces | None,
    photo_size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays that `people_npz` writes, including meshes.

    An iterator of people is consumed one person at a time. The first person has the photograph's
    focal length.
    """
    stream = iter(people)
    first = next(stream, None)
    if first is not None:
        stream = itertools.chain([first], stream)
    blocks: list[_Block] = []
    keypoint_set: str | None = None

    def rows_of(person: PersonArrays) -> _Block:
        nonlocal keypoint_set
        keypoint_set = keypoint_set or person.keypoint_set
        if person.keypoint_set != keypoint_set:  # a file has one set
            person = dataclasses.replace(person, **dict.fromkeys(KEYPOINT_FIELDS))
        return 1, _as_rows(person, photo_size)

    while block := [rows_of(one) for one in itertools.islice(stream, _BLOCK)]:
        blocks.append(_joined(block))
    count, arrays = _joined(blocks)
    if "frame" in arrays:  # NaN: a box from the user; 0: the person is hidden in this frame
        arrays.setdefault("score", np.full(count, np.nan, np.float32))
    if faces is not None:
        arrays["faces"] = np.asarray(faces, np.int32)
    arrays["joint_names"] = np.array(JOINT_NAMES)
    if "keypoints" in arrays and keypoint_set is not None:
        arrays["keypoint_set"] = np.array(keypoint_set)
        arrays["keypoint_names"] = np.array(find_set(keypoint_set).points)
    if photo_size is not None:
        arrays["photo_size"] = np.array(photo_size, np.int32)
        camera = scene_camera(photo_size, first and first.full_focal_length)
        arrays["full_focal_length_from"] = np.array(
            first.full_focal_length_from if first else ASSUMED
        )
        arrays["full_focal_length"] = np.array(camera.focal_length, np.float32)
        arrays["full_principal_point"] = np.array(camera.principal_point, np.float32)
    if frame_rate is not None:
        arrays["frame_rate"] = np.array(frame_rate, np.float64)
    return arrays


def read_arrays(path: str | Path, without: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file, without unpickling anything.

    Args:
        path: the file.
        without: names of arrays to skip.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    return read_npz(path, without=without, advice="give one that pare_jax.predict wrote")


def people_json(
    people: Iterable[PersonArrays],
    photo: str | None = None,
    photo_size: tuple[int, int] | None = None,
) -> str:
    """Return readable JSON of the people of one photograph: rounded, with the joints' names.

    Args:
        people: any number.
        photo: the photograph's name, if known.
        photo_size: its width and height, pixels, if known.
    """
    return "".join(people_json_parts(people, photo, photo_size))


def people_json_parts(
    people: Iterable[PersonArrays],
    photo: str | None = None,
    photo_size: tuple[int, int] | None = None,
    clip: str | None = None,
    frame_rate: float | None = None,
) -> Iterator[str]:
    """Yield the text of `people_json` person by person, for long files.

    Args:
        people: an iterator is consumed one person at a time.
        photo: as in `people_json`.
        photo_size: as in `people_json`.
        clip: the clip's name, instead of a photograph's.
        frame_rate: of the clip, frames a second.
    """
    about: dict[str, Any] = {} if photo_size is None else {"photo_size_px": list(photo_size)}
    if frame_rate is not None:
        about["frame_rate"] = _rounded(frame_rate, 6)
    about |= {
        "units": {
            "px": "pixels of the photograph from its top-left corner, x right, y down",
            "m": "metres in the camera's frame, x right, y down, z forward",
            "rotations": "axis-angle in radians, relative to the parent joint",
        },
        "people": [],
    }
    if clip is not None:
        about["units"] |= {"time": "seconds from the clip's first frame"}
    start = _as_text(about).removesuffix("]\n}")
    # Outside of `_as_text`, which would change the spaces of a name with brackets.
    named = {"photo": photo, "clip": clip}
    names = [f'\n  "{key}": {json.dumps(name)},' for key, name in named.items() if name is not None]
    yield "{" + "".join(names) + start.removeprefix("{")
    between, end = "\n", "]\n}\n"
    for person in people:
        yield between + textwrap.indent(_as_text(_described(person, photo_size)), "    ")
        between, end = ",\n", "\n  ]\n}\n"
    yield end


def _as_text(described: dict[str, Any]) -> str:
    """Return indented JSON in which each list of numbers has one line."""
    text = json.dumps(described, indent=2, allow_nan=False)
    numbers = re.compile(r"\[\s+([-+\d.eE,\s]+?)\s+\]")
    return numbers.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode arrays as an .npz file; equal arrays make equal files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=1) as archive:
        for name, value in arrays.items():
            value = np.asanyarray(value)
            content = io.BytesIO()
            np.lib.format.write_array(content, value, allow_pickle=False)
            archive.writestr(npz_entry(name, value.dtype), content.getbuffer(), compresslevel=1)
    return buffer.getvalue()


def npz_entry(name: str, kind: np.dtype | type) -> zipfile.ZipInfo:
    """Return the entry of an .npz archive for an array of a dtype.

    Floats are stored uncompressed: they hardly shrink, and compressing them would take most of the
    time. Other arrays are compressed.
    """
    # Without a time of writing, equal arrays make equal files.
    entry = zipfile.ZipInfo(f"{name}.npy")
    is_float = np.issubdtype(kind, np.inexact)
    entry.compress_type = zipfile.ZIP_STORED if is_float else zipfile.ZIP_DEFLATED
    return entry


def _as_rows(person: PersonArrays, photo_size: tuple[int, int] | None) -> dict[str, np.ndarray]:
    rows = {name: value[None] for name, value in person.arrays().items()}
    if photo_size is not None:
        rows["full_translation"] = scene_translation(person, photo_size).astype(np.float32)[None]
    return rows


def _joined(blocks: list[_Block]) -> _Block:
    """Concatenate blocks of people and empty them; a field that some lack is filled or dropped."""
    names = dict.fromkeys(name for _, fields in blocks for name in fields)
    result = {}
    for name in names:
        # Fields are removed from the blocks, so that only one field is in memory twice.
        parts = [fields.pop(name, None) for _, fields in blocks]
        if name in UNKNOWN:
            parts = [
                np.full(count, UNKNOWN[name], _KINDS[name]) if part is None else part
                for part, (count, _) in zip(parts, blocks, strict=True)
            ]
        known = [part for part in parts if part is not None]
        if name in _UNKNOWN_KEYPOINTS:
            parts = [
                _unknown_keypoints(name, count, known[0]) if part is None else part
                for part, (count, _) in zip(parts, blocks, strict=True)
            ]
            known = parts
        if len(known) == len(blocks):
            result[name] = known[0] if len(known) == 1 else np.concatenate(known)
    return sum(count for count, _ in blocks), result


def _unknown_keypoints(name: str, count: int, example: np.ndarray) -> np.ndarray:
    """Return a field of people without keypoints, in the shape of people who have them."""
    value = np.asarray(_UNKNOWN_KEYPOINTS[name])
    return np.broadcast_to(value, (count, *example.shape[1:])).astype(
        value.dtype if value.dtype.kind == "U" else example.dtype
    )


def _described(person: PersonArrays, photo_size: tuple[int, int] | None) -> dict[str, Any]:
    pose = person.pose.reshape(NUM_JOINTS, 3)
    score = None if person.score is None else _rounded(person.score, 4)
    time = None if person.time is None else _rounded(person.time, 6)
    given = {"id": person.id, "frame": person.frame, "time": time, "score": score}
    known = {name: value for name, value in given.items() if value is not None}
    if person.frame is not None:
        known["score"] = score  # null: a box from the user; 0: hidden in this frame
    camera = {
        "focal_length_px": _rounded(person.focal_length, 2),
        "principal_point_px": _rounded(person.principal_point, 2),
        "translation_m": _rounded(person.translation, 4),
        "crop_s_tx_ty": _rounded(person.camera_crop, 5),
    }
    if photo_size is not None:
        full = scene_camera(photo_size, person.full_focal_length)
        camera["full_image"] = {
            "focal_length_px": _rounded(full.focal_length, 2),
            "focal_length_from": person.full_focal_length_from,
            "principal_point_px": _rounded(full.principal_point, 2),
            "translation_m": _rounded(scene_translation(person, photo_size), 4),
        }
    return {
        **known,
        "box_px": _rounded(person.box, 1),
        "crop": {
            "centre_px": _rounded(person.crop_centre, 1),
            "side_px": _rounded(person.crop_side, 1),
        },
        "camera": camera,
        "betas": _rounded(person.betas[:NUM_BETAS], 4),
        "joints": {
            name: {
                "photo_px": _rounded(person.joints_2d[joint], 1),
                "camera_m": _rounded(person.joints_3d[joint], 4),
                "rotation": _rounded(pose[joint], 4),
            }
            for joint, name in enumerate(JOINT_NAMES)
        },
        **_described_keypoints(person),
    }


def _described_keypoints(person: PersonArrays) -> dict[str, Any]:
    if person.keypoints is None or person.keypoint_set is None:
        return {}
    names = find_set(person.keypoint_set).points
    points = {
        name: {"photo_px": _rounded(row[:2], 1), "confidence": _rounded(row[2], 4)}
        for name, row in zip(names, person.keypoints, strict=True)
        if name and row[2] > 0
    }
    described: dict[str, Any] = {"keypoints": {"set": person.keypoint_set, "points": points}}
    if person.fit_error is not None and person.fit_ignored is not None:
        ignored = [name for name, far in zip(names, person.fit_ignored, strict=True) if far]
        described["fit"] = {
            "error": _rounded(person.fit_error, 4) if math.isfinite(person.fit_error) else None,
            "good": not person.fit_problems,
            "problems": person.fit_problems,
            "ignored": ignored,
        }
    return described


def _rounded(values: Any, digits: int) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()
