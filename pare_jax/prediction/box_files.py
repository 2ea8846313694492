"""Reads the boxes of photographs and clips from a command line, and names their output files."""

import functools
import math
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError, listed
from pare_jax.io.files import printable
from pare_jax.io.images import IMAGE_SUFFIXES
from pare_jax.io.media import Photo, find_sources
from pare_jax.prediction.detection import ONNX_THRESHOLD, Detection
from pare_jax.prediction.detection.coco import ImagePeople, match_photos, read_coco, read_json
from pare_jax.prediction.detection.frames import (
    MOT_SUFFIXES,
    FrameDetections,
    check_ids,
    match_frames,
    read_mot,
)

# x0, y0, x1, y1 in pixels; checked by `boxes.check_box` once the photograph's size is known.
Box = Sequence[float]
# The output files of a clip's person begin with NAME_track_ID.
_TRACK = re.compile(r"(.+)_track(?:_\d+)?")


def find_photos(arguments: Sequence[str]) -> list[Path]:
    """Return the named image files, and those directly in the named folders, in order.

    Raises:
        UserError: no argument, a folder or pattern without an image, or a video.
    """
    sources = find_sources(arguments)
    photos = [source.path for source in sources if isinstance(source, Photo)]
    for source in sources:
        if not isinstance(source, Photo) and str(source) in arguments:
            raise UserError(f"{source} is not a photograph; name images or folders of images")
    if not photos:
        raise UserError(
            f"no image in {', '.join(arguments)}; name files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return photos


def read_boxes(
    values: Sequence[str],
    photos: Sequence[Path],
    threshold: float | None = None,
    warn: Callable[[str], None] | None = None,
    missing: Sequence[Path] = (),
) -> dict[Path, list[Box] | None]:
    """Return the boxes of each photograph.

    Args:
        values: of --boxes: each "x0,y0,x1,y1", or one path of a JSON file in one of the forms of
            `pare_jax.prediction.detection.coco`.
        photos: all photographs.
        threshold: COCO detections with a lower score are skipped; None: 0.5, as in ONNX detectors.
        warn: called with one line about names in the file that match no photograph, or about a
            threshold for boxes without scores; None prints it to stderr.
        missing: photographs named on the command line but not found; boxes may belong to them.

    Returns:
        Boxes of every photograph; None: the whole photograph. Their numbers are not checked here.

    Raises:
        UserError: unreadable values, boxes that match several photographs, or a file of the plain
            form without one of the photographs. (COCO's detections list people, so a photograph
            that they do not name has none.)
    """
    boxes: dict[Path, list[Box] | None] = {}
    for photo, own in read_all_boxes(values, photos, (), threshold, warn, missing)[0].items():
        plain = [list(one.box) if isinstance(one, Detection) else one for one in own or ()]
        boxes[photo] = None if own is None else list(plain)
    return boxes


def read_all_boxes(
    values: Sequence[str],
    photos: Sequence[Path],
    clips: Sequence[Path],
    threshold: float | None = None,
    warn: Callable[[str], None] | None = None,
    missing: Sequence[Path] = (),
) -> tuple[dict[Path, list[Box | Detection] | None], dict[Path, FrameDetections | None]]:
    """Return the boxes of each photograph, and those of each clip by frame.

    Args:
        values: as in `read_boxes`; for a single clip also a file of MOT Challenge's lines.
        photos: all photographs.
        clips: all clips.
        threshold: COCO detections in photographs with a lower score are skipped; None: 0.5. In
            clips the tracker uses the scores.
        warn: as in `read_boxes`.
        missing: photographs and clips named on the command line but not found.

    Returns:
        Boxes of every photograph, as detections where they may have scores, and of every clip by
        frame. Their numbers are not checked here.

    Raises:
        UserError: as `read_boxes`; also boxes of a clip that are not a list for each frame.
    """
    if not values:
        return dict.fromkeys(photos), dict.fromkeys(clips)
    warn = warn or functools.partial(print, file=sys.stderr)
    boxes: dict[Path, list[Box] | FrameDetections]
    if not all(values):
        raise UserError("--boxes= is empty: give x0,y0,x1,y1 or a JSON file")
    if len(values) == 1 and ("," not in values[0] or Path(values[0]).is_file()):
        path = Path(values[0])
        if path.suffix.lower() in MOT_SUFFIXES:
            if photos or missing or len(clips) != 1:
                raise UserError(
                    f"{path} has the boxes of one clip: give that clip and nothing else"
                )
            boxes = {clips[0]: read_mot(path)}
        else:
            boxes = _boxes_of_file(path, photos, clips, threshold, warn, missing)
    else:
        path = Path("--boxes")
        _warn_of_unused(threshold, warn)
        boxes = _for_single(_corners(values), [*photos, *clips, *missing], "--boxes=x0,y0,x1,y1")
    of_clips: dict[Path, FrameDetections | None] = {}
    for clip in clips:
        own = boxes.pop(clip)
        by_frame = own if isinstance(own, dict) else _by_frame(clip, own)
        of_clips[clip] = check_ids(path, by_frame, warn)
    return boxes, of_clips  # pyright: ignore[reportReturnType]


def _by_frame(clip: Path, frames: list[Any]) -> FrameDetections:
    """Return a clip's boxes by frame from the plain form, a list of boxes for each frame."""
    if not all(isinstance(own, list) and all(map(_is_list, own)) for own in frames):
        raise UserError(
            f"the boxes of {clip} must be a list of boxes for each of its frames, "
            '{"clip.mp4": [[[x0,y0,x1,y1], ...], [], ...]}; or let a detector find people'
        )
    return {number: [Detection(box, math.nan) for box in own] for number, own in enumerate(frames)}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _corners(values: Sequence[str]) -> list[Box]:
    boxes: list[Box] = []
    for value in values:
        try:
            boxes.append([float(number) for number in value.split(",")])
        except ValueError:
            if Path(value).is_file():
                raise UserError(
                    f"--boxes={value} is a file: give one file alone, or boxes x0,y0,x1,y1"
                ) from None
            raise UserError(f"--boxes={value} is neither x0,y0,x1,y1 nor a JSON file") from None
    return boxes


def _warn_of_unused(threshold: float | None, warn: Callable[[str], None]) -> None:
    if threshold is not None:
        warn(f"note: --threshold={threshold:g} is not used, because the boxes have no scores")


def _boxes_of_file(
    path: Path,
    photos: Sequence[Path],
    clips: Sequence[Path],
    threshold: float | None,
    warn: Callable[[str], None],
    missing: Sequence[Path],
) -> dict[Path, Any]:
    content = read_json(path)
    boxes: dict[Path, Any]
    images = read_coco(path, content)
    if images is not None:
        named: dict[str, list[ImagePeople]] = {}
        for image in images:
            named.setdefault(image.name, []).append(image)
        matched, unmatched = match_photos(path, named, [*photos, *missing])
        least = ONNX_THRESHOLD if threshold is None else threshold
        # A box without a score is kept: its score is NaN, which is not below any threshold.
        boxes = {
            photo: [one for one in _people_in(path, photo, matched) if not one.score < least]
            for photo in photos
        }
        alone = len(clips) == 1 and not photos
        of_clips, used = match_frames(images, content, clips, alone, warn)
        boxes |= {clip: of_clips.get(clip, {}) for clip in clips}
        unmatched = [name for name in unmatched if name not in used]
        if images and not matched and not of_clips:
            raise UserError(
                f"{path} names none of the photographs and clips; it has {listed(unmatched, 3)}"
            )
    elif isinstance(content, list):
        if not content:  # a detector that found nobody anywhere
            return {source: [] for source in [*photos, *clips]}
        _warn_of_unused(threshold, warn)
        what = f"a plain list of boxes ({path})"
        return _for_single(_list_of_boxes(path, content), [*photos, *clips, *missing], what)
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        _warn_of_unused(threshold, warn)
        matched, unmatched = match_photos(path, content, [*photos, *clips, *missing])
        boxes = {source: _list_of_boxes(path, own) for source, own in matched.items()}
        for photo in [*photos, *clips]:
            if photo not in boxes:
                raise UserError(f"{path} has no boxes for {photo}; use [] for nobody")
    else:
        raise UserError(
            f'{path} must hold {{"photo.jpg": [[x0,y0,x1,y1], ...], ...}}, a list of boxes, or '
            "COCO detections"
        )
    if unmatched:
        names = listed(unmatched, 3)
        warn(f"note: {path} has boxes for {names}, but no photograph or clip has these names")
    return boxes


def _people_in(
    path: Path, photo: Path, matched: Mapping[Path, list[ImagePeople]]
) -> list[Detection]:
    """Return the people of the image that matches a photograph; nobody if there is none."""
    images = matched.get(photo, [])
    if len(images) > 1:
        raise UserError(
            f"{path} lists {len(images)} images named {images[0].name}, and each may be {photo}: "
            "add folders to their names"
        )
    return images[0].people if images else []


def _list_of_boxes(path: Path, content: list) -> list[Box]:
    """Return a list of boxes; four plain numbers [x0, y0, x1, y1] are one box."""
    if not content or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in content
    ):
        return content
    if len(content) != 4:
        raise UserError(
            f"{path} has {len(content)} numbers in a row where boxes are expected: a box has "
            "four, [x0,y0,x1,y1]"
        )
    return [content]


