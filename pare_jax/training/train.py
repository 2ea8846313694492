"""The story of a training run, from the mesh of devices to the last checkpoint.

`train` takes two functions: one loads the data, the other opens a writer with clu's interface. It
works without TensorFlow, because it does not know where batches come from.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import sharding
from pare_jax.body.io import load_body_data
from pare_jax.body.model import load_body_model
from pare_jax.errors import UserError
from pare_jax.evaluation import challenge, evaluate
from pare_jax.evaluation.evaluate import Weights
from pare_jax.evaluation.sample_errors import SampleErrors
from pare_jax.io.progress import ProgressBar
from pare_jax.keypoints.body_points import body_points
from pare_jax.models import build_model
from pare_jax.models.keypoint_network import KeypointNetwork
from pare_jax.pretrained.load import Loaded, fill
from pare_jax.training import config as config_lib
from pare_jax.training import manifest, multiprocess, swa
from pare_jax.training import workdir as workdir_lib
from pare_jax.training.augment import AugmentSettings
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.data import RunData
from pare_jax.training.evaluate_checkpoint import write_evaluation
from pare_jax.training.first_weights import load_first_weights
from pare_jax.training.goodput import Goodput
from pare_jax.training.optimizer import learning_rate_schedule, make_optimizer
from pare_jax.training.run_log import Writer, log_steps, report_errors, write_overview
from pare_jax.training.step import (
    StepSettings,
    TrainState,
    create_state,
    network_graphs,
    statistics_step,
    train_step,
)
from pare_jax.training.stopping import Stopped, StopRequest, on_signals
from pare_jax.training.trained_run import CONFIG_FILE
from pare_jax.training.watch import Tracer, check_finite

# Evaluations of a run whose pictures TensorBoard gets; scalars and texts are small.
_MOST_PICTURES = 100

# Maps evaluated weights, and a function that says a line, to metrics for `Checkpoints.save`.
Judge = Callable[[Weights, Callable[[str], object]], dict[str, float]]


def train(
    config: ConfigDict,
    workdir: str | Path,
    load_data: Callable[[], RunData],
    open_writer: Callable[[], Writer],
    defaults: ConfigDict | None = None,
    judge: Judge | None = None,
) -> TrainState:
    """Train, or resume training, until the configured number of steps; then evaluate.

    Several processes call this together (`multiprocess.start`), each with its own share of the
    data. The first writes all files but checkpoints.

    Args:
        config: a validated config.
        workdir: folder for config.json, checkpoints/ and eval/. A run that was stopped here resumes
            from its latest checkpoint. On the same machine it ends with the same bits. config.json
            always says how the latest checkpoint was made.
        load_data: returns the data. It may take hours, and is called when everything that can be
            checked without data has been checked. Of several processes the first calls it, then
            the others.
        open_writer: opens the writer of scalars, pictures and texts for TensorBoard.
        defaults: the values of keys that are newer than the run, see `trained_run.load_config`.
        judge: called at each evaluation; its metrics choose the best checkpoint, and the caller
            writes the report. None: the first split with 3D joints chooses.

    Returns:
        The final state, which is also the latest checkpoint.

    Raises:
        UserError: the workdir cannot be used, another run is in it, a file cannot be read, a
            checkpoint does not fit, the last save fails, or the loss stays non-finite.
        Stopped: the process was asked to stop; the latest step is saved.
    """
    workdir = Path(workdir)
    trained = workdir_lib.check(workdir, config, defaults)
    with on_signals() as stop, workdir_lib.claimed(workdir), Goodput(workdir) as goodput:
        return _train(config, workdir, trained, load_data, open_writer, judge, stop, goodput)


def _train(
    config: ConfigDict,
    workdir: Path,
    trained: ConfigDict | None,
    load_data: Callable[[], RunData],
    open_writer: Callable[[], Writer],
    judge: Judge | None,
    stop: StopRequest,
    goodput: Goodput,
) -> TrainState:
    # The devices.
    mesh = sharding.make_mesh()
    sharding.check_batch_sizes(config, mesh)
    multiprocess.connect_devices(mesh)
    replicated, by_rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)

    # The network with the weights it starts from, and the bodies.
    resumes = trained is not None
    model = build_model(config.model, rngs=nnx.Rngs(config.seed))
    points = body_points(load_body_data(config.body_model or None))
    if isinstance(model, KeypointNetwork):
        model.set_body(points)
    loaded = Loaded({}, []) if resumes else load_first_weights(config)
    fill(model, loaded.flat)
    notes = list(loaded.notes)
    graphs = network_graphs(model)
    body = sharding.put_replicated(load_body_model(config.body_model or None), mesh)
    eval_setup = evaluate.make_setup(config.eval, body, mesh)

    # The data, and the length of the run in steps.
    with multiprocess.first_goes_ahead("the data"):
        data = load_data()
    held_out, per_epoch = data.held_out, data.steps_per_epoch
    evals = {
        name: functools.partial(stop.points_of, batches) for name, batches in held_out.evals.items()
    }
    held_out = dataclasses.replace(held_out, evals=evals)
    notes += data.notes
    num_steps = config.num_steps or round(config.num_epochs * per_epoch)
    if not num_steps:
        raise UserError(f"config.num_epochs is {config.num_epochs}, which is less than one step")
    eval_every = max(1, round(config.eval.every_epochs * per_epoch))
    draw_every = -(-num_steps // (eval_every * _MOST_PICTURES))
    eval_setup = eval_setup.with_baseline(held_out.mean_joints)
    splits_to_export = challenge.exportable(held_out.eval_names) if config.eval.export else []

    # The optimizer and the state.
    settings = step_settings(config, per_epoch)
    schedule = learning_rate_schedule(config.optimizer, num_steps)
    optimizer = make_optimizer(config.optimizer, num_steps, settings.frozen_steps)
    state = create_state(model, optimizer, average=config.swa.start_epoch >= 0)
    state = sharding.put_replicated(state, mesh)
    del model  # The state holds its arrays, and the first step donates them.
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    if resumes:
        state = checkpoints.restore(state)
        notes += checkpoints.take_notes()
        # A smaller max_bad_steps than before must not stop the run at once.
        state = state.replace(bad_steps=state.bad_steps * 0)
        state = sharding.put_replicated(state, mesh)
        notes.append(f"resuming from step {int(state.step)} in {workdir}")
        notes += _describe_changes(trained, config)
        if int(state.step) >= num_steps:
            notes.append(
                f"nothing to train: the run already has its {num_steps} steps, so {CONFIG_FILE} "
                "stays as it is"
            )
    if settings.swa_start > num_steps:
        notes.append("the run ends before swa.start_epoch: there will be no averaged weights")

    # The programs. Each compiles once, on its first batch.
    compiled_step = jax.jit(
        functools.partial(
            train_step, graphs=graphs, optimizer=optimizer, settings=settings, points=points
        ),
        in_shardings=(replicated, replicated, by_rows),
        out_shardings=replicated,
        donate_argnums=0,
    )
    measure_statistics = functools.partial(
        swa.measure_statistics,
        open_batches=lambda: stop.points_of(functools.partial(data.train, 0)),
        statistics_step=jax.jit(
            functools.partial(statistics_step, graphs=graphs, settings=settings),
            in_shardings=(replicated, replicated, replicated, by_rows),
            out_shardings=replicated,
        ),
        num_batches=config.swa.statistics_batches,
        mesh=mesh,
    )
    eval_step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphs.evaluation))

    writer = open_writer()
    start = int(state.step)
    goodput.resume(start)
    this_start = manifest.describe(config, data.fingerprints, start)
    notes += manifest.since_the_last_start(workdir, this_start)
    # Until this command has saved a checkpoint, config.json belongs to the one before.
    is_recorded = is_pending = False

    def save(state: TrainState, metrics: Mapping[str, float]) -> None:
        nonlocal is_recorded
        writes = multiprocess.is_first()
        if writes and not (resumes or is_recorded):
            workdir_lib.write_config(workdir, config)
        checkpoints.save(state, metrics or None)
        if not is_recorded and (not resumes or checkpoints.is_saved()):
            if writes and resumes:
                workdir_lib.write_config(workdir, config)
            manifest.append(workdir, this_start)
            is_recorded = True
        for line in checkpoints.take_notes():
            progress.say(line)

    stream = data.train(start)
    batches = sharding.prefetch(stream, mesh)
    unlogged: list[dict[str, jax.Array]] = []
    errors: dict[str, SampleErrors] = {}
    tracer = Tracer(workdir, config.profile if multiprocess.is_first() else (0, 0))
    with ProgressBar("training", num_steps, start=start, lines=False) as progress:
        for note in notes:
            progress.say(note)
        try:
            if start < num_steps:
                write_overview(writer, config, state, notes, start)
            goodput.turn_to("other")
            for step in range(start + 1, num_steps + 1):
                stop.point()
                tracer.before(step - 1)
                with goodput.spent("waiting_for_data"):
                    batch = next(batches)
                began = goodput.now()
                # The step donates the state, so that a stop between the two would lose it.
                with stop.held(), jax.transfer_guard("disallow"):
                    is_last = step == num_steps
                    is_pending = evaluates = step % eval_every == 0 or is_last
                    state, scalars = compiled_step(state, body, batch)
                goodput.sent(began, scalars["loss"])
                unlogged.append(scalars)
                progress.advance()
                saves = evaluates or step % config.checkpoint.every_steps == 0
                if step % config.log_every_steps == 0 or saves:
                    check_finite(state, config)
                if step % config.log_every_steps == 0 or is_last:
                    epoch = step / per_epoch
                    log_steps(unlogged, state, epoch, config, schedule, writer, progress, goodput)
                metrics: dict[str, float] = {}
                if evaluates:
                    pause_start = time.perf_counter()
                    goodput.turn_to("evaluating")
                    if state.swa is not None:
                        state = state.replace(swa=measure_statistics(state.swa))
                    weights = weights_to_evaluate(state, config)
                    errors = evaluate.measure_splits(eval_step, weights, eval_setup, held_out.evals)
                    metrics = report_errors(errors, weights, writer, progress)
                    if skipped := multiprocess.union(held_out.skipped()):
                        number = sum(map(len, skipped.values()))
                        writer.write_scalars(step, {"data/skipped_examples": number})
                    if judge is not None:
                        metrics = judge(weights, progress.say)
                    draws = is_last or step // eval_every % draw_every == 0
                    if config.eval.pictures and draws:
                        name, first = next(iter(held_out.evals.items()))
                        panels = evaluate.panels(
                            eval_step,
                            weights,
                            eval_setup,
                            first(),
                            config.eval.pictures,
                            config.eval.attention_joints,
                        )
                        writer.write_images(step, {f"{name}/predictions": panels})
                    is_pending = False
                    goodput.turn_to("other")
                    progress.pause(time.perf_counter() - pause_start)
                if saves:
                    with stop.held(), goodput.spent("saving"):
                        save(state, metrics)
                    goodput.keep(step)
            with goodput.spent("saving"):
                checkpoints.wait()
        except Stopped:
            # A resumed run does not evaluate an earlier step: with this one saved, it would lack
            # the evaluation. It makes the steps again.
            goodput.turn_to("saving")
            if int(state.step) > start and not is_pending:
                save(state, {})
            checkpoints.wait()
            goodput.keep(int(state.step))
            progress.say(f"saved: step {checkpoints.latest_step() or 0} of {int(state.step)}")
            raise
        finally:
            tracer.stop()
            sharding.close_stream(stream)
            writer.close()
            checkpoints.close()

    if judge is not None:
        print(goodput.line())
        return state
    # The report: metrics.json, figures and exported predictions.
    goodput.turn_to("evaluating")
    weights = weights_to_evaluate(state, config)
    if not errors:  # The run was finished already.
        errors = evaluate.measure_splits(eval_step, weights, eval_setup, held_out.evals)
    lines = write_evaluation(
        workdir, eval_step, weights, eval_setup, errors, held_out, splits_to_export
    )
    goodput.keep(int(state.step))
    print("\n".join([*lines, goodput.line()]))
    return state


def step_settings(config: ConfigDict, steps_per_epoch: int) -> StepSettings:
    """Collect the part of a config that the step needs."""
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
        frozen_steps=round(config.pretrained.freeze_epochs * steps_per_epoch),
        max_bad_steps=config.max_bad_steps,
        accumulate=config.accumulate_steps,
    )


def weights_to_evaluate(state: TrainState, config: ConfigDict) -> Weights:
    """Return the SWA weights if the config wants them and they have statistics, else the last."""
    step = int(state.step)
    if config.eval.weights == "swa" and state.swa is not None and swa.is_measured(state.swa):
        return Weights(state.swa.params, state.swa.batch_stats, "swa", step)
    return Weights(state.params, state.batch_stats, "last", step)


def _describe_changes(trained: ConfigDict, config: ConfigDict) -> list[str]:
    """Describe how a config differs from the one that made the checkpoint, in one line."""
    changes = config_lib.differences(trained, config)
    return [f"changed since the last checkpoint: {'; '.join(changes)}"] if changes else []
