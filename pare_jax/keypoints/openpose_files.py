"""Reads OpenPose's JSON files, one for each picture: NAME_keypoints.json.

`{"people": [{"pose_keypoints_2d": [x, y, c, ...]}]}` with 25 points, or COCO's 18. 3D points are
not read: they are in the axes of OpenPose's calibrated cameras, not in those of the picture.
Coordinates are taken as they are.

Source: https://github.com/CMU-Perceptual-Computing-Lab/openpose, doc/02_output.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError
from pare_jax.keypoints.people_collector import PeopleCollector, rows_of

SUFFIX = "_keypoints.json"
# The second is the name in early versions.
_KEYS = ("pose_keypoints_2d", "pose_keypoints")


def read_people(content: Mapping[str, Any], file: Path, people: PeopleCollector) -> None:
    """Add the people of one picture.

    Args:
        content: the parsed JSON, with a list "people".
        file: its path; the name of the picture is its name without "_keypoints.json".
        people: where they are added.

    Raises:
        UserError: a person of another form, or keypoints of no known set.
    """
    name = file.name.removesuffix(SUFFIX).removesuffix(".json")
    people.photograph(name)
    if not isinstance(content["people"], list):
        raise UserError(f'{file}: "people" must be a list')
    for number, person in enumerate(content["people"]):
        keys = [key for key in _KEYS if key in person] if isinstance(person, Mapping) else []
        if not keys:
            raise UserError(f'{file}: person {number} needs "pose_keypoints_2d"')
        if not person[keys[0]]:
            continue  # a hand or a face alone
        where = f"person {number} of {file.name}"
        people.add(name, where, rows_of(people.path, where, person[keys[0]]))
