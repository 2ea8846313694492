"""A clip through the network: find people, follow them, predict, smooth, draw.

The clip is read three times, since who is who, and where somebody is while hidden, is known only
at its end: once to find people, once to predict those who were followed, once to draw. What the
first two find is kept in chunks on disk, so that a long clip goes on where it was stopped.
"""

import collections
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pare_jax.boxes import check_box
from pare_jax.detection import Detection
from pare_jax.errors import UserError
from pare_jax.files import printable, write_together
from pare_jax.people import Person
from pare_jax.photos import Box, place_of
from pare_jax.predicting.chunks import CHUNK, Chunks, Rows
from pare_jax.predicting.photos import BATCH
from pare_jax.predicting.records import Record
from pare_jax.predicting.reporting import counted
from pare_jax.predicting.settings import Run
from pare_jax.predicting.tracks import (
    people_of_rows,
    row_of,
    rows_by_track,
    smooth_rows,
    stack_rows,
)
from pare_jax.predicting.writing import in_size, track_files
from pare_jax.predictor import Answers, Crop, check_picture
from pare_jax.rendering.people import draw_people
from pare_jax.sources import Clip, Frame, FrameReader
from pare_jax.threads import ordered_map
from pare_jax.tracking import TrackedBox, track_clip
from pare_jax.video import VideoWriter


@dataclasses.dataclass(frozen=True)
class ClipJob:
    """One clip to do; see `pare_jax.predicting.photos.PhotoJob`.

    Attributes:
        boxes: for each frame those in it; None: the detector finds them.
    """

    clip: Clip
    name: str
    key: str
    boxes: Sequence[Sequence[Box]] | None


@dataclasses.dataclass(frozen=True)
class _Found:
    """Where people are in every frame."""

    times: np.ndarray
    tracked: list[list[TrackedBox]]
    frame_rate: float
    complaints: tuple[str, ...]


def predict_clip(run: Run, job: ClipJob) -> Record:
    """Predict the people of one clip and write what is wanted about them.

    Returns:
        What was done.

    Raises:
        UserError: the clip cannot be read, or the files cannot be written.
    """
    scratch = run.records.scratch_folder(job.name, job.key)
    run.records.drop_scratch(job.name, keep=scratch)
    found = _find_people(run, job, scratch)
    rows = smooth_rows(_predict_people(run, job, found, scratch), found.times, run.smoothing)
    source, place = printable(str(job.clip)), place_of(job.clip.path)
    files: list[str] = []
    size = _size(job.clip)
    for number, which in rows_by_track(rows):
        people = people_of_rows(run.predictor, rows, which, vertices=run.wants("vertices"))
        name = f"{job.name}_track_{number}"
        written = track_files(run, name, source, people, size, found.frame_rate)
        files += written
        run.records.intend(job.name, source, place, files)
        write_together(run.output, written)
    if run.wants("overlay"):
        path = run.output / f"{job.name}_overlay{video_suffix()}"
        files.append(path.name)
        run.records.intend(job.name, source, place, files)
        _draw(run, job, rows, path, found)
    record = Record(
        name=job.name,
        source=source,
        key=job.key,
        files=tuple(files),
        people=len(np.unique(rows["id"])),
        is_clip=True,
        complaints=found.complaints,
        place=place,
    )
    run.records.add(record)
    shutil.rmtree(scratch, ignore_errors=True)
    return record


def video_suffix() -> str:
    """Return the ending of videos: H.264 where PyAV is installed, else VP8."""
    try:
        import av  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return ".webm"
    return ".mp4"


def _size(clip: Clip) -> tuple[int, int]:
    with FrameReader(clip) as reader:
        return reader.size


def _find_people(run: Run, job: ClipJob, scratch: Path) -> _Found:
    chunks = Chunks(scratch, "boxes")
    complaints: list[str] = []
    if not chunks.is_complete:
        _detect(run, job, chunks)
    facts = chunks.facts()
    rows = chunks.rows()
    times = rows["time"]
    per_frame: list[list[Detection]] = []
    end = 0
    for count in rows["count"]:
        start, end = end, end + int(count)
        pairs = zip(rows["box"][start:end], rows["score"][start:end], strict=True)
        per_frame.append([Detection(box, float(score)) for box, score in pairs])
    if str(facts["shortfall"]):
        complaints.append(str(facts["shortfall"]))
    refused = int(rows["refused"].sum())
    if refused:
        complaints.append(f"{counted(refused, 'box')} cannot be used: no area, or not in the frame")
    tracked = track_clip(per_frame, run.tracking)
    return _Found(times, tracked, float(facts["frame_rate"]), tuple(complaints))


