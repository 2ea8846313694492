"""From any `raw.RawDataset` to a prepared dataset.

Two stages. First a pool of processes reads the pieces of work, and each finished one becomes a
file in a scratch folder beside the dataset: killed at any moment, the next run goes on from there.
Then the files are written, in order, as the dataset's shards, and the scratch folder goes away.
Neither stage holds more than a few pieces in memory, and the result does not depend on how many
processes there are or how often the work was interrupted.
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
    read_origin,
    undecided,
)
from data_pipelines.reading import storage
from data_pipelines.releases.release import RawDataset, SaysMore, Skipped
from pare_jax.errors import UserError, be
from pare_jax.io.progress import with_progress

# Examples of a shard are held in memory while it is written.
_SHARD_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A piece of work and the file of what it gave."""

    split: str
    unit: Any
    path: Path


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is to be done: the pieces of a dataset, in order, and what they are made of."""

    dataset: RawDataset
    origin: Origin
    pieces: list[_Piece]


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
        The dataset's directory, for `data_pipelines.reading.storage.open_split`.

    Raises:
        UserError: the release has nothing to read, too much of it is broken, the place cannot be
            written to, or what lies there was prepared from something else. What was finished is
            kept.
    """
    path = dataset_path(dataset, data_root)
    # Whatever can be refused is refused before anything is written.
    units = {split: dataset.units(split) for split in dataset.splits}
    if not any(units.values()):
        raise UserError(f"{dataset.name} has no people to prepare: there is nothing to read")
    now = origin_of(dataset, units)
    try:
        if not storage.is_prepared(path):
            start_beam = _beam(beam_options) if beam_options else None
            with processes.one_at_a_time(path.parent):
                if not storage.is_prepared(path):  # another process was faster
                    work = _Work(dataset, now, _pieces(units, now, path.parent))
                    _prepare(work, path, workers, max_skipped, start_beam)
                    return path
    except OSError as error:
        again = ", and run the command again: it goes on from here"
        raise storage.cannot_write(path, error, goes_on=again) from error
    _compare(path, now)
    return path


def check_output(dataset: RawDataset, data_root: str | Path) -> list[str]:
    """Return what keeps a dataset from being prepared there, a line each; writes nothing.

    Args:
        dataset: the release to read.
        data_root: where prepared datasets lie.
    """
    path = dataset_path(dataset, data_root)
    if storage.is_prepared(path):
        units = {split: dataset.units(split) for split in dataset.splits}
        made = read_origin(path)
        told = made and _disagreement(path, made, origin_of(dataset, units))
        return [told] if told else []
    # Of the folders that hold the dataset's, the first that is there already.
    there = next(one for one in path.absolute().parents if os.path.lexists(one))
    number = 0
    if not there.is_dir():
        number = errno.ENOTDIR
    elif os.statvfs(there).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    elif not os.access(there, os.W_OK | os.X_OK):
        number = errno.EACCES
    return (
        [str(storage.cannot_write(path, OSError(number, f"{os.strerror(number)} ({there})")))]
        if number
        else []
    )


def _compare(path: Path, now: Origin) -> None:
    """Raise UserError unless the dataset that is there is the one that was asked for."""
    made = read_origin(path)
    if made is None:
        _say(f"{path} is there already; it does not say what it was made of")
        return
    if told := _disagreement(path, made, now):
        raise UserError(told)
    if made.code != now.code:
        _say(
            f"{path} is there already, made of the same files by another version of the code; "
            "remove it to prepare it anew"
        )


def _disagreement(path: Path, made: Origin, now: Origin) -> str:
    """Say why the dataset that is there is not known to be the one asked for; "" if it is."""
    if undecided(made, now):
        return (
            f"{path} is there already, made by another version of the code, so that it cannot be "
            "told whether it is of the same files: remove it to prepare it anew, or name another "
            "--output"
        )
    if found := differences(made, now):
        return (
            f"{path} is there already, but it was prepared from something else "
            f"({'; '.join(found)}): remove it to prepare it anew, or name another --output"
        )
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

    # Imported here for TensorFlow's sake: workers import this module.
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
    """List the work. A piece that changes, by what its unit says of its files, is done anew."""
    scratch = folder / f"partial.{origin.digest}"
    return [
        _Piece(split, unit, scratch / split / f"{number:05d}.{digest}.npz")
        for split, own in units.items()
        for number, (unit, digest) in enumerate(zip(own, origin.parts[split].values(), strict=True))
    ]


def _read_all(work: _Work, workers: int | None, start_beam: Callable[[], Any] | None) -> None:
    """Do the pieces that are not done."""
    dataset, pieces = work.dataset, work.pieces
    wanted = [piece for piece in pieces if unit_files.read_summary(piece.path) is None]
    if len(wanted) < len(pieces):
        done = len(pieces) - len(wanted)
        _say(f"{dataset.name}: {done} of {len(pieces)} parts {be(done)} done already")
    if not wanted:
        return
    if start_beam is not None:
        _on_beam(dataset, wanted, start_beam)
        return
    workers = processes.count_cores() if workers is None else workers
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
            f"a process that read {dataset.name} was killed, perhaps for want of memory; run "
            "the command again, with fewer --workers: it goes on from here"
        ) from error


def _beam(options: Sequence[str]) -> Callable[[], Any]:
    """Return what starts a pipeline with these options; raises UserError if none can be."""
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
    try:
        beam.Pipeline(options=PipelineOptions(flags))
    # Runners check their options in their own ways.
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--beam-option {' '.join(options)}: {reason}") from error
    return lambda: beam.Pipeline(options=PipelineOptions(flags))


def _on_beam(dataset: RawDataset, pieces: Sequence[_Piece], start_beam: Callable[[], Any]) -> None:
    # Reading is nearly all of the work. The shards are written from the files as ever, so that a
    # cluster's result is the same to the byte and goes on after an interruption too.
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
    """Return, a line a split, how many people were kept and how many left out for what."""
    lines = []
    for split, report in reports.items():
        reasons = collections.Counter(item.reason for item in report.skipped)
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        people = "person" if report.kept == 1 else "people"
        lines.append(f"{split}: {report.kept:,} {people}" + (f"; left out: {told}" if told else ""))
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
