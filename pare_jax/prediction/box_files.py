"""Reads the boxes of photographs and clips from a command line."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.media import OnProblem, Photo, find_sources
from pare_jax.keypoints.keypoints import box_of_keypoints
from pare_jax.keypoints.people_collector import KeypointFile
from pare_jax.prediction.detection import ONNX_THRESHOLD, Detection
from pare_jax.prediction.detection.coco import (
    ImagePeople,
    is_alphapose,
    match_photos,
    read_coco,
    read_json,
)
from pare_jax.prediction.detection.frames import (
    MOT_SUFFIXES,
    FrameDetections,
    check_ids,
    match_frames,
    read_mot,
)
from pare_jax.prediction.detection.other_formats import (
    is_yolo,
    read_megadetector,
    read_text,
    read_yolo,
    read_yolo_folder,
)
from pare_jax.prediction.detection.picture_sizes import BoxFitter

# x0, y0, x1, y1 in pixels; checked by `boxes.check_box` once the photograph's size is known.
Box = Sequence[float]


def find_photos(arguments: Sequence[str], on_left_out: OnProblem | None = None) -> list[Path]:
    """Return the named image files, and those directly in the named folders, in order.

    Args:
        arguments: see `pare_jax.io.media.find_sources`.
        on_left_out: as there.

    Raises:
        UserError: no argument, a folder or pattern without an image, or a video.
    """
    sources = find_sources(arguments, on_left_out=on_left_out)
    photos = [source.path for source in sources if isinstance(source, Photo)]
    for source in sources:
        if not isinstance(source, Photo) and str(source) in arguments:
            raise UserError(f"{source} is not a photograph; name images or folders of images")
    if not photos:
        raise UserError(
            f"no photograph in {', '.join(arguments)}: name pictures such as JPEG or PNG files"
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
        values: of --boxes: each "x0,y0,x1,y1", or one path of a file or folder in one of the
            forms of `pare_jax.prediction.detection.coco` and `.other_formats`.
        photos: all photographs.
        threshold: detections with a lower score are skipped; None: 0.5, as in ONNX detectors.
        warn: called with a line about names in the file that match no photograph, boxes that were
            turned or scaled, or a threshold for boxes without scores; None prints it to stderr.
        missing: photographs named on the command line but not found; boxes may belong to them.

    Returns:
        Boxes of every photograph; None: the whole photograph. Their numbers are not checked here.

    Raises:
        UserError: unreadable values, boxes that match several photographs, a file that gives
            another size than a photograph has, or a file of the plain form without one of the
            photographs. (The other forms list people, so a photograph that they do not name has
            none.)
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
    on_misfit: Callable[[Path, str], None] | None = None,
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
        on_misfit: called with each photograph and clip whose size is not the one of the file, and
            the reason; it is skipped. None: the first one raises.

    Returns:
        Boxes of every photograph, as detections where they may have scores, and of every clip by
        frame. Their numbers are not checked here.

    Raises:
        UserError: as `read_boxes`; also boxes of a clip that are not a list for each frame.
    """
    if not values:
        return dict.fromkeys(photos), dict.fromkeys(clips)
    warn = warn or functools.partial(print, file=sys.stderr)
    inputs = _Inputs(photos, clips, missing, threshold, warn, on_misfit)
    boxes: dict[Path, Any]
    if not all(values):
        raise UserError("--boxes= is empty: give x0,y0,x1,y1 or a file of boxes")
    path = Path(values[0])
    if len(values) == 1 and ("," not in values[0] or path.exists()):
        if path.is_dir():
            boxes = _boxes_of_people(path, read_yolo_folder(path), None, inputs)
        elif path.suffix.lower() in MOT_SUFFIXES:
            boxes = _boxes_of_text(path, inputs)
        else:
            boxes = _boxes_of_json(path, inputs)
    else:
        path = Path("--boxes")
        _warn_of_unused(threshold, warn)
        boxes = _for_single(_corners(values), inputs.all, "--boxes=x0,y0,x1,y1")
    of_clips: dict[Path, FrameDetections | None] = {}
    for clip in clips:
        if clip in boxes:  # else it has another size
            own = boxes.pop(clip)
            by_frame = own if isinstance(own, dict) else _by_frame(clip, own)
            of_clips[clip] = check_ids(path, by_frame, warn)
    return boxes, of_clips


