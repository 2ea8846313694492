"""Train or evaluate from the command line.

    python -m pare_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m pare_jax.main --workdir=runs/quickstart --mode=evaluate
    python -m pare_jax.main --config=runs/quickstart/config.json --workdir=runs/again

Evaluation takes the latest checkpoint, or --step=N, one of those in WORKDIR/checkpoints. It uses
the run's own config, WORKDIR/config.json, and needs no --config. Any key of the config can be
overridden in both modes: --config.optimizer.learning_rate=1e-4. The config of a run trains it
again: with the versions, the device and the data of its manifest.json to the same bits. A user's
mistake is reported in one line on stderr, with exit status 2.

Under SLURM, Open MPI, an indexed Kubernetes job or on a TPU pod, one command in each process is one
run (docs/scaling.md). Elsewhere name the processes:

    python -m pare_jax.main ... --coordinator=HOST:PORT --num_processes=2 --process_id=0
"""

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from pare_jax.errors import UserError
from pare_jax.io import command_line
from pare_jax.io.progress import say

if TYPE_CHECKING:
    from pare_jax.training.data import HeldOut, RunData

_MODES = ("train", "evaluate")
# Keys and sections of a config that change the result of an evaluation.
_EVALUATION = ("precision", "image_size", "body_model", "model", "data", "eval")

# After Ctrl-C.
_RESUMES = "interrupted; run the same command again to resume"
# Datasets whose labels have SMPL's betas, by the start of their names.
_SMPL_SHAPES = ("pw3d", "h36m", "mpi_inf_3dhp")


def define_flags(argv: Sequence[str], values: flags.FlagValues, again: Path | None = None) -> None:
    """Define the flags; the config's overrides are those in `argv`.

    Args:
        argv: the command line, without `--config=WORKDIR/config.json`.
        values: get the flags.
        again: the workdir of the run to train again.

    Raises:
        UserError: the run whose config is to be used does not exist.
    """
    help_text = "The experiment, a file in configs/. An evaluation uses the run's own config."
    options = {"flag_values": values, "sys_argv": list(argv)}
    if workdir := again or _evaluated_without_config(argv):
        config_flags.DEFINE_config_dict("config", load_run(workdir), help_text, **options)
    else:
        config_flags.DEFINE_config_file("config", None, help_text, **options)
    _define_others(values)


def _define_others(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder of this run.", flag_values=values)
    flags.DEFINE_enum("mode", "train", _MODES, "What to do.", flag_values=values)
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of the first process of several.", flag_values=values
    )
    numbers = {
        "step": "Step of the checkpoint to evaluate; default: latest.",
        "num_processes": "Number of processes of this run; default: as they were started.",
        "process_id": "Number of this process, 0 for the first.",
    }
    for name, text in numbers.items():
        flags.DEFINE_integer(name, None, text, flag_values=values)


