"""Inputs of a prediction run: the photographs, clips and cameras, and the boxes in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.media import Clip, Photo, Source, Webcam, find_sources
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.prediction.box_files import Box, match_keypoints, read_all_boxes
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.detection.frames import FrameDetections
from pare_jax.prediction.keypoint_source import keypoint_file
from pare_jax.prediction.output_names import place_of
from pare_jax.prediction.run.output_folder import RECORDS, OutputFolder
from pare_jax.prediction.run.reporting import Reporter

# By file: a photograph's boxes, a clip's boxes by frame, or None where the detector finds people.
Boxes = Mapping[Path, list[Box | Detection] | FrameDetections | None]


def named_sources(
    arguments: Sequence[str], folder: OutputFolder, reporter: Reporter, clips: Sequence[Clip] = ()
) -> tuple[list[Source], list[Path]]:
    """Find the inputs that the command line names.

    Args:
        arguments: see `pare_jax.io.media.find_sources`.
        folder: the output folder; its own outputs are no inputs.
        reporter: gets missing files and kinds that are not read as failures, and a note about
            other runs' outputs.
        clips: those of --clip; the first of several kinds of one file counts, --clip before others.

    Returns:
        The inputs that exist, each once, and the missing files.

    Raises:
        UserError: nothing is named, or only files that runs wrote.
    """
    others = []
    if arguments or not clips:
        others = find_sources(arguments, reporter.failed, reporter.failed)
    found = _without_duplicates([*clips, *others])
    found = _without_outputs(found, folder, reporter)
    sources: list[Source] = []
    missing: list[Path] = []
    for source in found:
        if isinstance(source, Webcam) or _exists(source.path):
            sources.append(source)
            continue
        missing.append(source.path)
        kind = "video" if isinstance(source, Clip) else "image"
        reporter.failed(str(source), f"there is no {kind} at {source}")
    if not sources and not reporter.failures:
        raise UserError(
            f"{[*arguments, *map(str, clips)][0]} holds only files that a run wrote: name the "
            "photographs, or copy the files to another folder"
        )
    return sources, missing


def _without_duplicates(found: Sequence[Source]) -> list[Source]:
    """Keep the first of several paths to one file."""
    by_place: dict[str, Source] = {}
    for source in found:
        place = str(source) if isinstance(source, Webcam) else place_of(source.path)
        by_place.setdefault(place, source)
    return list(by_place.values())


def _exists(path: Path) -> bool:
    """Return whether a file exists; True if that cannot be found out, so that reading it fails."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _without_outputs(
    found: Sequence[Source], output: OutputFolder, reporter: Reporter
) -> list[Source]:
    """Leave out files that runs wrote, with a note about those in other folders than the output."""
    folders: dict[Path, OutputFolder | None] = {}
    kept: list[Source] = []
    others: list[str] = []
    for source in found:
        if isinstance(source, Webcam):
            kept.append(source)
            continue
        parent = source.path.parent
        if parent not in folders:
            folders[parent] = OutputFolder(parent) if (parent / RECORDS).is_dir() else None
        folder = folders[parent]
        if output.wrote(source.path):
            continue
        if folder is not None and folder.wrote(source.path):
            others.append(str(source))
        else:
            kept.append(source)
    if others and kept:
        reporter.warn(
            f"note: {counted(len(others), 'file')} that a run wrote skipped: {listed(others)}"
        )
    return kept


def boxes_of(
    values: flags.FlagValues, sources: Sequence[Source], missing: Sequence[Path], reporter: Reporter
) -> Boxes:
    """Read --boxes, or the people of --keypoints=FILE.

    Args:
        values: the command's flags.
        sources: the inputs.
        missing: files that are named but do not exist.
        reporter: gets notes about boxes and flags without effect; and, as failures, inputs of
            another size than the box file says.

    Returns:
        The boxes of every photograph and clip without such a failure.

    Raises:
        UserError: the boxes or keypoints cannot be read or do not fit the inputs, or both are
            given.
    """
    file = keypoint_file(values.keypoints)
    if file and values.boxes:
        raise UserError(f"--keypoints={file} has the people already: give it without --boxes")
    for name in ("boxes", "keypoints"):
        given = values.boxes if name == "boxes" else file
        if given and any(isinstance(source, Webcam) for source in sources):
            raise UserError(f"--{name}=FILE cannot be used with a camera: use --detector")
    photos = [source.path for source in sources if isinstance(source, Photo)]
    clips = [source.path for source in sources if isinstance(source, Clip)]

    def on_misfit(path: Path, reason: str) -> None:
        reporter.failed(str(path), reason)

    if file:
        people = read_keypoints(file, values.keypoint_set)
        for note in people.notes:
            reporter.warn(note)
        own = (people, photos, clips, values.threshold, reporter.warn, missing, on_misfit)
        of_photos, of_clips = match_keypoints(*own)
    else:
        own = (values.boxes, photos, clips, values.threshold, reporter.warn, missing, on_misfit)
        of_photos, of_clips = read_all_boxes(*own)
    given = f"--keypoints={file}" if file else "--boxes"
    if not (file or values.boxes) and values.detector == "whole" and values.threshold is not None:
        reporter.warn(f"note: --threshold={values.threshold:g} has no effect without a detector")
    if (file or values.boxes) and values["detector"].present:
        reporter.warn(f"note: --detector={values.detector} has no effect beside {given}")
    boxes: dict[Path, Any] = {**of_photos, **of_clips}
    return boxes
