"""The training loop: ties data, step, writer and checkpoints together, and reads as a run goes.

It takes an iterator of numpy batches and a writer with clu's interface, and asks nothing about
where they come from, so that it works without TensorFlow.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import sharding
from pare_jax.evaluation import report
from pare_jax.io.progress import ProgressBar
from pare_jax.pretrained.load import Loaded
from pare_jax.training import config as config_lib
from pare_jax.training import workdir as workdir_lib
from pare_jax.training.checkpoints import Checkpoints, load_config
from pare_jax.training.data import RunData
from pare_jax.training.run import Errors, Run, Weights
from pare_jax.training.step import TrainState
from pare_jax.training.watch import DivergenceWatch, Tracer


class Writer(Protocol):
    """The part of `clu.metric_writers.MetricWriter` that a run uses."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None: ...
    def write_images(self, step: int, images: Mapping[str, Any]) -> None: ...
    def write_texts(self, step: int, texts: Mapping[str, str]) -> None: ...
    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...
    def flush(self) -> None: ...


def train(config: ConfigDict, workdir: str | Path, data: RunData, writer: Writer) -> TrainState:
    """Train, or go on training, until the configured number of steps.

    Args:
        config: a validated config.
        workdir: where config.json, checkpoints and the evaluation go. A run that was stopped here
            goes on from its latest checkpoint and ends with the same bits.
        data: see `run_data.RunData`.
        writer: takes scalars, pictures and texts for TensorBoard.

    Returns:
        The final state; it is also the latest checkpoint.

    Raises:
        UserError: the workdir cannot be used, a checkpoint does not fit, saving fails, or the loss
            stays non-finite.
    """
    return fit(Run(config, data), workdir, writer)[0]


def fit(
    run: Run, workdir: str | Path, writer: Writer, start_from: Loaded | None = None
) -> tuple[TrainState, Errors]:
    """Train as `train` does, with a run whose compiled programs the caller goes on using.

    Args:
        run: the run.
        workdir: as in `train`.
        writer: as in `train`.
        start_from: the weights that the config names, if the caller has read them already.

    Returns:
        The final state, and its errors by evaluation split.
    """
    workdir, config, data = Path(workdir), run.config, run.data
    workdir_lib.check(workdir, config)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    goes_on = checkpoints.latest_step() is not None
    notes = [] if goes_on else run.load_pretrained(start_from)
    state, changed = run.initial_state(), []
    if goes_on:
        state = sharding.put_replicated(checkpoints.restore(state), run.mesh)
        changed = config_lib.differences(load_config(workdir), config)
    # Last, so that a command that comes to nothing does not pass for a run.
    workdir_lib.write_config(workdir, config)
    start = int(state.step)
    errors: Errors | None = None
    progress = ProgressBar("training", run.num_steps, start=start, lines=False)
    if goes_on:
        progress.say(f"going on from step {start} in {workdir}")
        if changed:
            progress.say(f"changed since it was started: {'; '.join(changed)}")
    else:
        _write_overview(writer, config, state, notes)
    for note in notes:
        progress.say(note)
    if run.settings.swa_start > run.num_steps:
        progress.say("the run ends before swa.start_epoch: there will be no averaged weights")
    tracer = Tracer(workdir, config.profile)
    recent: list[dict[str, jax.Array]] = []
    watch = DivergenceWatch(config.max_bad_steps, config.seed)
    stream = data.train(start)
    batches = sharding.prefetch(stream, run.mesh)
    try:
        for step in range(start, run.num_steps):
            tracer.before(step)
            batch = next(batches)
            with jax.transfer_guard("disallow"):
                state, scalars = run.step_after(step)(state, batch)
            watch.after(step, scalars.pop("bad_steps"))
            recent.append(scalars)
            progress.advance()
            done = step + 1
            last = done == run.num_steps
            if done % config.log_every_steps == 0 or last:
                _log(done, recent, state, run, writer, progress)
            evaluated = None
            if done % run.eval_every == 0 or last:
                started = time.perf_counter()
                state = run.with_statistics(state)
                weights = run.weights(state)
                errors = run.measure(weights)
                evaluated = _tell(errors, weights, writer, progress)
                if config.eval.pictures:
                    writer.write_images(done, {"held_out": run.panels(weights)})
                progress.pause(time.perf_counter() - started)
            if evaluated is not None or done % config.checkpoint.every_steps == 0:
                if evaluated is None:
                    # Whoever reads the mean from this checkpoint needs statistics that fit it.
                    state = run.with_statistics(state)
                checkpoints.save(state, evaluated or None)
        watch.finish()
        checkpoints.wait()
    finally:
        tracer.stop()
        progress.close()
        sharding.close_stream(stream)
        checkpoints.close()
        writer.flush()
    if errors is None:  # The run was at its end already.
        errors = run.measure(run.weights(state))
    return state, errors


