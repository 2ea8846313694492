"""From any `raw.RawDataset` to a prepared dataset.

Two stages. First a pool of processes reads the pieces of work, and each finished one becomes a
file in a scratch folder beside the dataset: killed at any moment, the next run goes on from there.
Then the files are written, in order, as the dataset's shards, and the scratch folder goes away.
Neither stage holds more than a few pieces in memory, and the result does not depend on how many
processes there are or how often the work was interrupted.
"""

import collections
import dataclasses
import functools
import hashlib
import inspect
import json
import pickle
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from data_pipelines import processes, storage, unit_files
from data_pipelines.progress import with_progress
from data_pipelines.raw import RawDataset, Skipped
from pare_jax.errors import UserError

# Examples of a shard are held in memory while it is written.
_SHARD_BYTES = 128 * 2**20
_ORIGIN_FILE = "preparation.json"


@runtime_checkable
class SaysMore(Protocol):
    """A raw dataset with more to say than its examples hold."""

    def notes(self) -> list[str]:
        """Return, a line each, what the user should know of what will be prepared."""
        ...

    def side_files(self) -> Mapping[str, Any]:
        """Return what to write beside the shards as JSON: file names and their contents."""
        ...


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A piece of work and the file of what it gave."""

    split: str
    unit: Any
    path: Path


@dataclasses.dataclass
class SplitReport:
    """What became of a split's people."""

    kept: int = 0
    skipped: list[Skipped] = dataclasses.field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many were left out because something is wrong with the files."""
        return sum(item.broken for item in self.skipped)


def dataset_path(dataset: RawDataset, data_root: str | Path) -> Path:
    """Return where the dataset lies once it is prepared."""
    return Path(data_root) / dataset.name / storage.VERSION


def prepare(
    dataset: RawDataset,
    data_root: str | Path,
    workers: int | None = None,
    max_skipped: float = 0.01,
    beam_options: Sequence[str] = (),
) -> Path:
    """Prepare a dataset, unless it is there already; goes on where an earlier run was interrupted.

    Args:
        dataset: the release to read.
        data_root: where prepared datasets lie.
        workers: processes; None takes one a core. Changes only the speed.
        max_skipped: share of the people that may be left out because their files are broken.
        beam_options: if any, an Apache Beam pipeline with these options, as its command line takes
            them, reads the pieces instead of processes of this machine. All its workers must see
            the release and `data_root` under the same paths.

    Returns:
        The dataset's directory, for `data_pipelines.storage.open_split`.

    Raises:
        UserError: the release has nothing to read, too much of it is broken, or the place cannot be
            written to. What was finished is kept.
    """
    path = dataset_path(dataset, data_root)
    digest = _digest(dataset)
    try:
        if not storage.is_prepared(path):
            with processes.one_at_a_time(path.parent):
                if not storage.is_prepared(path):  # another process was faster
                    _prepare(dataset, digest, path, workers, max_skipped, beam_options)
                    return path
    except OSError as error:
        raise UserError(
            f"cannot write the dataset to {path}: {error.strerror or error}; free some space, or "
            "name another --output, and run the command again: it goes on from here"
        ) from error
    if _origin(path) != digest:
        _say(
            f"{path} is there already, but from other files, settings or code than these; remove "
            "it to prepare it anew"
        )
    return path


def _prepare(
    dataset: RawDataset,
    digest: str,
    path: Path,
    workers: int | None,
    max_skipped: float,
    beam_options: Sequence[str],
) -> None:
    folder = path.parent / f"partial.{digest}"
    pieces = _pieces(dataset, folder)
    _read_all(dataset, pieces, workers, beam_options)
    reports = _summarise(dataset, pieces)
    for line in describe(reports):
        _say(f"{dataset.name}/{line}")
    _check_broken(dataset.name, reports, max_skipped, path.parent)
    skipped = {
        split: {
            "kept": report.kept,
            "skipped": [dataclasses.asdict(item) for item in report.skipped],
        }
        for split, report in reports.items()
    }
    side_files = {storage.SKIPPED_FILE: skipped, _ORIGIN_FILE: digest}
    if isinstance(dataset, SaysMore):
        side_files |= dataset.side_files()

    # Imported here for TensorFlow's sake: workers import this module.
    from data_pipelines import prepared_builder, tfds_writer

    splits = {}
    for split, report in reports.items():
        if report.kept:
            own = [piece for piece in pieces if piece.split == split]
            examples = with_progress(_examples(own), report.kept, f"writing {split}")
            splits[split] = prepared_builder.Split(examples, _shard_sizes(own))
    builder = prepared_builder.make_builder(dataset.name, path.parent.parent, splits, side_files)
    tfds_writer.write_dataset(builder, path.parent)
    for partial in path.parent.glob("partial.*"):
        shutil.rmtree(partial, ignore_errors=True)


def _digest(dataset: RawDataset) -> str:
    """Identify what decides over the examples: the code that makes them, and the settings."""
    files = {Path(inspect.getfile(type(dataset))), *Path(__file__).parent.glob("*.py")}
    code = [path.read_bytes() for path in sorted(files)]
    parts = [*code, pickle.dumps(dataset, protocol=5)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _origin(path: Path) -> str | None:
    try:
        return json.loads((path / _ORIGIN_FILE).read_text())
    except (OSError, ValueError):
        return None


def _pieces(dataset: RawDataset, folder: Path) -> list[_Piece]:
    """List the work. A piece that changes, by what its unit says of its files, is done anew."""
    pieces = []
    for split in dataset.splits:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, unit in enumerate(dataset.units(split)):
            name = hashlib.sha256(pickle.dumps(unit, protocol=5)).hexdigest()[:8]
            pieces.append(_Piece(split, unit, folder / split / f"{number:05d}.{name}.npz"))
    return pieces


def _read_all(
    dataset: RawDataset,
    pieces: Sequence[_Piece],
    workers: int | None,
    beam_options: Sequence[str],
) -> None:
    """Do the pieces that are not done."""
    wanted = [piece for piece in pieces if unit_files.read_summary(piece.path) is None]
    if len(wanted) < len(pieces):
        _say(f"{dataset.name}: {len(pieces) - len(wanted)} of {len(pieces)} parts are done already")
    if not wanted:
        return
    if beam_options:
        _on_beam(dataset, wanted, beam_options)
        return
    workers = processes.count_cores() if workers is None else workers
    done = _in_processes(dataset, wanted, workers) if workers > 1 else _here(dataset, wanted)
    collections.deque(with_progress(done, len(wanted), f"reading {dataset.name}", "parts"), 0)


def _here(dataset: RawDataset, pieces: Sequence[_Piece]) -> Iterator[None]:
    for piece in pieces:
        yield _read_piece(dataset, piece)


def _in_processes(dataset: RawDataset, pieces: Sequence[_Piece], workers: int) -> Iterator[None]:
    try:
        with processes.pool(min(workers, len(pieces))) as pool:
            jobs = [pool.submit(_read_piece, dataset, piece) for piece in pieces]
            for job in futures.as_completed(jobs):
                yield job.result()
    except futures.process.BrokenProcessPool as error:
        raise UserError(
            f"a process that read {dataset.name} was killed, perhaps for want of memory; run "
            "the command again, with fewer --workers: it goes on from here"
        ) from error


def _on_beam(dataset: RawDataset, pieces: Sequence[_Piece], options: Sequence[str]) -> None:
    # Reading is nearly all of the work. The shards are written from the files as ever, so that a
    # cluster's result is the same to the byte and goes on after an interruption too.
    try:
        import apache_beam as beam  # pyright: ignore[reportMissingImports]
        from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
            PipelineOptions,
        )
    except ImportError:
        raise UserError(
            "--beam-option needs Apache Beam, which wants older packages than constraints.txt has: "
            "pip install apache-beam into an environment of its own, or leave the flag out"
        ) from None
    flags = ["--" + option.lstrip("-") for option in options]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        work = pipeline | beam.Create(pieces) | beam.Reshuffle()
        work | beam.Map(functools.partial(_read_piece, dataset))  # type: ignore[reportUnusedExpression]


def _read_piece(dataset: RawDataset, piece: _Piece) -> None:
    unit_files.write_unit(piece.path, dataset.read(piece.unit))


def _summarise(dataset: RawDataset, pieces: Sequence[_Piece]) -> dict[str, SplitReport]:
    reports = {split: SplitReport() for split in dataset.splits}
    for piece in pieces:
        kept, skipped = _summary(piece)
        reports[piece.split].kept += kept
        reports[piece.split].skipped += skipped
    return reports


def describe(reports: Mapping[str, SplitReport]) -> list[str]:
    """Return, a line a split, how many people were kept and how many left out for what."""
    lines = []
    for split, report in reports.items():
        reasons = collections.Counter(item.reason for item in report.skipped)
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        lines.append(f"{split}: {report.kept:,} people" + (f"; left out: {told}" if told else ""))
    return lines


def _check_broken(
    name: str, reports: Mapping[str, SplitReport], max_skipped: float, folder: Path
) -> None:
    kept = sum(report.kept for report in reports.values())
    broken = sum(report.broken for report in reports.values())
    if broken > max_skipped * (kept + broken):
        first = next(i for report in reports.values() for i in report.skipped if i.broken)
        raise UserError(
            f"{broken:,} of {kept + broken:,} people of {name} are broken, the first is "
            f"{first.what} ({first.reason}); mend the files or allow more with "
            f"--max-skipped={min(1.0, broken / (kept + broken) + 0.01):.2f}, and run it again: "
            f"what was read is kept in {folder}"
        )
    if not kept:
        raise UserError(f"{name} has no people to prepare: all were left out")


def _summary(piece: _Piece) -> tuple[int, list[Skipped]]:
    summary = unit_files.read_summary(piece.path)
    if summary is None:
        raise _damaged(piece)
    return summary


def _shard_sizes(pieces: Sequence[_Piece]) -> list[int]:
    """Number of examples of each shard: whole pieces up to some size."""
    sizes, room = [], 0
    for piece in pieces:
        count, size = _summary(piece)[0], piece.path.stat().st_size
        if size > room:
            sizes.append(0)
            room = _SHARD_BYTES
        sizes[-1] += count
        room -= size
    return [size for size in sizes if size]


def _examples(pieces: Sequence[_Piece]) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        result = unit_files.read_unit(piece.path)
        if result is None:
            raise _damaged(piece)
        yield from result.examples


def _damaged(piece: _Piece) -> UserError:
    piece.path.unlink(missing_ok=True)
    return UserError(f"{piece.path} was damaged meanwhile; run the command again to make it anew")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
