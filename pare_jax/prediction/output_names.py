"""Names the output files of photographs and clips, so that no two inputs share a name."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from pare_jax.io.files import printable

# The output files of a clip's person begin with NAME_track_ID.
_TRACK = re.compile(r"(.+)_track(?:_\d+)?")


def place_of(path: Path) -> str:
    """Return a file's absolute path, its folder's links resolved: the same for the same file."""
    return str(path.parent.resolve() / path.name)


def output_names(
    photos: Sequence[Path],
    used: Mapping[str, str] | None = None,
    reserved: Container[str] = (),
) -> list[str]:
    """Return a unique name for each photograph's or clip's output files: its stem, or STEM_2.

    Args:
        photos: their paths.
        used: by name that an earlier run gave, `place_of` its input. An input keeps its name;
            no other input gets it.
        reserved: names that no new input gets, because files that no run wrote have them.
    """
    used = used or {}
    own = {place: name for name, place in used.items()}
    taken = _Names(used)
    given: set[str] = set()
    numbers: dict[str, int] = {}
    names: list[str] = []
    for photo in photos:
        name = own.get(place_of(photo), "")
        if not name or name in given:
            # Not every library can write a file whose name is not UTF-8.
            name = stem = printable(photo.stem)
            while taken.clashes(name) or name in reserved:
                numbers[stem] = numbers.get(stem, 1) + 1
                name = f"{stem}_{numbers[stem]}"
        taken.add(name)
        given.add(name)
        names.append(name)
    return names


class _Names:
    """Names in use; CLIP and CLIP_track_1 clash, because a clip's tracks have such names."""

    def __init__(self, names: Iterable[str]):
        self._names: set[str] = set()
        self._of_tracks: set[str] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        self._names.add(name)
        if track := _TRACK.fullmatch(name):
            self._of_tracks.add(track[1])

    def clashes(self, name: str) -> bool:
        track = _TRACK.fullmatch(name)
        return (
            name in self._names
            or name in self._of_tracks
            or (track is not None and track[1] in self._names)
        )
