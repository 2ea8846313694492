"""Predictions of a clip's people as rows of arrays: stacking, smoothing, posing the body."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import MAX_BATCH, Predictor
from pare_jax.prediction.smoothing import Motion, Smoothing, smooth_motion
from pare_jax.prediction.tracking import TrackedBox

# A row for one person in one frame; 1.1 kB each.
Rows = dict[str, np.ndarray]

_POSE = ("betas", "rotations", "translation")
_OF_PERSON = {
    "box": (4,),
    "crop_centre": (2,),
    "crop_side": (),
    "betas": (10,),
    "rotations": (24, 3, 3),
    "translation": (3,),
}


def stack_rows(people: Sequence[tuple[int, float, TrackedBox, Person]]) -> Rows:
    """Return a row for each frame number, time in seconds, tracked box and person."""
    rows = {
        "frame": np.array([frame for frame, *_ in people], np.int32),
        "time": np.array([time for _, time, *_ in people], np.float64),
        "id": np.array([tracked.id for *_, tracked, _ in people], np.int32),
        "score": np.array([tracked.score for *_, tracked, _ in people], np.float32),
    }
    for name, shape in _OF_PERSON.items():
        values = [getattr(person, name) for *_, person in people]
        rows[name] = np.array(values, np.float32).reshape(len(people), *shape)
    return rows


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate rows; no parts give arrays of length 0."""
    parts = [stack_rows([]), *parts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
        posed = predictor.pose(*(rows[name][part] for name in (*_POSE, "box")))
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
                )
            )
    return people


def rows_by_track(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every id with the numbers of its rows, by frame."""
    for number in np.unique(rows["id"]):
        own = np.flatnonzero(rows["id"] == number)
        yield int(number), own[np.argsort(rows["frame"][own], kind="stable")]