def _write_overview(
    writer: Writer, config: ConfigDict, state: TrainState, notes: Sequence[str]
) -> None:
    """Record the hyperparameters, a table of the network's parameters, and where they are from."""
    from clu import parameter_overview

    flat = config_lib.flat(config_lib.plain(config))
    writer.write_hparams({k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()})
    params = nnx.to_pure_dict(state.params)
    overview = parameter_overview.get_parameter_overview(jax.device_get(params))
    texts = {"parameters": overview} | ({"pretrained": "\n\n".join(notes)} if notes else {})
    writer.write_texts(0, {name: f"```\n{text}\n```" for name, text in texts.items()})


def _log(
    step: int,
    recent: list[dict[str, jax.Array]],
    state: TrainState,
    run: Run,
    writer: Writer,
    progress: ProgressBar,
) -> None:
    """Write the mean of the latest steps' scalars, and stop a run that has gone astray."""
    host = jax.device_get(recent)
    recent.clear()
    means = {name: _finite_mean([row[name] for row in host]) for name in host[0]}
    epoch = step / run.data.steps_per_epoch
    text = f"step {step}/{run.num_steps}  epoch {epoch:.2f}  loss {means['loss']:.2f}"
    rate = progress.status(text) * run.config.batch_size
    skipped = int(jax.device_get(state.skipped))
    extra = {
        "examples_per_second": rate,
        # The optimizer does not count the steps that were skipped.
        "learning_rate": float(np.asarray(run.schedule(max(0, step - skipped - 1)))),
        "epoch": step / run.data.steps_per_epoch,
        "skipped_steps": skipped,
    }
    writer.write_scalars(step, {f"train/{k}": v for k, v in (means | extra).items()})


def _finite_mean(values: list[np.ndarray]) -> float:
    finite = [float(value) for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _tell(
    errors: Errors, weights: Weights, writer: Writer, progress: ProgressBar
) -> dict[str, float]:
    """Write an evaluation's scalars; returns what tells the best checkpoint.

    That is the first split with 3D joints; without any it is empty, and none is the best.
    """
    first: dict[str, float] = {}
    for name, split in errors.items():
        summary = report.summarise(split)
        scalars = {k: float(v) for k, v in summary.items() if type(v) in (int, float)}
        writer.write_scalars(
            weights.step, {f"{name}/{key}": value for key, value in scalars.items()}
        )
        if "mpjpe" in scalars:
            first = first or {"mpjpe": scalars["mpjpe"], "pa_mpjpe": scalars["pa_mpjpe"]}
        progress.say(f"step {weights.step}  {name} ({weights.name}): {_headline(scalars)}")
    return first


def _headline(scalars: Mapping[str, float]) -> str:
    if "mpjpe" not in scalars:
        return f"PCKh@0.5 {scalars['pckh']:.1f} %"
    against = ""
    if constant := scalars.get("mean_pose_mpjpe"):
        against = f" ({scalars['mpjpe'] / constant:.3f} of the best constant)"
    return f"MPJPE {scalars['mpjpe']:.1f} mm{against}, PA-MPJPE {scalars['pa_mpjpe']:.1f} mm"
