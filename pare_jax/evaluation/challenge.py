"""Predictions in the files that the 3DPW challenge takes, for scorers other than ours.

For each sequence `SPLIT/SEQUENCE.pkl` holds a dict, pickle protocol 2, of two float32 arrays:

    jointPositions  (P, N, 24, 3)     SMPL's joints, metres, in the camera's axes, pelvis at 0
    orientations    (P, N, 9, 3, 3)   rotations of the parts 0 1 2 4 5 16 17 18 19 into the camera

with P people and N frames. A person and frame without a sample is zeros and identity: those that
the protocol skips, which every scorer leaves out, and those that it counts but the dataset has no
sample of, because the person is outside the photograph or the files are broken. `write` tells how
many there are of each.
"""

import collections
import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.evaluation.sample_errors import SampleErrors, SplitPredictions
from pare_jax.evaluation.sequences import BY_PROTOCOL, Extent, SplitNames
from pare_jax.io.files import remove_files, write_atomically
from pare_jax.skeleton import NUM_JOINTS, ORIENTATION_PARTS


def exportable(names: Mapping[str, Callable[[], SplitNames]]) -> list[str]:
    """Return which evaluation splits can be exported: those with sequences of frames.

    Args:
        names: by DATASET/SPLIT, a function that tells the samples' names.

    Raises:
        UserError: there is none, or two would be written to the same folder.
    """
    splits = [name for name, read in names.items() if read().has_sequences]
    if not splits:
        raise UserError(
            f"config.eval.export: {', '.join(names)} holds single pictures, no sequences of frames "
            "to write for the 3DPW challenge; evaluate pw3d/test, or leave it off"
        )
    folders = [split.rpartition("/")[2] for split in splits]
    if len(set(folders)) < len(folders):
        raise UserError(
            f"config.eval.export: {', '.join(splits)} would be written to the same folder; export "
            "one of them at a time (config.data.eval)"
        )
    return splits


def remove(exported: Path) -> None:
    """Remove every split that `write` wrote into a folder, and no other file.

    Args:
        exported: the folder that holds those of the splits; it need not be there.

    Raises:
        UserError: a file cannot be removed.
    """
    remove_files(exported.glob("*/*.pkl"))
    for folder in (*exported.glob("*/"), exported):
        # Those that hold something else stay.
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
        folder: where the split's files go.
        predictions: of the split's samples.
        names: of the same samples.

    Returns:
        What the user should know, a line each.

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
                f"{sequence} has person {people.max()} and frame {frames.max()}, but its dataset's "
                f"sequences.json gives it {extent.people} people and {extent.frames} frames; "
                "prepare the dataset again"
            )
        if "/" in sequence:
            raise UserError(f"sequence {sequence!r} cannot be a file's name: it has a / in it")
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
            f"{folder}: the number of people and frames of {guessed} sequences is taken from the "
            "largest ones seen, for the dataset has no sequences.json; prepare it again to have it"
        )
    return lines


def _describe_zeros(names: SplitNames, zeros: int) -> str:
    """Say in a line why there is no prediction for so many people and frames."""
    reasons: collections.Counter[str] = collections.Counter()
    for sequence, counts in names.left_out.items():
        if sequence in names.rows or sequence in names.extents:
            reasons.update(counts)
    skipped = {reason: reasons.pop(reason) for reason in BY_PROTOCOL if reasons[reason]}
    unknown = zeros - sum(skipped.values()) - reasons.total()
    parts = []
    if skipped:
        parts.append(f"{_listed(skipped)}, which the protocol skips")
    if reasons:
        parts.append(f"{_listed(reasons)}, which it counts: leave these out of another score too")
    if unknown > 0:
        parts.append(f"{unknown} for reasons the dataset does not tell")
    return f"zeros for {zeros} people and frames without a prediction: {'; '.join(parts)}"


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _pickled(arrays: dict[str, np.ndarray]) -> bytes:
    """Pickle arrays so that Python 2 and every NumPy can read them."""
    content = pickle.dumps(arrays, protocol=2)
    # NumPy 2 calls this module by a name that older ones lack, and reads both.
    return content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
