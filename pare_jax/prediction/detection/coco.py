"""Reads boxes of people from COCO's JSON files, and matches a file's names to photographs.

JSON files have one of three forms:

* {"photo.jpg": [[x0, y0, x1, y1], ...], ...}: corners for every photograph;
* a list of COCO detections, [{"file_name" or "image_id", "bbox": [x, y, width, height],
  "category_id", "score", "track_id"}, ...], or AlphaPose's results, which have "box" and
  "keypoints" instead of "bbox";
* a COCO dataset, {"images": [{"id", "file_name", "width", "height"}], "annotations": [...],
  "categories": [...]}.

See "Data format" and "Results format" at https://cocodataset.org, and "output format" at
https://github.com/MVIG-SJTU/AlphaPose.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.io import files
from pare_jax.prediction.detection.detector import Detection

# COCO's category of people, for files that do not list their categories.
PERSON_CATEGORY = 1
# Ids and frame numbers are stored in 32 bits.
LARGEST_ID = 2**31 - 1
# Stands for the size of a picture whose boxes are shares of its width and height.
RELATIVE = (0.0, 0.0)
# The id of a box whose id in the file is no whole number.
NOT_UNDERSTOOD = -2


_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}(\.0*)?")


@dataclasses.dataclass(frozen=True)
class ImagePeople:
    """The people of one image in a box file.

    Attributes:
        name: of the image's file, or the image's number as text where the file has only numbers.
            In datasets of clips several images may have the same name.
        id: the image's id in a dataset that lists it; else None.
        people: may be empty.
        size: width and height of the picture that the boxes are drawn on, pixels; None if the
            file does not say; `RELATIVE`.
    """

    name: str
    id: Any = None
    people: list[Detection] = dataclasses.field(default_factory=list)
    size: tuple[float, float] | None = None


def read_coco(path: Path, content: Any) -> list[ImagePeople] | None:
    """Return the people of a COCO file by image.

    Args:
        path: the file, for messages.
        content: its parsed JSON.

    Returns:
        The images that a dataset lists, even without people, and those that have boxes. None if
        `content` has neither of COCO's forms.

    Raises:
        UserError: an entry without a box or image, or a file whose boxes are not of people.
    """
    listed: dict[Any, ImagePeople] = {}
    people = {PERSON_CATEGORY}
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), list):
        entries = content["annotations"]
        listed = _listed_images(path, content)
        categories = entries_of(path, "categories", content.get("categories", []))
        if categories:
            named = [entry.get("id") for entry in categories if entry.get("name") == "person"]
            people = {number for number in named if _is_id(number)}
    elif isinstance(content, list) and content and isinstance(content[0], Mapping):
        entries = content
    else:
        return None
    by_name = {image.name: image for image in listed.values()}
    found = list(listed.values())
    others = 0
    for number, entry in enumerate(entries_of(path, "the list of boxes", entries)):
        category = entry.get("category_id")
        if "category_id" in entry and not (_is_id(category) and category in people):
            others += 1
            continue
        number_of_image, name = _names_of(path, number, entry)
        image = listed.get(number_of_image) or by_name.get(name)
        if image is None:
            image = by_name[name] = ImagePeople(name)
            found.append(image)
        if not entry.get("iscrowd"):  # a crowd is many people in one box
            image.people.append(_detection(path, number, entry))
    if others and others == len(entries):
        raise UserError(
            f"{path} has {others} boxes but none of a person: give boxes of category_id "
            f"{', '.join(map(str, sorted(people, key=str))) or 'named person'}"
        )
    return found


def _listed_images(path: Path, content: Mapping[str, Any]) -> dict[Any, ImagePeople]:
    """Return the images that a dataset lists by id: images of several clips may share a name."""
    listed = {}
    for number, image in enumerate(entries_of(path, "images", content.get("images", []))):
        if not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
            raise UserError(
                f'{path}: entry {number} of "images" needs "id", a number or text, and '
                '"file_name", text'
            )
        size = _size_of(path, number, image)
        listed[image["id"]] = ImagePeople(image["file_name"], image["id"], size=size)
    return listed


def _size_of(path: Path, number: int, image: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return an image's width and height; None if the file does not have both."""
    sides: list[Any] = [image.get("width"), image.get("height")]
    if None in sides:
        return None
    try:
        width, height = (float(side) for side in sides)
        if width >= 1 and height >= 1 and math.isfinite(width + height):
            return width, height
    except (TypeError, ValueError):
        pass
    raise UserError(
        f'{path}: entry {number} of "images" has "width" {sides[0]!r} and "height" {sides[1]!r}: '
        "give pixels, or leave both out"
    )


