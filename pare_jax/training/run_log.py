"""Writes a run's scalars, texts and evaluations to TensorBoard and the terminal."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.evaluation import report
from pare_jax.evaluation.evaluate import Weights
from pare_jax.evaluation.sample_errors import SampleErrors
from pare_jax.io.progress import ProgressBar
from pare_jax.training import config as config_lib
from pare_jax.training.goodput import Goodput
from pare_jax.training.step import TrainState

# Numbers of an evaluation that are the same at every one, and those that are 0 unless it failed.
_CONSTANT = ("count", "mean_pose_mpjpe")
_RARE = ("non_finite",)


class Writer(Protocol):
    """The part of `clu.metric_writers.MetricWriter` that a run uses."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None: ...
    def write_images(self, step: int, images: Mapping[str, Any]) -> None: ...
    def write_texts(self, step: int, texts: Mapping[str, str]) -> None: ...
    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


def write_overview(
    writer: Writer, config: ConfigDict, state: TrainState, notes: Sequence[str], start: int
) -> None:
    """Write the config and the notes of this command; for a new run, a table of the parameters."""
    from clu import parameter_overview

    plain = config_lib.plain(config)
    texts = {"config": json.dumps(plain, indent=1)}
    texts |= {"notes": "\n\n".join(notes)} if notes else {}
    if not start:
        flat = config_lib.flat(plain)
        writer.write_hparams(
            {k: v if isinstance(v, int | float) else str(v) for k, v in flat.items()}
        )
        params = nnx.to_pure_dict(state.params)
        texts["parameters"] = parameter_overview.get_parameter_overview(jax.device_get(params))
    writer.write_texts(start, {name: f"```\n{text}\n```" for name, text in texts.items()})


def log_steps(
    unlogged: list[dict[str, jax.Array]],
    state: TrainState,
    epoch: float,
    config: ConfigDict,
    schedule: optax.Schedule,
    writer: Writer,
    progress: ProgressBar,
    goodput: Goodput,
) -> None:
    """Write the means of the latest steps' scalars, and forget them; write the shares of time."""
    host = jax.device_get(unlogged)
    unlogged.clear()
    means = {name: _finite_mean([row[name] for row in host]) for name in host[0]}
    # A term is exactly 0 where no sample has its label.
    means = {name: mean for name, mean in means.items() if mean or "/" not in name}
    step, skipped = int(state.step), int(state.skipped)
    goodput.keep(step)
    shares = goodput.shares()
    text = f"step {step}  epoch {epoch:.2f}  loss {means['loss']:.2f}"
    text += f"  {shares.get('training', 0):.0%} training"
    speed = progress.status(text, config.batch_size)
    extra = {
        "examples_per_second": speed,
        # The optimizer does not count skipped steps.
        "learning_rate": float(np.asarray(schedule(max(0, step - skipped - 1)))),
        "epoch": epoch,
    } | ({"skipped_steps": skipped} if skipped else {})
    writer.write_scalars(step, {f"train/{k}": v for k, v in (means | extra).items()})
    writer.write_scalars(step, {f"goodput/{k}": v for k, v in shares.items()})


def _finite_mean(values: list[np.ndarray]) -> float:
    finite = [float(value) for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def report_errors(
    errors: Mapping[str, SampleErrors], weights: Weights, writer: Writer, progress: ProgressBar
) -> dict[str, float]:
    """Write an evaluation's scalars; return the metrics that choose the best checkpoint.

    They are those of the first split with 3D joints; without any there are none. What is the same
    at every evaluation stands in the table, which is written as a text.
    """
    best: dict[str, float] = {}
    summaries = {name: report.summarise(split) for name, split in errors.items()}
    writer.write_texts(weights.step, {"evaluation": f"```\n{report.table(summaries)}\n```"})
    for name, summary in summaries.items():
        scalars = {k: float(v) for k, v in summary.items() if type(v) in (int, float)}
        drawn = {k: v for k, v in scalars.items() if k not in _CONSTANT and (v or k not in _RARE)}
        writer.write_scalars(weights.step, {f"{name}/{k}": v for k, v in drawn.items()})
        if "mpjpe" in scalars:
            best = best or {"mpjpe": scalars["mpjpe"], "pa_mpjpe": scalars["pa_mpjpe"]}
        progress.say(f"step {weights.step}  {name} ({weights.name}): {_headline(scalars)}")
    return best


def _headline(scalars: Mapping[str, float]) -> str:
    if "mpjpe" not in scalars:
        in_2d = (("pckh", "PCKh@0.5"), ("pck_2d", "PCK@0.1 in 2D"))
        return ", ".join(f"{name} {scalars[k]:.1f} %" for k, name in in_2d if k in scalars)
    share = ""
    if baseline := scalars.get("mean_pose_mpjpe"):
        share = f" ({scalars['mpjpe'] / baseline:.3f} of the mean-pose baseline's)"
    return f"MPJPE {scalars['mpjpe']:.1f} mm{share}, PA-MPJPE {scalars['pa_mpjpe']:.1f} mm"
