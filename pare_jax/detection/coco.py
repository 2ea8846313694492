"""Boxes of people from JSON files: COCO's detections and annotations, and a plain form of our own.

Three forms are understood:

* {"photo.jpg": [[x0, y0, x1, y1], ...], ...}: corners, every photograph named;
* a list of COCO detections, [{"file_name" or "image_id", "bbox": [x, y, width, height],
  "category_id", "score", "track_id"}, ...];
* a COCO dataset, {"images": [{"id", "file_name"}], "annotations": [...], "categories": [...]}.

See "Data format" and "Results format" at https://cocodataset.org.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pare_jax.detection.detector import Detection
from pare_jax.errors import UserError

# COCO's number for "person", for files that do not list their categories.
PERSON_CATEGORY = 1
# Ids and frame numbers are kept in 32 bits.
LARGEST_ID = 2**31 - 1

NamedDetections = dict[str, list[Detection]]


def read_coco(path: Path, content: Any) -> NamedDetections | None:
    """Return the people of a COCO file by image.

    Args:
        path: the file, for what is said about it.
        content: what the file holds.

    Returns:
        Detections by file name, or, where the file gives only numbers, by the number as text. An
        image that a dataset lists has an entry even without people. None where `content` has
        neither of COCO's forms.

    Raises:
        UserError: an entry without a box or image, or a file whose boxes are of no person.
    """
    names: dict[Any, str] = {}
    people = {PERSON_CATEGORY}
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), list):
        entries = content["annotations"]
        for number, image in enumerate(_dicts(path, "images", content.get("images", []))):
            if not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
                raise UserError(
                    f'{path}: entry {number} of "images" needs "id", a number or text, and '
                    '"file_name", text'
                )
            names[image["id"]] = image["file_name"]
        categories = _dicts(path, "categories", content.get("categories", []))
        if categories:
            named = [entry.get("id") for entry in categories if entry.get("name") == "person"]
            people = {number for number in named if _is_id(number)}
    elif isinstance(content, list) and content and isinstance(content[0], Mapping):
        entries = content
    else:
        return None
    found: NamedDetections = {name: [] for name in names.values()}
    others = 0
    for number, entry in enumerate(_dicts(path, "the list of boxes", entries)):
        category = entry.get("category_id")
        if "category_id" in entry and not (_is_id(category) and category in people):
            others += 1
            continue
        name = _image_of(path, number, entry, names)
        own = found.setdefault(name, [])
        if not entry.get("iscrowd"):  # many people in one box
            own.append(_detection(path, number, entry))
    if others and others == len(entries):
        raise UserError(
            f"{path} has {others} boxes but none of a person (category_id "
            f"{', '.join(map(str, sorted(people, key=str))) or 'named person'})"
        )
    return found


def match_photos(
    path: Path, named: Mapping[str, Any], photos: Sequence[Path]
) -> tuple[dict[Path, Any], list[str]]:
    """Give photographs what belongs to their names.

    A photograph answers to its path as given, its file's name, with or without folders, its name
    without ending, and, as COCO's files do, to its number: 139 is 000000000139.jpg. Where several
    would do, that counts which agrees with the path in most folders.

    Args:
        path: of the file, for what is said about it.
        named: what the file has, by name.
        photos: all whose names may be in it.

    Returns:
        What was found by photograph, and the names that no photograph answers to.

    Raises:
        UserError: a name may be any of several photographs', or a photograph's any of several.
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
                    f"{path} has boxes for {new[photo]} and for {name}, and either may be {photo}; "
                    f"name the one that it is {photo.as_posix()}"
                )
            if owners.setdefault(name, photo) != photo:
                raise UserError(
                    f"{path} has boxes for {name}, which may be {owners[name]} or {photo}; name "
                    f"it {photo.as_posix()} or as the other"
                )
        names |= new
    used = set(names.values())
    matched = {photo: named[name] for photo, name in names.items()}
    return matched, [name for name in named if name not in used]


def _by_agreement(named: Mapping[str, Any], photos: Sequence[Path]) -> list[list[tuple[Path, str]]]:
    """Return which photograph may be meant by which name, the surest pairs first."""
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
            # Folders that the path does not have count less than none.
            fits.setdefault((same, same >= len(parts)), []).append((photo, name))
        number = [str(int(photo.stem))] if photo.stem.isdecimal() else []
        for name in {photo.stem, *number}:
            if name in named and name != photo.name:
                fits.setdefault((0, True), []).append((photo, name))
    return [fits[rank] for rank in sorted(fits, reverse=True)]


def parts_of(name: str) -> list[str]:
    """Return the folders of an image's or a video's name, and its last part."""
    return [part for part in name.replace("\\", "/").split("/") if part] or [""]


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--boxes={path} is neither x0,y0,x1,y1 nor a file that exists") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read boxes from {path}: {error}") from None


def id_of(value: Any) -> int | None:
    """Return a whole number from 0 on, such as a track's or a frame's; None for anything else."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST_ID else None


def _is_id(value: Any) -> bool:
    """Say whether this can name an image or a category."""
    return isinstance(value, int | float | str)


def _image_of(path: Path, number: int, entry: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    """Return the file name of an entry's image, or its number as text."""
    for key in ("file_name", "image_id"):
        value = entry.get(key)
        if value is not None:
            if not _is_id(value):
                raise UserError(f'{path}: "{key}" of entry {number} is neither a number nor text')
            return str(value if key == "file_name" else names.get(value, value))
    raise UserError(f'{path}: entry {number} has neither "file_name" nor "image_id"')


def _dicts(path: Path, what: str, values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise UserError(f"{path}: {what} must be a list of objects, as in COCO's files")
    return values


def _detection(path: Path, number: int, entry: Mapping[str, Any]) -> Detection:
    try:
        x, y, width, height = (float(value) for value in entry["bbox"])
        # Annotations have no score: they are sure.
        score = float(entry.get("score", math.nan))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f'{path}: entry {number} needs "bbox": [x, y, width, height] and a "score" that is a '
            "number"
        ) from None
    person = id_of(entry.get("track_id", entry.get("instance_id")))
    return Detection(np.array([x, y, x + width, y + height]), score, person)
