"""Write the network that comes with the package from a run of configs/keypoints.py.

    python -m scripts.ship_keypoint_network --workdir=runs/keypoints

It rounds the weights, evaluates the rounded network on the run's splits, and writes
pare_jax/pretrained/keypoints.safetensors and keypoints.json. Nothing is written if rounding changes
an error by more than 0.1 mm.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from flax import nnx

from configs.common import get_base
from data_pipelines import datasets
from pare_jax import sharding
from pare_jax.body.model import body_from_data
from pare_jax.errors import UserError
from pare_jax.evaluation import evaluate, report
from pare_jax.io import command_line
from pare_jax.io.progress import say
from pare_jax.training.shipped import FOLDER, network_of, rounded, write_shipped
from pare_jax.training.trained_run import load_config, load_model, split_checkpoint
from pare_jax.training.workdir import load_run_body

# Largest change of an error by rounding, mm.
_MOST_CHANGE = 0.1
_KEPT = ("count", "mpjpe", "pa_mpjpe", "pve", "mpjae", "mean_pose_mpjpe")


def ship(run: str | Path, folder: Path = FOLDER) -> list[str]:
    """Write the shipped files from a run.

    Args:
        run: a workdir, or one checkpoint's folder in it.
        folder: where to write.

    Returns:
        Lines to print.

    Raises:
        UserError: no such run, one on images or of another body than the free one, or rounding
            changes its errors.
    """
    workdir, _ = split_checkpoint(run)
    config = load_config(workdir, get_base())
    _, network = load_model(run, say=say)
    if config.model.input != "keypoints" or config.body_model:
        raise UserError(f"{run} is no run of a network on keypoints with the free body")
    body = load_run_body(workdir, config, None)
    flat = rounded(network)
    held_out = datasets.load_held_out(config, workdir, config)
    mesh = sharding.make_mesh()
    setup = evaluate.make_setup(config.eval, body_from_data(body), mesh)
    setup = setup.with_baseline(held_out.mean_joints)
    before = _errors(network, setup, held_out.evals)
    after = _errors(network_of(config, flat), setup, held_out.evals)
    for name, errors in after.items():
        change = abs(errors["mpjpe"] - before[name]["mpjpe"])
        if not change <= _MOST_CHANGE:
            raise UserError(f"rounding changes the MPJPE of {name} by {change:.2f} mm: not shipped")
    write_shipped(folder, config, flat, body, {"trained_on": _TRAINED_ON, "errors": after})
    lines = [
        f"{name}: MPJPE {errors['mpjpe']:.1f} mm, PA-MPJPE {errors['pa_mpjpe']:.1f} mm"
        for name, errors in after.items()
    ]
    return [*lines, f"written: {folder}/keypoints.safetensors and .json"]


_TRAINED_ON = (
    "bodies drawn by data_pipelines/bodies with the free body; no photograph, no other network's "
    "weights"
)


def _errors(
    network: nnx.Module, setup: evaluate.EvaluationSetup, evals: Any
) -> dict[str, dict[str, Any]]:
    graphdef, params, others = nnx.split(network, nnx.Param, ...)
    step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphdef))
    weights = evaluate.Weights(params, others, "last", 0)
    measured = evaluate.measure_splits(step, weights, setup, evals)
    summaries = {name: report.summarise(errors) for name, errors in measured.items()}
    return {
        name: {key: _short(summary[key]) for key in _KEPT} for name, summary in summaries.items()
    }


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("workdir", None, "The run, or one of its checkpoints.", flag_values=values)
    flags.DEFINE_string("output", str(FOLDER), "Folder to write to.", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return command_line.run(__doc__, define_flags, _run, argv, "interrupted: nothing was written")


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    if arguments or not values.workdir:
        raise UserError("give the run by --workdir=RUN; see --help")
    for line in ship(values.workdir, Path(values.output)):
        say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