def match_keypoints(
    file: KeypointFile,
    photos: Sequence[Path],
    clips: Sequence[Path],
    threshold: float | None,
    warn: Callable[[str], None],
    missing: Sequence[Path] = (),
    on_misfit: Callable[[Path, str], None] | None = None,
) -> tuple[dict[Path, list[Detection]], dict[Path, FrameDetections]]:
    """Return the people of a file of keypoints in each photograph, and in each clip by frame.

    Args:
        file: the people by the name of their photograph.
        photos: as in `read_all_boxes`.
        clips: as in `read_all_boxes`.
        threshold: as in `read_all_boxes`.
        warn: as in `read_all_boxes`.
        missing: as in `read_all_boxes`.
        on_misfit: as in `read_all_boxes`.

    Raises:
        UserError: the file names none of the inputs, or one of its names matches several.
    """

    named: dict[str, list[ImagePeople]] = {}
    unusable = 0
    for name, own in file.people.items():
        people = []
        for one in own:
            score = math.nan if one.score is None else one.score
            if one.known > 1:
                people.append(Detection(box_of_keypoints(one), score, None, one))
            else:
                unusable += 1
        named[name] = [ImagePeople(name, people=people, size=file.sizes.get(name))]
    if unusable:
        people = counted(unusable, "person")
        warn(f"note: {people} of {file.path} with fewer than two known keypoints: skipped")
    inputs = _Inputs(photos, clips, missing, threshold, warn, on_misfit)
    found = _boxes_of_people(file.path, named, None, inputs)
    of_photos, of_clips = set(photos), set(clips)
    return (
        {path: own for path, own in found.items() if path in of_photos},
        {path: own for path, own in found.items() if path in of_clips},
    )


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The inputs that a box file is for, and what to do with its boxes; see `read_all_boxes`."""

    photos: Sequence[Path]
    clips: Sequence[Path]
    missing: Sequence[Path]
    threshold: float | None
    warn: Callable[[str], None]
    on_misfit: Callable[[Path, str], None] | None

    @property
    def all(self) -> list[Path]:
        return [*self.photos, *self.clips, *self.missing]

    def misfit(self, path: Path, error: UserError) -> None:
        if self.on_misfit is None:
            raise error
        self.on_misfit(path, str(error))


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


def _boxes_of_text(path: Path, inputs: _Inputs) -> dict[Path, Any]:
    """Read YOLO's lines of one photograph, or MOT Challenge's of one clip."""
    text = read_text(path)
    only_photo = len(inputs.photos) == 1 and inputs.all == list(inputs.photos)
    if is_yolo(text) or (only_photo and not text.strip()):
        if not only_photo:
            raise UserError(
                f"{path} has YOLO's boxes of one photograph: give that photograph and nothing "
                "else, or the folder of such files"
            )
        named = {inputs.photos[0].stem: [read_yolo(path)]}
        return _boxes_of_people(path, named, None, inputs)
    if len(inputs.clips) != 1 or inputs.all != list(inputs.clips):
        raise UserError(f"{path} has the boxes of one clip: give that clip and nothing else")
    return {inputs.clips[0]: read_mot(path)}


def _boxes_of_json(path: Path, inputs: _Inputs) -> dict[Path, Any]:
    content = read_json(path)
    if (found := read_megadetector(path, content)) is not None:
        images, failed = found
        if failed:
            inputs.warn(f"note: MegaDetector could not read {listed(failed, 3)} ({path})")
        return _boxes_of_people(path, _by_name(images), content, inputs)
    if (images := read_coco(path, content)) is not None:
        if isinstance(content, list) and is_alphapose(content[0]):
            _warn_of_unused(inputs.threshold, inputs.warn)
        return _boxes_of_people(path, _by_name(images), content, inputs)
    if isinstance(content, list):
        if not content:  # a detector that found nobody anywhere
            return {source: [] for source in [*inputs.photos, *inputs.clips]}
        _warn_of_unused(inputs.threshold, inputs.warn)
        what = f"a plain list of boxes ({path})"
        return _for_single(_list_of_boxes(path, content), inputs.all, what)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise UserError(
            f'{path} must hold {{"photo.jpg": [[x0,y0,x1,y1], ...], ...}}, a list of boxes, or '
            "the boxes of COCO, AlphaPose or MegaDetector"
        )
    _warn_of_unused(inputs.threshold, inputs.warn)
    matched, unmatched = match_photos(path, content, inputs.all)
    boxes = {source: _list_of_boxes(path, own) for source, own in matched.items()}
    for photo in [*inputs.photos, *inputs.clips]:
        if photo not in boxes:
            raise UserError(f"{path} has no boxes for {photo}; use [] for nobody")
    _warn_of_unmatched(path, unmatched, inputs)
    return boxes


def _by_name(images: Iterable[ImagePeople]) -> dict[str, list[ImagePeople]]:
    named: dict[str, list[ImagePeople]] = {}
    for image in images:
        named.setdefault(image.name, []).append(image)
    return named


def _boxes_of_people(
    path: Path, named: Mapping[str, list[ImagePeople]], content: Any, inputs: _Inputs
) -> dict[Path, Any]:
    """Return the boxes of each photograph and clip from the people of a file's images.

    Args:
        path: of the box file.
        named: the file's images by name.
        content: the file's parsed JSON.
        inputs: the photographs and clips.
    """
    matched, unmatched = match_photos(path, named, [*inputs.photos, *inputs.missing])
    images = [image for own in named.values() for image in own]
    fitter = BoxFitter(path)
    least = ONNX_THRESHOLD if inputs.threshold is None else inputs.threshold
    boxes: dict[Path, Any] = {}
    for photo in inputs.photos:
        image = _image_of(path, photo, matched)
        try:
            people = fitter.of_photo(photo, image) if image else []
        except UserError as error:
            inputs.misfit(photo, error)
            continue
        # A box without a score is kept: its score is NaN, which is not below any threshold.
        boxes[photo] = [one for one in people if not one.score < least]
    used: set[str] = set()
    for clip in inputs.clips:
        alone = len(inputs.clips) == 1 and not inputs.photos
        try:
            of_clip, names = match_frames(
                images, content, [clip], alone, inputs.warn, fitter.of_frame
            )
        except UserError as error:
            inputs.misfit(clip, error)
            used |= match_frames(images, content, [clip], alone, lambda _: None)[1]
            continue
        boxes[clip] = of_clip.get(clip, {})
        used |= names
    unmatched = [name for name in unmatched if name not in used]
    if images and len(unmatched) == len(named):
        raise UserError(
            f"{path} names none of the photographs and clips; it has {listed(unmatched, 3)}"
        )
    for note in fitter.notes():
        inputs.warn(note)
    _warn_of_unmatched(path, unmatched, inputs)
    return boxes


def _warn_of_unmatched(path: Path, unmatched: Sequence[str], inputs: _Inputs) -> None:
    if unmatched:
        names = listed(unmatched, 3)
        inputs.warn(
            f"note: {path} has boxes for {names}, but no photograph or clip has these names"
        )


def _image_of(
    path: Path, photo: Path, matched: Mapping[Path, list[ImagePeople]]
) -> ImagePeople | None:
    """Return the image that matches a photograph; None if there is none."""
    images = matched.get(photo, [])
    if len(images) > 1:
        raise UserError(
            f"{path} lists {len(images)} images named {images[0].name}, and each may be {photo}: "
            "add folders to their names"
        )
    return images[0] if images else None


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
