"""Photographs through the network: reading, predicting and drawing go on at the same time.

Threads read, detect and cut; the main thread keeps the network busy with batches across
photographs and people; threads draw and write. OpenCV, Pillow and XLA let go of the interpreter
lock, so that Python's threads suffice. A bounded number of photographs is under way at once.
"""

import collections
import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import numpy as np

from pare_jax.errors import UserError, counted
from pare_jax.io.files import printable, write_together
from pare_jax.io.images import Photograph, read_photograph
from pare_jax.io.media import Photo
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import said_plainly
from pare_jax.prediction.answers import Crop, PendingPeople
from pare_jax.prediction.box_files import Box, place_of
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import check_picture
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.records import Record
from pare_jax.prediction.run.writing import photo_files

# People computed at once, fewer than `predictor.MAX_BATCH` because larger batches are no
# faster on a CPU, and a photograph waits for its batch.
BATCH = 8
# Photographs under way at once, and the pixels they may have together.
_UNDER_WAY = 3 * BATCH
_PIXELS_UNDER_WAY = 150_000_000
# Seconds between two looks at whether the network has finished a batch.
_LOOK_EVERY = 0.01


@dataclasses.dataclass(frozen=True)
class PhotoJob:
    """One photograph to do.

    Attributes:
        photo: the file.
        name: what its files are called after.
        key: of what is done with it, see `pare_jax.prediction.run.records.key_of`.
        boxes: in it; None: the detector finds them.
    """

    photo: Photo
    name: str
    key: str
    boxes: Sequence[Box | Detection] | None


@dataclasses.dataclass
class _UnderWay:
    """A photograph that was read, and its people as far as they are predicted."""

    job: PhotoJob
    photograph: Photograph
    crops: list[Crop]
    scores: list[float | None]
    complaints: list[str]
    # None for whom the network's answer was not finite.
    people: list[Person | None] = dataclasses.field(default_factory=list)

    @property
    def pixels(self) -> int:
        return self.photograph.image.shape[0] * self.photograph.image.shape[1]


def predict_photos(run: PredictionRun, jobs: Sequence[PhotoJob], bar: ProgressBar) -> None:
    """Predict the people of photographs and write what is wanted about each.

    What goes wrong with one is reported and does not stop the others.
    """
    pipeline = _Pipeline(run, jobs, bar)
    try:
        pipeline.run_all()
    finally:
        pipeline.close()


