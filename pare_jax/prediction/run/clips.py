"""Predicts the people of a clip: finds, tracks, predicts, smooths and draws them.

The clip is read three times: to find people, to predict those who are tracked, and to draw.
Tracks, and boxes of people while they are hidden, are known only at the end of a reading.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError, be, counted
from pare_jax.io.files import printable
from pare_jax.io.media import Clip, Frame, FrameReader
from pare_jax.io.progress import ProgressBar
from pare_jax.io.threads import ordered_map
from pare_jax.io.video import VIDEO_SUFFIX, VideoWriter
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.prediction.answers import Crop, PendingPeople
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import Detection, FollowingDetector, for_frames
from pare_jax.prediction.drawing import draw_people
from pare_jax.prediction.output_names import place_of
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import Predictor, check_picture
from pare_jax.prediction.refinement import Refiner
from pare_jax.prediction.run.options import Job, PredictionRun
from pare_jax.prediction.run.output_folder import Record
from pare_jax.prediction.run.photographs import BATCH
from pare_jax.prediction.run.track_files import (
    LargestView,
    LargestViews,
    frames_left_out,
    in_size,
    write_tracks,
)
from pare_jax.prediction.run.tracks import (
    Rows,
    fill_gaps,
    join_rows,
    people_of_rows,
    refine_rows,
    smooth_rows,
    stack_rows,
    with_keypoints,
)
from pare_jax.prediction.tracking import TrackedBox, given_tracks, track_clip


@dataclasses.dataclass(frozen=True)
class _TrackedClip:
    """The boxes of tracked people in every frame."""

    times: np.ndarray  # of every frame, seconds
    boxes: list[list[TrackedBox]]
    frame_size: tuple[int, int]  # width and height, pixels
    frame_rate: float  # frames a second, the mean
    complaints: list[str]


def predict_clip(run: PredictionRun, job: Job) -> Record:
    """Predict the people of one clip, write the outputs, and return the record.

    Raises:
        UserError: the clip cannot be read, or the files cannot be written.
    """
    clip = _find_people(run, job)
    with run.folder.scratch() as views_folder, run.folder.scratch() as scratch:
        views = LargestViews(views_folder)
        rows, lost = _predict_people(run, job, clip, views)
        if run.predictor.input.needs_keypoints:
            rows = fill_gaps(rows, clip.boxes, clip.times)
        if isinstance(run.predictor.refine, Refiner):
            rows = refine_rows(rows, run.predictor.refine)
            if run.predictor.input.needs_keypoints:
                rows = fill_gaps(with_keypoints(rows), clip.boxes, clip.times)
        rows = smooth_rows(rows, run.smoothing)
        source = printable(str(job.path))
        title = printable(job.path.name)
        write_tracks(run, scratch, job.name, title, rows, views, clip.frame_size, clip.frame_rate)
        if run.wants("overlay"):
            _draw(run, job, rows, scratch / f"{job.name}_overlay{VIDEO_SUFFIX}", clip)
        record = Record(
            name=job.name,
            source=source,
            place=place_of(job.path),
            key=job.key,
            people=len(np.unique(rows["id"])),
            is_clip=True,
            complaints=[*clip.complaints, *frames_left_out(lost), *_unseen(run, job, clip, rows)],
            facts=run.facts_of(is_clip=True),
        )
        return run.folder.publish(scratch, record)


def _find_people(run: PredictionRun, job: Job) -> _TrackedClip:
    """Detect people in every frame, or take the given boxes, and track them."""

    detector = run.clip_detector and for_frames(run.clip_detector)
    # A follower takes one frame after the other.
    workers = 1 if isinstance(run.clip_detector, FollowingDetector) else None

    def detect(frame: Frame) -> tuple[float, list[Detection], int]:
        check_picture(frame.image)
        if job.boxes is None:
            assert detector is not None
            return frame.time, detector(frame.image), 0
        own = job.boxes.get(frame.number, [])
        size = frame.image.shape[:2]
        good = [dataclasses.replace(one, box=box) for one in own for box in _good(one.box, *size)]
        return frame.time, good, len(own) - len(good)

    times: list[float] = []
    per_frame: list[list[Detection]] = []
    refused = 0
    with (
        FrameReader(_clip_of(job)) as reader,
        ProgressBar(f"{job.path.name}: finding people", reader.frame_count) as bar,
    ):
        run.focal.of_input(reader.size)  # refuses a focal length before the clip is predicted
        for time, found, bad in ordered_map(detect, reader, workers):
            times.append(time)
            per_frame.append(found)
            refused += bad
            bar.advance()
        shortfall = reader.shortfall()
    complaints = [shortfall] if shortfall else []
    if refused:
        complaints.append(f"{counted(refused, 'box')} cannot be used: no area, or not in the frame")
    beyond = sum(len(own) for number, own in (job.boxes or {}).items() if number >= len(times))
    if beyond:
        complaints.append(
            f"{counted(beyond, 'box')} cannot be used: the clip ends with frame {len(times) - 1}"
        )
    boxes = _tracked(run, job, per_frame, times)
    return _TrackedClip(np.array(times), boxes, reader.size, reader.frame_rate, complaints)


def _clip_of(job: Job) -> Clip:
    return Clip(job.path, job.frame_rate)


def _tracked(
    run: PredictionRun, job: Job, per_frame: list[list[Detection]], times: list[float]
) -> list[list[TrackedBox]]:
    """Track the people of a clip, with a note about given boxes that are not used."""
    settings = dataclasses.replace(run.tracking, given=job.boxes is not None)
    ids = [detection.id for found in per_frame for detection in found]
    track = given_tracks if ids and None not in ids else track_clip
    frames = track(per_frame, settings, times)
    unused = len(ids) - sum(one.seen for tracked in frames for one in tracked)
    if job.boxes is not None and unused:
        run.reporter.warn(
            f"note: {job.path}: {unused:,} of {counted(len(ids), 'given box')} {be(unused)} not "
            f"used, with scores below {settings.high_score:g} and no track to continue; see "
            "--threshold"
        )
    return frames


def _good(box: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """Yield the checked box, or nothing if it cannot be used."""
    with contextlib.suppress(UserError):
        yield check_box(box, height, width)


def _predict_people(
    run: PredictionRun, job: Job, clip: _TrackedClip, views: LargestViews
) -> tuple[Rows, int]:
    """Return the predictions of all tracked people, and the number of frames with NaN in one."""
    rows: list[Rows] = []
    lost: set[int] = set()
    for batch, people in _in_batches(run.predictor, _queries(run, job, clip, views)):
        found: list[tuple[int, float, TrackedBox, Person]] = []
        seen: list[Keypoints | None] = []
        for query, person in zip(batch, people, strict=True):
            if person is None:
                lost.add(query.frame)
                continue
            found.append((query.frame, clip.times[query.frame], query.tracked, person))
            seen.append(query.crop.keypoints)
            if query.view is not None and person.attention is not None:
                views.keep(query.tracked.id, query.view, person.attention)
        rows.append(stack_rows(found, seen))
    return join_rows(rows), len(lost)


@dataclasses.dataclass(frozen=True)
class _Query:
    """One person in one frame, with a view if it shows more of the person than those before."""

    frame: int
    tracked: TrackedBox
    crop: Crop
    view: LargestView | None


def _queries(
    run: PredictionRun, job: Job, clip: _TrackedClip, views: LargestViews
) -> Iterator[_Query]:
    """Yield every tracked person with the crop, frame by frame."""
    with (
        FrameReader(_clip_of(job)) as reader,
        ProgressBar(f"{job.path.name}: predicting", len(clip.boxes)) as bar,
    ):
        for frame, tracked in zip(reader, clip.boxes, strict=False):
            for one, crop in _crops(run.predictor, frame, tracked):
                view = None
                if run.wants("attention"):
                    view = views.candidate(frame.number, one, crop, frame.image)
                yield _Query(frame.number, one, crop, view)
            bar.advance()


def _crops(
    predictor: Predictor, frame: Frame, tracked: list[TrackedBox]
) -> Iterator[tuple[TrackedBox, Crop]]:
    """Yield the people of a frame whose input can be made, with their crops."""
    # A box between two detections may lie outside the picture.
    tracked = [one for one in tracked for _ in _good(one.box, *frame.image.shape[:2])]
    seen = [one for one in tracked if one.seen]
    keypoints = [one.keypoints for one in seen]
    crops = iter(predictor.crops(frame.image, [one.box for one in seen], keypoints))
    for one in tracked:
        if one.seen:
            crop = next(crops)
        elif predictor.input.needs_keypoints:
            continue
        else:  # a hidden person's keypoints would be those of whoever hides it
            crop = predictor.input.crop(frame.image, one.box, None)
        if crop is not None:
            yield one, crop


def _in_batches(
    predictor: Predictor, queries: Iterator[_Query]
) -> Iterator[tuple[list[_Query], list[Person | None]]]:
    """Yield batches with their people; the next is prepared while the network computes one."""
    computing: tuple[list[_Query], PendingPeople] | None = None
    while batch := list(itertools.islice(queries, BATCH)):
        pending = predictor.start([query.crop for query in batch], pad_to=BATCH)
        if computing is not None:
            yield computing[0], computing[1].people_or_none()
        computing = batch, pending
    if computing is not None:
        yield computing[0], computing[1].people_or_none()


def _unseen(run: PredictionRun, job: Job, clip: _TrackedClip, rows: Rows) -> list[str]:
    """Return a complaint if given tracks have no keypoints in any frame."""
    if not run.predictor.input.needs_keypoints or job.boxes is None:  # a detector may be wrong
        return []
    tracks = {one.id for tracked in clip.boxes for one in tracked}
    unseen = len(tracks - set(rows["id"].tolist()))
    skipped = f"{counted(unseen, 'person')} skipped: no keypoints are seen in any frame"
    return [skipped] if unseen else []


def _draw(run: PredictionRun, job: Job, rows: Rows, path: Path, clip: _TrackedClip) -> None:
    """Draw the bodies over the clip."""
    order = np.argsort(rows["frame"], kind="stable")
    bounds = np.searchsorted(rows["frame"][order], np.arange(len(clip.boxes) + 1))

    def posed(reader: FrameReader) -> Iterator[tuple[Frame, list[Person]]]:
        for frame in reader:
            if frame.number >= len(clip.boxes):
                break
            which = order[bounds[frame.number] : bounds[frame.number + 1]]
            yield frame, people_of_rows(run.predictor, rows, which, vertices=True)

    def draw(item: tuple[Frame, list[Person]]) -> np.ndarray:
        frame, people = item
        return draw_people(frame.image, people, run.predictor.faces)

    times = iter(clip.times)
    with (
        FrameReader(_clip_of(job)) as reader,
        VideoWriter(path, clip.frame_rate) as writer,
        ProgressBar(f"{job.path.name}: drawing", len(clip.boxes)) as bar,
    ):
        for picture in ordered_map(draw, posed(reader)):
            writer.write(in_size(picture, clip.frame_size), next(times))
            bar.advance()
