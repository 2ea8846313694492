"""Predicts the people of photographs: reads, predicts and draws several photographs at once.

Threads read photographs, detect people and cut crops. The main thread feeds the network with
batches across photographs. Threads draw and write. OpenCV, Pillow and XLA release the
interpreter lock, so that threads suffice. The number of photographs in memory is bounded.
"""

import collections
import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol

import numpy as np

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError, counted
from pare_jax.io.files import printable
from pare_jax.io.images import Photograph, encode_jpeg, read_photograph
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import ThreadPool, errors_as_user_errors
from pare_jax.meshes.formats import mesh_bytes
from pare_jax.prediction.answers import Crop, nobody_in
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.drawing import (
    attention_pictures,
    keypoint_overlay,
    overlay_picture,
    side_and_back_picture,
)
from pare_jax.prediction.focal_length import FocalFlags
from pare_jax.prediction.output_names import place_of
from pare_jax.prediction.person import Person, people_json, people_npz
from pare_jax.prediction.predictor import Predictor, check_picture
from pare_jax.prediction.run.options import Job, PredictionRun
from pare_jax.prediction.run.output_folder import Record
from pare_jax.prediction.scene import scene_glb, scene_meshes

# People computed at once. Larger batches are no faster on a CPU, and photographs would wait longer.
BATCH = 8
# Photographs in memory at once, and their pixels together.
_MOST_PHOTOGRAPHS = 3 * BATCH
_MOST_PIXELS = 150_000_000
# Fields of a person in pixels.
_PIXELS = ("principal_point", "joints_2d", "box", "crop_centre", "crop_side", "focal_length")


@dataclasses.dataclass
class _LoadedPhoto:
    """A photograph in memory, and its people as far as they are predicted."""

    job: Job
    photograph: Photograph
    crops: list[Crop]
    scores: list[float | None]
    complaints: list[str]
    # None where the network's prediction is not finite.
    people: list[Person | None] = dataclasses.field(default_factory=list)

    @property
    def pixels(self) -> int:
        return self.photograph.image.shape[0] * self.photograph.image.shape[1]


def predict_photos(run: PredictionRun, jobs: Sequence[Job], bar: ProgressBar) -> None:
    """Predict the people of photographs and write the outputs.

    A photograph that fails is reported, and the others are processed.
    """
    pipeline = _Pipeline(run, jobs, bar)
    try:
        pipeline.run_all()
    finally:
        pipeline.close()


class _Pipeline:
    def __init__(self, run: PredictionRun, jobs: Sequence[Job], bar: ProgressBar):
        self._run, self._bar = run, bar
        self._jobs = collections.deque(jobs)
        self._workers = max(2, len(os.sched_getaffinity(0)))
        # As many may read and write at once, and two wait for the network.
        self._pool = ThreadPool(2 * self._workers + 2)
        self._reading: dict[Future, Job] = {}
        self._computing: dict[Future, list[_LoadedPhoto]] = {}
        self._writing: dict[Future, _LoadedPhoto] = {}
        self._queue: collections.deque[tuple[_LoadedPhoto, Crop]] = collections.deque()
        self._num_photos = self._pixels = 0  # in memory
        self._compiled = False  # whether the program for full batches is

    def run_all(self) -> None:
        while self._jobs or self._num_photos:
            self._read_more()
            self._start_batches()
            pending = [*self._reading, *self._computing, *self._writing]
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                if future in self._reading:
                    self._take_read(future)
                elif future in self._computing:
                    self._take_people(future)
                else:
                    self._take_written(future)

    def close(self) -> None:
        # Files that are being written are finished, so that nothing computed is lost.
        for future in self._reading:
            future.cancel()
        self._pool.shutdown()
        for future in list(self._writing):
            self._take_written(future)

    def _read_more(self) -> None:
        while (
            self._jobs
            and self._num_photos < _MOST_PHOTOGRAPHS
            # A photograph's size is known only after reading.
            and len(self._reading) < self._workers
            and (self._pixels < _MOST_PIXELS or not self._num_photos)
        ):
            job = self._jobs.popleft()
            self._num_photos += 1
            self._reading[self._pool.submit(_read, self._run, job)] = job

    def _take_read(self, future: "Future[_LoadedPhoto]") -> None:
        job = self._reading.pop(future)
        try:
            photo = future.result()
        except UserError as error:
            self._finish(job, error)
            return
        self._pixels += photo.pixels
        self._queue.extend((photo, crop) for crop in photo.crops)
        if not photo.crops:
            self._write(photo)

    def _start_batches(self) -> None:
        """Give the network up to two batches; only the last may be smaller."""
        while self._queue and len(self._computing) < 2:
            more_comes = self._reading or self._computing or (self._jobs and self._writing)
            if len(self._queue) < BATCH and more_comes:
                return
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            pending = self._run.predictor.start(
                [crop for _, crop in batch], pad_to=BATCH if self._compiled else 0
            )
            self._compiled = self._compiled or len(batch) == BATCH
            future = self._pool.submit(pending.people_or_none)
            self._computing[future] = [photo for photo, _ in batch]

    def _take_people(self, future: "Future[list[Person | None]]") -> None:
        for photo, person in zip(self._computing.pop(future), future.result(), strict=True):
            score = photo.scores[len(photo.people)]
            photo.people.append(person and dataclasses.replace(person, score=score))
            if len(photo.people) == len(photo.crops):
                self._write(photo)

    def _write(self, photo: _LoadedPhoto) -> None:
        self._writing[self._pool.submit(_write, self._run, photo)] = photo

    def _take_written(self, future: "Future[Record]") -> None:
        photo = self._writing.pop(future)
        self._pixels -= photo.pixels
        try:
            self._run.reporter.done(future.result())
        except UserError as error:
            self._finish(photo.job, error)
        else:
            self._finish(photo.job)

    def _finish(self, job: Job, error: UserError | None = None) -> None:
        if error is not None:
            self._run.reporter.failed(str(job.path), str(error))
        self._num_photos -= 1
        self._bar.advance()


