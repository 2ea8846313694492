"""The training loop: ties data, step, writer and checkpoints together, and reads as a run goes.

It takes an iterator of numpy batches and a writer with clu's interface, and asks nothing about
where they come from, so that it works without TensorFlow.
"""

import collections
import errno
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import challenge, protocols, report, sharding
from pare_jax import config as config_lib
from pare_jax.augment import AugmentSettings
from pare_jax.body.model import BodyModel, load_body_model
from pare_jax.checkpoints import CONFIG_FILE, Checkpoints, load_config
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


class Run:
    """What stays the same during a run: devices, body, graphs and compiled programs."""

    def __init__(self, config: ConfigDict, data: Data):
        """Build the network and the programs; nothing compiles yet."""
        self.config = config
        self.data = data
        self.mesh = sharding.make_mesh()
        sharding.check_batch_size(config.batch_size, self.mesh)
        sharding.check_batch_size(config.eval.batch_size, self.mesh)
        self.num_steps = config.num_steps or round(config.num_epochs * data.steps_per_epoch)
        self.eval_every = max(1, round(config.eval.every_epochs * data.steps_per_epoch))
        self.body: BodyModel = load_body_model(config.body_model or None)
        self.schedule = learning_rate_schedule(config.optimizer, self.num_steps)
        optimizer = make_optimizer(config.optimizer, self.num_steps)
        model = build_model(config.model, rngs=nnx.Rngs(config.seed))
        self.settings = step_settings(config, data.steps_per_epoch)
        graphdef, state = create_state(model, optimizer, average=config.swa.start_epoch >= 0)
        self._initial_state: TrainState | None = sharding.put_replicated(state, self.mesh)
        self._compile(graphdef, model, optimizer)
        model.eval()
        self.evaluator = Evaluator(
            nnx.graphdef(model),
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

    def take_initial_state(self) -> TrainState:
        """Return the state of a fresh run, once: whoever takes it decides when its memory goes."""
        state, self._initial_state = self._initial_state, None
        if state is None:
            raise ValueError("the initial state has been taken already")
        return state

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

    def weights(self, state: TrainState) -> tuple[nnx.State, nnx.State, str]:
        """Return parameters, batch statistics and name of the weights to evaluate."""
        wants_mean = self.config.eval.weights == "swa"
        if wants_mean and state.swa is not None and int(state.swa.count):
            return state.swa.params, state.swa.batch_stats, "swa"
        return state.params, state.batch_stats, "last"

    def measure(self, state: TrainState) -> tuple[Errors, str]:
        """Measure every evaluation split; returns the errors by split and the weights' name."""
        params, batch_stats, which = self.weights(state)
        errors = {
            name: self.evaluator.measure(params, batch_stats, batches())
            for name, batches in self.data.evals.items()
        }
        return errors, which

    def report(self, state: TrainState, errors: Errors, workdir: Path) -> dict[str, Any]:
        """Write metrics.json and the figures of what `measure` found."""
        params, batch_stats, which = self.weights(state)
        return report.write_report(
            workdir / "eval",
            int(state.step),
            which,
            errors,
            lambda name, rows: self.evaluator.draw(
                params, batch_stats, self.data.evals[name](), rows
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

    def panels(self, state: TrainState) -> np.ndarray:
        """Draw the first samples of the first evaluation split: (n, height, width, 3) uint8."""
        params, batch_stats, _ = self.weights(state)
        batches = next(iter(self.data.evals.values()))
        drawn = self.evaluator.draw(
            params, batch_stats, batches(), range(self.config.eval.pictures)
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
    check_workdir(workdir, config)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    state = run.take_initial_state()
    if checkpoints.latest_step() is not None:
        state = sharding.put_replicated(checkpoints.restore(state), run.mesh)
    # Last, so that a command that comes to nothing does not pass for a run.
    write_config(workdir, config)
    start = int(state.step)
    errors: Errors | None = None
    progress = Progress(run.num_steps, data.steps_per_epoch, config.batch_size, start)
    if start:
        progress.say(f"going on from step {start} in {workdir}")
    else:
        _write_overview(writer, config, state)
    tracer = _Tracer(workdir, config.profile)
    recent: list[dict[str, jax.Array]] = []
    watch = _DivergenceWatch(config.max_bad_steps, config.seed)
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
                errors, which = run.measure(state)
                evaluated = _tell(done, errors, which, writer, progress)
                if config.eval.pictures:
                    writer.write_images(done, {"held_out": run.panels(state)})
                progress.pause(time.perf_counter() - started)
            if evaluated is not None or done % config.checkpoint.every_steps == 0:
                if evaluated is None:
                    # Whoever reads the mean from this checkpoint needs statistics that fit it.
                    state = run.with_statistics(state)
                checkpoints.save(state, evaluated)
        watch.finish()
        checkpoints.wait()
    finally:
        tracer.stop()
        progress.close()
        _close(stream)
        checkpoints.close()
        writer.flush()
    if errors is None:  # The run was at its end already.
        errors, _ = run.measure(state)
    return state, errors


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Make the folder of a run, or check that a run already here goes with the config.

    Raises:
        UserError: the folder cannot be written or belongs to a run of another network.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        known = (workdir / CONFIG_FILE).exists()
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error
    if known:
        check_same_network(load_config(workdir), config, workdir)


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Write config.json, from which a network is built again; raises UserError."""
    content = json.dumps(config_lib.plain(config), indent=1) + "\n"
    report.write_atomically(workdir / CONFIG_FILE, content.encode())


def check_same_network(old: ConfigDict, new: ConfigDict, workdir: Path) -> None:
    """Raise UserError when a run's network, its input or its body differ from a config's."""
    changed = config_lib.differences(*(_network_of(config) for config in (old, new)))
    if changed:
        raise UserError(
            f"{workdir} holds a run of another network ({'; '.join(changed[:3])}): "
            "use its config or another --workdir"
        )


def _network_of(config: ConfigDict) -> ConfigDict:
    """Return the part of a config that trained weights are good for."""
    model = config_lib.plain(config.get("model", ConfigDict()))
    return ConfigDict(model | {key: config.get(key) for key in ("image_size", "body_model")})


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


def _tell(
    step: int, errors: Errors, which: str, writer: Writer, progress: Progress
) -> dict[str, float]:
    """Write an evaluation's scalars; returns the first split's, which tell the best checkpoint."""
    first: dict[str, float] = {}
    for name, split in errors.items():
        summary = report.summarise(split)
        scalars = {k: float(v) for k, v in summary.items() if type(v) in (int, float)}
        first = first or {"mpjpe": scalars["mpjpe"], "pa_mpjpe": scalars["pa_mpjpe"]}
        writer.write_scalars(step, {f"{name}/{key}": value for key, value in scalars.items()})
        against = ""
        if constant := scalars.get("mean_pose_mpjpe"):
            against = f" ({scalars['mpjpe'] / constant:.3f} of the best constant)"
        progress.say(
            f"step {step}  {name} ({which}): MPJPE {scalars['mpjpe']:.1f} mm{against}, "
            f"PA-MPJPE {scalars['pa_mpjpe']:.1f} mm"
        )
    return first


class _DivergenceWatch:
    """Stops a run whose loss stays non-finite.

    Looks at a step's counter only when later steps are on their way, so that the device never
    waits for the host.
    """

    _BEHIND = 2

    def __init__(self, limit: int, seed: int):
        self._limit, self._seed = limit, seed
        self._pending: collections.deque[tuple[int, jax.Array]] = collections.deque()

    def after(self, step: int, bad_steps: jax.Array) -> None:
        """Take the counter that batch number `step` left; raises UserError."""
        self._pending.append((step, bad_steps))
        if len(self._pending) > self._BEHIND:
            self._look()

    def finish(self) -> None:
        """Look at the steps that are left; raises UserError."""
        while self._pending:
            self._look()

    def _look(self) -> None:
        step, counter = self._pending.popleft()
        bad = int(jax.device_get(counter))
        if bad >= self._limit:
            raise UserError(
                f"the loss is not finite since step {step - bad + 2} ({bad} steps in a row; "
                f"batches {step - bad + 1} to {step} of seed {self._seed}): lower "
                "optimizer.learning_rate and run again to go on from the last checkpoint"
            )


def _close(stream: Any) -> None:
    """End a stream of batches, if it has an end to its work to wait for."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()


class _Tracer:
    """Records a trace for TensorBoard's profiler between two steps."""

    def __init__(self, workdir: Path, steps: tuple[int, int]):
        self._folder = str(workdir)
        self._first, self._last = steps
        self._running = False

    def before(self, step: int) -> None:
        if self._last > self._first == step:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif step == self._last:
            self.stop()

    def stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
