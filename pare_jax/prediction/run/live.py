"""Predicts the people before a camera frame by frame, until Ctrl-C."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.io.media import FrameReader, Webcam
from pare_jax.io.video import VIDEO_SUFFIX, VideoWriter
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.detection import for_frames
from pare_jax.prediction.drawing import draw_people
from pare_jax.prediction.person import Person
from pare_jax.prediction.person_arrays import KEYPOINT_FIELDS
from pare_jax.prediction.predictor import check_picture
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.output_folder import Record
from pare_jax.prediction.run.track_files import (
    LargestViews,
    frames_left_out,
    in_size,
    write_tracks,
)
from pare_jax.prediction.run.tracks import Rows, join_rows, stack_rows
from pare_jax.prediction.smoothing import MotionSmoother, robust_shape
from pare_jax.prediction.tracking import TrackedBox, Tracker

# Of the overlay video; a picture stays until the next one.
FRAME_RATE = 15.0


def predict_webcam(run: PredictionRun, webcam: Webcam, name: str) -> Record:
    """Track the people before a camera until Ctrl-C, then write the outputs.

    Frame numbers in the files are those of the overlay video, which runs in real time.

    Args:
        run: the settings.
        webcam: the camera.
        name: of this recording; no other recording has it.

    Raises:
        UserError: there is no such camera, or the files cannot be written.
    """
    run.predictor.warm_up()
    with run.folder.scratch() as views_folder, run.folder.scratch() as scratch:
        live = LiveTracks(run, LargestViews(views_folder))
        size = _record(run, webcam, live, scratch / f"{name}_overlay{VIDEO_SUFFIX}")
        # The key is never looked up: a recording cannot be made again.
        record = Record(name, name, str(webcam), name, is_clip=True)
        record = dataclasses.replace(record, facts=run.facts_of(is_clip=True))
        if run.wants("overlay"):  # it stays even if writing the tracks fails
            record = run.folder.publish(scratch, record)
        rows = live.rows()
        write_tracks(run, scratch, name, name, rows, live.views, size, FRAME_RATE)
        record = dataclasses.replace(
            record, people=len(np.unique(rows["id"])), complaints=frames_left_out(live.lost)
        )
        return run.folder.publish(scratch, record)


def _record(run: PredictionRun, webcam: Webcam, live: "LiveTracks", path: Path) -> tuple[int, int]:
    """Predict until Ctrl-C and write the overlay video; returns the frames' width and height."""
    with FrameReader(webcam) as reader, VideoWriter(path, FRAME_RATE) as writer:
        size = reader.size
        run.focal.of_input(size)  # refuses a focal length before the recording
        run.reporter.say(f"{webcam}: recording; press Ctrl-C to stop")
        began = time.monotonic()
        shown: Picture | None = None
        try:
            for frame in reader:
                number = round((time.monotonic() - began) * FRAME_RATE)
                picture = in_size(live.predict(frame.image, number), size)
                if run.wants("overlay") and writer.num_frames <= number:
                    while writer.num_frames < number:
                        writer.write(picture if shown is None else shown)
                    writer.write(picture)
                shown = picture
        except KeyboardInterrupt:
            run.reporter.say(f"{webcam}: stopped; writing the files")
    return size


class LiveTracks:
    """Tracks and predicts people in frames as they come; 1.1 kB of memory a person and frame.

    Attributes:
        views: of each person, for the attention sheets.
        lost: number of frames with a prediction that is not finite.
    """

    def __init__(self, run: PredictionRun, views: LargestViews):
        """Start with nobody."""
        self._run = run
        assert run.clip_detector is not None
        self._detector = for_frames(run.clip_detector)
        self._tracker = Tracker(run.tracking)
        self._smoothers: dict[int, MotionSmoother] = {}
        self._last = -1
        self._frames = 0
        self._rows: list[Rows] = []
        self.views = views
        self.lost = 0

    def predict(self, image: Picture, number: int) -> Picture:
        """Predict the next frame's people, and return it with their bodies drawn over it.

        A person whose prediction is not finite is skipped in the frame.
        """
        run = self._run
        check_picture(image)
        tracked = self._tracker.update(self._detector(image), number / FRAME_RATE)
        self._frames += 1
        # Ids are never used again.
        for left in self._smoothers.keys() - {one.id for one in tracked}:
            del self._smoothers[left]
        tracked = [one for one in tracked if one.seen and _is_good(one.box, image)]
        keypoints = [one.keypoints for one in tracked]
        found = run.predictor.crops(image, [one.box for one in tracked], keypoints)
        tracked = [one for one, crop in zip(tracked, found, strict=True) if crop is not None]
        crops = [crop for crop in found if crop is not None]
        predicted = run.predictor.start(crops).people_or_none() if crops else []
        known = [
            (person, one, crop)
            for person, one, crop in zip(predicted, tracked, crops, strict=True)
            if person is not None
        ]
        self.lost += len(known) < len(tracked)
        people = self._smoothed([(person, one) for person, one, _ in known], number)
        if number > self._last:  # several frames may fall into one of the video
            for person, one, crop in known:
                if run.wants("attention") and person.attention is not None:
                    view = self.views.candidate(number, one, crop, image)
                    if view is not None:
                        self.views.keep(one.id, view, person.attention)
            # The shape is smoothed at the end, from the predictions of all frames.
            unshaped = [
                (number, number / FRAME_RATE, one, dataclasses.replace(smooth, betas=person.betas))
                for (person, one, _), smooth in zip(known, people, strict=True)
            ]
            self._rows.append(stack_rows(unshaped))
        self._last = number
        return draw_people(image, people, run.predictor.faces)

    def rows(self) -> Rows:
        """Return the rows of people who were seen long enough, with one shape for each person."""
        rows = join_rows(self._rows)
        ids, of_row, lengths = np.unique(rows["id"], return_inverse=True, return_counts=True)
        rate = self._frames / max((self._last + 1) / FRAME_RATE, 1e-6)
        long = lengths >= self._run.tracking.fewest_frames(rate)
        rows = {name: values[long[of_row]] for name, values in rows.items()}
        if self._run.smoothing.shape:
            for number in ids[long]:
                own = rows["id"] == number
                rows["betas"][own] = robust_shape(rows["betas"][own], rows["score"][own])
        return rows

    def _smoothed(self, found: Sequence[tuple[Person, TrackedBox]], number: int) -> list[Person]:
        """Return the people with their motion smoothed up to now."""
        if not found:
            return []
        now = time.monotonic()
        motions = []
        for person, one in found:
            smoother = self._smoothers.setdefault(one.id, MotionSmoother(self._run.smoothing))
            motions.append(
                smoother(
                    now,
                    person.rotations,
                    person.betas,
                    person.translation,
                    person.focal_length,
                    person.principal_point,
                    one.score,
                )
            )
        rotations, betas, translations = (np.stack(part) for part in zip(*motions, strict=True))
        boxes = np.stack([person.box for person, _ in found])
        squares = np.stack([(*person.crop_centre, person.crop_side) for person, _ in found])
        posed = self._run.predictor.pose(betas, rotations, translations, boxes, squares)
        return [
            dataclasses.replace(
                person,
                id=one.id,
                frame=number,
                score=one.score,
                **{name: getattr(predicted, name) for name in KEYPOINT_FIELDS},
            )
            for person, (predicted, one) in zip(posed, found, strict=True)
        ]


def _is_good(box: np.ndarray, image: Picture) -> bool:
    try:
        check_box(box, *image.shape[:2])
    except UserError:
        return False
    return True