@errors_as_user_errors()
def _read(run: PredictionRun, job: Job) -> _LoadedPhoto:
    """Read a photograph, find the people in it and cut their crops."""
    photograph = read_photograph(job.path)
    image = photograph.image
    check_picture(image)
    run.focal.of_input(photograph.size)  # refuses a focal length before the network works
    found, complaints = _find(run, job, photograph)
    crops = run.predictor.crops(image, [one.box for one in found], [o.keypoints for o in found])
    seen = [(crop, one) for crop, one in zip(crops, found, strict=True) if crop is not None]
    if job.boxes is not None:  # a detector may be wrong, the user's boxes show people
        complaints += [
            f"{nobody_in(one.box)}: skipped"
            for crop, one in zip(crops, found, strict=True)
            if crop is None
        ]
    scores = [None if math.isnan(one.score) else one.score for _, one in seen]
    return _LoadedPhoto(job, photograph, [crop for crop, _ in seen], scores, complaints)


def _find(
    run: PredictionRun, job: Job, photograph: Photograph
) -> tuple[list[Detection], list[str]]:
    """Return the people, in pixels of the image in memory, and why boxes are skipped."""
    if job.boxes is None:
        assert run.detector is not None
        return run.detector(photograph.image), []
    found, complaints = [], []
    width, height = photograph.size
    for given in job.boxes:
        one = given if isinstance(given, Detection) else Detection(given, math.nan)
        try:
            found.append(_in_image(one, check_box(one.box, height, width), photograph))
        except UserError as error:
            complaints.append(_complaint(one, error, width, height))
    if complaints and not found:
        kind = "keypoints" if all(_has_keypoints(one) for one in job.boxes) else "boxes"
        raise UserError(f"none of its {kind} can be used ({complaints[0]}); nothing written")
    return found, complaints


def _has_keypoints(given: Any) -> bool:
    return isinstance(given, Detection) and given.keypoints is not None


def _complaint(one: Detection, error: UserError, width: int, height: int) -> str:
    """Return why a person is skipped; of keypoints, whose box is their extent, without the box."""
    if one.keypoints is None:
        return str(error)
    corners = ",".join(f"{value:g}" for value in one.box)
    return (
        f"keypoints within {corners} do not fit the photograph of {width} x {height} pixels; give "
        "keypoints in its pixels"
    )


def _in_image(one: Detection, box: np.ndarray, photograph: Photograph) -> Detection:
    """Return a person in pixels of the image in memory, which may be reduced."""
    keypoints = one.keypoints
    if keypoints is not None:
        points = keypoints.points * photograph.scale
        keypoints = dataclasses.replace(keypoints, points=points, box=None)
    return dataclasses.replace(one, box=photograph.box_in_image(box), keypoints=keypoints)


