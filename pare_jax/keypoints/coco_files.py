"""Reads COCO's keypoints: annotations, results, and AlphaPose's results.

See "Data format" and "Results format" at https://cocodataset.org, and "output format" at
https://github.com/MVIG-SJTU/AlphaPose.

Coordinates are used as they are. COCO's annotators gave whole numbers, the indices of pixels, whose
centres lie half a pixel further right and down; this is less than annotators differ.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pare_jax.errors import UserError
from pare_jax.keypoints.people_collector import ASK, PeopleCollector, rows_of
from pare_jax.keypoints.point_names import set_of_names
from pare_jax.keypoints.sets import COCO17, KeypointSet

# Confidence of points that annotators placed though something hides them. They are less exact.
HIDDEN_CONFIDENCE = 0.5
_LARGEST_SIDE = 1e6
# Of the flags 0 (not labelled), 1 (hidden) and 2 (visible).
CONFIDENCES = {0.0: 0.0, 1.0: HIDDEN_CONFIDENCE, 2.0: 1.0}


def read_annotations(content: Mapping[str, Any], people: PeopleCollector) -> None:
    """Add the people of a COCO dataset, crowds excepted.

    Args:
        content: the parsed JSON, with a list "annotations".
        people: where they are added.

    Raises:
        UserError: an entry of another form, or keypoints of no known set.
    """
    names = photographs_of(content, people)
    sets = sets_of_categories(content, people)
    found = False
    for number, entry in enumerate(_entries(people, "annotations", content["annotations"])):
        category = entry.get("category_id")
        if "keypoints" not in entry or (sets and not (_is_id(category) and category in sets)):
            continue
        found = True
        if entry.get("iscrowd"):
            continue
        where = f"annotation {number}"
        # Annotators leave the list empty where they saw no point.
        rows = np.zeros((0, 3))
        if entry["keypoints"] != []:
            rows = rows_of(people.path, where, entry["keypoints"])
        rows[:, 2] = _confidences(people, where, rows[:, 2])
        image = entry.get("image_id")
        if not _is_id(image):
            raise UserError(f'{people.path}: {where} needs "image_id", a number or text')
        name = names.get(image, str(image))
        given = sets.get(category) if sets else _coco_of(len(rows))
        people.add(name, where, rows, given, box=box_of_entry(entry))
    if not found:
        raise UserError(
            f"{people.path} has no keypoints of people: give person_keypoints_*.json, or its "
            "boxes as --boxes"
        )


def read_results(content: list[Any], people: PeopleCollector) -> None:
    """Add the people of COCO's results, or of AlphaPose's.

    Args:
        content: the parsed JSON: a list of objects with "keypoints".
        people: where they are added.

    Raises:
        UserError: an entry of another form, or keypoints of no known set.
    """
    for number, entry in enumerate(_entries(people, "the list of results", content)):
        where = f"entry {number}"
        name = entry.get("file_name", entry.get("image_id"))
        if not _is_id(name) or "keypoints" not in entry:
            raise UserError(
                f'{people.path}: {where} needs "keypoints" and "image_id" or "file_name"'
            )
        rows = rows_of(people.path, where, entry["keypoints"])
        people.add(
            str(name),
            where,
            rows,
            _coco_of(len(rows)),
            box=box_of_entry(entry),
            score=_score_of(entry),
        )


def photographs_of(content: Mapping[str, Any], people: PeopleCollector) -> dict[Any, str]:
    """List the dataset's images, and return their names by id."""
    names: dict[Any, str] = {}
    for number, image in enumerate(_entries(people, "images", content.get("images", []))):
        name, own_id = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not _is_id(own_id):
            raise UserError(f'{people.path}: image {number} needs "id" and "file_name"')
        people.photograph(name, _size_of(image))
        names[own_id] = name
    return names


def _size_of(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return an image's width and height; None if the file does not have both."""
    sides: list[Any] = [image.get("width"), image.get("height")]
    if not all(isinstance(side, int | float) and 1 <= side < _LARGEST_SIDE for side in sides):
        return None
    return float(sides[0]), float(sides[1])


def sets_of_categories(
    content: Mapping[str, Any], people: PeopleCollector
) -> dict[Any, KeypointSet]:
    """Return the set of each category of people; empty where the user or nobody names it."""
    entries = _entries(people, "categories", content.get("categories", []))
    with_points = [one for one in entries if one.get("keypoints") and _is_id(one.get("id"))]
    persons = [entry for entry in with_points if entry.get("name") == "person"] or with_points
    if people.named:
        return {entry.get("id"): people.named for entry in persons}
    sets = {}
    for entry in persons:
        names = entry["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f'{people.path}: "keypoints" of a category must be a list of names')
        own = set_of_names(names)
        if own is None:
            raise UserError(
                f"{people.path}: {', '.join(names[:5])} are no points of a person that are known: "
                f"{ASK}"
            )
        sets[entry.get("id")] = own
    return sets


def _confidences(people: PeopleCollector, where: str, flags: np.ndarray) -> np.ndarray:
    """Return the confidences of COCO's flags 0, 1 and 2."""
    if not set(flags.tolist()) <= CONFIDENCES.keys():
        raise UserError(
            f"{people.path}: {where} has visibilities other than 0, 1 and 2; give detections as a "
            "list of results"
        )
    return np.array([CONFIDENCES[flag] for flag in flags.tolist()])


def _is_id(value: Any) -> bool:
    """Return whether a value can be the id of an image or a category."""
    return isinstance(value, int | float | str)


def _coco_of(count: int) -> KeypointSet | None:
    return COCO17 if count == len(COCO17.points) else None


def box_of_entry(entry: Mapping[str, Any]) -> np.ndarray | None:
    """Return the corners of an entry's box; None if it has none that can hold a person."""
    corners: Any = entry.get("bbox", entry.get("box"))
    try:
        x, y, width, height = (float(value) for value in corners)
    except (TypeError, ValueError, OverflowError):
        return None
    box = np.array([x, y, x + width, y + height])
    return box if np.isfinite(box).all() and min(width, height) > 0 else None


def _score_of(entry: Mapping[str, Any]) -> float | None:
    """Return a score from 0 to 1; None for sums over points, as AlphaPose's."""
    score = entry.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    return float(score) if 0 <= score <= 1 else None


def _entries(people: PeopleCollector, what: str, values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise UserError(f"{people.path}: {what} must be a list of objects, as in COCO's files")
    return values
