"""A camera through the network, as it comes: nothing looks ahead, Ctrl-C ends it."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.io.media import FrameReader, Webcam
from pare_jax.io.video import VideoWriter
from pare_jax.prediction.boxes import check_box
from pare_jax.prediction.drawing import draw_people
from pare_jax.prediction.person import Person
from pare_jax.prediction.predictor import check_picture
from pare_jax.prediction.run.chunks import Rows
from pare_jax.prediction.run.largest import LargestViews
from pare_jax.prediction.run.moving import ClipFiles, left_out, video_suffix
from pare_jax.prediction.run.options import PredictionRun
from pare_jax.prediction.run.records import Record
from pare_jax.prediction.run.tracks import row_of, rows_by_track, stack_rows
from pare_jax.prediction.run.writing import in_size
from pare_jax.prediction.smoothing import MotionSmoother, robust_shape
from pare_jax.prediction.tracking import TrackedBox, Tracker

# The overlay video's; a picture stays until the next is there.
FRAME_RATE = 15.0


def predict_webcam(run: PredictionRun, webcam: Webcam, name: str) -> Record:
    """Follow the people before a camera until Ctrl-C, then write what was seen of them.

    Args:
        run: what was asked for.
        webcam: the camera.
        name: of this recording, which no other has.

    Frame numbers in the files are those of the overlay video, whose clock is the wall's.

    Raises:
        UserError: there is no such camera, or the files cannot be written.
    """
    path = run.output / f"{name}_overlay{video_suffix()}"
    with tempfile.TemporaryDirectory(prefix="pare_jax_") as folder:
        live = _Live(run, Path(folder))
        run.records.intend(name, name, str(webcam), [path.name])
        size = _watch(run, webcam, live, path)
        written = ClipFiles(run, name, name, str(webcam), size, FRAME_RATE)
        written.intend(*[path.name] * path.is_file())
        rows = live.tracks()
        for number, which in rows_by_track(rows):
            written.write_track(number, rows, which, live.views.get(number))
        record = Record(
            name=name,
            source=name,
            key="",  # never found again: what a camera saw is gone, and the next run is another
            files=tuple(written.files),
            people=len(np.unique(rows["id"])),
            is_clip=True,
            complaints=left_out(live.lost),
            place=str(webcam),
            facts=run.facts_of(is_clip=True),
            meshes=written.meshes,
        )
        run.records.add(record)
        return record


def _watch(run: PredictionRun, webcam: Webcam, live: "_Live", path: Path) -> tuple[int, int]:
    """Look until Ctrl-C, and write the overlay video; returns the frames' width and height."""
    with FrameReader(webcam) as reader, VideoWriter(path, FRAME_RATE) as writer:
        size = reader.size
        run.reporter.say(f"{webcam}: looking; Ctrl-C ends it")
        began = time.monotonic()
        shown: Picture | None = None
        try:
            for frame in reader:
                number = round((time.monotonic() - began) * FRAME_RATE)
                picture = in_size(live.see(frame.image, number), size)
                if run.wants("overlay") and writer.num_frames <= number:
                    while writer.num_frames < number:
                        writer.write(picture if shown is None else shown)
                    writer.write(picture)
                shown = picture
        except KeyboardInterrupt:
            run.reporter.say(f"{webcam}: stopped")
    return size


class _Live:
    """Follows people; what is kept of them grows with the frames they are in by numbers alone.

    Views of those who left go into the folder, where they may take as much room as they like.
    """

    def __init__(self, run: PredictionRun, folder: Path):
        self._run = run
        self._tracker = Tracker(run.tracking)
        self._smoothers: dict[int, MotionSmoother] = {}
        self._last = -1
        self._rows: list[dict] = []
        self.views = LargestViews(folder)
        self.lost = 0  # frames

    def see(self, image: Picture, number: int) -> Picture:
        """Take the next frame; returns it with the bodies over it.

        Somebody about whom the network's answer is not finite is not in this frame.
        """
        run = self._run
        check_picture(image)
        assert run.clip_detector is not None
        followed = self._tracker.update(run.clip_detector(image))
        self._forget_all_but({one.id for one in followed})
        tracked = [t for t in followed if t.seen and _is_good(t.box, image)]
        people: list[Person] = []
        if tracked:
            crops = [run.predictor.crop(image, t.box) for t in tracked]
            answers = zip(run.predictor.start(crops).people_or_none(), tracked, crops, strict=True)
            known = [(person, one, crop) for person, one, crop in answers if person is not None]
            self.lost += len(known) < len(tracked)
            seen, tracked = [person for person, _, _ in known], [one for _, one, _ in known]
            people = self._smoothed(seen, tracked, number)
            if number > self._last:  # a video's frame tells of one moment
                for (raw, one, crop), person in zip(known, people, strict=True):
                    if run.wants("attention") and raw.attention is not None:
                        view = self.views.candidate(number, one, crop, image)
                        if view is not None:
                            self.views.keep(one.id, view, raw.attention)
                    # The shape is settled at the end, from what the network said of each frame.
                    person = dataclasses.replace(person, betas=raw.betas)
                    self._rows.append(row_of(number, one, person))
        self._last = number
        return draw_people(image, people, run.predictor.faces)

    def tracks(self) -> Rows:
        """Return the rows of all who were seen long enough, with one shape for each person."""
        rows = stack_rows(self._rows)
        ids, of_row, lengths = np.unique(rows["id"], return_inverse=True, return_counts=True)
        long = lengths >= self._run.tracking.min_length
        rows = {name: values[long[of_row]] for name, values in rows.items()}
        if self._run.smoothing.shape:
            for number in ids[long]:
                own = rows["id"] == number
                rows["betas"][own] = robust_shape(rows["betas"][own], rows["score"][own])
        return rows

    def _forget_all_but(self, followed: set[int]) -> None:
        """Let go of those who left: their ids are never given again."""
        left = self._smoothers.keys() - followed
        for number in left:
            del self._smoothers[number]
        if left:
            with contextlib.suppress(UserError):  # no room there: they stay in memory
                self.views.save()

    def _smoothed(
        self, people: Sequence[Person], tracked: Sequence[TrackedBox], number: int
    ) -> list[Person]:
        if not people:
            return []
        now = time.monotonic()
        steady = []
        for person, one in zip(people, tracked, strict=True):
            smoother = self._smoothers.setdefault(one.id, MotionSmoother(self._run.smoothing))
            steady.append(
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
        rotations, betas, translations = (np.stack(part) for part in zip(*steady, strict=True))
        boxes = np.stack([person.box for person in people])
        posed = self._run.predictor.pose(betas, rotations, translations, boxes)
        return [
            dataclasses.replace(person, id=one.id, frame=number, score=one.score)
            for person, one in zip(posed, tracked, strict=True)
        ]


def _is_good(box: np.ndarray, image: Picture) -> bool:
    try:
        check_box(box, *image.shape[:2])
    except UserError:
        return False
    return True
