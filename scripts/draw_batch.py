"""Draw the first training batch of an experiment with its labels, and the table of its mixture.

    python scripts/draw_batch.py --config=configs/pare.py:mixture --output=batch.jpg
    python scripts/draw_batch.py --config=configs/final.py --config.data.root=data \
        --output=batch.png --count=16

Each person has a title with the dataset and the labels that it has. The first square is the
network's crop as the stream cuts it (turned, scaled, mirrored; colours change later, on the device)
with the 2D points: the joints as a skeleton, the points of keypoints as yellow dots. The second is
the mesh of pose and shape, where both are labelled. It is config.body_model's, or the free body.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags
from ml_collections import config_flags

from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError, counted
from pare_jax.io import command_line
from pare_jax.rendering.skeleton_lines import draw_skeleton
from pare_jax.rendering.text import grid, titled
from pare_jax.rendering.truth import draw_truth

_SUFFIXES = (".jpg", ".jpeg", ".png")
_POINT = (255, 255, 0)
_LABELS = {"2D": "joints_2d_weight", "points": "points_2d_weight", "3D": "joints_3d_weight"}
_LABELS |= {"pose": "pose_weight", "shape": "betas_weight"}


def define_flags(argv: Sequence[str], values: flags.FlagValues) -> None:
    """Define the flags; the config's overrides are those in `argv`."""
    config_flags.DEFINE_config_file(
        "config", None, "The experiment.", flag_values=values, sys_argv=list(argv)
    )
    flags.DEFINE_string("output", None, "Picture to write.", flag_values=values)
    for name, default, text in (
        ("count", 64, "People to draw."),
        ("side", 160, "Side of a square, pixels."),
        ("columns", 8, "People in a row."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=values)


def draw_person(example: Mapping[str, Any], body: BodyData, side: int) -> np.ndarray:
    """Draw one row of a batch as two squares beside each other, RGB.

    Args:
        example: the fields of the row; 2D points in crop units, [-1, 1].
        body: poses the mesh.
        side: of a square, pixels.
    """
    picture = cv2.resize(example["image"], (side, side), interpolation=cv2.INTER_CUBIC)
    joints = (example["joints_2d"] + 1.0) * (side / 2.0)
    known = example["joints_2d_weight"] > 0
    marked = draw_skeleton(picture.copy(), np.where(known[:, None], joints, np.nan), width=1.0)
    points = (example["points_2d"] + 1.0) * (side / 2.0)
    for x, y in points[example["points_2d_weight"] > 0]:
        cv2.circle(marked, (round(float(x)), round(float(y))), 2, _POINT, -1, cv2.LINE_AA)
    mesh = picture
    if all(example[f"{name}_weight"] > 0 for name in ("pose", "betas", "joints_3d")):
        pose = example["rotations"]
        mesh = draw_truth(picture, body, example["betas"], pose, example["joints_3d"], joints)
    return np.hstack([marked, mesh])


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    # These import TensorFlow, which --help does not need.
    from data_pipelines import datasets
    from data_pipelines.reading.sample_order import Mixture
    from pare_jax.training import config as config_lib

    config, output = values.config, Path(values.output or "")
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --")
    if config is None:
        raise UserError("give an experiment: --config=configs/quickstart.py")
    if output.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--output={output}: give a file that ends in {' or '.join(_SUFFIXES)}")
    config_lib.validate(config)
    if config.model.input != "image":
        raise UserError("--config: networks on keypoints have no pictures to draw")
    datasets.check_config(config)
    # The folder does not exist, so nothing is kept beside a run.
    data = datasets.load(config, output / "no_run")
    print("\n".join(data.notes))
    sets = datasets.training_sets(config)
    batch = next(data.train(0))
    mixture = Mixture([one.weight for one in sets], config.seed)
    owners, _ = mixture.draws(0, config.batch_size)
    body = load_body_data(config.body_model or None)
    cells = []
    for row in range(min(values.count, config.batch_size)):
        example = {name: np.asarray(column[row]) for name, column in batch.items()}
        has = [label for label, weight in _LABELS.items() if np.any(example[weight] > 0)]
        cell = draw_person(example, body, values.side)
        cells.append(titled(cell, f"{sets[owners[row]].name}: {', '.join(has)}"))
    sheet = cv2.cvtColor(grid(cells, values.columns), cv2.COLOR_RGB2BGR)
    output.parent.mkdir(parents=True, exist_ok=True)
    quality = [] if output.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 85]
    if not cv2.imwrite(str(output), sheet, quality):
        raise UserError(f"cannot write {output}: give another path")
    print(f"{output}: {counted(len(cells), 'person')} of the first batch")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""

    def define(values: flags.FlagValues) -> None:
        define_flags(argv, values)

    return command_line.run(__doc__, define, _run, argv)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.exit(main(sys.argv))
