"""Finds photographs by the names that label files give them, and opens them in any format.

Label files name a photograph with more or fewer folders than the user has, as bytes, without its
ending, or by a number.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from data_pipelines.reading import jpeg
from data_pipelines.releases.release import STORED_SIDE
from data_pipelines.releases.stored_crop import (
    BrokenPhotographError,
    StoredCrop,
    encode_jpeg,
    read_whole_jpeg,
)
from pare_jax.errors import UserError
from pare_jax.io.file_kinds import IMAGE_SUFFIXES, read_head
from pare_jax.io.images import Photograph, crop_to_photo, cut_crop, read_photograph, read_size

MISSING = "picture missing"
AMBIGUOUS = "several pictures have its name"
# COCO's numbers at the end of a name: 139 is 000000000139.jpg or COCO_val2014_000000000139.jpg.
_NUMBER = re.compile(r"(?:.*_)?(\d{12})|(\d+)")


class Picture(Protocol):
    """A photograph that was opened; `WholeJpeg` is one."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def cut(self, squares: Sequence[tuple[Float[np.ndarray, "2"], float]]) -> list[StoredCrop]: ...


@dataclasses.dataclass(frozen=True)
class DecodedPhotograph:
    """A decoded photograph, which may have been reduced.

    Attributes:
        photograph: as it was read.
    """

    photograph: Photograph

    @property
    def width(self) -> int:
        """Pixels of the file."""
        return self.photograph.size[0]

    @property
    def height(self) -> int:
        """Pixels of the file."""
        return self.photograph.size[1]

    def cut(self, squares: Sequence[tuple[Float[np.ndarray, "2"], float]]) -> list[StoredCrop]:
        """Cut out squares, given by centre and side in the file's pixels."""
        image, scale = self.photograph.image, self.photograph.scale
        return [
            StoredCrop(
                image=encode_jpeg(
                    cut_crop(image, centre * scale, side * float(scale[0]), STORED_SIDE)
                ),
                to_photo=crop_to_photo(centre, side, STORED_SIDE),
            )
            for centre, side in squares
        ]


def open_photograph(path: Path, upright: bool) -> Picture:
    """Open a photograph of any format.

    Args:
        path: the file.
        upright: whether its pixels are counted upright, as its EXIF orientation says, or as they
            are stored.

    Raises:
        BrokenPhotographError: the file is missing, broken or no picture, or it is turned by a tag
            and pixels are counted as stored in a format that is always read upright.
    """
    if _is_jpeg(path) and not (upright and _is_turned(path)):
        return read_whole_jpeg(path)
    picture = decode_photograph(path)
    if picture.photograph.orientation != 1 and not upright:
        raise BrokenPhotographError("picture is turned by its EXIF tag: save it upright")
    return picture


def decode_photograph(path: Path) -> DecodedPhotograph:
    """Decode a photograph upright.

    Raises:
        BrokenPhotographError: the file is missing, broken or no picture.
    """
    if _is_jpeg(path):
        read_whole_jpeg(path)  # refuses one that is cut short
    try:
        return DecodedPhotograph(read_photograph(path))
    except UserError:
        reason = "picture cannot be decoded" if path.exists() else MISSING
        raise BrokenPhotographError(reason) from None


def _is_jpeg(path: Path) -> bool:
    return read_head(path).startswith(jpeg.START)


def _is_turned(path: Path) -> bool:
    try:
        return read_size(path)[1] != 1
    except UserError:
        return False  # `read_whole_jpeg` says what is wrong


def turned_clockwise(path: Path) -> DecodedPhotograph:
    """Return a photograph turned by 90 degrees clockwise from how it is stored.

    Raises:
        BrokenPhotographError: the file is missing or no picture.
    """
    photograph = decode_photograph(path).photograph
    turned = np.ascontiguousarray(np.rot90(photograph.image, -1))
    width, height = photograph.size
    return DecodedPhotograph(dataclasses.replace(photograph, image=turned, size=(height, width)))


