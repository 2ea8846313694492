"""Reads boxes of people as YOLO and MegaDetector write them.

YOLO's programs (https://docs.ultralytics.com/datasets/detect) write a text file for each picture,
with a line "class x y width height" for each box, whose x and y are its centre, all as shares of
the picture's size. MegaDetector writes one JSON file for many pictures, either with shares
(https://lila.science/megadetector-output-format) or a list with pixels
(https://microsoft.github.io/MegaDetector/output_format).
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.prediction.detection.coco import RELATIVE, ImagePeople, entries_of
from pare_jax.prediction.detection.detector import Detection

# YOLO's class of people, in COCO's and most other lists of classes.
_YOLO_PERSON = 0
# Lists the classes of a folder of YOLO's files, one a line.
_YOLO_CLASSES = "classes.txt"
# MegaDetector's category of people, for files that do not list their categories.
_MEGADETECTOR_PERSON = "2"
# A million boxes, bytes.
_LARGEST_TEXT = 1 << 26


def is_yolo(text: str) -> bool:
    """Return whether the first line of a text file is one of YOLO's: numbers between spaces."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and "," not in lines[0] and len(lines[0].split()) >= 5


def read_yolo_folder(folder: Path) -> dict[str, list[ImagePeople]]:
    """Return the people in a folder of YOLO's files, by the stem of the picture's name.

    Raises:
        UserError: the folder has no such file or cannot be read, or a line has another form.
    """
    try:
        names = folder.glob("*.txt")
        files = sorted(file for file in names if file.name != _YOLO_CLASSES and file.is_file())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    if not files:
        raise UserError(
            f"--boxes={folder} has no .txt file: give a folder of YOLO's labels, NAME.txt for "
            "NAME.jpg"
        )
    person = _person_class(folder / _YOLO_CLASSES)
    return {file.stem: [read_yolo(file, person)] for file in files}


def read_yolo(path: Path, person: int | None = None) -> ImagePeople:
    """Read the people of one picture from YOLO's lines.

    A line may end with a score, the id of a track, or both; the ids are not used.

    Args:
        path: the file.
        person: the class of people; None: as classes.txt beside the file says, else 0.

    Raises:
        UserError: the file cannot be read, or a line has another form.
    """
    if person is None:
        person = _person_class(path.with_name(_YOLO_CLASSES))
    people = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *values = (float(part) for part in line.split())
            x, y, width, height = values[:4]
        except ValueError:
            kind = x = y = width = height = math.nan
            values = []
        if len(values) not in (4, 5, 6) or kind != round(kind, 0):
            raise UserError(
                f'{path}: line {number} must be "class x y width height" and perhaps a score; '
                "outlines and key points are not read"
            )
        if kind != person:
            continue
        _check_shares(f"{path}: line {number}", (x, y, width, height))
        # Whole numbers above 1 are ids of tracks.
        score = values[4] if len(values) > 4 and 0 <= values[4] <= 1 else math.nan
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        people.append(Detection(corners, score))
    return ImagePeople(path.stem, people=people, size=RELATIVE)


def read_text(path: Path) -> str:
    """Return the content of a text file of boxes.

    Raises:
        UserError: it cannot be read, is no text, or is too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_TEXT + 1)
        if len(raw) > _LARGEST_TEXT:
            raise UserError(
                f"cannot read boxes from {path}: it has more than {_LARGEST_TEXT >> 20} MiB; give "
                "the boxes of one photograph or clip"
            )
        return raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read boxes from {path}: {error}") from None


def read_megadetector(path: Path, content: Any) -> tuple[list[ImagePeople], list[str]] | None:
    """Return the people of a MegaDetector file by image.

    Args:
        path: the file, for messages.
        content: its parsed JSON.

    Returns:
        The images, also those without people, and the names of those that MegaDetector could not
        read. None if `content` has another form.

    Raises:
        UserError: the file is COCO's as well, or an entry has another form.
    """
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        is_its = "file" in content[0] and "detections" in content[0]
        people = {"person", _MEGADETECTOR_PERSON}
        return _images_of(path, content, people, is_relative=False) if is_its else None
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        return None
    images = entries_of(path, "images", content["images"])
    if not any("file" in image for image in images) and "detection_categories" not in content:
        return None
    if "annotations" in content:
        raise UserError(
            f'{path} has COCO\'s "annotations" and MegaDetector\'s "detections": keep one of them'
        )
    person = _megadetector_person(path, content.get("detection_categories"))
    return _images_of(path, images, {person}, is_relative=True)


def _images_of(
    path: Path, images: Any, people_categories: AbstractSet[str], *, is_relative: bool
) -> tuple[list[ImagePeople], list[str]]:
    """Return the images, and the names of those that MegaDetector could not read."""
    found: list[ImagePeople] = []
    failed: list[str] = []
    for number, image in enumerate(entries_of(path, "the list of images", images)):
        if not isinstance(image.get("file"), str):
            raise UserError(f'{path}: image {number} needs "file", text')
        if image.get("detections") is None:
            failed.append(image["file"])
            continue
        detections = entries_of(path, f"detections of {image['file']}", image["detections"])
        people = [
            _megadetector_box(f"{path}: a detection of {image['file']}", one, is_relative)
            for one in detections
            if str(one.get("category")) in people_categories
        ]
        size = RELATIVE if is_relative else None
        found.append(ImagePeople(image["file"], people=people, size=size))
    return found, failed


def _megadetector_person(path: Path, categories: Any) -> str:
    if not categories:
        return _MEGADETECTOR_PERSON
    names = categories if isinstance(categories, Mapping) else {}
    people = [str(number) for number, name in names.items() if name == "person"]
    if len(people) != 1:
        raise UserError(f'{path}: "detection_categories" must name one category "person"')
    return people[0]


def _megadetector_box(where: str, one: Mapping[str, Any], is_relative: bool) -> Detection:
    confidence = "conf" if is_relative else "confidence"
    try:
        box = [float(value) for value in one["bbox"]]
        x, y, width, height = box
        score = float(one.get(confidence, math.nan))
    except (KeyError, TypeError, ValueError):
        form = "[x, y, width, height]" if is_relative else "[x0, y0, x1, y1]"
        raise UserError(
            f'{where} needs "bbox": {form} and a "{confidence}" that is a number'
        ) from None
    if not is_relative:
        return Detection(np.array(box), score)
    _check_shares(where, box)
    return Detection(np.array([x, y, x + width, y + height]), score)


def _check_shares(where: str, values: Sequence[float]) -> None:
    # Boxes of people at an edge may reach a little beyond it.
    if not all(-1.0 <= value <= 2.0 for value in values):
        raise UserError(
            f"{where} has a box in pixels: expected shares of the picture's size, 0 to 1"
        )


def _person_class(classes: Path) -> int:
    """Return the number of the class "person" in a list of classes; 0 if there is no list."""
    if not classes.is_file():
        return _YOLO_PERSON
    names = [name.strip().lower() for name in read_text(classes).splitlines()]
    if "person" not in names:
        raise UserError(f'{classes} has no class "person": add it, or remove the file')
    return names.index("person")
