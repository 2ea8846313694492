"""Reads photographs whose people other people annotated, for `measure_photos.py`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pare_jax.errors import UserError, listed
from pare_jax.io.images import read_size
from pare_jax.keypoints.keypoint_files import read_keypoints
from pare_jax.keypoints.keypoints import Keypoints
from pare_jax.keypoints.sets import LIMB_POINTS

# Annotated joints lie inside the body: a box around them gets these shares of its width and height
# at each edge.
_MARGINS = (0.08, 0.12)
# People with fewer labelled limb joints are not measured.
FEWEST_LIMB_POINTS = 6


@dataclasses.dataclass(frozen=True)
class PhotoPerson:
    """A person in a photograph, as annotators marked it.

    Attributes:
        photo: the photograph.
        group: the folder of the label file, a row of the table.
        box: x0, y0, x1, y1, pixels: the annotators', else around the annotated points.
        keypoints: as annotated.
    """

    photo: Path
    group: str
    box: Float[np.ndarray, "4"]
    keypoints: Keypoints

    @property
    def points(self) -> Float[np.ndarray, "points 3"]:
        """x, y in pixels and confidence of every body point; 0 where not annotated."""
        return self.keypoints.body_points()

    @property
    def world(self) -> Float[np.ndarray, "points 3"] | None:
        """The 3D place of every body point about mid-hip, metres, camera axes; NaN: unknown."""
        return None if self.keypoints.world is None else self.keypoints.body_world()

    @property
    def extent(self) -> float:
        """The longer side of the extent of the annotated points, pixels."""
        points = self.points
        return float(np.ptp(points[points[:, 2] > 0, :2], axis=0).max())

    @property
    def is_measured(self) -> bool:
        """True if enough limb joints are annotated."""
        return int((self.points[list(LIMB_POINTS), 2] > 0).sum()) >= FEWEST_LIMB_POINTS


def read_labels(labels: Sequence[str], photos: Path | None = None) -> list[PhotoPerson]:
    """Return the people of label files whose photographs exist, photograph by photograph.

    Args:
        labels: paths of files as `read_keypoints` reads them; PATH=SET names the set of one.
        photos: the folder of the photographs; None: that of each label file.

    Raises:
        UserError: as `read_keypoints`; two files that label one photograph; no photograph found.
    """
    people: list[PhotoPerson] = []
    owners: dict[Path, Path] = {}
    for label in labels:
        path, _, set_name = label.partition("=")
        content = read_keypoints(path, set_name or None)
        folder = photos or content.path.parent
        found = {name: folder / name for name in content.people if (folder / name).is_file()}
        if not found:
            raise UserError(
                f"{folder} has none of the photographs of {path}, such as "
                f"{listed(list(content.people), 2)}: give --photos=FOLDER"
            )
        for name, photo in found.items():
            if owners.setdefault(photo, content.path) != content.path:
                raise UserError(f"{photo} is in {owners[photo]} and in {path}: give one of them")
            group = content.path.resolve().parent.name
            seen, notes = content.people_of(name, photo, *read_size(photo))
            for note in notes:
                print(note, file=sys.stderr)
            people += [_person(photo, group, own) for own in seen]
    return people


def _person(photo: Path, group: str, keypoints: Keypoints) -> PhotoPerson:
    box = keypoints.box
    if box is None:
        points = keypoints.body_points()
        known = points[points[:, 2] > 0, :2].astype(np.float64)
        margin = np.array(_MARGINS) * np.ptp(known, axis=0)
        box = np.concatenate([known.min(0) - margin, known.max(0) + margin])
        width, height = read_size(photo)[0]
        box = np.clip(box, 0, [width, height, width, height])
    return PhotoPerson(photo, group, box, keypoints)