def match_photos(
    path: Path, named: Mapping[str, Any], photos: Sequence[Path]
) -> tuple[dict[Path, Any], list[str]]:
    """Match the names in a box file to photographs.

    A photograph's name may be its path as given; its file's name, with or without folders and
    ending; or, as in COCO's files, its number: 139 is 000000000139.jpg. Of several such names the
    one that shares most folders with the path counts.

    Args:
        path: of the box file, for messages.
        named: the file's content by name.
        photos: all photographs that the file may name.

    Returns:
        The content by photograph, and the names that match no photograph.

    Raises:
        UserError: a name matches several photographs equally well, or a photograph several names.
    """
    names: dict[Path, str] = {}
    for fits in _by_agreement(named, photos):
        used = set(names.values())
        new: dict[Path, str] = {}
        owners: dict[str, Path] = {}
        for photo, name in fits:
            if photo in names or name in used:
                continue
            if new.setdefault(photo, name) != name:
                raise UserError(
                    f"{path} has boxes for {new[photo]} and for {name}, and either may be {photo}: "
                    f"rename the right one {photo.as_posix()}"
                )
            if owners.setdefault(name, photo) != photo:
                raise UserError(
                    f"{path} has boxes for {name}, which may be {owners[name]} or {photo}: rename "
                    f"it {owners[name].as_posix()} or {photo.as_posix()}"
                )
        names |= new
    used = set(names.values())
    matched = {photo: named[name] for photo, name in names.items()}
    return matched, [name for name in named if name not in used]


def _by_agreement(named: Mapping[str, Any], photos: Sequence[Path]) -> list[list[tuple[Path, str]]]:
    """Return the pairs of photographs and names that may match, grouped, best matches first."""
    by_last: dict[str, list[str]] = {}
    for name in named:
        by_last.setdefault(parts_of(name)[-1], []).append(name)
    fits: dict[tuple[int, bool], list[tuple[Path, str]]] = {}
    for photo in photos:
        for name in by_last.get(photo.name, []):
            parts = parts_of(name)
            pairs = zip(reversed(parts), reversed(photo.parts), strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            if name in (str(photo), photo.as_posix()):
                same += 1
            # A name with a folder that the path does not have is worse than a name without.
            fits.setdefault((same, same >= len(parts)), []).append((photo, name))
        number = [str(int(photo.stem))] if photo.stem.isdecimal() else []
        for name in {photo.stem, *number}:
            if name in named and name != photo.name:
                fits.setdefault((0, True), []).append((photo, name))
    return [fits[rank] for rank in sorted(fits, reverse=True)]


def parts_of(name: str) -> list[str]:
    """Split the name of an image or a video into folders and the file's name."""
    return [part for part in name.replace("\\", "/").split("/") if part] or [""]


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of boxes.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        return files.read_json(path, "give a file of boxes")
    except FileNotFoundError:
        raise UserError(f"--boxes={path} is neither x0,y0,x1,y1 nor a file that exists") from None
    except OSError as error:
        raise UserError(f"cannot read boxes from {path}: {error.strerror or error}") from None


def id_of(value: Any) -> int | None:
    """Return a whole number from 0 to `LARGEST_ID`, also from 7.0 and "7"; else None.

    Tables write columns with gaps as decimals, and some programs write all values as text.
    """
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= LARGEST_ID and value == int(value) else None


def _track_id(entry: Mapping[str, Any]) -> int | None:
    """Return the track's id of a box; None if it has none, which -1 and NaN mean as well."""
    value = entry.get("track_id", entry.get("instance_id", entry.get("idx")))
    number = id_of(value)
    if number is not None or value is None or value in (-1, -1.0, "-1", "") or value != value:
        return number
    return NOT_UNDERSTOOD


def is_alphapose(entry: Mapping[str, Any]) -> bool:
    """Return whether a box is AlphaPose's, whose score is a sum over joints, not 0 to 1."""
    return "bbox" not in entry and "box" in entry and "keypoints" in entry


def _is_id(value: Any) -> bool:
    """Return whether a value can be the id of an image or a category."""
    return isinstance(value, int | float | str)


def _names_of(path: Path, number: int, entry: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the image's id of an entry, or None, and the image's name, or the id as text."""
    for key in ("file_name", "image_id"):
        if entry.get(key) is not None and not _is_id(entry[key]):
            raise UserError(f'{path}: "{key}" of entry {number} must be a number or text')
    image, name = entry.get("image_id"), entry.get("file_name")
    if image is None and name is None:
        raise UserError(f'{path}: entry {number} needs "file_name" or "image_id"')
    return image, str(image if name is None else name)


def entries_of(path: Path, what: str, values: Any) -> list[Mapping[str, Any]]:
    """Return a list of a box file, after checking that it holds objects."""
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise UserError(f"{path}: {what} must be a list of objects, as in COCO's files")
    return values


def _detection(path: Path, number: int, entry: Mapping[str, Any]) -> Detection:
    is_summed = is_alphapose(entry)
    try:
        x, y, width, height = (float(value) for value in entry["box" if is_summed else "bbox"])
        # Annotations have no score; NaN marks them as certain.
        score = math.nan if is_summed else float(entry.get("score", math.nan))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f'{path}: entry {number} needs "bbox": [x, y, width, height] and a "score" that is a '
            "number"
        ) from None
    return Detection(np.array([x, y, x + width, y + height]), score, _track_id(entry))
