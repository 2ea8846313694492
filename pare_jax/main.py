"""Train or evaluate from the command line.

    python -m pare_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m pare_jax.main --config=configs/quickstart.py --workdir=runs/quickstart --mode=evaluate

Evaluation takes the latest checkpoint, or --step=N, one of those in WORKDIR/checkpoints.
Any key of the config can be overridden: --config.optimizer.learning_rate=1e-4. A user's mistake is
reported in one line on stderr, with exit status 2.
"""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from pare_jax.errors import UserError
from pare_jax.io import command_line

_MODES = ("train", "evaluate")


def define_flags(argv: Sequence[str], values: flags.FlagValues) -> None:
    """Define the flags; the config's overrides are those in `argv`."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment, a file in configs/.",
        flag_values=values,
        sys_argv=list(argv),
    )
    flags.DEFINE_string("workdir", None, "Folder of this run.", flag_values=values)
    flags.DEFINE_enum("mode", "train", _MODES, "What to do.", flag_values=values)
    flags.DEFINE_integer(
        "step", None, "Step of the checkpoint to evaluate; default: latest.", flag_values=values
    )


class Request(NamedTuple):
    """What a command line asks for.

    Attributes:
        config: the experiment, overrides included.
        workdir: the run's folder.
        mode: "train" or "evaluate".
        step: of the checkpoint to evaluate; None for the latest.
    """

    config: ConfigDict
    workdir: Path
    mode: str
    step: int | None


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> Request:
    """Return what the flags ask for.

    Raises:
        UserError: an experiment that does not exist, or something missing.
    """
    config = values.config
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags start with --")
    if config is not None and not isinstance(config, ConfigDict):
        # ml_collections delays the error of loading the file until the config is read.
        name = config_flags.get_config_filename(values["config"])
        raise UserError(f"there is no experiment {name}: name a file in configs/")
    if config is None:
        raise UserError("give an experiment: --config=configs/quickstart.py needs no data")
    if not values.workdir:
        raise UserError("give a folder for the run: --workdir=runs/NAME")
    if values.step is not None and values.mode != "evaluate":
        raise UserError("--step needs --mode=evaluate; training resumes from the latest checkpoint")
    return Request(config, Path(values.workdir), values.mode, values.step)


def run(request: Request) -> None:
    """Train and evaluate, or evaluate alone, as a validated config says."""
    from pare_jax.training import workdir as workdir_lib

    with workdir_lib.left_as_found(request.workdir):
        _train_or_evaluate(request)


def _train_or_evaluate(request: Request) -> None:
    from data_pipelines import datasets
    from pare_jax import sharding
    from pare_jax.body.io import load_body_data
    from pare_jax.evaluation import protocols
    from pare_jax.pretrained import load as pretrained
    from pare_jax.training import checkpoints, train
    from pare_jax.training import run as run_lib
    from pare_jax.training import workdir as workdir_lib

    config, workdir = request.config, request.workdir
    trained = None
    if request.mode == "evaluate":
        trained = checkpoints.load_config(workdir)
        config.body_model = config.body_model or trained.get("body_model", "")
        workdir_lib.check_same_network(trained, config, workdir)
    # Whatever can go wrong at once comes before the data, which may take hours to make.
    run_lib.check_devices(config, sharding.make_mesh())
    load_body_data(config.body_model or None)
    protocols.check(config)
    if trained is not None:
        store = checkpoints.Checkpoints(workdir, read_only=True)
        store.find(request.step)
        loop = run_lib.Evaluation(config, datasets.load_held_out(config, workdir, trained))
        _tell_of_body(config)
        weights = loop.stored_weights(store, request.step)
        errors = loop.measure(weights)
    else:
        workdir_lib.check(workdir, config)
        start = None if workdir_lib.has_run(workdir) else pretrained.load(config)
        loop = run_lib.Run(config, datasets.load(config, workdir))
        _tell_of_body(config)
        writer = datasets.tensorboard_writer(workdir)
        state, errors = train.fit(loop, workdir, writer, start)
        writer.close()
        weights = loop.weights(state)
    _show(loop.report(weights, errors, workdir), workdir)
    for line in loop.export(errors, workdir):
        print(line)


def _tell_of_body(config: ConfigDict) -> None:
    if not config.body_model and any(name.startswith("pw3d") for name, _ in config.data.train):
        print(
            "config.body_model is empty: 3DPW's shapes are SMPL's, but predictions are posed on "
            "the free body, whose proportions differ; give SMPL_NEUTRAL (docs/data.md)",
            file=sys.stderr,
        )


def _show(metrics: dict, workdir: Path) -> None:
    from pare_jax.evaluation import report

    print(f"step {metrics['step']}, weights: {metrics['weights']}")
    print(report.table(metrics["splits"]))
    print(f"written: {workdir / 'eval'}")


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    again = "interrupted; run the same command again to resume"
    return command_line.run(__doc__, functools.partial(define_flags, argv), _run, argv, again)


def _run(values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """Check what the command line asks for and do it."""
    request = parse(values, arguments)
    from pare_jax import sharding
    from pare_jax.training import config as config_lib

    config_lib.validate(request.config)
    sharding.split_cpu(request.config.batch_size, request.config.eval.batch_size)
    run(request)
    return 0


if __name__ == "__main__":
    # TensorFlow only reads data and writes events; its start-up remarks are noise here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.exit(main(sys.argv))