def _detect(run: Run, job: ClipJob, chunks: Chunks) -> None:
    """Find people in every frame that is not among the chunks yet."""

    def look(frame: Frame) -> tuple[Frame, list[Detection], int]:
        check_picture(frame.image)
        if job.boxes is None:
            assert run.clip_detector is not None
            return frame, run.clip_detector(frame.image), 0
        own = job.boxes[frame.number] if frame.number < len(job.boxes) else []
        good = list(_good_boxes(own, frame.image.shape))
        return frame, [Detection(box, 1.0) for box in good], len(own) - len(good)

    with (
        FrameReader(job.clip, start=chunks.frames) as reader,
        run.reporter.bar(
            f"{job.clip.path.name}: finding people", reader.frame_count, chunks.frames
        ) as bar,
    ):
        rows: list[tuple[float, list[Detection], int]] = []
        for frame, found, refused in ordered_map(look, reader):
            rows.append((frame.time, found, refused))
            bar.advance()
            if len(rows) == CHUNK:
                chunks.append(_stacked(rows))
                rows = []
        if rows or not chunks.count:
            chunks.append(_stacked(rows))
        chunks.complete(
            frame_rate=reader.frame_rate,
            shortfall=reader.shortfall() or "",  # pyright: ignore[reportArgumentType]
        )


def _good_boxes(
    boxes: Sequence[Box] | Sequence[np.ndarray], shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    for box in boxes:
        try:
            yield check_box(box, *shape[:2])
        except UserError:
            continue


def _stacked(rows: Sequence[tuple[float, list[Detection], int]]) -> Rows:
    found = [detection for _, detections, _ in rows for detection in detections]
    return {
        "time": np.array([time for time, _, _ in rows], np.float64),
        "count": np.array([len(detections) for _, detections, _ in rows], np.int32),
        "refused": np.array([refused for _, _, refused in rows], np.int32),
        "box": np.array([detection.box for detection in found]).reshape(-1, 4),
        "score": np.array([detection.score for detection in found]),
    }


def _predict_people(run: Run, job: ClipJob, found: _Found, scratch: Path) -> Rows:
    """Let the network look at everybody who was followed, in every frame."""
    chunks = Chunks(scratch, "people")
    total = len(found.tracked)
    if not chunks.is_complete:
        with (
            FrameReader(job.clip, start=chunks.frames) as reader,
            run.reporter.bar(
                f"{job.clip.path.name}: predicting", total, min(chunks.frames, total)
            ) as bar,
        ):
            network = _Network(run)
            for frame in reader:
                if frame.number >= total:
                    break
                network.look(frame, found.tracked[frame.number])
                bar.advance()
                if (frame.number + 1) % CHUNK == 0:
                    chunks.append(stack_rows(network.take()))
            chunks.append(stack_rows(network.take()))
            chunks.complete()
    return chunks.rows()


class _Network:
    """Batches across frames and people; one batch is computed while the next is cut out."""

    def __init__(self, run: Run):
        self._run = run
        self._queue: list[tuple[int, TrackedBox, Crop]] = []
        self._computing: collections.deque[tuple[list, Answers]] = collections.deque()
        self._rows: list[dict] = []

    def look(self, frame: Frame, tracked: Sequence[TrackedBox]) -> None:
        for one in tracked:
            # Between two sightings at the picture's edge there may be nothing of it left.
            for box in _good_boxes([one.box], frame.image.shape):
                self._queue.append((frame.number, one, self._run.predictor.crop(frame.image, box)))
        while len(self._queue) >= BATCH:
            self._start(self._queue[:BATCH])
            self._queue = self._queue[BATCH:]

    def take(self) -> list[dict]:
        """Wait for everything and return its rows."""
        if self._queue:
            self._start(self._queue)
            self._queue = []
        while self._computing:
            self._finish()
        rows, self._rows = self._rows, []
        return rows

    def _start(self, batch: list[tuple[int, TrackedBox, Crop]]) -> None:
        answers = self._run.predictor.start([crop for _, _, crop in batch], pad_to=BATCH)
        self._computing.append((batch, answers))
        if len(self._computing) > 1:
            self._finish()

    def _finish(self) -> None:
        batch, answers = self._computing.popleft()
        for (number, tracked, _), person in zip(batch, answers.people(), strict=True):
            self._rows.append(row_of(number, tracked, person))


def _draw(run: Run, job: ClipJob, rows: Rows, path: Path, found: _Found) -> None:
    """Draw the bodies over the clip."""
    order = np.argsort(rows["frame"], kind="stable")
    bounds = np.searchsorted(rows["frame"][order], np.arange(len(found.tracked) + 1))

    def posed(reader: FrameReader) -> Iterator[tuple[Frame, list[Person]]]:
        for frame in reader:
            if frame.number >= len(found.tracked):
                break
            which = order[bounds[frame.number] : bounds[frame.number + 1]]
            yield frame, people_of_rows(run.predictor, rows, which, vertices=True)

    size: tuple[int, ...] | None = None  # the first frame's, for all

    def draw(item: tuple[Frame, list[Person]]) -> np.ndarray:
        frame, people = item
        return draw_people(frame.image, people, run.predictor.faces)

    with (
        FrameReader(job.clip) as reader,
        VideoWriter(path, found.frame_rate) as writer,
        run.reporter.bar(f"{job.clip.path.name}: drawing", len(found.tracked)) as bar,
    ):
        for picture in ordered_map(draw, posed(reader)):
            size = picture.shape[1::-1] if size is None else size
            writer.write(in_size(picture, size))
            bar.advance()
