"""The mean pose of the training sets, which evaluations measure as a baseline."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.reading.fitted_split import FittedSplit
from data_pipelines.reading.storage import StoredSplit
from pare_jax.errors import UserError
from pare_jax.io.files import read_json, write_atomically
from pare_jax.skeleton import NUM_JOINTS

STATISTICS_FILE = "train_statistics.json"
# Examples of each training set, which give the mean to a fraction of a millimetre.
_STATISTICS_EXAMPLES = 5_000

# Training sets with their weights.
Sources = list[tuple[StoredSplit | FittedSplit, float]]


def of_mixture(
    data_root: str, workdir: Path, sources: Sources, damaged: DamagedExamples
) -> Float[np.ndarray, "24 3"]:
    """Return the mean joints of a mixture, read from the workdir or measured and kept there.

    Args:
        data_root: the folder of prepared datasets.
        workdir: the workdir of the run.
        sources: the training sets with their weights.
        damaged: counts the damaged examples, which are left out.

    Returns:
        Root-centred joints, metres; NaN if no set has 3D joints.
    """
    path = workdir / STATISTICS_FILE
    key = _key_of(data_root, sources)
    mean = read(path, key)
    if mean is None:
        mean = _measure(sources, damaged)
        _keep(path, key, mean)
    return mean


def read(path: Path, key: list | None = None) -> Float[np.ndarray, "24 3"] | None:
    """Read the mean joints of a workdir; None if missing, damaged or of another mixture.

    Args:
        path: the file `STATISTICS_FILE`.
        key: identifies the mixture; None: any.
    """
    try:
        kept = read_json(path)
        mean = np.array(kept["mean_joints"], np.float32)
        if key not in (None, kept["sources"]) or mean.shape != (NUM_JOINTS, 3):
            return None
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None
    return mean


def replaced_fits(data_root: str, workdir: Path, sources: Sources) -> list[str]:
    """Return a line for each training set whose fits were replaced since the run began."""
    try:
        began = {row[0]: row[3:] for row in read_json(workdir / STATISTICS_FILE)["sources"]}
    except (OSError, UserError, KeyError, TypeError, IndexError):
        return []
    return [
        f"{name}: its fits were replaced since this run began; it goes on with the new ones"
        for name, _, _, *digest in _key_of(data_root, sources)
        if name in began and began[name] and began[name] != digest
    ]


def _key_of(data_root: str, sources: Sources) -> list[list]:
    """Return what identifies a mixture, without the folder of the datasets.

    It is a list of name, length and weight, and the digest of the fits where these are used.
    """
    return [
        [os.path.relpath(source.path, data_root), len(source), weight]
        + ([source.fits_digest] if isinstance(source, FittedSplit) else [])
        for source, weight in sources
    ]


def _measure(sources: Sources, damaged: DamagedExamples) -> np.ndarray:
    """Return the mean root-centred joints of the mixture, metres, (24, 3); NaN if it has none."""
    total, weights = np.zeros((NUM_JOINTS, 3)), 0.0
    for source, weight in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _STATISTICS_EXAMPLES))
        examples = damaged.readable(source, map(int, chosen))
        whole = [e for e in examples if e["joints_3d_weight"] > 0 and e["joints_3d_known"].all()]
        joints = [e["joints_3d"] for e in whole]
        if joints:
            total += weight * np.mean(np.asarray(joints, np.float64), 0)
            weights += weight
    if not weights:
        return np.full((NUM_JOINTS, 3), np.nan, np.float32)
    return (total / weights).astype(np.float32)


def _keep(path: Path, key: list, mean: np.ndarray) -> None:
    if path.parent.is_dir():
        # JSON has no NaN.
        joints = [[float(x) if np.isfinite(x) else None for x in joint] for joint in mean]
        statistics = {"sources": key, "mean_joints": joints}
        # If it cannot be written, it is measured again next time.
        with contextlib.suppress(UserError):
            write_atomically(path, (json.dumps(statistics) + "\n").encode())
