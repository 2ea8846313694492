"""Finds the sequence that a frame belongs to from its name, so that splits keep sequences whole.

Frames of one sequence look alike, and cameras that film together see one pose. So the sequence is
the name without its last number and without its camera. Names of datasets of single photographs are
known: there each photograph is its own sequence.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from data_pipelines.releases.labelled_people import LabelledPerson
from pare_jax.errors import counted

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Base names of single photographs.
_SINGLE = re.compile(
    r"COCO_(train|val|test)\d{4}_\d{12}|\d{12}"  # COCO 2014 and 2017
    r"|\d{9}"  # MPII
    r"|im\d{4,5}"  # LSP and LSP extended
    r"|[0-9a-f]{32,40}"  # named by a hash, as AI Challenger's
)
# Cameras: "Cam0", "camera_12", "_ca_01"; MPI-INF-3DHP's folders and Human3.6M's numbers.
_CAMERA = re.compile(
    r"(?<![a-z])(?:ca|cam|camera)[_-]?\d+"
    r"|(?<=imageframes/)video_\d+"
    r"|\.(?:54138969|55011271|58860488|60457274)(?!\d)",
    re.IGNORECASE,
)
_LAST_NUMBER = re.compile(r"\d+\D*$")
_NUMBERED = "numbered photographs"


def sequence_of(name: str) -> str:
    """Return the name of the sequence that a photograph belongs to.

    Args:
        name: a path with "/" or "\\" between folders, as a label file has it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    path = path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path
    if _SINGLE.fullmatch(path.name):
        return path.name
    frame = f"{path.parent}/{_LAST_NUMBER.sub('', path.name)}"
    parts = [part.strip("_-. ") for part in _CAMERA.sub("", frame).split("/")]
    return "/".join(part for part in parts if part) or _NUMBERED


def sequences_note(people: Sequence[LabelledPerson]) -> list[str]:
    """Return the line that says how many sequences there are, by `group`; none without people."""
    groups, photographs = ({getattr(one, key) for one in people} for key in ("group", "photograph"))
    if not people:
        return []
    note = (
        f"{counted(len(people), 'person')} in {counted(len(photographs), 'photograph')} of "
        f"{counted(len(groups), 'sequence')}, by the photographs' names; a sequence is in one split"
    )
    if len(groups) == 1 < len(photographs):
        note += ": all are in one"
    return [note]