def split_run(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Take `--config=WORKDIR/config.json`, or its manifest.json, out of a command line.

    Returns:
        The other arguments, and the workdir; None if the config is no run's.
    """
    for place, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name.lstrip("-") != "config" or not argument.startswith("-"):
            continue
        if not equals:
            value = "".join(argv[place + 1 : place + 2])
        if Path(value).name in ("config.json", "manifest.json"):
            return [*argv[:place], *argv[place + (1 if equals else 2) :]], Path(value).parent
    return list(argv), None


def _evaluated_without_config(argv: Sequence[str]) -> Path | None:
    """Return the workdir of a command line that asks for an evaluation without --config."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=values)
    _define_others(values)
    # The config's keys are unknown yet. The whole command line is checked later.
    with contextlib.suppress(flags.Error):
        values(list(argv), known_only=True)
        if values.mode == "evaluate" and values.workdir and not values.config:
            return Path(values.workdir)
    return None


def load_run(workdir: Path) -> ConfigDict:
    """Return the config of a run with all keys of now, and no others; raises UserError."""
    from configs.common import get_base
    from pare_jax.training import config as config_lib
    from pare_jax.training.trained_run import load_config

    defaults = get_base()
    return config_lib.without_unknown(load_config(workdir, defaults), defaults).lock()


class Request(NamedTuple):
    """A parsed command line.

    Attributes:
        config: the experiment, or for an evaluation the run's config; overrides included.
        workdir: the run's folder.
        mode: "train" or "evaluate".
        step: step of the checkpoint to evaluate; None for the latest.
        notes: lines about values of --config that an evaluation does not use.
        overrides: values by dotted key, set one by one on the command line.
        again: the workdir of the run that is trained again.
    """

    config: ConfigDict
    workdir: Path
    mode: str
    step: int | None
    notes: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = {}
    again: Path | None = None


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
        # A word after ":" is an argument of get_config().
        name = str(config_flags.get_config_filename(values["config"])).partition(":")[0]
        if Path(name).is_file():
            raise UserError(
                f"get_config() of {name} returns no ConfigDict: see the files in configs/"
            )
        raise UserError(f"there is no experiment {name}: name a file in configs/")
    # With a workdir, an evaluation has the run's config.
    if config is None and values.mode == "train":
        raise UserError("give an experiment: --config=configs/quickstart.py needs no data")
    if config is None or not values.workdir:
        raise UserError("give a folder for the run: --workdir=runs/NAME")
    if values.step is not None and values.mode != "evaluate":
        raise UserError("--step needs --mode=evaluate; training resumes from the latest checkpoint")
    workdir, notes = Path(values.workdir), ()
    name = config_flags.get_config_filename(values["config"])
    overrides = config_flags.get_override_values(values["config"])
    if values.mode == "evaluate" and isinstance(name, str):
        config, notes = _config_of_run(workdir, config, name, overrides)
    return Request(config, workdir, values.mode, values.step, notes, overrides)


def _config_of_run(
    workdir: Path, given: ConfigDict, name: str, overrides: Mapping[str, Any]
) -> tuple[ConfigDict, tuple[str, ...]]:
    """Return the run's config with the command's overrides, and what --config has otherwise.

    Args:
        workdir: the run's folder.
        given: the config of --config, overrides included.
        name: the file of --config.
        overrides: values by dotted key, set one by one on the command line.

    Raises:
        UserError: there is no such run.
    """
    from pare_jax.training import config as config_lib

    config = load_run(workdir)
    config.update_from_flattened_dict(dict(overrides))
    if config.data.photos:
        return config, ()  # a fine-tuning has its network and more from the first run
    notes = [
        f"config.{key} is {own!r}, the run's; {name} has {other!r}"
        for key, own, other in config_lib.differing(config, given, _EVALUATION)
    ]
    return config, tuple(notes)


def run(request: Request) -> None:
    """Train and evaluate, or evaluate alone, as a validated config says.

    Of several processes the first prints.
    """
    from pare_jax.training import multiprocess
    from pare_jax.training import workdir as workdir_lib
    from pare_jax.training.stopping import Stopped

    with contextlib.ExitStack() as around:
        if not multiprocess.is_first():
            nowhere = around.enter_context(open(os.devnull, "w"))
            around.enter_context(contextlib.redirect_stdout(nowhere))
        around.enter_context(workdir_lib.left_as_found(request.workdir))
        if request.mode == "evaluate":
            _evaluate(request.config, request.workdir, request.step)
            return
        try:
            _train(request.config, request.workdir, request.again)
        except Stopped as stopped:
            if multiprocess.is_first():
                say(f"stopped by {stopped}: run the same command again to resume", sys.stderr)


def _train(config: ConfigDict, workdir: Path, again: Path | None = None) -> None:
    if config.data.photos:
        from pare_jax.finetuning.finetune import finetune
        from pare_jax.training import multiprocess

        if multiprocess.count() > 1:
            raise UserError("config.data.photos needs one process: give --num_processes=1")
        finetune(config, workdir, again)
        return
    from configs.common import get_base
    from data_pipelines import datasets
    from data_pipelines.event_writer import tensorboard_writer
    from pare_jax.training import manifest
    from pare_jax.training.train import train

    def load_data() -> "RunData":
        data = datasets.load(config, workdir)
        _warn_of_free_body(config)
        if again:
            notes = manifest.compare_run(again, config, data.fingerprints)
            data = dataclasses.replace(data, notes=[*data.notes, *notes])
        return data

    train(config, workdir, load_data, lambda: tensorboard_writer(workdir), get_base())


def _evaluate(config: ConfigDict, workdir: Path, step: int | None) -> None:
    from data_pipelines import datasets
    from pare_jax.training.evaluate_checkpoint import evaluate_checkpoint

    def load_data(trained: ConfigDict) -> "HeldOut":
        data = datasets.load_held_out(config, workdir, trained)
        _warn_of_free_body(config)
        return data

    for line in evaluate_checkpoint(config, workdir, load_data, step):
        print(line)


def _warn_of_free_body(config: ConfigDict) -> None:
    from pare_jax.training.config import dataset_names

    shaped = [name for name in dataset_names(config.data.train) if name.startswith(_SMPL_SHAPES)]
    if not config.body_model and shaped:
        named = "3DPW" if shaped[0].startswith("pw3d") else shaped[0]
        print(
            f"config.body_model is empty: {named}'s shapes are SMPL's, but predictions use the "
            "free body, whose proportions differ; give SMPL_NEUTRAL (docs/data.md)",
            file=sys.stderr,
        )


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    argv, again = split_run(argv)
    define = functools.partial(define_flags, argv, again=again)
    return command_line.run(__doc__, define, functools.partial(_run, again), argv, _RESUMES)


def _run(again: Path | None, values: flags.FlagValues, arguments: Sequence[str]) -> int:
    """Check the command line and run it."""
    request = parse(values, arguments)._replace(again=again)
    from data_pipelines import datasets
    from pare_jax import sharding
    from pare_jax.training import config as config_lib
    from pare_jax.training import multiprocess
    from pare_jax.training.compilation_cache import keep_compiled_programs

    keep_compiled_programs()
    for note in request.notes:
        say(note, sys.stderr)
    if request.mode == "train" and request.config.data.photos:
        from pare_jax.finetuning.adopt import adopted

        request = request._replace(config=adopted(request.config, request.overrides))
    config_lib.validate(request.config)
    datasets.check_config(request.config)
    several = multiprocess.start(values.coordinator, values.num_processes, values.process_id)
    if request.config.model.name != "keypoints" and not several:
        # Each device repeats the optimizer's work, which is a large part of such a network's step.
        sharding.split_cpu(request.config.batch_size, request.config.eval.batch_size)
    with multiprocess.failing_at_once(_RESUMES) if several else contextlib.nullcontext():
        run(request)
    return 0


if __name__ == "__main__":
    # TensorFlow only reads data and writes events; its start-up remarks are noise here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.exit(main(sys.argv))
