"""Measure whether a network on pixels adds anything to keypoints.

    python scripts/measure_pixels.py --pixels=runs/quickstart --drawn=1000
    python scripts/measure_pixels.py --pixels=runs/mine --keypoints=blazepose coco/labels.json

The network of this package sees keypoints, the run sees pixels. Several ways join their answers.
Without labels, people are drawn as the run's training drew them, but others; their keypoints are
exact, then those of a detector in 2D, then with depths. With labels, which are files as
`measure_photos.py` takes them, people are in photographs.

Columns: errors in mm (PA-MPJPE over 24 joints of drawn people, over LSP's joints in photographs);
the share of upper arms, forearms, thighs and shins with a true difference in depth of 10 cm or more
whose nearer end is told rightly, %; the share of limb joints within 0.1 of the extent, %. In
photographs the depths of the keypoints' source stand for the truth, if it has any. Last, the
difference to the answer from keypoints in the first column, with a 95 % interval (bootstrap).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from photo_labels import read_labels
from photo_scores import PhotoAnswer, aligned_error, limb_hits
from pixel_methods import (
    Answer,
    answer_of,
    answers_by_name,
    in_other_squares,
    joints_of,
    linear_map,
    mean_of,
)
from pixel_people import SeenPeople, drawn_people, photographed_people

from data_pipelines.synthetic import settings as synthetic_settings
from pare_jax import geometry
from pare_jax.errors import UserError
from pare_jax.evaluation.metrics import pa_mpjpe
from pare_jax.keypoints.body_points import PointBody, body_points
from pare_jax.keypoints.sets import point_index
from pare_jax.training.config import crop_scale_of
from pare_jax.training.shipped import load_shipped
from pare_jax.training.trained_run import load_model

_LIMBS = np.array(
    [
        [point_index(f"{side}_{name}") for name in pair]
        for side in ("left", "right")
        for pair in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
    ]
)
_DEEP = 0.1  # metres
_RESAMPLED = 2000
_PCK = 0.1
# Shares of the pixels that are tried on the first half of the drawn people.
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)

# Each person's errors by column; NaN where unknown.
Scores = dict[str, Float[np.ndarray, " n"]]


def limb_order(
    predicted: Float[np.ndarray, "n points 3"], true: Float[np.ndarray, "n points 3"]
) -> Float[np.ndarray, " n"]:
    """Return each person's share of deep limbs whose nearer end is right, %; NaN without any."""
    differences = [np.diff(x[:, _LIMBS, 2], axis=-1)[..., 0] for x in (predicted, true)]
    deep = np.abs(differences[1]) >= _DEEP
    right = deep & (differences[0] * differences[1] > 0)
    count = deep.sum(1)
    return np.where(count > 0, 100.0 * right.sum(1) / np.maximum(count, 1), np.nan)


def joint_scores(people: SeenPeople, joints: Float[np.ndarray, "n 24 3"]) -> Scores:
    """Return the errors of joints of drawn people."""
    assert people.joints is not None
    errors = 1000.0 * np.linalg.norm(joints - people.joints, axis=-1).mean(1)
    return {"MPJPE": errors, "PA-MPJPE": np.asarray(pa_mpjpe(joints, people.joints))}


def scores_of(people: SeenPeople, answer: Answer, body: PointBody) -> Scores:
    """Return the errors of an answer."""
    points, joints = joints_of(body, answer)
    order = limb_order(points, people.points)
    if people.joints is not None:
        return joint_scores(people, joints) | {"limbs": order}
    translation = geometry.camera_translation(jnp.asarray(answer.camera))
    units = np.asarray(geometry.project(jnp.asarray(points), translation))
    pixels = people.squares[:, None, :2] + units * people.squares[:, None, 2:] / 2.0
    pixels = np.where(np.asarray(body.known)[:, None] > 0, pixels, np.nan)
    answers = [PhotoAnswer(*pair) for pair in zip(pixels, points, strict=True)]
    hits = 100.0 * np.nanmean(limb_hits(people.labels, answers, _PCK), axis=1)
    errors = [aligned_error(*pair) for pair in zip(people.labels, answers, strict=True)]
    return {"PCK 0.1": hits, "PA-MPJPE": np.array(errors), "limbs": order}


