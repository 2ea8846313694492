"""The command pare_jax.fit: reads keypoints, fits bodies, writes fits and pictures."""

import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from pare_jax.body.io import BodyData, load_body_data
from pare_jax.body.model import BodyModel, body_from_data
from pare_jax.errors import UserError, counted
from pare_jax.fitting.fitter import FitSettings
from pare_jax.fitting.prior import PosePrior, load_pose_prior
from pare_jax.io.files import printable
from pare_jax.io.images import read_photograph
from pare_jax.io.threads import errors_as_user_errors
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.people_collector import KeypointFile
from pare_jax.prediction.box_files import find_photos, match_keypoints
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.fitted_people import (
    FittedPeople,
    PersonToFit,
    fit_people,
    persons,
    spin_arrays,
)
from pare_jax.prediction.focal_length import FocalFlags
from pare_jax.prediction.output_names import place_of
from pare_jax.prediction.run.output_folder import OutputFolder, Record, claimed_folder
from pare_jax.prediction.run.photographs import PhotoOutputs, photo_files
from pare_jax.prediction.run.reporting import Reporter

FITS = "fits"
_OUTPUTS = frozenset(("npz", "json", "overlay", "keypoints"))
# Photographs whose people are fitted together.
_GROUP = 16


@dataclasses.dataclass(frozen=True)
class FitBodies:
    """The body of the fits, in the forms that fitting and drawing need.

    Attributes:
        body: the body model.
        body_data: the same as read from its file.
        points: its body points.
        prior: of poses.
    """

    body: BodyModel
    body_data: BodyData
    points: PointBody
    prior: PosePrior

    @property
    def faces(self) -> np.ndarray:
        """The triangles of the mesh."""
        return np.asarray(self.body.faces)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    for name, what in (
        ("keypoints", "File or folder of keypoints: COCO, OpenPose, MPII or SPIN."),
        ("keypoint_set", "The set of the points, if the file does not give it."),
        ("images", "Folder of the photographs, or one photograph, to draw the bodies on."),
        ("output", "The output folder."),
        ("body", "Body model file in SMPL's format; default: the free body."),
        ("prior", "SMPLify's gmm_08.pkl; default: this package's pose prior."),
    ):
        flags.DEFINE_string(name, None, what, flag_values=values)
    for name, what in (
        ("focal", "The camera's focal length, pixels; default: EXIF tags, else the diagonal."),
        ("fov", "Instead of --focal: the angle of view across the longer side, degrees."),
    ):
        flags.DEFINE_float(name, None, what, flag_values=values)


