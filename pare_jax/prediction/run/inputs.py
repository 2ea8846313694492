"""What a command line names: photographs, clips and cameras that are there, and whose boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.media import Clip, Photo, Source, Webcam, find_sources
from pare_jax.prediction.box_files import Box, place_of, read_all_boxes
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.detection.frames import FrameDetections
from pare_jax.prediction.run.records import FOLDER, Records
from pare_jax.prediction.run.reporting import Reporter

# Of photographs, and of clips by frame; None: the detector finds people.
Boxes = Mapping[Path, list[Box | Detection] | FrameDetections | None]


def named_sources(
    arguments: Sequence[str], records: Records, reporter: Reporter
) -> tuple[list[Source], list[Path]]:
    """Find what the command line names.

    Args:
        arguments: see `pare_jax.io.media.find_sources`.
        records: of the output folder.
        reporter: told what is not there, which is a failure, and which pictures of other runs
            are left out.

    Returns:
        What is there, each file once, without pictures that a run wrote; and files that are named
        and are not.

    Raises:
        UserError: nothing is named, or nothing but what a run wrote.
    """
    found = _each_once(find_sources(arguments, reporter.failed))
    found = _without_written(found, records, reporter)
    sources: list[Source] = []
    away: list[Path] = []
    for source in found:
        if isinstance(source, Webcam) or _is_there(source.path):
            sources.append(source)
            continue
        away.append(source.path)
        kind = "video" if isinstance(source, Clip) else "image"
        reporter.failed(str(source), f"there is no {kind} at {source}")
    if not sources and not reporter.failures:
        raise UserError(
            f"{arguments[0]} holds nothing but what a run wrote there: name the photographs, or "
            "copy what it wrote to another folder"
        )
    return sources, away


def _each_once(found: Sequence[Source]) -> list[Source]:
    """Leave out what is named again by another path: it would get files of its own at every run."""
    by_place: dict[str, Source] = {}
    for source in found:
        by_place.setdefault(
            str(source) if isinstance(source, Webcam) else place_of(source.path), source
        )
    return list(by_place.values())


def _is_there(path: Path) -> bool:
    """Whether a file is there; one of which nobody can tell is left to its reader."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _without_written(found: Sequence[Source], records: Records, reporter: Reporter) -> list[Source]:
    """Leave out what a run wrote: its output may lie among the photographs."""
    runs = {}
    kept: list[Source] = []
    elsewhere: list[str] = []
    for source in found:
        if isinstance(source, Webcam):
            kept.append(source)
            continue
        folder = source.path.parent
        if folder not in runs:
            runs[folder] = Records(folder) if (folder / FOLDER).is_dir() else None
        if records.written_here(source.path):
            continue
        if runs[folder] is not None and runs[folder].written_here(source.path):
            elsewhere.append(str(source))
            continue
        kept.append(source)
    if elsewhere and kept:
        what = counted(len(elsewhere), "file")
        reporter.warn(f"note: {what} that a run wrote left out: {listed(elsewhere)}")
    return kept


def boxes_of(
    values: flags.FlagValues, sources: Sequence[Source], away: Sequence[Path], reporter: Reporter
) -> Boxes:
    """Read --boxes.

    Args:
        values: the command's flags.
        sources: that are there.
        away: files that are named and are not.
        reporter: told of boxes and flags that are not used.

    Returns:
        The boxes of every photograph and clip; None where a detector finds them.

    Raises:
        UserError: they cannot be read, or do not fit.
    """
    if values.boxes and any(isinstance(source, Webcam) for source in sources):
        raise UserError("--boxes cannot say where people are before a camera; use --detector")
    photos = [source.path for source in sources if isinstance(source, Photo)]
    clips = [source.path for source in sources if isinstance(source, Clip)]
    of_photos, of_clips = read_all_boxes(
        values.boxes, photos, clips, values.threshold, reporter.warn, away
    )
    if values.boxes and values["detector"].present:
        reporter.warn(f"note: --boxes says where people are; --detector={values.detector} is idle")
    return {**of_photos, **of_clips}
