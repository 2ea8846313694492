"""What stays the same during a run: data, devices, body, network, and the compiled programs.

`train.py` goes through a `Run` in a loop; where nothing is trained an `Evaluation` is enough.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pare_jax import sharding
from pare_jax.body.model import BodyModel, load_body_model
from pare_jax.errors import UserError
from pare_jax.evaluation import challenge, protocols, report
from pare_jax.evaluation.evaluate import Evaluator, SampleErrors
from pare_jax.models import build_model
from pare_jax.pretrained import load as pretrained
from pare_jax.rendering import overlay
from pare_jax.training.augment import AugmentSettings
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.data import HeldOut, RunData
from pare_jax.training.optimizer import learning_rate_schedule, make_optimizer
from pare_jax.training.step import (
    StepSettings,
    TrainState,
    create_state,
    frozen_graph,
    statistics_graph,
    statistics_step,
    train_step,
)

# What an evaluation found, by DATASET/SPLIT.
Errors = dict[str, SampleErrors]


class Weights(NamedTuple):
    """Weights to evaluate: "swa" (the mean) or "last", of a step."""

    params: nnx.State
    batch_stats: nnx.State
    name: str
    step: int


class Evaluation:
    """What evaluating a network takes: devices, body, graph and compiled programs."""

    def __init__(self, config: ConfigDict, data: HeldOut):
        """Build the network and the programs; nothing compiles yet."""
        self.config = config
        self.data = data
        self.mesh = sharding.make_mesh()
        check_devices(config, self.mesh)
        self.body: BodyModel = load_body_model(config.body_model or None)
        self._model = build_model(config.model, rngs=nnx.Rngs(config.seed))
        in_evaluation = nnx.clone(self._model)
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

    def stored_weights(self, store: Checkpoints, step: int | None = None) -> Weights:
        """Read the weights to evaluate from a checkpoint, the latest if `step` is None."""
        _, params, batch_stats = nnx.split(self._model, nnx.Param, ...)
        params, batch_stats, step, name = store.restore_model(
            (params, batch_stats), self.config.eval.weights, step
        )
        params, batch_stats = sharding.put_replicated((params, batch_stats), self.mesh)
        return Weights(params, batch_stats, name, step)

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

        What an earlier evaluation exported goes in any case.

        Returns:
            What the user should know, a line each.
        """
        lines, exported = [], workdir / "eval" / "res"
        challenge.remove(exported)
        for name in self._exported:
            answers = errors[name].answers
            folder = exported / name.rpartition("/")[2]
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


class Run(Evaluation):
    """What stays the same during a training run, whose evaluations are part of it."""

    data: RunData  # more than an evaluation has

    def __init__(self, config: ConfigDict, data: RunData):
        """Build the network, the optimizer and the programs; nothing compiles yet."""
        self.num_steps = config.num_steps or round(config.num_epochs * data.steps_per_epoch)
        if not self.num_steps:
            raise UserError(f"config.num_epochs is {config.num_epochs}: that is not one step")
        super().__init__(config, data)
        self.eval_every = max(1, round(config.eval.every_epochs * data.steps_per_epoch))
        self.schedule = learning_rate_schedule(config.optimizer, self.num_steps)
        self._optimizer = make_optimizer(config.optimizer, self.num_steps)
        self.settings = step_settings(config, data.steps_per_epoch)
        self.frozen_steps = round(config.pretrained.freeze_epochs * data.steps_per_epoch)
        self._compile()

    def _compile(self) -> None:
        same = sharding.replicated(self.mesh)
        split = sharding.batch_sharding(self.mesh)

        def training(graphdef: nnx.GraphDef, frozen: bool) -> Callable[..., Any]:
            step = functools.partial(
                train_step,
                graphdef=graphdef,
                body=self.body,
                optimizer=self._optimizer,
                settings=self.settings,
                frozen=frozen,
            )
            return jax.jit(step, in_shardings=(same, split), out_shardings=same, donate_argnums=0)

        def statistics(frozen: bool) -> Callable[..., Any]:
            graphdef = statistics_graph(self._model, frozen=frozen)
            step = functools.partial(statistics_step, graphdef=graphdef, settings=self.settings)
            return jax.jit(step, in_shardings=(same, same, same, split), out_shardings=same)

        self.train_step = training(nnx.graphdef(self._model), frozen=False)
        self._frozen_step = training(frozen_graph(self._model), frozen=True)
        self._statistics_step, self._frozen_statistics_step = statistics(False), statistics(True)

    def step_after(self, step: int) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
        """Choose the program that makes the update after `step` steps."""
        return self._frozen_step if step < self.frozen_steps else self.train_step

    def load_pretrained(self, loaded: pretrained.Loaded | None = None) -> list[str]:
        """Bring the weights that the config names into the network, for a run that starts.

        Args:
            loaded: these weights, if they have been read already.

        Returns:
            What the user should know, one text each.
        """
        loaded = loaded or pretrained.load(self.config)
        pretrained.fill(self._model, loaded.flat)
        return loaded.notes

    def initial_state(self) -> TrainState:
        """Make the state of a fresh run; the caller decides when its memory goes."""
        average = self.config.swa.start_epoch >= 0
        _, state = create_state(self._model, self._optimizer, average=average)
        return sharding.put_replicated(state, self.mesh)

    def with_statistics(self, state: TrainState) -> TrainState:
        """Measure the averaged parameters' batch statistics, if there are any to measure."""
        if state.swa is None or not int(state.swa.count):
            return state
        stats = state.swa.batch_stats
        frozen = int(state.step) <= self.frozen_steps
        measure = self._frozen_statistics_step if frozen else self._statistics_step
        batches = self.data.train(0)
        for count in range(self.config.swa.statistics_batches):
            on_device = sharding.put_batch(next(batches), self.mesh)
            number = sharding.put_replicated(np.float32(count), self.mesh)
            stats = measure(stats, number, state.swa.params, on_device)
        sharding.close_stream(batches)
        return state.replace(swa=state.swa.replace(batch_stats=stats))

    def weights(self, state: TrainState) -> Weights:
        """Choose the weights to evaluate: the mean, where it is wanted and there is one."""
        step = int(state.step)
        wants_mean = self.config.eval.weights == "swa"
        if wants_mean and state.swa is not None and int(state.swa.count):
            return Weights(state.swa.params, state.swa.batch_stats, "swa", step)
        return Weights(state.params, state.batch_stats, "last", step)


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


def check_devices(config: ConfigDict, mesh: Mesh) -> None:
    """Raise UserError unless batches divide over the devices."""
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size, mesh)
