"""Reads people's keypoints from files: COCO, OpenPose, MPII (JSON), SPIN (.npz).

docs/keypoints.md has the forms. The set of points is given by the form, by the file's own names of
points, or by their number where only one set has it; otherwise the user names it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pare_jax.errors import UserError, counted, listed
from pare_jax.io.files import read_json
from pare_jax.keypoints.coco_files import read_annotations, read_results
from pare_jax.keypoints.mpii_files import is_mpii, read_mpii
from pare_jax.keypoints.openpose_files import SUFFIX, read_people
from pare_jax.keypoints.people_collector import KeypointFile, PeopleCollector
from pare_jax.keypoints.spin_files import read_spin

_ADVICE = "give a file of keypoints"


def read_keypoints(path: str | Path, set_name: str | None = None) -> KeypointFile:
    """Read the people of a file or of a folder of OpenPose's files.

    Args:
        path: a .json or .npz file, or a folder with NAME_keypoints.json for each picture.
        set_name: the set of the points, one of `sets.SETS`; None: given by the file.

    Raises:
        UserError: an unknown set; a file that is missing, damaged or of another form (of a folder,
            all files are damaged); points of the wrong number or of a set that must be named; no
            known point.
    """
    path = Path(path)
    people = PeopleCollector(path, set_name)
    if path.is_dir():
        _read_folder(path, people)
    elif path.suffix.lower() == ".npz":
        read_spin(people)
    else:
        _read_content(_content(path, _ADVICE), path, people)
    return people.result()


def _read_folder(folder: Path, people: PeopleCollector) -> None:
    try:
        files = sorted(file for file in folder.glob(f"*{SUFFIX}") if file.is_file())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from None
    if not files:
        raise UserError(f"{folder} has no NAME{SUFFIX}, as OpenPose writes them: name a file")
    damaged: dict[str, UserError] = {}
    for file in files:
        try:
            content = _content(file, "repair or remove it")
        except UserError as error:
            damaged[file.name] = error
            continue
        _read_content(content, file, people)
    if len(damaged) == len(files):
        raise damaged[files[0].name]
    if damaged:
        people.note(f"{counted(len(damaged), 'damaged file')} left out: {listed(list(damaged), 3)}")


def _content(path: Path, advice: str) -> Any:
    try:
        return read_json(path, advice)
    except FileNotFoundError:
        raise UserError(f"the file of keypoints {path} is missing") from None
    except OSError as error:
        raise UserError(f"cannot read keypoints from {path}: {error.strerror or error}") from None


def _read_content(content: Any, path: Path, people: PeopleCollector) -> None:
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), list):
        read_annotations(content, people)
    elif isinstance(content, Mapping) and "people" in content:
        read_people(content, path, people)
    elif isinstance(content, list):
        (read_mpii if is_mpii(content) else read_results)(content, people)
    else:
        raise UserError(
            f"{path} has no keypoints of people: give COCO's annotations or results, OpenPose's "
            "or MPII's JSON, or SPIN's .npz"
        )
