"""The training loop: ties data, step, writer and checkpoints together, and reads as a run goes.

It takes an iterator of numpy batches and a writer with clu's interface, and asks nothing about
where they come from, so that it works without TensorFlow.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pare_jax import challenge, protocols, report, sharding
from pare_jax import config as config_lib
from pare_jax import workdir as workdir_lib
from pare_jax.augment import AugmentSettings
from pare_jax.body.model import BodyModel, load_body_model
from pare_jax.checkpoints import Checkpoints, load_config
from pare_jax.errors import UserError
from pare_jax.evaluate import Evaluator, HostBatch, SampleErrors
from pare_jax.models import build_model
from pare_jax.optimizer import learning_rate_schedule, make_optimizer
from pare_jax.progress import Progress
from pare_jax.rendering import overlay
from pare_jax.sequences import SplitNames
from pare_jax.train_step import (
    StepSettings,
    TrainState,
    create_state,
    statistics_graph,
    statistics_step,
    train_step,
)
from pare_jax.watch import DivergenceWatch, Tracer

Evaluate = Callable[[], Iterable[HostBatch]]
# What an evaluation found, by DATASET/SPLIT.
Errors = dict[str, SampleErrors]


class Data(Protocol):
    """What a run needs to be given of the data.

    Attributes:
        train: from the step to start at to an endless stream of this process' training batches; a
            function of (seed, step) alone.
        evals: by DATASET/SPLIT, a function that passes over the split once.
        eval_names: by DATASET/SPLIT, a function that tells the names of its samples.
        steps_per_epoch: of training.
        mean_joints: the training set's mean root-centred joints, metres, (24, 3).
    """

    # Properties, for a run only reads them.
    @property
    def train(self) -> Callable[[int], Iterator[HostBatch]]: ...
    @property
    def evals(self) -> Mapping[str, Evaluate]: ...
    @property
    def eval_names(self) -> Mapping[str, Callable[[], SplitNames]]: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def mean_joints(self) -> np.ndarray: ...


class Writer(Protocol):
    """The part of `clu.metric_writers.MetricWriter` that a run uses."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None: ...
    def write_images(self, step: int, images: Mapping[str, Any]) -> None: ...
    def write_texts(self, step: int, texts: Mapping[str, str]) -> None: ...
    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...
    def flush(self) -> None: ...


class Weights(NamedTuple):
    """Weights to evaluate: "swa" (the mean) or "last", of a step."""

    params: nnx.State
    batch_stats: nnx.State
    name: str
    step: int


