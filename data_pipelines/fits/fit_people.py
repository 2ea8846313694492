"""Fits the people of a prepared split and writes the fits beside its shards; resumes."""

import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.fits.fit_file import (
    FOLDER,
    VERDICTS,
    FitColumns,
    SplitFits,
    empty_columns,
    fits_path,
    header_digest,
    joined,
    make_header,
    read_fits,
    write_fits,
)
from data_pipelines.fits.label_points import points_of, square_of
from data_pipelines.preparing.processes import one_at_a_time
from data_pipelines.reading.storage import StoredSplit
from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.fitting.batches import Start
from pare_jax.fitting.fitter import BodyFit, FitSettings
from pare_jax.fitting.label_fitter import fit_label
from pare_jax.fitting.plausibility import plausibility
from pare_jax.fitting.verdict import Limits
from pare_jax.io.progress import ProgressBar, say
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.network_points import in_square

# People whose fits are written at once: some twenty seconds of work on two cores.
PEOPLE_A_PIECE = 2048
# People at once: thousands are fastest on an accelerator, and too much for a CPU's cache.
_BATCH, _BATCH_ON_ACCELERATOR = 256, 2048
_LIMITS = Limits()


class Starts(Protocol):
    """Gives each person a start, for instance `label_starts.NetworkStarts`."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def body(self) -> BodyData: ...

    def __call__(self, examples: Sequence[Mapping[str, Any]], points: np.ndarray, /) -> Start: ...


def fit_split(
    source: StoredSplit,
    starts: Starts,
    settings: FitSettings | None = None,
    people_a_piece: int = PEOPLE_A_PIECE,
) -> SplitFits:
    """Fit every person of a split who has keypoints; writes `fits/SPLIT.npz` beside the shards.

    A killed call goes on where it was. Fits of another network or body are replaced when all
    people are fitted; the same fits are read, not made again.

    Args:
        source: the split.
        starts: the network whose answers are starts beside those of the dictionary; its body is
            fitted.
        settings: of the fits.
        people_a_piece: people whose fits are written at once.

    Returns:
        The fits.

    Raises:
        UserError: a shard cannot be read, or the dataset's folder cannot be written.
    """
    settings = settings or default_settings()
    path = fits_path(source.path, source.split)
    header = make_header(
        source.path,
        {"name": starts.body.name, "digest": starts.body.digest},
        {"name": starts.name, "digest": starts.digest},
        # The size of a batch changes the speed alone.
        {name: value for name, value in dataclasses.asdict(settings).items() if name != "batch"},
    )
    try:
        with one_at_a_time(source.path / FOLDER):
            if (done := _finished(path, header)) is not None:
                return done
            work = _FitWork(source, starts, settings, body_points(starts.body))
            columns = work.all_pieces(_scratch(path, header), header, people_a_piece)
            write_fits(path, header, columns)
            for folder in path.parent.glob(f"{source.split}.*.partial"):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write fits to {path.parent}: {error.strerror or error}; free some space and "
            "run the command again to resume"
        ) from error
    return read_fits(path)


def default_settings() -> FitSettings:
    """Return the settings of fits that become labels."""
    batch = _BATCH if jax.default_backend() == "cpu" else _BATCH_ON_ACCELERATOR
    return FitSettings(batch=batch)


def _scratch(path: Path, header: Mapping[str, Any]) -> Path:
    return path.with_name(f"{path.stem}.{header_digest(header)}.partial")


def _finished(path: Path, header: Mapping[str, Any]) -> SplitFits | None:
    if not path.exists():
        return None
    try:
        found = read_fits(path)
    except UserError as error:
        say(f"{error}; it is replaced", sys.stderr)
        return None
    return found if found.header == header else None


@dataclasses.dataclass(frozen=True)
class _FitWork:
    source: StoredSplit
    starts: Starts
    settings: FitSettings
    body: PointBody

    def all_pieces(self, folder: Path, header: Mapping[str, Any], size: int) -> FitColumns:
        """Fit piece by piece; those that an earlier call wrote are read."""
        folder.mkdir(parents=True, exist_ok=True)
        count, pieces = len(self.source), []
        name = f"{self.source.path.parent.name}/{self.source.split}"
        with ProgressBar(name, count, unit="person") as bar:
            for first in range(0, count, size):
                rows = range(first, min(first + size, count))
                path = folder / f"{first:09d}_{len(rows)}.npz"
                piece = _finished(path, header)
                columns = self.piece(rows) if piece is None else piece.columns
                if piece is None:
                    write_fits(path, header, columns)
                pieces.append(columns)
                bar.advance(len(rows))
            summary = bar.summary()
        say(summary, sys.stderr)
        return joined(pieces)

    def piece(self, rows: Sequence[int]) -> FitColumns:
        """Fit some people."""
        columns = empty_columns(len(rows))
        examples = [self.source[row] for row in rows]
        columns.posed[:] = [example["pose_weight"] > 0 for example in examples]
        points = np.stack([points_of(example) for example in examples])
        known = (points[..., 2] > 0).sum(1)
        columns.verdict[known > 0] = VERDICTS.index("few points")
        fitted = np.flatnonzero(known >= _LIMITS.points)
        if not len(fitted):
            return columns
        # One size of batch, so that one program is compiled.
        batch = self.settings.batch
        padded = len(fitted) if len(fitted) <= batch else -(-len(fitted) // batch) * batch
        chosen = fitted[np.minimum(np.arange(padded), len(fitted) - 1)]
        own = [examples[row] for row in chosen]
        start = self.starts(own, points[chosen])
        squares = [square_of(example) for example in own]
        inside = np.stack(
            [in_square(one, *square) for one, square in zip(points[chosen], squares, strict=True)]
        )
        found = fit_label(inside, start, body=self.body, settings=self.settings)
        likely = plausibility(found.rotations, found.betas)
        assert found.agreement is not None
        values = found._asdict() | {
            "plausibility": likely,
            "verdict": _verdicts(found, inside),
        }
        for name in FitColumns.__dataclass_fields__.keys() - {"posed"}:
            getattr(columns, name)[fitted] = values[name][: len(fitted)]
        return columns


def _verdicts(
    found: BodyFit, points: Float[np.ndarray, "people points 3"]
) -> UInt8[np.ndarray, " people"]:
    """Return numbers in `VERDICTS`. The error is not looked at: it is the gate's."""
    known, ignored = (points[..., 2] > 0).sum(1), found.ignored.sum(1)
    verdict = np.zeros(len(known), np.uint8)
    verdict[~found.converged] = VERDICTS.index("not converged")
    verdict[ignored > _LIMITS.ignored * known] = VERDICTS.index("points ignored")
    verdict[known - ignored < _LIMITS.points] = VERDICTS.index("few points")
    return verdict