def interval(differences: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Return mean and 95 % interval of the mean, by drawing people again."""
    rows = np.random.default_rng(0).integers(len(differences), size=(_RESAMPLED, len(differences)))
    means = np.nanmean(differences[rows], axis=1)
    return float(np.nanmean(differences)), *np.nanpercentile(means, [2.5, 97.5]).tolist()


def print_scores(title: str, table: Mapping[str, Scores]) -> None:
    """Print a table of Markdown; its first row is what the others are compared with."""
    first = next(iter(table.values()))
    names = [name for name in first if np.isfinite(first[name]).any()]
    counts = {name: int(np.isfinite(first[name]).sum()) for name in names}
    print(f"\n{title}; people with " + ", ".join(f"{k}: {v}" for k, v in counts.items()))
    print("| answer | " + " | ".join(names) + " | difference |")
    print("| --- |" + " ---: |" * (len(names) + 1))
    for name, scores in table.items():
        cells = [f"{np.nanmean(scores[k]):.1f}" if k in scores else "" for k in names]
        low = interval(scores[names[0]] - first[names[0]])
        cells.append("{:+.1f} ({:+.1f} to {:+.1f})".format(*low) if scores is not first else "")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


class NetworkPair:
    """Both networks, and the body."""

    def __init__(self, run: Path):
        """Load the network of this package and a run on pixels."""
        self.config, self._pixels = load_model(run)
        if self.config.model.input != "image":
            raise UserError(f"--pixels={run} sees keypoints: give a run that sees pixels")
        shipped = load_shipped()
        self._keypoints, self.body = shipped.network, body_points(shipped.body)

    def both(self, people: SeenPeople) -> tuple[Answer, Answer]:
        """Return the answers from keypoints and from pixels."""
        pixels = answer_of(self._pixels, people.crops)
        return (
            answer_of(self._keypoints, people.keypoints),
            in_other_squares(pixels, people.crop_squares, people.squares),
        )

    def table(self, people: SeenPeople, share: float) -> dict[str, Scores]:
        """Return the errors of all ways that are not learned."""
        answers = answers_by_name(people, *self.both(people), self.body, share)
        return {name: scores_of(people, one, self.body) for name, one in answers.items()}

    def learned(self, people: SeenPeople, others: SeenPeople) -> dict[str, Scores]:
        """Return the errors of linear maps of the answers' joints, learned on other people."""
        assert others.joints is not None
        inputs = {}
        for group in (people, others):
            own = [joints_of(self.body, one)[1] for one in self.both(group)]
            inputs[id(group)] = [x.reshape(len(x), -1) for x in own]
        rows = {}
        for name, count in (("linear map of keypoints' joints", 1), ("of both", 2)):
            own, given = (np.concatenate(inputs[id(g)][:count], 1) for g in (people, others))
            rows[name] = joint_scores(people, linear_map(given, others.joints)(own))
        return rows

    def best_share(self, others: SeenPeople) -> float:
        """Return the share of the pixels in the mean that is best for some people."""
        both = self.both(others)
        errors = [
            scores_of(others, mean_of(*both, share), self.body)["MPJPE"].mean() for share in _SHARES
        ]
        return _SHARES[int(np.argmin(errors))]


def measure_drawn(networks: NetworkPair, count: int) -> None:
    """Print the tables of drawn people."""
    config = networks.config
    drawings = synthetic_settings.from_mapping(config.data.synthetic)
    for exact in (True, False):
        people, others = (
            drawn_people(drawings, networks.body, size, config.image_size, exact, first)
            for size, first in ((count, 0), (3 * count, count))
        )
        for deep in (False,) if exact else (False, True):
            one, other = (x if deep else x.without_depths() for x in (people, others))
            share = networks.best_share(other)
            title = "COCO's points, exact" if exact else "a detector's points"
            title += f", {'with depths' if deep else 'in 2D'}"
            table = networks.table(one, share) | networks.learned(one, other)
            print_scores(f"Drawn people, {title}", table)


def measure_photographs(networks: NetworkPair, flags: argparse.Namespace) -> None:
    """Print the tables of people in photographs."""
    labelled = [one for one in read_labels(flags.labels, flags.photos) if one.is_measured]
    config = networks.config
    scale = crop_scale_of(config, flags.pixels)
    people = photographed_people(labelled, flags.keypoints, config.image_size, scale)
    depths = (False, True) if people.keypoints[..., 4].any() else (False,)
    for deep in depths:
        title = f"Photographs, {flags.keypoints}, {'with depths' if deep else 'in 2D'}"
        table = networks.table(people if deep else people.without_depths(), flags.share)
        print_scores(f"{title}, {len(people.labels)} of {len(labelled)} people seen", table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", nargs="*", metavar="LABELS[=SET]", help="files of keypoints")
    parser.add_argument("--pixels", type=Path, required=True, help="a run that sees pixels")
    parser.add_argument("--drawn", type=int, default=1000, help="people to draw (default: 1000)")
    parser.add_argument("--photos", type=Path, help="folder of the photographs (default: LABELS')")
    parser.add_argument(
        "--keypoints",
        default="blazepose",
        help="in photographs: annotated, blazepose or an .onnx file (default: blazepose)",
    )
    parser.add_argument(
        "--share", type=float, default=0.2, help="of the pixels in means, in photographs"
    )
    flags = parser.parse_args(arguments)
    try:
        networks = NetworkPair(flags.pixels)
        if flags.labels:
            measure_photographs(networks, flags)
        else:
            measure_drawn(networks, flags.drawn)
    except UserError as error:
        print(f"measure_pixels: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