class Run:
    """What stays the same during a run: devices, body, graphs and compiled programs."""

    def __init__(self, config: ConfigDict, data: Data):
        """Build the network and the programs; nothing compiles yet."""
        self.config = config
        self.data = data
        self.mesh = sharding.make_mesh()
        check_devices(config, self.mesh)
        self.num_steps = config.num_steps or round(config.num_epochs * data.steps_per_epoch)
        if not self.num_steps:
            raise UserError(f"config.num_epochs is {config.num_epochs}: that is not one step")
        self.eval_every = max(1, round(config.eval.every_epochs * data.steps_per_epoch))
        self.body: BodyModel = load_body_model(config.body_model or None)
        self.schedule = learning_rate_schedule(config.optimizer, self.num_steps)
        self._optimizer = optimizer = make_optimizer(config.optimizer, self.num_steps)
        self._model = model = build_model(config.model, rngs=nnx.Rngs(config.seed))
        self.settings = step_settings(config, data.steps_per_epoch)
        self._compile(nnx.graphdef(model), model, optimizer)
        in_evaluation = nnx.clone(model)
        in_evaluation.eval()
        self.evaluator = Evaluator(
            nnx.graphdef(in_evaluation),
            self.body,
            data.mean_joints,
            self.mesh,
            *protocols.load(config.eval, self.body),
        )
        # Asked now, for what cannot be exported is better known before hours of training.
        self._exported = challenge.exportable(data.eval_names) if config.eval.export else []

    def _compile(
        self, graphdef: nnx.GraphDef, model: nnx.Module, optimizer: optax.GradientTransformation
    ) -> None:
        same = sharding.replicated(self.mesh)
        split = sharding.batch_sharding(self.mesh)
        self.train_step = jax.jit(
            functools.partial(
                train_step,
                graphdef=graphdef,
                body=self.body,
                optimizer=optimizer,
                settings=self.settings,
            ),
            in_shardings=(same, split),
            out_shardings=same,
            donate_argnums=0,
        )
        self._statistics_step = jax.jit(
            functools.partial(
                statistics_step, graphdef=statistics_graph(model), settings=self.settings
            ),
            in_shardings=(same, same, same, split),
            out_shardings=same,
        )

    def initial_state(self) -> TrainState:
        """Make the state of a fresh run; the caller decides when its memory goes."""
        average = self.config.swa.start_epoch >= 0
        _, state = create_state(self._model, self._optimizer, average=average)
        return sharding.put_replicated(state, self.mesh)

    def stored_weights(self, store: Checkpoints, step: int | None = None) -> Weights:
        """Read the weights to evaluate from a checkpoint, the latest if `step` is None."""
        _, params, batch_stats = nnx.split(self._model, nnx.Param, ...)
        params, batch_stats, step, name = store.restore_model(
            (params, batch_stats), self.config.eval.weights, step
        )
        params, batch_stats = sharding.put_replicated((params, batch_stats), self.mesh)
        return Weights(params, batch_stats, name, step)

    def with_statistics(self, state: TrainState) -> TrainState:
        """Measure the averaged parameters' batch statistics, if there are any to measure."""
        if state.swa is None or not int(state.swa.count):
            return state
        stats = state.swa.batch_stats
        batches = self.data.train(0)
        for count in range(self.config.swa.statistics_batches):
            on_device = sharding.put_batch(next(batches), self.mesh)
            number = sharding.put_replicated(np.float32(count), self.mesh)
            stats = self._statistics_step(stats, number, state.swa.params, on_device)
        _close(batches)
        return state.replace(swa=state.swa.replace(batch_stats=stats))

    def weights(self, state: TrainState) -> Weights:
        """Choose the weights to evaluate: the mean, where it is wanted and there is one."""
        step = int(state.step)
        wants_mean = self.config.eval.weights == "swa"
        if wants_mean and state.swa is not None and int(state.swa.count):
            return Weights(state.swa.params, state.swa.batch_stats, "swa", step)
        return Weights(state.params, state.batch_stats, "last", step)

    def measure(self, weights: Weights) -> Errors:
        """Measure every evaluation split."""
        errors = {}
        for name, batches in self.data.evals.items():
            try:
                errors[name] = self.evaluator.measure(
                    weights.params, weights.batch_stats, batches()
                )
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        return errors

    def report(self, weights: Weights, errors: Errors, workdir: Path) -> dict[str, Any]:
        """Write metrics.json and the figures of what `measure` found."""
        return report.write_report(
            workdir / "eval",
            weights.step,
            weights.name,
            errors,
            lambda name, rows: self.evaluator.draw(
                weights.params, weights.batch_stats, self.data.evals[name](), rows
            ),
            np.asarray(self.body.faces),
            self.data.eval_names,
        )

    def export(self, errors: Errors, workdir: Path) -> list[str]:
        """Write what `measure` predicted as the 3DPW challenge takes it, if the config says so.

        Returns:
            What the user should know, a line each.
        """
        lines = []
        for name in self._exported:
            folder = workdir / "eval" / "res" / name.rpartition("/")[2]
            answers = errors[name].answers
            lines += challenge.write(folder, answers, self.data.eval_names[name]())
        return lines

    def panels(self, weights: Weights) -> np.ndarray:
        """Draw the first samples of the first evaluation split: (n, height, width, 3) uint8."""
        batches = next(iter(self.data.evals.values()))
        drawn = self.evaluator.draw(
            weights.params, weights.batch_stats, batches(), range(self.config.eval.pictures)
        )
        faces = np.asarray(self.body.faces)
        joints = self.config.eval.attention_joints
        return np.stack(
            [
                overlay.sample_panel(one.image, one.vertices, faces, one.attention, joints)
                for one in drawn
            ]
        )


