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

import dataclasses
import functools
import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.releases.labelled_people import (
    LabelFile,
    LabelledPerson,
    cut_people,
    person_of_keypoints,
)
from data_pipelines.releases.labelled_photographs import (
    HELD_OUT,
    LabelledPhotograph,
    LabelledPhotographs,
)
from data_pipelines.releases.named_photographs import (
    DecodedPhotograph,
    decode_photograph,
    find_photographs,
)
from data_pipelines.releases.release import Skipped
from data_pipelines.releases.stored_crop import BrokenPhotographError
from pare_jax.errors import UserError, counted, listed
from pare_jax.io.file_kinds import kind_of_file
from pare_jax.io.images import Photograph, read_size
from pare_jax.io.media import Clip, FrameReader, find_sources
from pare_jax.keypoints import blazepose_files
from pare_jax.keypoints.blazepose_files import load_blazepose
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.people_collector import KeypointFile

# At 30 frames a second, three frames of a second are used.
EVERY = 10
# OpenPose's name of a clip's frame.
_FRAME = re.compile(r"(.+)_(\d{12})")


class Folder(LabelledPhotographs):
    """Photographs and clips in a folder; see `release.RawDataset`."""

    kind = "folder"
    flags = ("labels", "name", "held_out", "keypoint_set")
    wanted = "the folder of photographs"
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
        super().__init__(source, None, name, held_out, keypoint_set)
        self._labels = None if labels is None else Path(labels).resolve()
        if self._labels is not None and not self._labels.exists():
            raise UserError(f"--labels={labels} does not exist: name a file of keypoints")
        if self._labels is None and (advice := blazepose_files.missing()):
            raise UserError(
                f"BlazePose, which finds people, is not installed: run {advice}, or give --labels"
            )

    @property
    def label_file(self) -> Path:
        """The file of keypoints, for messages."""
        return self._labels or self.source

    def settings(self) -> dict[str, Any]:
        """See `release.HasSettings`."""
        found = f"BlazePose {blazepose_files.HASHES[blazepose_files.LANDMARKS][:8]}"
        return super().settings() | {"labels": "a file" if self._labels else found}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_content": ([], [], [])}

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
        try:
            sources = find_sources([pattern], on_left_out=lambda _, line: lines.append(line))
        except UserError as error:  # of the pattern, which the user does not know
            folder = f"{self.images} and its folders"
            raise UserError(str(error).replace(f"the pattern {pattern}", folder)) from None
        paths: dict[bool, list[str]] = {False: [], True: []}
        for source in sources:
            path = Path(str(source)).relative_to(self.images).as_posix()
            paths[isinstance(source, Clip)].append(path)
        return paths[False], paths[True], lines

    def _read_labels(self) -> LabelFile:
        photographs, clips, lines = self._content
        if self._labels is None:
            return LabelFile(notes=list(lines))
        file = read_keypoints(self._labels, self.keypoint_set)
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
                people, skipped = _people(file.people[name], clip, frame)
                result.people += people
                result.skipped += skipped
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
            size = _upright_size(self.images / path)
            try:
                if size is not None:
                    people, notes = file.people_of(name, self.images / path, *size)
                    result.notes += [note.removeprefix("note: ") for note in notes]
            except UserError as error:
                result.skipped.append(Skipped(path, "keypoints of another picture"))
                result.notes.append(str(error))
                return
        found, skipped = _people(people, path or name)
        result.people += found
        result.skipped += skipped

    def _pieces(
        self, photographs: Sequence[LabelledPhotograph]
    ) -> list[Sequence[LabelledPhotograph]]:
        """Divide photographs into pieces of work; a clip is a piece of its own."""
        clips = [one for one in photographs if self._is_clip(one)]
        others = [one for one in photographs if not self._is_clip(one)]
        return [*super()._pieces(others), *([clip] for clip in clips)]

    def _is_clip(self, photograph: LabelledPhotograph) -> bool:
        path = photograph.path
        return path is not None and kind_of_file(self.images / path) == "video"

    def _read_photograph(self, photograph: LabelledPhotograph) -> list[dict[str, Any] | Skipped]:
        if self._is_clip(photograph):
            return self._read_clip(photograph)
        if self._labels is not None:
            return super()._read_photograph(photograph)
        try:
            picture = decode_photograph(self.images / photograph.name)
            return _find_and_cut(photograph.name, picture, 0)
        except BrokenPhotographError as error:
            return [Skipped(photograph.name, str(error))]

    def _read_clip(self, clip: LabelledPhotograph) -> list[dict[str, Any] | Skipped]:
        """Return an example or a `Skipped` for the people in a clip's frames."""
        labelled: dict[int, list[LabelledPerson]] = {}
        for person in clip.people:
            labelled.setdefault(person.frame, []).append(person)
        found: list[dict[str, Any] | Skipped] = []
        try:
            with FrameReader(Clip(self.images / clip.name)) as reader:
                for frame in reader:
                    picture = DecodedPhotograph(Photograph(frame.image, reader.size))
                    if self._labels is None:
                        if frame.number % EVERY == 0:
                            found += _find_and_cut(clip.name, picture, frame.number)
                    elif people := labelled.pop(frame.number, None):
                        found += cut_people(clip.name, people, picture)
                    if self._labels is not None and not labelled:
                        break
                else:
                    if reader.shortfall():
                        found.append(Skipped(clip.name, "clip is cut short"))
        except UserError:
            found.append(Skipped(clip.name, "clip cannot be decoded"))
        return found + [
            Skipped(f"{clip.name} {person.what}", "frame missing in the clip")
            for people in labelled.values()
            for person in people
        ]


def _upright_size(path: Path) -> tuple[tuple[int, int], int] | None:
    """Return size and EXIF orientation; None for a broken file, which is reported when read."""
    try:
        return read_size(path)
    except UserError:
        return None


def _thinned(frames: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Leave out frames that follow a used one within `EVERY` frames."""
    last = -EVERY
    for frame, name in frames:
        if frame - last >= EVERY:
            last = frame
            yield frame, name


def _find_and_cut(
    name: str, picture: DecodedPhotograph, frame: int
) -> list[dict[str, Any] | Skipped]:
    """Find people with BlazePose; return an example or a `Skipped` for each."""
    photograph = picture.photograph
    scale = 1.0 / photograph.scale
    keypoints = [
        dataclasses.replace(one, points=one.points * scale)
        for one in load_blazepose().find(photograph.image)
    ]
    people, skipped = _people(keypoints, name, frame)
    if not keypoints:
        where = f"{name} frame {frame}" if frame else name
        skipped.append(Skipped(where, "nobody found", broken=False))
    return [*cut_people(name, people, picture), *skipped]


def _people(
    keypoints: Sequence[Keypoints], photograph: str, frame: int = 0
) -> tuple[list[LabelledPerson], list[Skipped]]:
    """Return the people who have a square, and the others."""
    people, skipped = [], []
    for number, one in enumerate(keypoints):
        what = f"frame {frame} person {number}" if frame else f"person {number}"
        if one.known < 2:
            skipped.append(Skipped(f"{photograph} {what}", "fewer than two keypoints", False))
        else:
            person = person_of_keypoints(one, what, photograph, number)
            people.append(dataclasses.replace(person, frame=frame))
    return people, skipped
