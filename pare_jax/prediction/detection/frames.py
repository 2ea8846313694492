"""Matches the boxes of COCO's files to frames of clips, and reads MOT Challenge's lines.

Datasets of clips in COCO's form (CocoVID, TAO) list "videos", and their images have "video_id" and
"frame_id" or "frame_index". In other files the image's name holds the frame: clip/000012.jpg or
clip_000012.jpg is frame 12 of clip.mp4. https://motchallenge.net/instructions describes the lines.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError, counted
from pare_jax.io.media import numbered_frames
from pare_jax.prediction.detection.coco import (
    LARGEST_ID,
    NOT_UNDERSTOOD,
    ImagePeople,
    id_of,
    parts_of,
)
from pare_jax.prediction.detection.detector import Detection
from pare_jax.prediction.detection.other_formats import read_text

# The people of a clip by the number of the frame, counted from 0; frames may be missing.
FrameDetections = dict[int, list[Detection]]

MOT_SUFFIXES = (".txt", ".csv")
# MOT Challenge's class of pedestrians, the eighth number of a line of its ground truth.
_PEDESTRIAN = 1
_LAST_NUMBER = re.compile(r"(\d+)$")


def match_frames(
    images: Sequence[ImagePeople],
    content: Any,
    clips: Sequence[Path],
    alone: bool,
    note: Callable[[str], None],
    people_in: Callable[[Path, ImagePeople], list[Detection]] = lambda _, image: image.people,
) -> tuple[dict[Path, FrameDetections], set[str]]:
    """Match a file's boxes to the frames of clips.

    Frames are counted from 0, unless a dataset's list of images begins with frame 1. In a clip that
    is a folder of frames, an image with the name of a file is that frame.

    Args:
        images: from `pare_jax.prediction.detection.coco.read_coco`.
        content: the same file's parsed JSON.
        clips: the clips of the command line.
        alone: whether one clip is the only input; then plain numbers are its frames as well.
        note: called with a line that says which frame the first image became, unless it is 0.
        people_in: returns the people of a clip's image, with boxes in the clip's pixels.

    Returns:
        Boxes by clip and frame, for the clips that have images in the file, and the names of
        these images.
    """
    listed = _listed_frames(content) if isinstance(content, Mapping) else {}
    found: dict[Path, FrameDetections] = {}
    used: set[str] = set()
    for clip in clips:
        own: list[tuple[int, ImagePeople]] = []
        files = _files_of(clip)
        for image in images:
            in_file = listed.get(image.id)
            if files and in_file is None:
                *folders, last = parts_of(image.name)
                number = files.get(last) if alone or clip.name in folders else None
            else:
                number = _frame_of(image.name, clip, in_file, alone)
            if number is not None:
                own.append((number, image))
        if not own:
            continue
        lowest, image = min(own, key=lambda pair: pair[0])
        first = 1 if isinstance(content, Mapping) and lowest == 1 and not files else 0
        if lowest and not files:
            note(
                f"note: the first boxes, in {image.name}, belong to frame {lowest - first} of "
                f"{clip.name}, whose frames count from 0"
            )
        frames = found.setdefault(clip, {})
        for number, image in own:
            frames.setdefault(number - first, []).extend(people_in(clip, image))
            used.add(image.name)
    return found, used


def read_mot(path: Path) -> FrameDetections:
    """Read MOT Challenge's lines: frame, id, left, top, width, height, score and more.

    Frames and ids count from 1; an id of -1 means none. Lines with an id are skipped if their
    score is 0, or if they have nine numbers and the eighth is not the class of pedestrians.

    Returns:
        Boxes by frame, counted from 0.

    Raises:
        UserError: the file cannot be read, or a line has another form.
    """
    frames: FrameDetections = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or (number == 1 and line.lower().startswith("frame")):
            continue  # some files have a header line
        try:
            values = [float(part) for part in line.split(",")]
            frame, person = int(values[0]), int(values[1])
            x, y, width, height = values[2:6]
        except (ValueError, IndexError, OverflowError):
            raise UserError(
                f"{path}: line {number} must be frame,id,left,top,width,height,score"
            ) from None
        if frame < 1:
            raise UserError(f"{path}: line {number} has frame {frame}; frames count from 1")
        for what, value in (("frame", values[0]), ("id", values[1])):
            if value > LARGEST_ID:
                raise UserError(
                    f"{path}: line {number} has {what} {value:.10g}; the largest is {LARGEST_ID}"
                )
        score = values[6] if len(values) > 6 else math.nan
        has_id = person >= 0
        if has_id and (score == 0 or (len(values) == 9 and values[7] != _PEDESTRIAN)):
            continue
        if not has_id and not 0 <= score <= 1:
            raise UserError(f"{path}: line {number} has the score {score:g}; expected 0 to 1")
        box = np.array([x, y, x + width, y + height])
        # The seventh number of a line with an id is no detector's score: the box is certain.
        one = Detection(box, math.nan if has_id else score, person if has_id else None)
        frames.setdefault(frame - 1, []).append(one)
    return frames


def _files_of(clip: Path) -> dict[str, int]:
    """Return the numbers of a folder's frames by their files' names; a file has none."""
    if not clip.is_dir():
        return {}
    names: dict[str, int] = {}
    for number, path in enumerate(numbered_frames(clip)):
        plain = [str(int(path.stem))] if path.stem.isdecimal() else []
        names |= dict.fromkeys((*plain, path.stem, path.name), number)
    return names


def check_ids(path: Path, frames: FrameDetections, note: Callable[[str], None]) -> FrameDetections:
    """Return a clip's boxes, with ids only if every box has one.

    Args:
        path: of the box file, for messages.
        frames: the boxes.
        note: called with a line if ids are not used.

    Raises:
        UserError: a frame has an id twice.
    """
    every = [found.id for own in frames.values() for found in own]
    lacking = every.count(None)
    unclear = every.count(NOT_UNDERSTOOD)
    if lacking + unclear:
        if lacking < len(every):
            what = f"{counted(lacking, 'box')} without an id"
            if unclear:
                what = f"{counted(unclear, 'box')} with an id that is no whole number from 0 on"
            note(f"note: {path} has {what}, so its ids are not used and people are numbered anew")
        return {
            number: [Detection(found.box, found.score) for found in own]
            for number, own in frames.items()
        }
    for number, own in frames.items():
        ids = [found.id for found in own]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise UserError(
                f"{path}: frame {number} has two boxes with id {twice}; give each person its own id"
            )
    return frames


def _listed_frames(content: Mapping[str, Any]) -> dict[Any, tuple[str, int]]:
    """Return the video's name and the frame of a dataset's images that have both, by image id."""
    videos: dict[Any, str] = {}
    for video in _mappings(content.get("videos")):
        name = video.get("name", video.get("file_name"))
        if isinstance(name, str) and isinstance(video.get("id"), int | str):
            videos[video["id"]] = name
    frames = {}
    for image in _mappings(content.get("images")):
        number = id_of(image.get("frame_id", image.get("frame_index")))
        owner = image.get("video_id")
        if isinstance(owner, int | str) and owner in videos and number is not None:
            frames[image["id"]] = videos[owner], number
    return frames


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [one for one in values if isinstance(one, Mapping)] if isinstance(values, list) else []


def _frame_of(name: str, clip: Path, listed: tuple[str, int] | None, alone: bool) -> int | None:
    """Return the number of an image's frame in a clip; None if it is no frame of this clip."""
    if listed is not None:
        video, frame = parts_of(listed[0]), listed[1]
        return frame if clip.name in video or clip.stem in (*video, _stem(video[-1])) else None
    *folders, last = parts_of(name)
    stem = _stem(last)
    number = _LAST_NUMBER.search(stem)
    if number is None:
        return None
    prefix = stem[: number.start()]
    of_clip = clip.stem in folders or clip.name in folders
    of_clip = of_clip or prefix in (f"{clip.stem}_", f"{clip.stem}-")
    is_plain = alone and not folders and not prefix
    return int(number[1]) if of_clip or is_plain else None


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name