@errors_as_user_errors()
def _write(run: PredictionRun, photo: _LoadedPhoto) -> Record:
    """Draw, encode and write the outputs of one photograph."""
    job = photo.job
    people = [person for person in photo.people if person is not None]
    lost = len(photo.people) - len(people)
    complaints = list(photo.complaints)
    if lost:
        reason = "the network's prediction is not finite"
        if not people:
            raise UserError(f"nobody in it could be predicted: {reason}; nothing written")
        complaints.append(f"{counted(lost, 'person')} of {len(photo.people)} skipped: {reason}")
    outputs = PhotoOutputs(run.predictor, run.outputs, run.focal)
    files = photo_files(outputs, job.name, printable(job.path.name), photo.photograph, people)
    with run.folder.scratch() as scratch:
        for file, content in files.items():
            (scratch / file).write_bytes(content)
        record = Record(
            name=job.name,
            source=printable(str(job.path)),
            place=place_of(job.path),
            key=job.key,
            people=len(people),
            complaints=complaints,
            facts=run.facts_of(is_clip=False),
        )
        return run.folder.publish(scratch, record)


class PosedBodies(Protocol):
    """The body model of people: a `Predictor`, or the bodies of fits."""

    @property
    def faces(self) -> np.ndarray:
        """Triangles of the mesh."""
        ...

    @property
    def body_data(self) -> BodyData | None:
        """The body model as read from its file."""
        ...


@dataclasses.dataclass(frozen=True)
class PhotoOutputs:
    """The outputs of photographs.

    Attributes:
        bodies: the body model of the people.
        chosen: the outputs to write.
        focal: the focal length of all photographs, if flags give it.
    """

    bodies: PosedBodies | Predictor
    chosen: frozenset[str]
    focal: FocalFlags

    def wants(self, output: str) -> bool:
        """Return whether this output was chosen."""
        return output in self.chosen


def photo_files(
    run: PhotoOutputs, name: str, title: str, photograph: Photograph, people: Sequence[Person]
) -> dict[str, bytes]:
    """Return the chosen outputs of one photograph.

    Args:
        run: has the choice.
        name: the beginning of the file names.
        title: the name of the photograph's file, for its JSON file.
        photograph: as it was read.
        people: found in it, in pixels of the image in memory.

    Returns:
        Contents by file name.
    """
    image, faces = photograph.image, run.bodies.faces
    size = photograph.size
    focal_length = run.focal.of_input(size, photograph.focal_length)
    in_file = [focal_length.of(_in_pixels_of_file(person, photograph)) for person in people]
    files: dict[str, bytes] = {}
    if run.wants("npz"):
        files[f"{name}.npz"] = people_npz(in_file, faces, photo_size=size)
    if run.wants("json"):
        files[f"{name}.json"] = people_json(in_file, title, photo_size=size).encode()
    if run.wants("overlay"):
        files[f"{name}_overlay.jpg"] = encode_jpeg(overlay_picture(image, people, faces))
    if run.wants("attention"):
        for number, sheet in enumerate(attention_pictures(image, people, faces)):
            ending = f"_{number}" if len(people) > 1 else ""
            files[f"{name}_attention{ending}.jpg"] = encode_jpeg(sheet)
    if run.wants("keypoints") and (picture := keypoint_overlay(image, people)) is not None:
        files[f"{name}_keypoints.jpg"] = encode_jpeg(picture)
    if run.wants("side") and people:
        files[f"{name}_side.jpg"] = encode_jpeg(side_and_back_picture(people, faces))
    for kind in ("obj", "ply"):
        if run.wants(kind) and people:
            meshes = scene_meshes(in_file, size, faces)
            files[f"{name}.{kind}"] = mesh_bytes(meshes, f".{kind}")
    if run.wants("glb") and people:
        files[f"{name}.glb"] = scene_glb(in_file, size, run.bodies.body_data, faces)
    return files


def _in_pixels_of_file(person: Person, photograph: Photograph) -> Person:
    """Scale a person's pixels to the file's if the photograph was reduced on reading."""
    factor = 1.0 / float(np.sqrt(photograph.scale.prod()))
    if factor == 1.0:
        return person
    scaled = {name: getattr(person, name) * factor for name in _PIXELS}
    if person.keypoints is not None:
        scaled["keypoints"] = person.keypoints * (factor, factor, 1.0)
    return dataclasses.replace(person, **scaled)
