"""Checks that the datasets of a config have the labels that its losses and metrics need."""

import itertools

import numpy as np

from data_pipelines.mean_pose import Sources
from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.reading.storage import StoredSplit
from pare_jax.errors import UserError

# Examples searched for part labels, which a dataset may have for one gender only.
_SEARCHED = 200


def check_measurable(
    name: str, source: StoredSplit, protocol: str, damaged: DamagedExamples
) -> None:
    """Check that a metric can be measured on a split.

    Args:
        name: DATASET/SPLIT, for the message.
        source: the split.
        protocol: config.eval.protocol.
        damaged: counts the damaged examples, which are left out.

    Raises:
        UserError: nobody has the labels, or the split cannot be read.
    """
    # Most splits have labels everywhere, and few are without any.
    first = np.linspace(0, len(source) - 1, min(len(source), _SEARCHED))
    for example in damaged.readable(source, itertools.chain(map(int, first), range(len(source)))):
        needed = ("pose_weight", "betas_weight") if protocol == "j14" else ("joints_3d_weight",)
        if all(example[weight] > 0 for weight in needed):
            return
        points = np.append(example["joints_2d_weight"], example["head_top_weight"])
        if np.count_nonzero(points) > 1:
            return
    raise UserError(
        f"config.data.eval: nobody in {name} has what protocol {protocol} needs, or two joints in "
        "2D: name another split"
    )


def check_part_labels(sources: Sources, damaged: DamagedExamples) -> None:
    """Check that a dataset has the part labels that loss.parts needs.

    Args:
        sources: the training sets with their weights.
        damaged: counts the damaged examples, which are left out.

    Raises:
        UserError: none has them, or one cannot be read.
    """
    for source, _ in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _SEARCHED))
        examples = damaged.readable(source, map(int, chosen))
        if any(example["parts_weight"] > 0 for example in examples):
            return
    raise UserError(
        "config.loss.parts needs part labels, which no dataset of config.data.train has: prepare "
        "3DPW with --body=SMPL (docs/data.md), or set config.loss.parts to 0"
    )