def step_settings(config: ConfigDict, steps_per_epoch: int) -> StepSettings:
    """Collect what the step needs to know of the config."""
    return StepSettings(
        seed=config.seed,
        loss_weights=tuple(sorted(config.loss.items())),
        augment=AugmentSettings(
            colour=config.augment.colour,
            noise=config.augment.noise,
            occlusion=config.augment.occlusion,
        ),
        swa_start=max(1, round(config.swa.start_epoch * steps_per_epoch)),
        swa_every=config.swa.every_steps,
    )


def train(config: ConfigDict, workdir: str | Path, data: Data, writer: Writer) -> TrainState:
    """Train, or go on training, until the configured number of steps.

    Args:
        config: a validated config.
        workdir: where config.json, checkpoints and the evaluation go. A run that was stopped here
            goes on from its latest checkpoint and ends with the same bits.
        data: see `Data`.
        writer: takes scalars, pictures and texts for TensorBoard.

    Returns:
        The final state; it is also the latest checkpoint.

    Raises:
        UserError: the workdir cannot be used, a checkpoint does not fit, saving fails, or the loss
            stays non-finite.
    """
    return fit(Run(config, data), workdir, writer)[0]


def fit(run: Run, workdir: str | Path, writer: Writer) -> tuple[TrainState, Errors]:
    """Train as `train` does, with a run whose compiled programs the caller goes on using.

    Returns:
        The final state, and its errors by evaluation split.
    """
    workdir, config, data = Path(workdir), run.config, run.data
    workdir_lib.check(workdir, config)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    state, changed = run.initial_state(), []
    if checkpoints.latest_step() is not None:
        state = sharding.put_replicated(checkpoints.restore(state), run.mesh)
        changed = config_lib.differences(load_config(workdir), config)
    # Last, so that a command that comes to nothing does not pass for a run.
    workdir_lib.write_config(workdir, config)
    start = int(state.step)
    errors: Errors | None = None
    progress = Progress(run.num_steps, data.steps_per_epoch, config.batch_size, start)
    if start:
        progress.say(f"going on from step {start} in {workdir}")
        if changed:
            progress.say(f"changed since it was started: {'; '.join(changed)}")
    else:
        _write_overview(writer, config, state)
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
                state, scalars = run.train_step(state, batch)
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
        _close(stream)
        checkpoints.close()
        writer.flush()
    if errors is None:  # The run was at its end already.
        errors = run.measure(run.weights(state))
    return state, errors


def check_devices(config: ConfigDict, mesh: Mesh) -> None:
    """Raise UserError unless batches divide over the devices."""
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size, mesh)


def _write_overview(writer: Writer, config: ConfigDict, state: TrainState) -> None:
    """Record the hyperparameters and a table of the network's parameters."""
    from clu import parameter_overview

    flat = config_lib.flat(config_lib.plain(config))
    writer.write_hparams({k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()})
    params = nnx.to_pure_dict(state.params)
    overview = parameter_overview.get_parameter_overview(jax.device_get(params))
    writer.write_texts(0, {"parameters": f"```\n{overview}\n```"})


def _log(
    step: int,
    recent: list[dict[str, jax.Array]],
    state: TrainState,
    run: Run,
    writer: Writer,
    progress: Progress,
) -> None:
    """Write the mean of the latest steps' scalars, and stop a run that has gone astray."""
    host = jax.device_get(recent)
    recent.clear()
    means = {name: _finite_mean([row[name] for row in host]) for name in host[0]}
    rate = progress.report(step, means["loss"])
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


def _tell(errors: Errors, weights: Weights, writer: Writer, progress: Progress) -> dict[str, float]:
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


def _close(stream: Any) -> None:
    """End a stream of batches, if it has an end to its work to wait for."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
