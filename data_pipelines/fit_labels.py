"""Fits bodies to the 2D keypoints of a prepared dataset, as labels for training.

    python -m data_pipelines.fit_labels --dataset=mpii --data=data
    python -m data_pipelines.fit_labels --dataset=coco --data=data --checkpoint=runs/better
    python -m data_pipelines.fit_labels --dataset=mpii --data=data --body=SMPL_NEUTRAL.pkl

Each person with keypoints is fitted from poses of the dictionary and from a network's answer. The
fits are written to fits/SPLIT.npz beside the shards, which stay as they are. Training uses those
that pass the gate of config.data.fits (--config.data.fits.use=True). The same command goes on after
an interruption; with another network or body it makes the fits again.
"""

import os
import sys
from collections.abc import Sequence

from absl import flags

from data_pipelines.fits.fit_people import fit_split
from data_pipelines.fits.gate import Gate
from data_pipelines.fits.label_starts import NetworkStarts
from data_pipelines.reading import storage
from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.progress import say
from pare_jax.training.base_config import base_config


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    texts = {
        "dataset": "Name of the prepared dataset: mpii, coco, or that of a folder.",
        "checkpoint": "Run whose answers are starts, or WORKDIR/checkpoints/STEP; default: the "
        "network of this package.",
        "body": "Body model file to fit; default: that of the network. It must be the "
        "config.body_model of the trainings that use the fits.",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_string("data", "data", "Folder of prepared datasets.", flag_values=values)
    flags.DEFINE_string("split", "train", "Split of the dataset.", flag_values=values)


def run_command(values: flags.FlagValues, arguments: list[str]) -> int:
    """Fit the people of a split, and print what passes the default gate.

    Raises:
        UserError: the command line is wrong, or there is no such dataset, split, run or body.
    """
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}; see --help")
    if not values.dataset:
        raise UserError("--dataset is missing: name a prepared dataset, for instance mpii")
    source = storage.open_split(storage.find_dataset(values.data, values.dataset), values.split)
    starts = NetworkStarts(values.checkpoint, values.body)
    fits = fit_split(source, starts)
    gate = Gate.of_config(base_config().data.fits)
    say(f"{values.dataset}/{values.split}: {gate.summary(fits.columns)}")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    resume = "fit_labels: interrupted; run the command again to resume"
    return command_line.run(__doc__, define_flags, run_command, argv, resume)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
