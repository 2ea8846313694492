"""Evaluation of one checkpoint of a run, without training."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import sharding
from pare_jax.body.model import body_from_data
from pare_jax.errors import counted
from pare_jax.evaluation import challenge, evaluate, report
from pare_jax.evaluation.evaluate import Weights
from pare_jax.evaluation.sample_errors import SampleErrors
from pare_jax.models import build_model
from pare_jax.training import multiprocess
from pare_jax.training import workdir as workdir_lib
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.data import HeldOut
from pare_jax.training.trained_run import load_config


def evaluate_checkpoint(
    config: ConfigDict,
    workdir: Path,
    load_data: Callable[[ConfigDict], HeldOut],
    step: int | None = None,
) -> list[str]:
    """Measure a checkpoint on the config's splits, and write metrics.json and figures.

    Args:
        config: the run's config, validated, with what shall differ in this evaluation.
        workdir: the run's folder.
        load_data: maps the config of the training to the data. Called when everything that can be
            checked without data has been checked.
        step: the checkpoint's step; None: the latest.

    Returns:
        Lines to print: the results, and what was exported.

    Raises:
        UserError: no such run or checkpoint, or one of another network, or missing data.
    """
    mesh = sharding.make_mesh()
    sharding.check_batch_sizes(config, mesh)
    multiprocess.connect_devices(mesh)
    trained = load_config(workdir)
    workdir_lib.check_same_network(trained, config, workdir)
    moved = config.body_model if config.body_model != trained.body_model else None
    body_data = workdir_lib.load_run_body(workdir, trained, moved, "--config.body_model")
    body = body_from_data(body_data)
    setup = evaluate.make_setup(config.eval, body, mesh)
    store = Checkpoints(workdir, read_only=True)
    store.find(step)

    with multiprocess.first_goes_ahead("the data"):
        data = load_data(trained)
    setup = setup.with_baseline(data.mean_joints)
    exports = challenge.exportable(data.eval_names) if config.eval.export else []

    model = build_model(config.model, rngs=nnx.Rngs(0))
    model.eval()
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, ...)
    template = sharding.put_replicated((params, batch_stats), mesh)
    params, batch_stats, step, name = store.restore_model(template, config.eval.weights, step)
    weights = Weights(params, batch_stats, name, step)
    eval_step = jax.jit(functools.partial(evaluate.eval_step, graphdef=graphdef))
    errors = evaluate.measure_splits(eval_step, weights, setup, data.evals)
    lines = write_evaluation(workdir, eval_step, weights, setup, errors, data, exports)
    return [*store.take_notes(), *lines]


def write_evaluation(
    workdir: Path,
    eval_step: evaluate.EvalStep,
    weights: Weights,
    setup: evaluate.EvaluationSetup,
    errors: Mapping[str, SampleErrors],
    data: HeldOut,
    exports: Sequence[str],
) -> list[str]:
    """Write metrics.json, figures and exported predictions to WORKDIR/eval.

    Args:
        workdir: the run's folder.
        eval_step: compiled; predicts the samples to draw.
        weights: the measured weights.
        setup: bodies, protocol and devices.
        errors: by DATASET/SPLIT.
        data: the measured splits.
        exports: splits to write in the 3DPW challenge's format.

    Returns:
        Lines to print: the table of results, and notes on the exported predictions.
    """
    folder = workdir / "eval"
    metrics = report.write_results(
        folder, eval_step, weights, setup, errors, data.evals, data.eval_names
    )
    notes: list[str] = []
    if multiprocess.is_first():
        notes = challenge.export(folder / "res", exports, errors, data.eval_names)
    multiprocess.wait("the results of the evaluation")
    title = f"step {weights.step}, weights: {weights.name}"
    skipped = [
        f"skipped: {counted(len(indices), 'example')} of {split}, which cannot be read"
        for split, indices in multiprocess.union(data.skipped()).items()
    ]
    return [title, report.table(metrics["splits"]), *skipped, f"written: {folder}", *notes]