def _for_single(boxes: list[Box], photos: Sequence[Path], what: str) -> dict[Path, Any]:
    if len(photos) != 1:
        raise UserError(
            f"{what} fits one photograph, but there are {len(photos)}: give a JSON file with each "
            "photograph's boxes"
        )
    return {photos[0]: boxes}


def place_of(path: Path) -> str:
    """Return a file's absolute path, its folder's links resolved: the same for the same file."""
    return str(path.parent.resolve() / path.name)


def output_names(
    photos: Sequence[Path],
    used: Mapping[str, str] | None = None,
    reserved: Container[str] = (),
) -> list[str]:
    """Return a unique name for each photograph's or clip's output files: its stem, or STEM_2.

    Args:
        photos: their paths.
        used: by name that an earlier run gave, `place_of` its input. An input keeps its name;
            no other input gets it.
        reserved: names that no new input gets, because files that no run wrote have them.
    """
    used = used or {}
    own = {place: name for name, place in used.items()}
    taken = _Names(used)
    given: set[str] = set()
    numbers: dict[str, int] = {}
    names: list[str] = []
    for photo in photos:
        name = own.get(place_of(photo), "")
        if not name or name in given:
            # Not every library can write a file whose name is not UTF-8.
            name = stem = printable(photo.stem)
            while taken.clashes(name) or name in reserved:
                numbers[stem] = numbers.get(stem, 1) + 1
                name = f"{stem}_{numbers[stem]}"
        taken.add(name)
        given.add(name)
        names.append(name)
    return names


class _Names:
    """Names in use; CLIP and CLIP_track_1 clash, because a clip's tracks have such names."""

    def __init__(self, names: Iterable[str]):
        self._names: set[str] = set()
        self._of_tracks: set[str] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        self._names.add(name)
        if track := _TRACK.fullmatch(name):
            self._of_tracks.add(track[1])

    def clashes(self, name: str) -> bool:
        track = _TRACK.fullmatch(name)
        return (
            name in self._names
            or name in self._of_tracks
            or (track is not None and track[1] in self._names)
        )
