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

from pare_jax.errors import UserError, counted
from pare_jax.io.files import printable
from pare_jax.io.media import Clip, Frame, FrameReader
from pare_jax.io.threads import ordered_map
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.answers import Crop, PendingPeople
from pare_jax.prediction.box_files import place_of
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection
from pare_jax.prediction.detection.frames import FrameDetections
from pare_jax.prediction.drawing import draw_people
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import check_picture
from pare_jax.prediction.run.chunks import CHUNK, Chunks, Rows
from pare_jax.prediction.run.largest import LargestView, LargestViews
from pare_jax.prediction.run.moving import ClipFiles, left_out, video_suffix
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.photographs import BATCH
from pare_jax.prediction.run.records import Record
from pare_jax.prediction.run.tracks import (
    people_of_rows,
    row_of,
    rows_by_track,
    smooth_rows,
    stack_rows,
)
from pare_jax.prediction.run.writing import in_size
from pare_jax.prediction.tracking import TrackedBox, given_tracks, track_clip


@dataclasses.dataclass(frozen=True)
class ClipJob:
    """One clip to do; see `pare_jax.prediction.run.photographs.PhotoJob`.

    Attributes:
        boxes: by frame; None: the detector finds them.
    """

    clip: Clip
    name: str
    key: str
    boxes: FrameDetections | None


@dataclasses.dataclass(frozen=True)
class _Found:
    """Where people are in every frame."""

    times: np.ndarray
    tracked: list[list[TrackedBox]]
    frame_rate: float
    complaints: tuple[str, ...]


def predict_clip(run: PredictionRun, job: ClipJob) -> Record:
    """Predict the people of one clip and write what is wanted about them.

    Returns:
        What was done.

    Raises:
        UserError: the clip cannot be read, or the files cannot be written.
    """
    scratch = run.records.scratch_folder(job.name, job.key)
    run.records.drop_scratch(job.name, keep=scratch)
    found = _find_people(run, job, scratch)
    rows, lost = _predict_people(run, job, found, scratch)
    rows = smooth_rows(rows, found.times, run.smoothing)
    source, place = printable(str(job.clip)), place_of(job.clip.path)
    written = ClipFiles(run, job.name, source, place, _size(job.clip), found.frame_rate)
    views = LargestViews(scratch)
    for number, which in rows_by_track(rows):
        written.write_track(number, rows, which, views.get(number))
    if run.wants("overlay"):
        path = run.output / f"{job.name}_overlay{video_suffix()}"
        written.intend(path.name)
        _draw(run, job, rows, path, found)
    record = Record(
        name=job.name,
        source=source,
        key=job.key,
        files=tuple(written.files),
        people=len(np.unique(rows["id"])),
        is_clip=True,
        complaints=found.complaints + left_out(lost),
        place=place,
        facts=run.facts_of(is_clip=True),
        meshes=written.meshes,
    )
    run.records.add(record)
    shutil.rmtree(scratch, ignore_errors=True)
    return record


def _size(clip: Clip) -> tuple[int, int]:
    with FrameReader(clip) as reader:
        return reader.size


def _find_people(run: PredictionRun, job: ClipJob, scratch: Path) -> _Found:
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
        per_frame.append([_detection(rows, row) for row in range(start, end)])
    if str(facts["shortfall"]):
        complaints.append(str(facts["shortfall"]))
    refused = int(rows["refused"].sum())
    if refused:
        complaints.append(f"{counted(refused, 'box')} cannot be used: no area, or not in the frame")
    beyond = sum(len(own) for number, own in (job.boxes or {}).items() if number >= len(times))
    if beyond:
        complaints.append(
            f"{counted(beyond, 'box')} cannot be used: the clip ends with frame {len(times) - 1}"
        )
    told = bool(len(rows["id"])) and (rows["id"] >= 0).all()
    tracked = (given_tracks if told else track_clip)(per_frame, run.tracking)
    return _Found(times, tracked, float(facts["frame_rate"]), tuple(complaints))


def _detection(rows: Rows, row: int) -> Detection:
    number = int(rows["id"][row])
    return Detection(rows["box"][row], float(rows["score"][row]), number if number >= 0 else None)


