"""What the network said of a clip's people, frame by frame -> steady tracks with bodies."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pare_jax.crop import CROP_RESOLUTION, FOCAL_LENGTH
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import MAX_BATCH, Predictor
from pare_jax.prediction.run.chunks import Rows
from pare_jax.prediction.smoothing import Motion, Smoothing, smooth_motion
from pare_jax.prediction.tracking import TrackedBox

_FIELDS = ("betas", "rotations", "translation")


def row_of(frame: int, tracked: TrackedBox, person: Person) -> dict[str, Any]:
    """Return what is kept of one person in one frame."""
    return {
        "frame": np.int32(frame),
        "id": np.int32(tracked.id),
        "score": np.float32(tracked.score),  # NaN for a box that was given
        "box": np.asarray(person.box, np.float32),
        "crop_centre": np.asarray(person.crop_centre, np.float32),
        "crop_side": np.float32(person.crop_side),
        **{name: np.asarray(getattr(person, name), np.float32) for name in _FIELDS},
    }


def stack_rows(rows: Sequence[dict[str, Any]]) -> Rows:
    """Stack what `row_of` made; nobody gives arrays of length 0."""
    shapes = {
        "frame": ((), np.int32),
        "id": ((), np.int32),
        "score": ((), np.float32),
        "box": ((4,), np.float32),
        "crop_centre": ((2,), np.float32),
        "crop_side": ((), np.float32),
        "betas": ((10,), np.float32),
        "rotations": ((24, 3, 3), np.float32),
        "translation": ((3,), np.float32),
    }
    return {
        name: np.array([row[name] for row in rows], kind).reshape(len(rows), *shape)
        for name, (shape, kind) in shapes.items()
    }


def smooth_rows(rows: Rows, times: np.ndarray, smoothing: Smoothing) -> Rows:
    """Return the rows with every track's rotations, shape and place smoothed.

    Args:
        rows: of all people in all frames.
        times: seconds of every frame.
        smoothing: what and how much.
    """
    result = {name: np.array(values) for name, values in rows.items()}
    for number in np.unique(rows["id"]):
        own = np.flatnonzero(rows["id"] == number)
        own = own[np.argsort(rows["frame"][own], kind="stable")]
        motion = smooth_motion(
            Motion(
                times=times[rows["frame"][own]],
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
        posed = predictor.pose(*(rows[name][part] for name in (*_FIELDS, "box")))
        for row, person in zip(part, posed, strict=True):
            kept = person.vertices if vertices else np.zeros((0, 3), np.float32)
            people.append(
                dataclasses.replace(
                    person,
                    vertices=kept,
                    id=int(rows["id"][row]),
                    frame=int(rows["frame"][row]),
                    score=None if np.isnan(score := rows["score"][row]) else float(score),
                )
            )
    return people


def rows_by_track(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every id with the numbers of its rows, by frame."""
    for number in np.unique(rows["id"]):
        own = np.flatnonzero(rows["id"] == number)
        yield int(number), own[np.argsort(rows["frame"][own], kind="stable")]