def run_command(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """Fit the people of a file of keypoints; returns the exit status.

    Raises:
        UserError: the command line is wrong, or nothing can be done.
    """
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --")
    if not values.keypoints or not values.output:
        raise UserError("--keypoints=FILE and --output=FOLDER are needed; see --help")
    focal = FocalFlags(values.focal, values.fov)
    file = read_keypoints(values.keypoints, values.keypoint_set)
    photos = find_photos([values.images]) if values.images else []
    data = load_body_data(values.body)
    bodies = FitBodies(body_from_data(data), data, body_points(data), load_pose_prior(values.prior))
    with claimed_folder(Path(values.output)) as folder:
        return _fit_and_write(file, photos, bodies, focal, folder)


def _fit_and_write(
    file: KeypointFile,
    photos: Sequence[Path],
    bodies: FitBodies,
    focal: FocalFlags,
    folder: OutputFolder,
) -> int:
    reporter = Reporter()
    for note in file.notes:
        reporter.warn(note)
    if photos:
        parts = _fit_photos(file, photos, bodies, focal, folder, reporter)
    else:
        parts = _fit_labels(file, bodies, focal, reporter)
    if not parts:
        raise UserError(f"{file.path}: nobody could be fitted; nothing written")
    content = io.BytesIO()
    arrays: Any = spin_arrays(parts)
    np.savez_compressed(content, **arrays)
    people = sum(len(part.people) for part in parts)
    _publish(folder, FITS, file.path, {f"{FITS}.npz": content.getvalue()}, people)
    reporter.say(f"{_summary(parts)} -> {folder.path / FITS}.npz")
    return 1 if reporter.failures else 0


def _publish(
    folder: OutputFolder, name: str, source: Path, files: Mapping[str, bytes], people: int
) -> None:
    """Write files of one name; refuses to overwrite files that no run wrote."""
    with folder.scratch() as scratch:
        for file, content in files.items():
            (scratch / file).write_bytes(content)
        record = Record(name, printable(str(source)), place_of(source), "fit", people=people)
        folder.publish(scratch, record)


def _summary(parts: Sequence[FittedPeople]) -> str:
    reports = [report for part in parts for report in part.reports]
    bad = [report for report in reports if not report.good]
    errors = [report.error for report in reports if report.good]
    text = f"done: {counted(len(reports), 'person')} fitted, {len(bad)} of them badly"
    return f"{text}; mean error {np.mean(errors):.3f} of the extent" if errors else text


def _fit_labels(
    file: KeypointFile, bodies: FitBodies, focal: FocalFlags, reporter: Reporter
) -> list[FittedPeople]:
    """Fit all people of a file, without photographs."""
    people = []
    if (focal.pixels or focal.degrees) and not all(name in file.sizes for name in file.people):
        reporter.warn(
            f"note: {file.path} does not give the pictures' sizes: without --images, --focal and "
            "--fov do not count for them"
        )
    for name, own in file.people.items():
        size = file.sizes.get(name)
        pixels = None
        if size is not None:
            pixels = focal.of_input((round(size[0]), round(size[1]))).pixels
        for one in _usable(own, name, reporter):
            people.append(PersonToFit(name, one, size, pixels))
    if not people:
        return []
    fitted = fit_people(people, bodies.points, bodies.prior, FitSettings())
    _tell(fitted, reporter)
    return [fitted]


def _fit_photos(
    file: KeypointFile,
    photos: Sequence[Path],
    bodies: FitBodies,
    focal: FocalFlags,
    folder: OutputFolder,
    reporter: Reporter,
) -> list[FittedPeople]:
    """Fit the people of each photograph, and write its outputs."""

    def misfit(path: Path, reason: str) -> None:
        reporter.failed(str(path), reason)

    found, _ = match_keypoints(file, photos, [], 0.0, reporter.warn, on_misfit=misfit)
    jobs = [(path, people) for path, people in found.items() if people]
    paths = [path for path, _ in jobs]
    # The table of all fits has its own name.
    names = {
        path: f"{name}_photo" if name == FITS else name
        for path, name in zip(paths, folder.names_for(paths), strict=True)
    }
    # Two folders may have photographs of one name.
    root = Path(os.path.commonpath([path.parent.absolute() for path in paths] or ["."]))
    outputs = PhotoOutputs(bodies, _OUTPUTS, focal)
    parts = []
    for start in range(0, len(jobs), _GROUP):
        group = jobs[start : start + _GROUP]
        parts += _fit_group(group, root, names, outputs, bodies, folder, reporter)
    return parts


def _fit_group(
    jobs: Sequence[tuple[Path, Sequence[Detection]]],
    root: Path,
    names: Mapping[Path, str],
    outputs: PhotoOutputs,
    bodies: FitBodies,
    folder: OutputFolder,
    reporter: Reporter,
) -> list[FittedPeople]:
    photographs, people, owners = {}, [], []
    for path, detections in jobs:
        try:
            with errors_as_user_errors():
                photograph = read_photograph(path)
                length = outputs.focal.of_input(photograph.size, photograph.focal_length)
        except UserError as error:
            reporter.failed(str(path), str(error))
            continue
        photographs[path] = photograph
        factor = float(np.sqrt(photograph.scale.prod()))
        height, width = photograph.image.shape[:2]
        own = [one.keypoints for one in detections if one.keypoints is not None]
        for one in _usable(own, str(path), reporter):
            scaled = dataclasses.replace(
                one, points=one.points * factor, box=None if one.box is None else one.box * factor
            )
            pixels = None if length.pixels is None else length.pixels * factor
            name = os.path.relpath(path, root)
            people.append(PersonToFit(name, scaled, (width, height), pixels, factor))
            owners.append(path)
    if not people:
        return []
    fitted = fit_people(people, bodies.points, bodies.prior, FitSettings())
    _tell(fitted, reporter)
    drawn = persons(fitted, bodies.body)
    for path, photograph in photographs.items():
        own = [person for person, owner in zip(drawn, owners, strict=True) if owner == path]
        if not own:
            continue
        title = printable(path.name)
        try:
            files = photo_files(outputs, names[path], title, photograph, own)
            _publish(folder, names[path], path, files, len(own))
        except UserError as error:
            reporter.failed(str(path), str(error))
            continue
        reporter.say(f"{path}: {counted(len(own), 'person')} -> {', '.join(files)}")
    return [fitted]


def _usable(people: Sequence[Keypoints], name: str, reporter: Reporter) -> list[Keypoints]:
    """Return the people with two known points or more; report the others."""
    usable = [one for one in people if one.known > 1]
    if len(usable) < len(people):
        skipped = counted(len(people) - len(usable), "person")
        reporter.warn(f"note: {name}: {skipped} with fewer than two known keypoints: skipped")
    return usable


def _tell(fitted: FittedPeople, reporter: Reporter) -> None:
    """Print a line for each bad fit."""
    for one, report in zip(fitted.people, fitted.reports, strict=True):
        if not report.good:
            reporter.warn(f"bad fit: {one.photograph}: {'; '.join(report.reasons)}")
