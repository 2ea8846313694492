"""Reads EFT's fits of SMPL to the people of COCO, MPII and LSPET, joined to their photographs.

    SOURCE/COCO2014-Part-ver01.json (28,344 people), COCO2014-All-ver01.json (79,051),
    MPII_ver01.json (14,361), LSPet_ver01.json

SOURCE is one of these files. It names photographs without folders, so that `images` may be any
folder above them. The fits give rotations and betas. They come without 2D points: with `labels`,
COCO's annotation file, people get the points that were annotated.

Joo et al., "Exemplar Fine-Tuning for 3D Human Model Fitting Towards In-the-Wild 3D Human Pose
Estimation", 3DV 2021; https://github.com/facebookresearch/eft. Non-commercial.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_pipelines.releases.coco_keypoints import number_of, read_coco
from data_pipelines.releases.labelled_people import LabelFile, LabelledPerson
from data_pipelines.releases.labelled_photographs import HELD_OUT, LabelledPhotographs
from data_pipelines.releases.release import Skipped
from pare_jax.crop import SPIN_UNIT
from pare_jax.errors import UserError
from pare_jax.io.files import read_json
from pare_jax.keypoints.sets import NUM_BODY_POINTS
from pare_jax.skeleton import NUM_BETAS, NUM_JOINTS

_ADVICE = "give EFT's JSON, such as COCO2014-Part-ver01.json"


class Eft(LabelledPhotographs):
    """EFT's fits; see `release.RawDataset`."""

    kind = "eft"
    flags = (*LabelledPhotographs.flags, "labels")

    def __init__(
        self,
        source: str | Path,
        images: str | Path | None = None,
        name: str | None = None,
        held_out: float = HELD_OUT,
        labels: str | Path | None = None,
    ):
        """See `LabelledPhotographs`.

        Args:
            source: one of EFT's JSON files.
            images: a folder above the photographs of COCO, MPII or LSPET.
            name: of the dataset.
            held_out: share of the photographs in "validation".
            labels: COCO's annotations of the same people, for their 2D points.
        """
        super().__init__(source, images, name, held_out)
        self._coco = None if labels is None else Path(labels)

    def _read_labels(self) -> LabelFile:
        if not self.source.is_file():
            raise UserError(f"--source={self.source} is a folder: {_ADVICE}")
        try:
            content = read_json(self.source, _ADVICE)
        except OSError as error:
            raise UserError(f"cannot read {self.source}: {error.strerror or error}") from None
        entries = content.get("data") if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
            raise UserError(f'{self.source} has no list of objects "data": {_ADVICE}')
        points = {} if self._coco is None else _points_of(self._coco)
        result, used = LabelFile(), set()
        for number, entry in enumerate(entries):
            what = f"entry {number}"
            own_id = entry.get("annotId")
            name = entry.get("imageName")
            is_id = number_of(own_id, -1) == own_id
            person = _person(entry, what, number_of(own_id, number))
            if is_id and isinstance(name, str) and (own_id, name) in used:
                person = "annotation id is used twice"
            if isinstance(person, str):
                result.skipped.append(Skipped(what, person))
                continue
            used.add((own_id, name))
            if is_id and (own := points.get((own_id, PurePosixPath(name).name))) is not None:
                person.points[:] = own
            result.people.append(person)
        if self._coco is not None:
            with_points = sum(bool(person.points.any()) for person in result.people)
            if result.people and not with_points:
                raise UserError(
                    f"--labels={self._coco} has none of the people of {self.source}: give "
                    "annotations of the same photographs"
                )
            result.notes.append(
                f"{with_points:,} of {len(result.people):,} people have 2D points in {self._coco}"
            )
        return result


def _points_of(path: Path) -> dict[tuple[int, str], np.ndarray]:
    """Return the body points of the people of a COCO file by annotation id and photograph."""
    return {
        (person.number, PurePosixPath(person.photograph).name): person.points
        for person in read_coco(path).people
    }


def _person(entry: Mapping[str, Any], what: str, number: int) -> LabelledPerson | str:
    """Return the person, or the reason for skipping."""
    name = entry.get("imageName")
    if not isinstance(name, str) or not name:
        return "no image name"
    if entry.get("smpltype", "smpl") != "smpl":
        return "body model is not SMPL"
    pose = _numbers(entry.get("parm_pose"), (NUM_JOINTS, 3, 3))
    betas = _numbers(entry.get("parm_shape"), (NUM_BETAS,))
    centre = _numbers(entry.get("bbox_center"), (2,))
    scale = _numbers(entry.get("bbox_scale"), ())
    if pose is None:
        return f"parm_pose is not {NUM_JOINTS} matrices"
    if betas is None:
        return f"parm_shape is not {NUM_BETAS} numbers"
    if centre is None or scale is None:
        return "bbox_center or bbox_scale is missing"
    return LabelledPerson(
        what=what,
        photograph=name,
        number=number,
        centre=centre,
        side=SPIN_UNIT * float(scale),
        points=np.zeros((NUM_BODY_POINTS, 3)),
        rotations=pose,
        betas=betas,
    )


def _numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return numbers of a shape, flat or nested; None if these are others."""
    try:
        found = np.asarray(values, np.float64)
        return found.reshape(shape)
    except (TypeError, ValueError, OverflowError):
        return None
