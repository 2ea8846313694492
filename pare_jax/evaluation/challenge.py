"""Exports predictions in the 3DPW challenge's format, for other scorers.

For each sequence, `SPLIT/SEQUENCE.pkl` holds a dict of two float32 arrays (pickle protocol 2):

    jointPositions  (P, N, 24, 3)     SMPL's joints, metres, in the camera's axes, pelvis at 0
    orientations    (P, N, 9, 3, 3)   rotations of the parts 0 1 2 4 5 16 17 18 19 into the camera

with P people and N frames. A person and frame without a sample has zeros and identity matrices.
Either the protocol skips it, as every scorer does, or the protocol counts it but the person is
outside the photograph or a file is broken. `write` returns how many there are of each.
"""

import collections
import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError, counted
from pare_jax.evaluation.sample_errors import SampleErrors, SplitPredictions
from pare_jax.evaluation.sequences import BY_PROTOCOL, Extent, SplitNames
from pare_jax.io.files import remove_files, write_atomically
from pare_jax.skeleton import NUM_JOINTS, ORIENTATION_PARTS


def exportable(names: Mapping[str, Callable[[], SplitNames]]) -> list[str]:
    """Return the evaluation splits that can be exported: those with sequences of frames.

    Args:
        names: by DATASET/SPLIT, a function that returns the names of the split's samples.

    Raises:
        UserError: no split can be exported, or two would be written to the same folder.
    """
    splits = [name for name, read in names.items() if read().has_sequences]
    if not splits:
        raise UserError(
            f"config.eval.export: {', '.join(names)} has single photographs, but the 3DPW "
            "challenge takes sequences of frames: evaluate pw3d/test, or set it to False"
        )
    folders = [split.rpartition("/")[2] for split in splits]
    if len(set(folders)) < len(folders):
        raise UserError(
            f"config.eval.export: {', '.join(splits)} would be written to the same folder: export "
            "one at a time, by config.data.eval"
        )
    return splits


def remove(exported: Path) -> None:
    """Remove every split that `write` wrote into a folder, and no other file.

    Args:
        exported: the folder that holds the splits' folders; may be missing.

    Raises:
        UserError: a file cannot be removed.
    """
    remove_files(exported.glob("*/*.pkl"))
    for folder in (*exported.glob("*/"), exported):
        # Folders with other files stay.
        with contextlib.suppress(OSError):
            folder.rmdir()


def export(
    folder: Path,
    splits: Sequence[str],
    errors: Mapping[str, SampleErrors],
    names: Mapping[str, Callable[[], SplitNames]],
) -> list[str]:
    """Write the predictions of some splits, after removing those of an earlier evaluation.

    Args:
        folder: the workdir's `eval/res`.
        splits: DATASET/SPLIT of each split to write, from `exportable`; may be empty.
        errors: by DATASET/SPLIT, from `evaluate.measure_splits`.
        names: by DATASET/SPLIT, a function that returns the names of the split's samples.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: see `remove` and `write`.
    """
    remove(folder)
    lines = []
    for split in splits:
        into = folder / split.rpartition("/")[2]
        lines += write(into, errors[split].predictions, names[split]())
    return lines


def write(folder: Path, predictions: SplitPredictions, names: SplitNames) -> list[str]:
    """Write the predictions of a split, a file for each sequence, each whole or not at all.

    Args:
        folder: for the split's files.
        predictions: of the split's samples.
        names: of the same samples.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the folder cannot be written, or a sample lies outside its sequence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    guessed, places = 0, 0
    for sequence in sorted(names.rows.keys() | names.extents.keys()):
        rows = names.rows.get(sequence, np.empty(0, int))
        people = np.array([names.samples[row].person for row in rows], int)
        frames = np.array([names.samples[row].frame for row in rows], int)
        extent = names.extents.get(sequence)
        if extent is None:
            guessed += 1
            extent = Extent(int(people.max()) + 1, int(frames.max()) + 1)
        elif np.any(people >= extent.people) or np.any(frames >= extent.frames):
            raise UserError(
                f"{sequence} has person {people.max()} and frame {frames.max()}, but the dataset's "
                f"sequences.json has {extent.people} people and {extent.frames} frames: prepare "
                "the dataset again"
            )
        if "/" in sequence:
            raise UserError(
                f"sequence {sequence!r} cannot be a file name, because it contains a /: rename it "
                "and prepare the dataset again"
            )
        positions = np.zeros((*extent, NUM_JOINTS, 3), np.float32)
        parts = len(ORIENTATION_PARTS)
        turns = np.tile(np.eye(3, dtype=np.float32), (*extent, parts, 1, 1))
        positions[people, frames] = predictions.joints[rows]
        turns[people, frames] = predictions.orientations[rows]
        content = _pickled({"jointPositions": positions, "orientations": turns})
        write_atomically(folder / f"{sequence}.pkl", content)
        places += extent.people * extent.frames
    lines = []
    if places > len(names.samples):
        lines.append(f"{folder}: {_describe_zeros(names, places - len(names.samples))}")
    if guessed:
        lines.append(
            f"{folder}: the dataset has no sequences.json, so the size of "
            f"{counted(guessed, 'sequence')} is the largest person and frame found: prepare the "
            "dataset again"
        )
    return lines


def _describe_zeros(names: SplitNames, zeros: int) -> str:
    """Return one line with the reasons for missing predictions and their numbers."""
    reasons: collections.Counter[str] = collections.Counter()
    for sequence, counts in names.left_out.items():
        if sequence in names.rows or sequence in names.extents:
            reasons.update(counts)
    skipped = {reason: reasons.pop(reason) for reason in BY_PROTOCOL if reasons[reason]}
    unknown = zeros - sum(skipped.values()) - reasons.total()
    parts = []
    if skipped:
        parts.append(f"{_numbers(skipped)}, which the protocol skips")
    if reasons:
        parts.append(f"{_numbers(reasons)}, which it counts: leave these out of other scores too")
    if unknown > 0:
        parts.append(f"{unknown} for unknown reasons")
    return f"no prediction for {zeros} people and frames, written as zeros: {'; '.join(parts)}"


def _numbers(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _pickled(arrays: dict[str, np.ndarray]) -> bytes:
    """Pickle arrays in a form that Python 2 and every NumPy version can read."""
    content = pickle.dumps(arrays, protocol=2)
    # Older NumPy versions lack the new name of this module; NumPy 2 reads both.
    return content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
