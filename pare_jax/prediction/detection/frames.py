"""Which boxes of a file belong to which frame of a clip: COCO's forms, and MOT Challenge's lines.

Datasets of clips in COCO's form (CocoVID, TAO) list "videos", and their images say "video_id" and
"frame_id" or "frame_index". Elsewhere the name of an image says which frame it is: clip/000012.jpg
or clip_000012.jpg is frame 12 of clip.mp4. See https://motchallenge.net/instructions for the lines.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.prediction.detection.coco import LARGEST_ID, ImagePeople, id_of, parts_of
from pare_jax.prediction.detection.detector import Detection

# The people of a clip by the number of the frame, counted from 0; frames may be missing.
FrameDetections = dict[int, list[Detection]]

MOT_SUFFIXES = (".txt", ".csv")
# MOT Challenge's class of people who walk, in the eighth number of its ground truth.
_PEDESTRIAN = 1
_LAST_NUMBER = re.compile(r"(\d+)$")


def match_frames(
    images: Sequence[ImagePeople], content: Any, clips: Sequence[Path], alone: bool
) -> tuple[dict[Path, FrameDetections], set[str]]:
    """Give clips the boxes of their frames.

    Frames are counted from 0, unless a dataset's list of images begins with frame 1.

    Args:
        images: as `pare_jax.prediction.detection.coco.read_coco` returns them.
        content: of the same file.
        clips: that were named.
        alone: whether nothing but one clip was: then plain numbers are its frames, too.

    Returns:
        Boxes by clip and frame, for the clips that have images in the file, and the names of the
        images they were found under.
    """
    told = _told_frames(content) if isinstance(content, Mapping) else {}
    found: dict[Path, FrameDetections] = {}
    used: set[str] = set()
    for clip in clips:
        own: list[tuple[int, ImagePeople]] = []
        for image in images:
            number = _frame_of(image.name, clip, told.get(image.id), alone)
            if number is not None:
                own.append((number, image))
        if not own:
            continue
        lowest = min(number for number, _ in own)
        first = 1 if isinstance(content, Mapping) and lowest == 1 else 0
        frames = found.setdefault(clip, {})
        for number, image in own:
            frames.setdefault(number - first, []).extend(image.people)
            used.add(image.name)
    return found, used


def read_mot(path: Path) -> FrameDetections:
    """Read MOT Challenge's lines: frame, id, left, top, width, height, score and more.

    Frames and ids count from 1 there; an id of -1 is none. A score of 0 beside an id marks what is
    to be ignored, and so does a class (the eighth number of nine) that is not a pedestrian's.

    Raises:
        UserError: the file cannot be read, or a line is none of these.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read boxes from {path}: {error}") from None
    frames: FrameDetections = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.lower().startswith("frame")):
            continue  # some files name their columns first
        try:
            values = [float(part) for part in line.split(",")]
            frame, person = int(values[0]), int(values[1])
            x, y, width, height = values[2:6]
        except (ValueError, IndexError, OverflowError):
            raise UserError(
                f"{path}: line {number} is not frame,id,left,top,width,height,score"
            ) from None
        if frame < 1:
            raise UserError(f"{path}: line {number} is of frame {frame}; they count from 1")
        for what, value in (("frame", values[0]), ("the person", values[1])):
            if value > LARGEST_ID:
                raise UserError(
                    f"{path}: line {number} is of {what} {value:.10g}; numbers go to {LARGEST_ID}"
                )
        score = values[6] if len(values) > 6 else math.nan
        known = person >= 0
        if known and (score == 0 or (len(values) == 9 and values[7] != _PEDESTRIAN)):
            continue
        if not known and not 0 <= score <= 1:
            raise UserError(f"{path}: line {number} has the score {score:g}; expected 0 to 1")
        box = np.array([x, y, x + width, y + height])
        # Beside an id the number is a mark, or a tracker's: the box is sure.
        one = Detection(box, math.nan if known else score, person if known else None)
        frames.setdefault(frame - 1, []).append(one)
    return frames


def check_ids(path: Path, frames: FrameDetections) -> FrameDetections:
    """Return a clip's boxes with ids if all have one, else without.

    Raises:
        UserError: an id stands twice in a frame.
    """
    if not all(found.id is not None for own in frames.values() for found in own):
        return {
            number: [Detection(found.box, found.score) for found in own]
            for number, own in frames.items()
        }
    for number, own in frames.items():
        ids = [found.id for found in own]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise UserError(f"{path}: frame {number} has two boxes of the person with id {twice}")
    return frames


def _told_frames(content: Mapping[str, Any]) -> dict[Any, tuple[str, int]]:
    """The video and the frame of each image of a dataset that says them, by the image's id."""
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


def _frame_of(name: str, clip: Path, told: tuple[str, int] | None, alone: bool) -> int | None:
    """Return which frame of a clip an image is; None for an image of something else."""
    if told is not None:
        video = parts_of(told[0])
        return told[1] if clip.name in video or clip.stem in (*video, _stem(video[-1])) else None
    *folders, last = parts_of(name)
    stem = _stem(last)
    number = _LAST_NUMBER.search(stem)
    if number is None:
        return None
    before = stem[: number.start()]
    of_clip = clip.stem in folders or clip.name in folders
    of_clip = of_clip or before in (f"{clip.stem}_", f"{clip.stem}-")
    plain = alone and not folders and not before
    return int(number[1]) if of_clip or plain else None


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name
