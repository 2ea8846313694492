"""Compares the sizes of pictures in a box file with the pictures, and turns or scales the boxes.

Boxes may be drawn on a resized copy of a photograph, or on its pixels as stored where the EXIF
orientation turns them.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pare_jax.errors import UserError, be, counted, listed
from pare_jax.io.exif import swaps_sides, upright_box
from pare_jax.io.images import read_size
from pare_jax.io.media import Clip, FrameReader, numbered_frames
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.prediction.detection.coco import RELATIVE, ImagePeople
from pare_jax.prediction.detection.detector import Detection

Size = tuple[float, float]


class BoxFitter:
    """Converts boxes of a file to the pixels of photographs and clips, and notes what it changed.

    Attributes:
        path: the box file.
    """

    def __init__(self, path: Path):
        """Start without notes."""
        self.path = path
        self._scaled: list[str] = []
        self._turned: list[str] = []
        self._unknown: list[str] = []
        self._clips: dict[Path, tuple[tuple[int, int], int] | None] = {}

    def of_photo(self, photo: Path, image: ImagePeople) -> list[Detection]:
        """Return an image's people, with boxes in the pixels of the upright photograph.

        Raises:
            UserError: the photograph has another size than the box file says, and it is no
                resized or turned copy.
        """
        if image.size is None or not image.people:
            return image.people
        try:
            size, orientation = read_size(photo)
        except UserError:  # reported when the photograph is read
            return image.people
        return self._fitted(photo, image, size, orientation)

    def of_frame(self, clip: Path, image: ImagePeople) -> list[Detection]:
        """Return the people of a clip's frame; as `of_photo`."""
        if image.size is None or not image.people:
            return image.people
        if clip not in self._clips:
            self._clips[clip] = None
            with contextlib.suppress(UserError):  # reported when the clip is read
                self._clips[clip] = _size_of_frames(clip), 1
        known = self._clips[clip]
        return image.people if known is None else self._fitted(clip, image, *known)

    def notes(self) -> list[str]:
        """Return a line for each kind of change, and for sizes that leave the boxes open."""
        notes = []
        if self._scaled:
            what = _pictures(self._scaled)
            notes.append(
                f"note: the boxes of {what} are scaled, because {self.path} has them for another "
                f"size: {listed(self._scaled, 3)}"
            )
        if self._turned:
            what = _pictures(self._turned)
            notes.append(
                f"note: the boxes of {what} are turned by the EXIF orientation, because "
                f"{self.path} has them for the pixels as stored: {listed(self._turned, 3)}"
            )
        if self._unknown:
            what, number = _pictures(self._unknown), len(self._unknown)
            notes.append(
                f"note: {what} {be(number)} turned or mirrored by the EXIF orientation; the boxes "
                f"in {self.path} are taken as drawn on the upright picture: "
                f"{listed(self._unknown, 3)}"
            )
        return notes

    def _fitted(
        self, picture: Path, image: ImagePeople, size: tuple[int, int], orientation: int
    ) -> list[Detection]:
        assert image.size is not None
        given, name = image.size, str(picture)
        if given == RELATIVE:
            return _changed(image, lambda box: box * np.tile(size, 2))
        change = f"{name} ({_text(given)} in the file, {_text(size)} in the picture)"
        if _is_copy(given, size):
            if given != size:
                _add(self._scaled, change)
            elif orientation > 1 and (not swaps_sides(orientation) or size[0] == size[1]):
                _add(self._unknown, name)
            return _changed(image, lambda box: box * np.tile(np.divide(size, given), 2))
        turned = given[1], given[0]
        if swaps_sides(orientation) and _is_copy(turned, size):
            _add(self._turned, name)
            if turned != size:
                _add(self._scaled, change)
            scale = np.tile(np.divide(size, turned), 2)
            return _changed(
                image, lambda box: upright_box(box, orientation, given) * scale, orientation
            )
        raise UserError(
            f"{self.path} has boxes of {image.name} for {_text(given)} pixels, but {name} has "
            f"{_text(size)}: give boxes of this picture"
        )


def _size_of_frames(clip: Path) -> tuple[int, int]:
    """Return the width and height of a clip's frames; a clip may be a folder of pictures."""
    if clip.is_dir():
        return read_size(numbered_frames(clip)[0])[0]
    with FrameReader(Clip(clip)) as reader:
        return reader.size


def _is_copy(given: Size, size: Size) -> bool:
    """Return whether a picture of one size may be a resized copy of one of the other size.

    The sides of the smaller one are rounded, by up to one pixel.
    """
    width, height = size
    return (
        abs(given[0] * height / given[1] - width) < 1.0
        or abs(given[1] * width / given[0] - height) < 1.0
        or abs(width * given[1] / height - given[0]) < 1.0
        or abs(height * given[0] / width - given[1]) < 1.0
    )


def _changed(
    image: ImagePeople, change: Callable[[np.ndarray], np.ndarray], orientation: int = 1
) -> list[Detection]:
    """Return an image's people with their boxes and keypoints changed, 3D points only turned."""

    def changed(keypoints: Keypoints | None) -> Keypoints | None:
        if keypoints is None:
            return None
        # A point changes as a box without size does.
        points = [change(np.tile(point, 2))[:2] for point in keypoints.points]
        world = keypoints.world
        if world is not None:
            # Without a size the turn is about the origin, the middle of the hips.
            turned = [
                upright_box(np.tile(point[:2], 2), orientation, (0, 0))[:2] for point in world
            ]
            world = np.column_stack([turned, world[:, 2]])
        return dataclasses.replace(keypoints, points=np.array(points), world=world, box=None)

    return [
        dataclasses.replace(one, box=change(one.box), keypoints=changed(one.keypoints))
        for one in image.people
    ]


def _add(names: list[str], name: str) -> None:
    """Add the name of a picture once; a clip has many frames."""
    if name not in names[-1:]:
        names.append(name)


def _pictures(names: list[str]) -> str:
    return counted(len(names), "picture")


def _text(size: Size) -> str:
    return f"{size[0]:g} x {size[1]:g}"
