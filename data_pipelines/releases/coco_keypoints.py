"""Reads COCO's keypoint annotations: of the release, or of any file in that form.

    SOURCE/annotations/person_keypoints_train2017.json, person_keypoints_val2017.json
    SOURCE/train2017/*.jpg, SOURCE/val2017/*.jpg

or the same of 2014, whose photographs are the same. The release's own splits are kept. SOURCE may
also be one JSON file, with the folder of its photographs beside it as `images`.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. The form is described under
"Data format" at https://cocodataset.org.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.releases.labelled_people import (
    LabelFile,
    LabelledPerson,
    person_of_keypoints,
    smpl_joints,
)
from data_pipelines.releases.labelled_photographs import LabelledPhotographs
from data_pipelines.releases.release import Skipped
from pare_jax.errors import UserError
from pare_jax.io.files import read_json
from pare_jax.keypoints.coco_files import (
    CONFIDENCES,
    box_of_entry,
    photographs_of,
    sets_of_categories,
)
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.people_collector import PeopleCollector
from pare_jax.keypoints.sets import COCO17, KeypointSet

_SPLITS = {"train": "train", "val": "validation"}
_YEARS = ("2017", "2014")
_LARGEST_NUMBER = 2**31 - 1


class Coco(LabelledPhotographs):
    """Annotations of keypoints in COCO's form; see `release.RawDataset`."""

    kind = "coco"
    flags = (*LabelledPhotographs.flags, "keypoint_set")

    def _read_labels(self) -> LabelFile:
        if self.source.is_file():
            return read_coco(self.source, self.keypoint_set)
        for year in _YEARS:
            files = {
                part: self.source / "annotations" / f"person_keypoints_{part}{year}.json"
                for part in _SPLITS
            }
            found = {part: path for part, path in files.items() if path.is_file()}
            if found:
                break
        else:
            raise UserError(
                f"{self.source} is not COCO's release: it lacks "
                "annotations/person_keypoints_train2017.json; unpack annotations_trainval2017.zip "
                "there, or name a JSON file"
            )
        result = LabelFile()
        for part, path in files.items():
            if part not in found:
                result.notes.append(f"{path} is missing: no photographs of {part}{year}")
                continue
            labels = read_coco(path, self.keypoint_set)
            result.skipped += labels.skipped
            result.people += [
                dataclasses.replace(
                    person, photograph=f"{part}{year}/{person.photograph}", split=_SPLITS[part]
                )
                for person in labels.people
            ]
        return result


def read_coco(path: Path, keypoint_set: str | None = None) -> LabelFile:
    """Read the people of a COCO file.

    Args:
        path: the JSON file.
        keypoint_set: the set of the points; None: given by the file.

    Raises:
        UserError: the file is missing or damaged, or has no keypoints of people.
    """
    advice = (
        "give COCO's person_keypoints_*.json; other files of keypoints are read by "
        "--dataset=folder --labels=FILE and, with 3D, --dataset=spin"
    )
    try:
        content = read_json(path, advice)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not isinstance(content, Mapping) or not isinstance(content.get("annotations"), list):
        raise UserError(f'{path} has no list "annotations": {advice}')
    collector = PeopleCollector(path, keypoint_set)
    names = photographs_of(content, collector)
    sets = sets_of_categories(content, collector)
    sizes = collector.result().sizes
    result, used, found = LabelFile(), set(), False
    for number, entry in enumerate(content["annotations"]):
        if not isinstance(entry, Mapping):
            raise UserError(f"{path}: annotation {number} is no object: {advice}")
        category = entry.get("category_id")
        category = category if isinstance(category, int | str) else None
        if "keypoints" not in entry or (sets and category not in sets):
            continue
        found = True
        own_id = entry.get("id", number)
        is_id = isinstance(own_id, int | str)
        what = f"annotation {own_id}"
        given = sets.get(category) or collector.named or COCO17
        image = entry.get("image_id")
        name = names.get(image) if isinstance(image, int | str) else None
        person = (
            ("annotation id is no number", True)
            if not is_id
            else ("annotation id is used twice", True)
            if own_id in used
            else ("photograph not listed in the file", True)
            if name is None
            else _person(entry, what, name, number_of(own_id, number), given, sizes.get(name))
        )
        if is_id:
            used.add(own_id)
        if isinstance(person, LabelledPerson):
            result.people.append(person)
        else:
            result.skipped.append(Skipped(what, *person))
    if not found:
        raise UserError(f"{path} has no keypoints of people: {advice}")
    return result


def _person(
    entry: Mapping[str, Any],
    what: str,
    photograph: str,
    number: int,
    own_set: KeypointSet,
    size: tuple[float, float] | None,
) -> LabelledPerson | tuple[str, bool]:
    """Return the person, or the reason for skipping and whether the file is faulty."""
    if entry.get("iscrowd"):
        return "crowd", False
    rows = _rows(entry["keypoints"], len(own_set.points))
    if rows is None:
        return f"keypoints are not 3 numbers for each of {len(own_set.points)} points", True
    flags = rows[:, 2]
    if not np.isfinite(rows[flags != 0]).all():
        return "point not finite", True
    if not set(flags.tolist()) <= CONFIDENCES.keys():
        return "visibility is not 0, 1 or 2", True
    if not flags.any():
        return "no keypoints annotated", False
    confidences = np.array([CONFIDENCES[flag] for flag in flags.tolist()])
    keypoints = Keypoints(own_set, rows[:, :2], confidences, box=box_of_entry(entry))
    if keypoints.known < 2:
        return "fewer than two keypoints annotated", False
    joints = smpl_joints(own_set.spread(rows))
    return dataclasses.replace(
        person_of_keypoints(keypoints, what, photograph, number),
        visible=(joints[:, 2] == 2).astype(np.float32),
        visible_known=(joints[:, 2] > 0).astype(np.float32),
        size=size,
    )


def _rows(values: Any, count: int) -> Float[np.ndarray, "k 3"] | None:
    """Return x, y and flag of each point; None if these are not the numbers of `count` points."""
    try:
        rows = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if not rows.size:  # annotators who saw no point
        return np.zeros((count, 3))
    return rows.reshape(count, 3) if rows.size == 3 * count else None


def number_of(own_id: Any, number: int) -> int:
    """Return an annotation's id, or its place in the file if the id cannot be stored."""
    is_number = isinstance(own_id, int) and not isinstance(own_id, bool)
    return own_id if is_number and 0 <= own_id <= _LARGEST_NUMBER else number
