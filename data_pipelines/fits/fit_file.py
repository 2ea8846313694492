"""Reads and writes the fits of a prepared split: one file beside its shards.

DATASET/fits/SPLIT.npz has one row for each example of the split, in order, and a header that says
what was fitted with what. It is written as a whole; the shards stay as they are.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.preparing.origin import ORIGIN_FILE
from pare_jax.errors import UserError
from pare_jax.io.archives import read_npz
from pare_jax.io.files import parse_json, scratch_path
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

FOLDER = "fits"
# Verdicts on fits, in the order in which they are looked for; a row stores the number.
VERDICTS = ("good", "no points", "few points", "points ignored", "not converged")
_HEADER, _AGAIN = "header", "run python -m data_pipelines.fit_labels again"
# Increased when the columns change.
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class FitColumns:
    """Fits of consecutive examples; rows without a fit have no rotation, NaN or verdict > 0.

    Attributes:
        rotations: relative to the parents; the root's into the camera frame.
        betas: shape coefficients of the header's body.
        camera: crop camera (s, tx, ty) of the stored crop without its margin.
        error: mean distance of the keypoints that count, in shares of the person's extent.
        agreement: of the starts, mm (`pare_jax.fitting.fitter.BodyFit`).
        plausibility: share of the prior's bodies that are less likely.
        verdict: number in `VERDICTS`.
        posed: whether the example has a true pose anyway.
    """

    rotations: Float[np.ndarray, "people 24 3 3"]
    betas: Float[np.ndarray, "people 10"]
    camera: Float[np.ndarray, "people 3"]
    error: Float[np.ndarray, " people"]
    agreement: Float[np.ndarray, " people"]
    plausibility: Float[np.ndarray, " people"]
    verdict: UInt8[np.ndarray, " people"]
    posed: Bool[np.ndarray, " people"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.verdict)


_SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "rotations": ((NUM_JOINTS, 3, 3), "float32"),
    "betas": ((NUM_BETAS,), "float32"),
    "camera": ((3,), "float32"),
    "error": ((), "float32"),
    "agreement": ((), "float32"),
    "plausibility": ((), "float32"),
    "verdict": ((), "uint8"),
    "posed": ((), "bool"),
}


@dataclasses.dataclass(frozen=True)
class SplitFits:
    """The fits of a split.

    Attributes:
        header: from `make_header`.
        columns: one row for each example.
        digest: of the file.
    """

    header: Mapping[str, Any]
    columns: FitColumns
    digest: str


def fits_path(dataset: Path, split: str) -> Path:
    """Return the file with the fits of a split."""
    return dataset / FOLDER / f"{split}.npz"


def dataset_digest(dataset: Path) -> str:
    """Return a digest of a prepared dataset, from the files that describe its shards.

    Args:
        dataset: the directory with the shards.

    Raises:
        UserError: a file cannot be read.
    """
    found = hashlib.sha256()
    for name in ("dataset_info.json", "features.json", ORIGIN_FILE):
        path = dataset / name
        try:
            found.update(path.read_bytes() if path.exists() else b"")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return found.hexdigest()


def make_header(
    dataset: Path, body: Mapping[str, str], network: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what identifies fits: those with the same header are the same.

    Args:
        dataset: the directory with the shards.
        body: name and digest of the body model.
        network: name and digest of the network that gave starts.
        settings: of the fits.
    """
    header = {
        "format": _FORMAT,
        "dataset": dataset_digest(dataset),
        "body": dict(body),
        "network": dict(network),
        "settings": dict(settings),
    }
    # As it will be read: JSON has no tuples.
    return json.loads(json.dumps(header))


def header_digest(header: Mapping[str, Any]) -> str:
    """Return a short digest of a header; it names the folder of unfinished fits."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:12]


def empty_columns(count: int) -> FitColumns:
    """Return rows without points: no rotation, an infinite error, nothing plausible."""
    columns = {name: np.zeros((count, *shape), kind) for name, (shape, kind) in _SHAPES.items()}
    columns["rotations"][:] = np.eye(3)
    columns["error"][:] = columns["agreement"][:] = np.inf
    columns["verdict"][:] = VERDICTS.index("no points")
    return FitColumns(**columns)


def joined(pieces: Sequence[FitColumns]) -> FitColumns:
    """Return the rows of consecutive pieces."""
    return FitColumns(
        **{name: np.concatenate([getattr(one, name) for one in pieces]) for name in _SHAPES}
    )


def write_fits(path: Path, header: Mapping[str, Any], columns: FitColumns) -> None:
    """Write fits; the file appears as a whole or not at all.

    Args:
        path: the file, in a folder that exists.
        header: from `make_header`.
        columns: the fits.

    Raises:
        UserError: the disk is full or cannot be written to.
    """
    content = json.dumps(header, sort_keys=True).encode()
    arrays = {name: getattr(columns, name) for name in _SHAPES}
    scratch = scratch_path(path)
    try:
        with scratch.open("xb") as file:
            np.savez(file, **{_HEADER: np.frombuffer(content, np.uint8)}, **arrays)
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        scratch.unlink(missing_ok=True)


def read_fits(path: Path) -> SplitFits:
    """Read the fits of a split.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    found = read_npz(path, (_HEADER, *_SHAPES), advice=_AGAIN)
    count = len(found.get("verdict", ()))
    for name, (shape, kind) in _SHAPES.items():
        array = found.get(name)
        if array is None or array.shape != (count, *shape) or array.dtype != kind:
            raise UserError(f"{path} is damaged or of another version ({name}): {_AGAIN}")
    header = parse_json(found.get(_HEADER, np.zeros(0, np.uint8)).tobytes(), path, _AGAIN)
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise UserError(f"{path} is damaged or of another version (header): {_AGAIN}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return SplitFits(header, FitColumns(**{name: found[name] for name in _SHAPES}), digest)
