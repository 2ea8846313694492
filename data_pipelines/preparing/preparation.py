"""Prepares a release (`release.RawDataset`): reads its pieces of work and writes shards.

There are two stages. First a pool of processes reads the pieces of work and writes each finished
one to a file in a scratch folder beside the dataset. A run that is killed resumes from these files.
Then the files are written, in order, as the dataset's shards, and the scratch folder is removed.
Each stage holds a few pieces in memory. The result depends neither on the number of processes nor
on interruptions.
"""

import collections
import dataclasses
import errno
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from data_pipelines.preparing import processes, unit_files
from data_pipelines.preparing.origin import (
    ORIGIN_FILE,
    Origin,
    differences,
    origin_of,
    own_files,
    read_origin,
    undecided,
)
from data_pipelines.reading import storage
from data_pipelines.releases.release import RawDataset, SaysMore, Skipped
from pare_jax.errors import UserError, be, counted, reason_of
from pare_jax.io.progress import say, with_progress
from pare_jax.io.threads import count_cores

# All examples of a shard are in memory while it is written.
_SHARD_BYTES = 128 * 2**20
_REMOVE_IT = "remove it to prepare it again, or name another --output"


class NobodyPreparedError(UserError):
    """Every person of a release was skipped."""


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A piece of work and the file of its result."""

    split: str
    unit: Any
    path: Path


@dataclasses.dataclass(frozen=True)
class _Work:
    """The pieces of work of a dataset, in order, and its origin."""

    dataset: RawDataset
    origin: Origin
    pieces: list[_Piece]


@dataclasses.dataclass
class SplitReport:
    """Number of examples of a split, and what was skipped."""

    kept: int = 0
    skipped: list[Skipped] = dataclasses.field(default_factory=list)

    @property
    def broken(self) -> int:
        """Number of people skipped because of damaged or missing files."""
        return sum(item.broken for item in self.skipped)


def dataset_path(dataset: RawDataset, data_root: str | Path) -> Path:
    """Return the directory of the prepared dataset."""
    return Path(data_root) / dataset.name / storage.VERSION


def prepare(
    dataset: RawDataset,
    data_root: str | Path,
    workers: int | None = None,
    max_skipped: float = 0.01,
    beam_options: Sequence[str] = (),
) -> Path:
    """Prepare a dataset, or resume an interrupted run; a finished dataset is left unchanged.

    Args:
        dataset: the release to read.
        data_root: the folder of prepared datasets.
        workers: number of processes; None: one per core. Changes only the speed.
        max_skipped: share of the people that may be skipped because their files are broken.
        beam_options: if not empty, an Apache Beam pipeline with these options of its command line
            reads the pieces, instead of processes on this machine. All its workers must find the
            release and `data_root` under the same paths.

    Returns:
        The dataset's directory, for `data_pipelines.reading.storage.open_split`.

    Raises:
        UserError: the release is empty, too much of it is broken, the directory cannot be written,
            or it has a dataset prepared from something else. Finished pieces are kept.
    """
    path = dataset_path(dataset, data_root)
    # All that may be refused is checked before anything is written.
    units = {split: dataset.units(split) for split in dataset.splits}
    if not any(units.values()):
        raise UserError(f"{dataset.name} has no people to prepare: the release is empty")
    now = origin_of(dataset, units)
    if not own_files(dataset):
        _say(f"{dataset.name}: its class is in no file, so a change of its code is not noticed")
    try:
        if not storage.is_prepared(path):
            start_beam = _beam(beam_options) if beam_options else None
            with processes.one_at_a_time(path.parent):
                if not storage.is_prepared(path):  # another process was faster
                    work = _Work(dataset, now, _pieces(units, now, path.parent))
                    _prepare(work, path, workers, max_skipped, start_beam)
                    return path
    except OSError as error:
        resume = ", and run the command again to resume"
        raise storage.cannot_write(path, error, resume=resume) from error
    _compare(path, now)
    return path


def check_output(dataset: RawDataset, data_root: str | Path) -> list[str]:
    """Return the problems with preparing a dataset in a folder, one line each; writes nothing.

    Args:
        dataset: the release to read.
        data_root: the folder of prepared datasets.
    """
    path = dataset_path(dataset, data_root)
    if storage.is_prepared(path):
        units = {split: dataset.units(split) for split in dataset.splits}
        made = read_origin(path)
        problem = made and _difference(path, made, origin_of(dataset, units))
        return [problem] if problem else []
    # The nearest parent folder that exists.
    parent = next(one for one in path.absolute().parents if os.path.lexists(one))
    number = 0
    if not parent.is_dir():
        number = errno.ENOTDIR
    elif os.statvfs(parent).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    elif not os.access(parent, os.W_OK | os.X_OK):
        number = errno.EACCES
    if not number:
        return []
    return [str(storage.cannot_write(path, OSError(number, f"{os.strerror(number)} ({parent})")))]


def _compare(path: Path, now: Origin) -> None:
    """Raise UserError if the prepared dataset was made from something else than `now`."""
    made = read_origin(path)
    if made is None:
        _say(f"{path} exists; its {ORIGIN_FILE} is missing or damaged, so it was not compared")
        return
    if problem := _difference(path, made, now):
        raise UserError(problem)
    if made.code != now.code:
        _say(
            f"{path} exists, made from the same files by another version of the code; "
            "remove it to prepare it again"
        )


def _difference(path: Path, made: Origin, now: Origin) -> str:
    """Describe why the prepared dataset is not known to be the one of `now`; "" if it is."""
    if undecided(made, now):
        return (
            f"{path} exists, made by another version of the code, which cannot be compared with "
            f"the files given: {_REMOVE_IT}"
        )
    if found := differences(made, now):
        return f"{path} exists, prepared from something else ({'; '.join(found)}): {_REMOVE_IT}"
    return ""


def _prepare(
    work: _Work,
    path: Path,
    workers: int | None,
    max_skipped: float,
    start_beam: Callable[[], Any] | None,
) -> None:
    dataset, pieces = work.dataset, work.pieces
    for split in dataset.splits:
        (pieces[0].path.parents[1] / split).mkdir(parents=True, exist_ok=True)
    _read_all(work, workers, start_beam)
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
    side_files = {storage.SKIPPED_FILE: skipped, ORIGIN_FILE: dataclasses.asdict(work.origin)}
    if isinstance(dataset, SaysMore):
        side_files |= dataset.side_files()

    # These import TensorFlow, which workers, who import this module, do not need.
    from data_pipelines.preparing import prepared_builder, tfds_writer

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


def _pieces(units: Mapping[str, Sequence[Any]], origin: Origin, folder: Path) -> list[_Piece]:
    """List the pieces of work; a piece whose unit has changed gets another file name."""
    scratch = folder / f"partial.{origin.digest}"
    return [
        _Piece(split, unit, scratch / split / f"{number:05d}.{digest}.npz")
        for split, own in units.items()
        for number, (unit, digest) in enumerate(zip(own, origin.parts[split].values(), strict=True))
    ]


def _read_all(work: _Work, workers: int | None, start_beam: Callable[[], Any] | None) -> None:
    """Read the pieces whose files are missing or damaged."""
    dataset, pieces = work.dataset, work.pieces
    wanted = [piece for piece in pieces if unit_files.read_summary(piece.path) is None]
    if len(wanted) < len(pieces):
        done = len(pieces) - len(wanted)
        _say(f"{dataset.name}: {done} of {len(pieces)} parts {be(done)} finished; resuming")
    if not wanted:
        return
    if start_beam is not None:
        _on_beam(dataset, wanted, start_beam)
        return
    workers = count_cores() if workers is None else workers
    if workers > 1 and (reason := processes.obstacle(dataset)):
        _say(f"{dataset.name}: one process reads, because {reason}")
        workers = 1
    done = _in_processes(dataset, wanted, workers) if workers > 1 else _here(dataset, wanted)
    collections.deque(with_progress(done, len(wanted), f"reading {dataset.name}", "part"), 0)


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
            f"a process that read {dataset.name} ended early: it could not import your script (see "
            "the lines above), or was killed because memory ran out; run the command again with "
            "fewer --workers to resume"
        ) from error


def _beam(options: Sequence[str]) -> Callable[[], Any]:
    """Return a function that starts a pipeline; raises UserError if the options are bad."""
    try:
        import apache_beam as beam  # pyright: ignore[reportMissingImports]
        from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
            PipelineOptions,
        )
    except ImportError:
        raise UserError(
            "--beam-option needs Apache Beam: pip install -e '.[beam]' in a new environment, "
            "without constraints.txt, or remove the flag"
        ) from None
    flags = ["--" + option.lstrip("-") for option in options]
    try:
        beam.Pipeline(options=PipelineOptions(flags))
    # Each runner checks its options in its own way, some with sys.exit.
    except (Exception, SystemExit) as error:
        reason = reason_of(error)
        raise UserError(f"--beam-option {' '.join(options)}: {reason}") from error
    return lambda: beam.Pipeline(options=PipelineOptions(flags))


def _on_beam(dataset: RawDataset, pieces: Sequence[_Piece], start_beam: Callable[[], Any]) -> None:
    # Reading is nearly all of the work. The shards are written here from the finished pieces: the
    # result has the same bytes as without Beam, and an interrupted run resumes.
    import apache_beam as beam  # pyright: ignore[reportMissingImports]

    with start_beam() as pipeline:
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
    """Return a line per split: the number of people kept, and skipped for each reason."""
    lines = []
    for split, report in reports.items():
        reasons = collections.Counter(item.reason for item in report.skipped)
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        line = f"{split}: {counted(report.kept, 'person')}"
        lines.append(f"{line}; skipped: {skipped}" if skipped else line)
    return lines


def _check_broken(
    name: str, reports: Mapping[str, SplitReport], max_skipped: float, folder: Path
) -> None:
    kept = sum(report.kept for report in reports.values())
    broken = sum(report.broken for report in reports.values())
    if broken > max_skipped * (kept + broken):
        first = next(i for report in reports.values() for i in report.skipped if i.broken)
        raise UserError(
            f"{broken:,} of {kept + broken:,} people of {name} {be(broken)} broken, the first is "
            f"{first.what} ({first.reason}); repair the files or allow more with "
            f"--max-skipped={min(1.0, broken / (kept + broken) + 0.01):.2f}, and run the command "
            f"again: finished parts are kept in {folder}"
        )
    if not kept:
        raise NobodyPreparedError(f"{name} has no people to prepare: all were skipped")


def _summary(piece: _Piece) -> tuple[int, list[Skipped]]:
    summary = unit_files.read_summary(piece.path)
    if summary is None:
        raise _damaged(piece)
    return summary


def _shard_sizes(pieces: Sequence[_Piece]) -> list[int]:
    """Return the number of examples of each shard, which holds whole pieces of work."""
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
    return UserError(f"{piece.path} is damaged; run the command again to read that part again")


def _say(line: str) -> None:
    say(line, sys.stderr)