@dataclasses.dataclass(frozen=True)
class FoundPhotographs:
    """The photographs of some names.

    Attributes:
        paths: relative to the folder, by name.
        problems: why a name has no photograph: `MISSING` or `AMBIGUOUS`.
    """

    paths: Mapping[str, str]
    problems: Mapping[str, str]


def find_photographs(folder: Path, names: Sequence[str]) -> FoundPhotographs:
    """Find the photographs that a label file names.

    A name is a path in the folder, or ends like exactly one path in it: the more folders agree,
    the better. Without ending, or as a number, it is the only photograph with that name.

    Args:
        folder: of the photographs.
        names: of one label file, each once. Names that differ only in folders are never joined to
            one photograph that shows none of these folders.
    """
    parts = {name: _parts(name) for name in names}
    paths: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, own in parts.items():
        path = "/".join(own)
        if own and os.path.isfile(folder / path):
            paths[name] = path
    rest = [name for name in names if name not in paths]
    if not rest:
        return FoundPhotographs(paths, problems)
    index = _index(folder)
    by_number = _by_number(index) if any(name.isdecimal() for name in rest) else {}
    # How many longer names end with these parts.
    longer = collections.Counter(
        own[start:] for own in parts.values() for start in range(1, len(own))
    )
    for name in rest:
        own = parts[name]
        candidates = index.get(own[-1], []) if own else []
        if not candidates and name.isdecimal():
            candidates = by_number.get(int(name), [])
            own = ()
        start, agreeing = _best(own, candidates)
        if not agreeing:
            problems[name] = MISSING
        elif len(agreeing) > 1 or longer[own[start:]] > 1:
            problems[name] = AMBIGUOUS
        else:
            paths[name] = "/".join(agreeing[0])
    return FoundPhotographs(paths, problems)


def _best(
    name: tuple[str, ...], candidates: Sequence[tuple[str, ...]]
) -> tuple[int, list[tuple[str, ...]]]:
    """Return the paths that agree with most folders of a name, and where the agreement starts."""
    for start in range(len(name) - 1):
        wanted = name[start:-1]
        agreeing = [path for path in candidates if path[-1 - len(wanted) : -1] == wanted]
        if agreeing:
            return start, agreeing
    return max(len(name) - 1, 0), list(candidates)


def _parts(name: str) -> tuple[str, ...]:
    """Split a name into folders and file; steps out of the folder are left out."""
    parts = name.replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", ".."))


def _index(folder: Path) -> dict[str, list[tuple[str, ...]]]:
    """Return the parts of each picture's path by its name, and by its name without ending."""
    index: dict[str, list[tuple[str, ...]]] = {}
    for path in pictures_in(folder):
        own = tuple(path.split("/"))
        index.setdefault(own[-1], []).append(own)
        index.setdefault(os.path.splitext(own[-1])[0], []).append(own)
    return index


def _by_number(
    index: Mapping[str, Sequence[tuple[str, ...]]],
) -> dict[int, list[tuple[str, ...]]]:
    numbers: dict[int, list[tuple[str, ...]]] = {}
    for path in {path for paths in index.values() for path in paths}:
        found = _NUMBER.fullmatch(os.path.splitext(path[-1])[0])
        if found:
            numbers.setdefault(int(found[1] or found[2]), []).append(path)
    return numbers


def pictures_in(folder: Path) -> list[str]:
    """Return the paths of all pictures in a folder and its subfolders, relative to it, sorted."""
    found, visited = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:  # a link to a folder above it
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [one for one in folders if not one.startswith(".")]
        for file in files:
            # Hidden files are metadata ("._photo.jpg") or unfinished.
            if not file.startswith(".") and file.lower().endswith(IMAGE_SUFFIXES):
                found.append(os.path.relpath(os.path.join(here, file), folder).replace(os.sep, "/"))
    return sorted(found)