def _detect(run: PredictionRun, job: ClipJob, chunks: Chunks) -> None:
    """Find people in every frame that is not among the chunks yet."""

    def look(frame: Frame) -> tuple[Frame, list[Detection], int]:
        check_picture(frame.image)
        if job.boxes is None:
            assert run.clip_detector is not None
            return frame, run.clip_detector(frame.image), 0
        own = job.boxes.get(frame.number, [])
        good = [
            dataclasses.replace(one, box=box)
            for one in own
            for box in _good_boxes([one.box], frame.image.shape)
        ]
        return frame, good, len(own) - len(good)

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


def _good_boxes(boxes: Sequence[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
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
        "id": np.array([-1 if one.id is None else one.id for one in found], np.int32),
    }


def _predict_people(
    run: PredictionRun, job: ClipJob, found: _Found, scratch: Path
) -> tuple[Rows, int]:
    """Let the network look at everybody who was followed, in every frame.

    Returns:
        What it says, and the number of frames in which an answer was not finite.
    """
    chunks, views = Chunks(scratch, "people"), LargestViews(scratch)
    total = len(found.tracked)
    if views.is_damaged:
        chunks.discard()
        views.drop_damaged()
    if not chunks.is_complete:
        with (
            FrameReader(job.clip, start=chunks.frames) as reader,
            run.reporter.bar(
                f"{job.clip.path.name}: predicting", total, min(chunks.frames, total)
            ) as bar,
        ):
            network = _Network(run, views)
            for frame in reader:
                if frame.number >= total:
                    break
                network.look(frame, found.tracked[frame.number])
                bar.advance()
                if (frame.number + 1) % CHUNK == 0:
                    chunks.append(network.take())
            chunks.append(network.take())
            chunks.complete()
    rows = chunks.rows()
    lost = int(rows.pop("lost").sum())
    return rows, lost


@dataclasses.dataclass(frozen=True)
class _Look:
    """What the network is to say of one person in one frame; the view if it is the largest yet."""

    frame: int
    tracked: TrackedBox
    crop: Crop
    view: LargestView | None


class _Network:
    """Batches across frames and people; one batch is computed while the next is cut out."""

    def __init__(self, run: PredictionRun, views: LargestViews):
        self._run, self._views = run, views
        self._queue: list[_Look] = []
        self._computing: collections.deque[tuple[list[_Look], PendingPeople]] = collections.deque()
        self._rows: list[dict] = []
        self._lost: set[int] = set()

    def look(self, frame: Frame, tracked: Sequence[TrackedBox]) -> None:
        for one in tracked:
            # Between two sightings at the picture's edge there may be nothing of it left.
            for box in _good_boxes([one.box], frame.image.shape):
                crop, view = self._run.predictor.crop(frame.image, box), None
                if self._run.wants("attention"):
                    view = self._views.candidate(frame.number, one, crop, frame.image)
                self._queue.append(_Look(frame.number, one, crop, view))
        while len(self._queue) >= BATCH:
            self._start(self._queue[:BATCH])
            self._queue = self._queue[BATCH:]

    def take(self) -> Rows:
        """Wait for everything and return its rows, and how many frames `lost` somebody."""
        if self._queue:
            self._start(self._queue)
            self._queue = []
        while self._computing:
            self._finish()
        # A frame is looked at again when its rows are not kept yet, and so are views.
        self._views.save()
        rows = stack_rows(self._rows) | {"lost": np.array([len(self._lost)])}
        self._rows, self._lost = [], set()
        return rows

    def _start(self, batch: list[_Look]) -> None:
        answers = self._run.predictor.start([look.crop for look in batch], pad_to=BATCH)
        self._computing.append((batch, answers))
        if len(self._computing) > 1:
            self._finish()

    def _finish(self) -> None:
        batch, answers = self._computing.popleft()
        for look, person in zip(batch, answers.people_or_none(), strict=True):
            if person is None:
                self._lost.add(look.frame)
                continue
            self._rows.append(row_of(look.frame, look.tracked, person))
            if look.view is not None and person.attention is not None:
                self._views.keep(look.tracked.id, look.view, person.attention)


def _draw(run: PredictionRun, job: ClipJob, rows: Rows, path: Path, found: _Found) -> None:
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
