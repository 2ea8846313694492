"""Measure predictions on photographs whose people others annotated.

    python scripts/measure_photos.py coco/labels.json --method=figure --method=checkpoint:runs/mine
    python scripts/measure_photos.py mpii/test.json spin/test.npz=spin24 --method=figure

Labels are files as `pare_jax.keypoints.keypoint_files` reads them, =SET names the set of a file that does
not tell it. A limb joint (shoulders, elbows, wrists, hips, knees, ankles) counts as right within
0.1 or 0.2 of the longer side of the extent of the person's annotated points (PCK), or within half a
head's length (PCKh). All joints of all people count alike. PA-MPJPE is over the 14 common joints
that labels and method have. People with fewer than six labelled limb joints are left out.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from photo_labels import LabelledPerson, read_labels
from photo_methods import CheckpointMethod, PhotoMethod, upright_figure
from photo_scores import (
    PCK_THRESHOLDS,
    PhotoAnswer,
    aligned_error,
    head_hits,
    limb_hits,
    percent,
)

from pare_jax.errors import UserError
from pare_jax.io.images import read_image

# What follows the colon of --method is the argument.
_METHODS: dict[str, Callable[[str], PhotoMethod]] = {
    "figure": lambda _: upright_figure,
    "checkpoint": CheckpointMethod,
}
_HEADINGS = ("people", "PCK 0.1", "PCK 0.2", "PCKh", "PA-MPJPE", "with 3D")


def make_method(text: str) -> PhotoMethod:
    """Return the method of NAME or NAME:ARGUMENT; raise UserError for an unknown name."""
    name, _, argument = text.partition(":")
    if name not in _METHODS:
        raise UserError(f"--method={text} is unknown: use one of {', '.join(_METHODS)}")
    return _METHODS[name](argument)


def answers_of(method: PhotoMethod, people: Sequence[LabelledPerson]) -> list[PhotoAnswer | None]:
    """Return a method's answer for each person, who are in the order of their photographs."""
    answers: list[PhotoAnswer | None] = []
    for photo, group in itertools.groupby(people, lambda one: one.photo):
        answers += method(read_image(photo), list(group))
    return answers


def scores_of(
    people: Sequence[LabelledPerson], answers: Sequence[PhotoAnswer | None]
) -> list[float]:
    """Return the numbers of `_HEADINGS`."""
    errors = np.array([aligned_error(*pair) for pair in zip(people, answers, strict=True)])
    with_3d = errors[np.isfinite(errors)]
    return [
        len(people),
        *(percent(limb_hits(people, answers, threshold)) for threshold in PCK_THRESHOLDS),
        percent(head_hits(people, answers)),
        float(with_3d.mean()) if len(with_3d) else float("nan"),
        len(with_3d),
    ]


def print_table(people: Sequence[LabelledPerson], answers: Sequence[PhotoAnswer | None]) -> None:
    """Print a row for each folder of labels, and one for all."""
    print(f"{'':14} " + " ".join(f"{heading:>8}" for heading in _HEADINGS))
    groups = dict.fromkeys(one.group for one in people)
    for group in (*groups, "all"):
        pairs = [
            pair for pair in zip(people, answers, strict=True) if group in (pair[0].group, "all")
        ]
        numbers = scores_of(*map(list, zip(*pairs, strict=True)))
        cells = [f"{value:8.1f}" if isinstance(value, float) else f"{value:8}" for value in numbers]
        print(f"{group:14} " + " ".join(cell.replace("nan", "  -") for cell in cells))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="+", metavar="LABELS[=SET]", help="files of keypoints")
    parser.add_argument("--photos", type=Path, help="folder of the photographs (default: LABELS')")
    parser.add_argument(
        "--method", action="append", help="figure, or checkpoint:RUN; may be repeated"
    )
    flags = parser.parse_args()
    try:
        people = [one for one in read_labels(flags.labels, flags.photos) if one.is_measured]
        for text in flags.method or ["figure"]:
            print(f"method {text}")
            print_table(people, answers_of(make_method(text), people))
    except UserError as error:
        print(f"measure_photos: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
