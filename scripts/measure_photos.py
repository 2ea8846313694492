"""Measure predictions on photographs whose people others annotated.

    python scripts/measure_photos.py coco/labels.json --method=figure --method=network:runs/mine
    python scripts/measure_photos.py mpii/test.json h36m/test.npz=h36m17 \
        --method=network:runs/points --keypoints=rtmpose.onnx --sheet=worst.png
    python scripts/measure_photos.py coco/labels.json --detector=blazepose

Labels are files as `pare_jax.keypoints.keypoint_files` reads them; =SET names the set of a file
that does not give it. Methods get the annotators' boxes; without a box, the extent of the points
plus 8 % of its width and 12 % of its height at each edge.

A limb joint (shoulders, elbows, wrists, hips, knees, ankles) counts as right within 0.1 or 0.2 of
the longer side of the extent of the person's annotated points (PCK), or within half the length from
neck to head top (PCKh). All joints of all people count alike. PA-MPJPE is over those of LSP's 14
joints that labels and method have. People with fewer than six labelled limb joints are left out.
--detector measures a detector on all labelled boxes instead.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from photo_labels import PhotoPerson, read_labels
from photo_methods import PhotoMethod, make_method
from photo_scores import (
    PCK_THRESHOLDS,
    PhotoAnswer,
    aligned_error,
    detection_counts,
    head_hits,
    limb_hits,
    percent,
)
from photo_sheet import sheet

from pare_jax.errors import UserError
from pare_jax.io.files import write_atomically
from pare_jax.io.images import encode_png, read_image
from pare_jax.prediction.detection import make_detector

_HEADINGS = ("people", "PCK 0.1", "PCK 0.2", "PCKh", "PA-MPJPE", "with 3D")
_ALL = "all"


def answers_of(method: PhotoMethod, people: Sequence[PhotoPerson]) -> list[PhotoAnswer | None]:
    """Return a method's answer for each person, who are in the order of their photographs."""
    answers: list[PhotoAnswer | None] = []
    for photo, group in itertools.groupby(people, lambda one: one.photo):
        answers += method(read_image(photo), list(group))
    return answers


def scores_of(people: Sequence[PhotoPerson], answers: Sequence[PhotoAnswer | None]) -> list[float]:
    """Return the numbers of `_HEADINGS`; NaN where nothing can be measured."""
    errors = np.array([aligned_error(*pair) for pair in zip(people, answers, strict=True)])
    with_3d = errors[np.isfinite(errors)]
    return [
        len(people),
        *(percent(limb_hits(people, answers, threshold)) for threshold in PCK_THRESHOLDS),
        percent(head_hits(people, answers)),
        float(with_3d.mean()) if len(with_3d) else float("nan"),
        len(with_3d),
    ]


def print_scores(people: Sequence[PhotoPerson], answers: Sequence[PhotoAnswer | None]) -> None:
    """Print a row for each folder of labels, and one for all."""
    _print_row("", _HEADINGS)
    pairs = list(zip(people, answers, strict=True))
    for group in (*dict.fromkeys(one.group for one in people), _ALL):
        own = [pair for pair in pairs if group in (pair[0].group, _ALL)]
        _print_row(group, scores_of([one for one, _ in own], [answer for _, answer in own]))


def print_detections(people: Sequence[PhotoPerson], name: str, threshold: float | None) -> None:
    """Print recall and false boxes of a detector for each folder of labels, and for all."""
    detector = make_detector(name, threshold)
    rows: dict[str, list[int]] = {}
    for photo, group in itertools.groupby(people, lambda one: one.photo):
        own = list(group)
        found, others = detection_counts(
            np.array([one.box for one in own]), detector(read_image(photo))
        )
        for key in (own[0].group, _ALL):
            row = rows.setdefault(key, [0, 0, 0, 0])
            rows[key] = [a + b for a, b in zip(row, (1, len(own), found, others), strict=True)]
    _print_row("", ("photos", "people", "recall", "false"))
    for key in sorted(rows, key=lambda key: key == _ALL):
        photos, count, found, others = rows[key]
        _print_row(key, (photos, count, f"{found / count:.2f}", f"{others / photos:.2f}"))


def draw_worst(
    people: Sequence[PhotoPerson], answers: Sequence[PhotoAnswer | None], count: int, path: Path
) -> None:
    """Write a picture of the people with the smallest shares of right limb joints."""
    hits = limb_hits(people, answers, PCK_THRESHOLDS[0])
    shares = np.nanmean(hits, axis=1)
    chosen = np.argsort(shares, kind="stable")[:count]
    titles = [
        f"{people[n].group}/{people[n].photo.stem[-12:]}: {np.nansum(hits[n]):.0f} of "
        f"{np.isfinite(hits[n]).sum()}"
        for n in chosen
    ]
    picture = sheet([people[n] for n in chosen], [answers[n] for n in chosen], titles)
    write_atomically(path, encode_png(picture))
    print(f"{path}: the worst {len(chosen)}; labels are green")


def _print_row(name: str, cells: Sequence[str | float]) -> None:
    texts = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"{name:14} " + " ".join(f"{'-' if text == 'nan' else text:>8}" for text in texts))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="+", metavar="LABELS[=SET]", help="files of keypoints")
    parser.add_argument("--photos", type=Path, help="folder of the photographs (default: LABELS')")
    parser.add_argument(
        "--method",
        action="append",
        help="figure, keypoints, network (of this package) or network:RUN; may be repeated "
        "(default: figure)",
    )
    parser.add_argument(
        "--keypoints",
        default="annotated",
        help="source for the methods keypoints and network: annotated, blazepose or an .onnx file "
        "(default: annotated)",
    )
    parser.add_argument("--refine", action="store_true", help="fit networks' bodies to keypoints")
    parser.add_argument("--detector", help="measure this detector instead")
    parser.add_argument("--threshold", type=float, help="the detector's least score")
    parser.add_argument("--sheet", type=Path, help="picture of the last method's worst to write")
    parser.add_argument("--worst", type=int, default=6, help="people on it (default: 6)")
    flags = parser.parse_args(arguments)
    try:
        people = read_labels(flags.labels, flags.photos)
        if flags.detector:
            print_detections(people, flags.detector, flags.threshold)
            return 0
        people = [one for one in people if one.is_measured]
        if not people:
            raise UserError("nobody in these labels has six labelled limb joints")
        answers: list[PhotoAnswer | None] = []
        for text in flags.method or ["figure"]:
            print(f"method {text}")
            answers = answers_of(make_method(text, flags.keypoints, flags.refine), people)
            print_scores(people, answers)
        if flags.sheet:
            draw_worst(people, answers, flags.worst, flags.sheet)
    except UserError as error:
        print(f"measure_photos: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