class _Pipeline:
    def __init__(self, run: PredictionRun, jobs: Sequence[PhotoJob], bar: ProgressBar):
        self._run, self._bar = run, bar
        self._jobs = collections.deque(jobs)
        self._workers = max(2, len(os.sched_getaffinity(0)))
        self._readers = ThreadPoolExecutor(self._workers, "read")
        self._writers = ThreadPoolExecutor(self._workers, "write")
        self._reading: dict[Future[_UnderWay], PhotoJob] = {}
        self._queue: collections.deque[tuple[_UnderWay, Crop]] = collections.deque()
        self._computing: collections.deque[tuple[list[_UnderWay], PendingPeople]] = (
            collections.deque()
        )
        self._writing: dict[Future[Record], _UnderWay] = {}
        self._under_way: set[int] = set()
        self._pixels = 0
        self._started = False  # whether the program for full batches is compiled

    def run_all(self) -> None:
        while self._jobs or self._under_way:
            self._take_read()
            self._take_written()
            self._admit()
            if self._start_batch():
                continue
            if self._computing and (not self._reading or self._computing[0][1].is_ready()):
                self._finish_batch()
            elif self._reading or self._writing:
                # Readers are given the next photograph as soon as they are free, whatever the
                # network is at.
                under_way: list[Future] = [*self._reading, *self._writing]
                seconds = _LOOK_EVERY if self._computing else None
                wait(under_way, seconds, return_when=FIRST_COMPLETED)

    def close(self) -> None:
        # What is being written is finished, so that nothing computed is lost.
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._writers.shutdown(wait=True)
        self._take_written()

    def _admit(self) -> None:
        while (
            self._jobs
            and len(self._under_way) < _UNDER_WAY
            # How large they are is known only once they are read.
            and len(self._reading) < self._workers
            and (self._pixels < _PIXELS_UNDER_WAY or not self._under_way)
        ):
            job = self._jobs.popleft()
            self._under_way.add(id(job))
            self._reading[self._readers.submit(_read, self._run, job)] = job

    def _take_read(self) -> None:
        for future in [future for future in self._reading if future.done()]:
            job = self._reading.pop(future)
            try:
                photo = future.result()
            except UserError as error:
                self._fail(job, error)
                continue
            self._pixels += photo.pixels
            self._queue.extend((photo, crop) for crop in photo.crops)
            if not photo.crops:
                self._write(photo)

    def _start_batch(self) -> bool:
        """Give the network a batch, if it has less than two and a full one is there to give."""
        more_comes = bool(self._reading) or (bool(self._jobs) and bool(self._writing))
        if len(self._computing) >= 2 or not self._queue:
            return False
        if len(self._queue) < BATCH and (more_comes or self._computing):
            return False
        count = min(BATCH, len(self._queue))
        batch = [self._queue.popleft() for _ in range(count)]
        answers = self._run.predictor.start(
            [crop for _, crop in batch], pad_to=BATCH if self._started else 0
        )
        self._started = self._started or count == BATCH
        self._computing.append(([photo for photo, _ in batch], answers))
        return True

    def _finish_batch(self) -> None:
        photos, answers = self._computing.popleft()
        for photo, person in zip(photos, answers.people_or_none(), strict=True):
            score = photo.scores[len(photo.people)]
            photo.people.append(person and dataclasses.replace(person, score=score))
            if len(photo.people) == len(photo.crops):
                self._write(photo)

    def _write(self, photo: _UnderWay) -> None:
        self._writing[self._writers.submit(_write, self._run, photo)] = photo

    def _take_written(self) -> None:
        for future in [future for future in self._writing if future.done()]:
            photo = self._writing.pop(future)
            self._pixels -= photo.pixels
            try:
                record = future.result()
                self._run.records.add(record)
            except UserError as error:
                self._fail(photo.job, error)
                continue
            self._run.reporter.done(record)
            self._leave(photo.job)

    def _fail(self, job: PhotoJob, error: UserError) -> None:
        self._run.records.drop_unfinished(job.name)
        self._run.reporter.failed(str(job.photo), str(error))
        self._leave(job)

    def _leave(self, job: PhotoJob) -> None:
        self._under_way.discard(id(job))
        self._bar.advance()


@said_plainly()
def _read(run: PredictionRun, job: PhotoJob) -> _UnderWay:
    """Read a photograph, find people in it and cut them out."""
    photograph = read_photograph(job.photo.path)
    image = photograph.image
    check_picture(image)
    boxes, scores, complaints = _find(run, job, photograph)
    crops = [run.predictor.crop(image, box) for box in boxes]
    return _UnderWay(job, photograph, crops, scores, complaints)


def _find(
    run: PredictionRun, job: PhotoJob, photograph: Photograph
) -> tuple[list[np.ndarray], list[float | None], list[str]]:
    if job.boxes is None:
        assert run.detector is not None
        found = run.detector(photograph.image)
        return [detection.box for detection in found], [d.score for d in found], []
    boxes, scores, complaints = [], [], []
    width, height = photograph.size
    for one in job.boxes:
        box, score = (one.box, one.score) if isinstance(one, Detection) else (one, math.nan)
        try:
            boxes.append(photograph.box_in_image(check_box(box, height, width)))
            scores.append(None if math.isnan(score) else score)
        except UserError as error:
            complaints.append(str(error))
    if complaints and not boxes:
        raise UserError(f"none of its boxes can be used ({complaints[0]}); nothing written")
    return boxes, scores, complaints


@said_plainly()
def _write(run: PredictionRun, photo: _UnderWay) -> Record:
    """Draw, encode and write everything about one photograph."""
    job = photo.job
    people = [person for person in photo.people if person is not None]
    lost = len(photo.people) - len(people)
    complaints = tuple(photo.complaints)
    if lost:
        reason = "the network's answer is not finite"
        if not people:
            raise UserError(f"nobody in it could be predicted: {reason}; nothing written")
        complaints += (f"{counted(lost, 'person')} of {len(photo.people)} left out: {reason}",)
    source, place = printable(str(job.photo)), place_of(job.photo.path)
    files = photo_files(run, job.name, source, photo.photograph, people)
    run.records.intend(job.name, source, place, files)
    write_together(run.output, files)
    return Record(
        name=job.name,
        source=source,
        key=job.key,
        files=tuple(files),
        people=len(people),
        complaints=complaints,
        place=place,
        facts=run.facts_of(is_clip=False),
    )
