"""Reads anybody's photographs and clips, with a file of keypoints or with BlazePose's finds.

SOURCE is a folder, with subfolders, of photographs in any format and of video files. `labels` is a
file of keypoints that `read_keypoints` reads, or a folder of OpenPose's files. Without it BlazePose
looks for people.

Of a clip, frames that follow another within `EVERY` frames are left out, because they look alike.
All its frames are in one split. Keypoints of a clip's frames are named as OpenPose names them,
CLIP_000000000012 for frame 12.

Pixels are counted upright, as the photograph's EXIF orientation says. Keypoints that are given for
the pixels as stored, or for a copy of another size, are converted.
"""

import functools
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.releases.labelled_photographs import (
    HELD_OUT,
    LabelFile,
    LabelledPerson,
    LabelledPhotograph,
    LabelledPhotographs,
    cut_people,
)
from data_pipelines.releases.named_photographs import (
    DecodedPhotograph,
    Picture,
    find_photographs,
)
from data_pipelines.releases.release import Skipped
from data_pipelines.releases.stored_crop import BrokenPhotographError
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError, be, counted, listed
from pare_jax.io.images import Photograph, read_size
from pare_jax.io.media import Clip, Frame, FrameReader, find_sources
from pare_jax.keypoints import blazepose_files
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.keypoints.keypoints import Keypoints, box_of_keypoints
from pare_jax.keypoints.people_collector import KeypointFile

# At 30 frames a second, three frames of a second are used.
EVERY = 10
# OpenPose's name of a clip's frame.
_FRAME = re.compile(r"(.+)_(\d{12})")


class Folder(LabelledPhotographs):
    """Photographs and clips in a folder; see `release.RawDataset`."""

    kind = "folder"
    flags = ("labels", "name", "held_out", "keypoint_set")
    upright = True

    def __init__(
        self,
        source: str | Path,
        labels: str | Path | None = None,
        name: str | None = None,
        held_out: float = HELD_OUT,
        keypoint_set: str | None = None,
    ):
        """Check that folder and file exist; nothing is read yet.

        Args:
            source: the folder of photographs and clips.
            labels: keypoints: a file, or a folder of OpenPose's files; None: BlazePose looks.
            name: of the dataset.
            held_out: share of the photographs and clips in "validation".
            keypoint_set: the set of the points, if the file does not give it.

        Raises:
            UserError: a folder or file is missing, or BlazePose is not installed.
        """
        super().__init__(source, None, name, held_out)
        self._labels = None if labels is None else Path(labels).resolve()
        self._set = keypoint_set
        if self._labels is not None and not self._labels.exists():
            raise UserError(f"--labels={labels} does not exist: name a file of keypoints")
        if self._labels is None and (advice := blazepose_files.missing()):
            raise UserError(
                f"BlazePose, which finds people, is not installed: run {advice}, or give --labels"
            )

    def settings(self) -> Mapping[str, Any]:
        """See `release.HasSettings`."""
        found = f"BlazePose {blazepose_files.HASHES[blazepose_files.LANDMARKS][:8]}"
        return super().settings() | {"labels": "a file" if self._labels else found}

    def photographs(self) -> list[LabelledPhotograph]:
        """Return the photographs and clips; see `LabelledPhotographs.photographs`."""
        if self._labels is not None:
            return super().photographs()
        names = sorted([*self._content[0], *self._content[1]])
        return [LabelledPhotograph(name, name, "", ()) for name in names]

    @functools.cached_property
    def _content(self) -> tuple[list[str], list[str], list[str]]:
        """The paths of photographs and of clips, relative to the folder, and lines about others."""
        lines: list[str] = []
        pattern = f"{glob.escape(str(self.images))}/**/*"
        sources = find_sources([pattern], on_left_out=lambda _, line: lines.append(line))
        paths: dict[bool, list[str]] = {False: [], True: []}
        for source in sources:
            path = Path(str(source)).relative_to(self.images).as_posix()
            paths[isinstance(source, Clip)].append(path)
        return paths[False], paths[True], lines

    def _read_labels(self) -> LabelFile:
        photographs, clips, lines = self._content
        if self._labels is None:
            return LabelFile(notes=list(lines))
        file = read_keypoints(self._labels, self._set)
        result = LabelFile(notes=[line.removeprefix("note: ") for line in (*lines, *file.notes)])
        of_clips = {Path(clip).stem: clip for clip in clips}
        frames = {}
        for name in file.people:
            match = _FRAME.fullmatch(Path(name).name)
            if match and match[1] in of_clips:
                frames[name] = of_clips[match[1]], int(match[2])
        others = [name for name in file.people if name not in frames]
        found = find_photographs(self.images, others)
        for name in others:
            self._add_photograph(file, name, found.paths.get(name), result)
        for clip in clips:
            own = sorted((frame, name) for name, (at, frame) in frames.items() if at == clip)
            for frame, name in _thinned(own):
                result.people += _people(file.people[name], clip, frame, result.skipped)
        named = {person.photograph for person in result.people}
        unused = [path for path in (*photographs, *clips) if path not in named]
        if unused:
            result.notes.append(
                f"{counted(len(unused), 'photograph or clip')} without people in {self._labels} "
                f"({listed(unused, 3)}): not used"
            )
        return result

    def _add_photograph(
        self, file: KeypointFile, name: str, path: str | None, result: LabelFile
    ) -> None:
        """Add the people of a photograph, in its upright pixels."""
        people = file.people[name]
        if path is not None and people:
            try:
                size, orientation = read_size(self.images / path)
            except UserError:
                pass  # is reported where it is read
            else:
                try:
                    people, notes = file.people_of(name, self.images / path, size, orientation)
                    result.notes += [note.removeprefix("note: ") for note in notes]
                except UserError as error:
                    result.skipped.append(Skipped(path, "keypoints of another picture"))
                    result.notes.append(str(error))
                    return
        result.people += _people(people, path or name, 0, result.skipped)

    def _people_in(self, photograph: LabelledPhotograph, picture: Picture) -> list[LabelledPerson]:
        if self._labels is not None:
            return super()._people_in(photograph, picture)
        raise NotImplementedError

    def _ranges(self, photographs: Sequence[LabelledPhotograph]) -> list[tuple[int, int]]:
        """Return start and stop of each unit; a clip is a unit of its own."""
        clips = set(self._content[1])
        ranges, start = [], 0
        for stop in range(1, len(photographs) + 1):
            ends = stop == len(photographs) or stop - start == 32
            alone = any(photographs[one].path in clips for one in (stop - 1, min(stop, len(photographs) - 1)))
            if ends or alone:
                ranges.append((start, stop))
                start = stop
        return ranges


def _thinned(frames):
    """Leave out frames that follow a used one within `EVERY` frames."""
    last = -EVERY
    for frame, name in frames:
        if frame - last >= EVERY:
            last = frame
            yield frame, name


def _people(keypoints, photograph, frame, skipped):
    people = []
    for number, one in enumerate(keypoints):
        what = f"person {number}" if not frame else f"frame {frame} person {number}"
        if one.known < 2:
            skipped.append(Skipped(f"{photograph} {what}", "fewer than two keypoints", False))
            continue
        box = box_of_keypoints(one)
        people.append(
            LabelledPerson(
                what=what,
                photograph=photograph,
                number=number,
                centre=(box[:2] + box[2:]) / 2.0,
                side=BOX_SCALE * float((box[2:] - box[:2]).max()),
                points=one.body_points(),
                frame=frame,
            )
        )
    return people
