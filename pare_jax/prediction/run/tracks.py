"""Predictions of a clip's people as rows of arrays: stacking, smoothing, posing the body."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.models.prediction import Prediction
from pare_jax.prediction.person import Person
from pare_jax.prediction.person_arrays import KEYPOINT_FIELDS
from pare_jax.prediction.predictor import MAX_BATCH, Predictor
from pare_jax.prediction.refinement import Refiner
from pare_jax.prediction.smoothing import Motion, Smoothing, smooth_motion
from pare_jax.prediction.tracking import TrackedBox
from pare_jax.skeleton import NUM_JOINTS

# A row for one person in one frame; 1.1 kB each, with keypoints 2 kB.
Rows = dict[str, Any]

_OF_PERSON = {
    "box": (4,),
    "crop_centre": (2,),
    "crop_side": (),
    "betas": (10,),
    "rotations": (24, 3, 3),
    "translation": (3,),
}


def stack_rows(
    people: Sequence[tuple[int, float, TrackedBox, Person]],
    seen: Sequence[Keypoints | None] | None = None,
) -> Rows:
    """Return a row for each frame number, time in seconds, tracked box and person.

    Args:
        people: the rows.
        seen: the keypoints of each, for `refine_rows`; None: none are known.
    """
    rows = {
        "frame": np.array([frame for frame, *_ in people], np.int32),
        "time": np.array([time for _, time, *_ in people], np.float64),
        "id": np.array([tracked.id for *_, tracked, _ in people], np.int32),
        "score": np.array([tracked.score for *_, tracked, _ in people], np.float32),
    }
    for name, shape in _OF_PERSON.items():
        values = [getattr(person, name) for *_, person in people]
        rows[name] = np.array(values, np.float32).reshape(len(people), *shape)
    rows["keypoints"] = np.empty(len(people), object)
    rows["keypoints"][:] = [
        {name: getattr(person, name) for name in KEYPOINT_FIELDS} for *_, person in people
    ]
    rows["seen"] = np.empty(len(people), object)
    rows["seen"][:] = [None] * len(people) if seen is None else list(seen)
    return rows


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate rows; no parts give arrays of length 0."""
    parts = [stack_rows([]), *parts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fill_gaps(rows: Rows, boxes: Sequence[Sequence[TrackedBox]], times: np.ndarray) -> Rows:
    """Return the rows with every track's body interpolated in frames that lack it.

    Args:
        rows: of all people in all frames.
        boxes: of the tracked people in every frame; other frames get no row.
        times: of every frame, seconds.
    """
    frames: dict[int, list[int]] = {}
    for frame, tracked in enumerate(boxes):
        for one in tracked:
            frames.setdefault(one.id, []).append(frame)
    parts = [rows]
    for number, own in rows_by_track(rows):
        known = rows["frame"][own]
        gaps = np.setdiff1d(frames.get(number, []), known)
        gaps = gaps[(gaps > known[0]) & (gaps < known[-1])]
        if len(gaps):
            parts.append(_interpolated(rows, own, gaps.astype(np.int32), times[gaps]))
    return join_rows(parts)


def with_keypoints(rows: Rows) -> Rows:
    """Return the rows whose `seen` has keypoints."""
    known = np.array([one is not None for one in rows["seen"]], bool)
    return {name: values[known] for name, values in rows.items()}


def _interpolated(rows: Rows, own: np.ndarray, frames: np.ndarray, times: np.ndarray) -> Rows:
    """Return rows of one track in frames between those of its rows `own`."""
    clock = rows["time"][own]
    after = np.searchsorted(clock, times)
    before = own[after - 1]
    share = (times - clock[after - 1]) / (clock[after] - clock[after - 1])
    after = own[after]
    count = len(frames)
    found: Rows = {"frame": frames, "time": times, "id": rows["id"][before]}
    found["score"] = np.zeros(count, np.float32)  # hidden
    found["keypoints"] = np.empty(count, object)
    found["keypoints"][:] = [{} for _ in range(count)]
    found["seen"] = np.empty(count, object)
    for name in ("box", "crop_centre", "crop_side", "betas", "translation"):
        start, end = rows[name][before], rows[name][after]
        along = share.reshape(-1, *[1] * (start.ndim - 1))
        found[name] = ((1 - along) * start + along * end).astype(np.float32)
    start, end = (
        Rotation.from_matrix(rows["rotations"][which].reshape(-1, 3, 3))
        for which in (before, after)
    )
    turns = (start.inv() * end).as_rotvec() * np.repeat(share, NUM_JOINTS)[:, None]
    turned = (start * Rotation.from_rotvec(turns)).as_matrix()
    found["rotations"] = turned.reshape(count, NUM_JOINTS, 3, 3).astype(np.float32)
    return found


def refine_rows(rows: Rows, refiner: Refiner) -> Rows:
    """Return the rows with every track's bodies fitted to its keypoints, with one shape.

    Args:
        rows: of all people in all frames; their `seen` has the keypoints. Rows without keypoints
            stay as they are.
        refiner: fits.
    """
    result = {name: np.array(values) for name, values in rows.items()}
    for _, own in rows_by_track(rows):
        seen = list(rows["seen"][own])
        if not any(one is not None for one in seen):
            continue
        squares = np.column_stack([rows["crop_centre"][own], rows["crop_side"][own]])
        place = rows["translation"][own]
        scale = 2.0 * FOCAL_LENGTH / (CROP_RESOLUTION * place[:, 2:])
        camera: Any = np.concatenate([scale, place[:, :2]], axis=1)
        start = Prediction(rows["rotations"][own], rows["betas"][own], camera)
        fit, verdicts = refiner.track(seen, squares, start)
        depth = 2.0 * FOCAL_LENGTH / (CROP_RESOLUTION * fit.camera[:, :1])
        translation = np.concatenate([fit.camera[:, 1:], depth], axis=1)
        # Nothing holds the camera of a frame without keypoints.
        known = np.array([one is not None for one in seen])
        result["rotations"][own[known]] = fit.rotations[known]
        result["translation"][own[known]] = translation[known]
        result["betas"][own] = fit.betas
        for row, verdict in zip(own, verdicts, strict=True):
            judged = dict(rows["keypoints"][row])
            if verdict is not None:
                judged |= {f"fit_{name}": value for name, value in verdict._asdict().items()}
            result["keypoints"][row] = judged
    return result


def smooth_rows(rows: Rows, smoothing: Smoothing) -> Rows:
    """Return the rows with every track's rotations, shape and position smoothed.

    Args:
        rows: of all people in all frames.
        smoothing: what and how much.
    """
    result = {name: np.array(values) for name, values in rows.items()}
    for _, own in rows_by_track(rows):
        motion = smooth_motion(
            Motion(
                times=rows["time"][own],
                rotations=rows["rotations"][own],
                betas=rows["betas"][own],
                translations=rows["translation"][own],
                focal_lengths=FOCAL_LENGTH * rows["crop_side"][own] / CROP_RESOLUTION,
                principal_points=rows["crop_centre"][own],
                scores=rows["score"][own],
            ),
            smoothing,
        )
        result["rotations"][own] = motion.rotations
        result["betas"][own] = motion.betas
        result["translation"][own] = motion.translations
    return result


def people_of_rows(
    predictor: Predictor, rows: Rows, which: np.ndarray, *, vertices: bool
) -> list[Person]:
    """Pose the body as some of the rows say.

    Args:
        predictor: has the body.
        rows: of all people in all frames.
        which: numbers of the rows.
        vertices: whether the people keep their meshes, 150 kB each.
    """
    people = []
    for start in range(0, len(which), MAX_BATCH):
        part = which[start : start + MAX_BATCH]
        squares = np.column_stack([rows["crop_centre"][part], rows["crop_side"][part]])
        poses = (rows[name][part] for name in ("betas", "rotations", "translation"))
        posed = predictor.pose(*poses, boxes=rows["box"][part], squares=squares)
        for row, person in zip(part, posed, strict=True):
            score = float(rows["score"][row])
            people.append(
                dataclasses.replace(
                    person,
                    vertices=person.vertices if vertices else np.zeros((0, 3), np.float32),
                    id=int(rows["id"][row]),
                    frame=int(rows["frame"][row]),
                    time=float(rows["time"][row]),
                    score=None if np.isnan(score) else score,
                    **rows["keypoints"][row],
                )
            )
    return people


def rows_by_track(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every id with the numbers of its rows, by frame."""
    for number in np.unique(rows["id"]):
        own = np.flatnonzero(rows["id"] == number)
        yield int(number), own[np.argsort(rows["frame"][own], kind="stable")]
