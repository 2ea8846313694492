"""Checkpoints on disk, written and read by Orbax: atomic, asynchronous, exact.

A checkpoint has three items. Each is a flat dict from dotted names to arrays, so that messages can
name a mismatch, and readers take only what they need:

    model     params.* and batch_stats.*            for prediction
    swa       params.*, batch_stats.* and counts    the running mean, if the run keeps one
    training  opt_state.*, step and counters        for resuming

Several processes call every function together, with global arrays. Each writes a part of a
checkpoint, which any other number of processes and devices reads.
"""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint.checkpoint_managers import preservation_policy

from pare_jax.errors import UserError, be, listed
from pare_jax.models.flat_state import Flat, flatten, unflatten
from pare_jax.training import multiprocess
from pare_jax.training.cached_specs import cache_specs
from pare_jax.training.checkpoint_errors import (
    DamagedCheckpointError,
    check_shapes,
    unreadable,
)
from pare_jax.training.failed_threads import silence_failed_threads
from pare_jax.training.step import TrainState

CHECKPOINT_FOLDER = "checkpoints"
_ITEMS = ("model", "swa", "training")
# The metrics whose lowest value marks the best checkpoint: the first that it has.
BEST_METRICS = ("choice", "mpjpe")


Read = TypeVar("Read")

# Beside the folder of checkpoints: those that could not be read.
DAMAGED_FOLDER = "damaged_checkpoints"


def _choosing(metrics: Mapping[str, float]) -> float:
    return next(metrics[name] for name in BEST_METRICS if name in metrics)


class Checkpoints:
    """The checkpoints of one workdir."""

    def __init__(self, workdir: str | Path, *, keep: int = 3, read_only: bool = False):
        """Open, or create, the folder of checkpoints.

        Args:
            workdir: the run's folder.
            keep: number of latest checkpoints to keep, beside the best.
            read_only: never write or delete.

        Raises:
            UserError: the folder cannot be written.
        """
        self.folder = Path(workdir).absolute() / CHECKPOINT_FOLDER
        self._read_only = read_only
        self._notes: list[str] = []
        if not read_only:
            silence_failed_threads()
            cache_specs()
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep),
                preservation_policy.BestN(
                    get_metric_fn=_choosing,
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        log = logging.getLogger("absl")
        level = log.level
        # Silence Orbax's read-only warning.
        log.setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else policy,
            # Without it Orbax stores no metrics, and a resumed run forgets its best checkpoint.
            best_fn=None if read_only else _choosing,
            best_mode="min",
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        try:
            # Without named handlers, a manager that has saved nothing knows no metadata.
            handlers = {name: ocp.StandardCheckpointHandler() for name in _ITEMS}
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers=handlers
            )
        except OSError as error:
            raise UserError(f"cannot write checkpoints to {self.folder}: {error}") from error
        finally:
            log.setLevel(level)

    def latest_step(self) -> int | None:
        """Return the step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Start saving; returns as soon as the arrays are copied off the devices.

        If this or the previous save fails, for instance on a full disk, `take_notes` says so.
        Complete checkpoints stay as they are, and the next save is tried again. Several processes
        end instead.

        Args:
            state: what to save, under its step.
            metrics: results of an evaluation at this step, if there was one, with one of
                `BEST_METRICS`.

        Raises:
            UserError: the save failed in one of several processes.
        """
        step = int(state.step)
        self.is_saved()
        if step in self._manager.all_steps():
            return
        try:
            self._save(step, _items_of(state), metrics)
        except UserError as error:
            self._failed(error)

    def is_saved(self) -> bool:
        """Wait for the last save; return whether it succeeded. `take_notes` says why it failed."""
        try:
            self.wait()
        except UserError as error:
            self._failed(error)
            return False
        return True

    def take_notes(self) -> list[str]:
        """Return the lines for the user since the last call: failed saves, damaged checkpoints."""
        taken, self._notes = self._notes, []
        return taken

    def _failed(self, error: UserError) -> None:
        if jax.process_count() > 1:
            raise error  # The others wait for this process to save.
        latest = self.latest_step()
        last = "there is no checkpoint yet" if latest is None else f"the last one is of {latest}"
        self._notes.append(f"{error}; {last}")
        # They would keep the disk full.
        for scratch in self.folder.glob("*orbax-checkpoint-tmp*"):
            shutil.rmtree(scratch, ignore_errors=True)

    def save_weights(self, params: nnx.State, batch_stats: nnx.State) -> None:
        """Start saving converted weights as step 0, from which any training can start.

        Raises:
            UserError: as `save`.
        """
        model = flatten("params", params) | flatten("batch_stats", batch_stats)
        self._save(0, {"model": model}, None)

    def _save(self, step: int, items: dict[str, Flat], metrics: Mapping[str, float] | None) -> None:
        items = jax.tree.map(_copy, items)
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        self._guarded(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(**arguments),
                metrics=None if metrics is None else dict(metrics),
            )
        )

    def wait(self) -> None:
        """Wait until everything is on disk; raises UserError if the last save failed."""
        self._guarded(self._manager.wait_until_finished)

    def close(self) -> None:
        """Wait and release the folder."""
        self._guarded(self._manager.close)

    def restore(self, template: TrainState, step: int | None = None) -> TrainState:
        """Read a checkpoint into the shape, placement and type of `template`.

        Args:
            template: a state of the same network and optimizer.
            step: of the checkpoint; None: the latest that can be read. Later ones, which are
                damaged, are moved to `DAMAGED_FOLDER`, because training makes them again.

        Raises:
            UserError: there is no checkpoint, it is damaged, or it is of another architecture.
        """
        return self._read_latest(lambda chosen: self._restore(template, chosen), step)

    def _read_latest(self, read: Callable[[int], Read], step: int | None) -> Read:
        """Read the checkpoint of a step, or for None the latest one that is not damaged."""
        if step is not None:
            return read(self.find(step))
        self.find()
        damaged: dict[int, DamagedCheckpointError] = {}
        for chosen in sorted(self._manager.all_steps(), reverse=True):
            found, problem = None, None
            try:
                found = read(chosen)
            except DamagedCheckpointError as error:
                problem = error
            if not multiprocess.all_agree(problem is None):
                damaged[chosen] = problem or DamagedCheckpointError(
                    f"another process cannot read the checkpoint {self.folder / str(chosen)}"
                )
                continue
            assert found is not None
            for bad, error in damaged.items():
                place = self._set_aside(bad)
                kept = "" if place is None else f", which is now {place}"
                self._notes.append(f"{error}{kept}: the one of step {chosen} is used")
            return found
        first, *others = damaged
        rest = f"and so {be(len(others))} {listed([str(step) for step in others])}"
        end = rest if others else "and there is no other"
        raise DamagedCheckpointError(
            f"{damaged[first]}, {end}: copy the run again, or train in another --workdir"
        )

    def _set_aside(self, step: int) -> Path | None:
        """Move a damaged checkpoint to another folder; return it, or None if read-only."""
        if self._read_only:
            return None
        place = self.folder.parent / DAMAGED_FOLDER / str(step)
        try:
            if multiprocess.is_first():
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(place)
        except OSError as error:
            raise UserError(f"cannot move {self.folder / str(step)}: {error.strerror}") from error
        multiprocess.wait(f"moving the checkpoint {step}")
        self._manager.reload()
        return place

    def _restore(self, template: TrainState, step: int) -> TrainState:
        if step == 0 and not (self.folder / "0" / "training").is_dir():
            return self._start_from_weights(template)
        place = self.folder / str(step)
        is_without = (place / "training").is_dir() and not (place / "swa").is_dir()
        if template.swa is not None and is_without:
            raise UserError(
                f"the checkpoint {place} has no averaged weights: resume with "
                "--config.swa.start_epoch=-1.0 or use another --workdir"
            )
        items = {name: self._read(step, name, item) for name, item in _items_of(template).items()}
        return _with_items(template, items)

    def _start_from_weights(self, template: TrainState) -> TrainState:
        """Read converted weights; everything else stays as in a new run."""
        graph_state = template.params, template.batch_stats
        params, batch_stats, _, _ = self._restore_model(graph_state, "last", 0)
        averages = template.swa
        if averages is not None:
            averages = averages.replace(batch_stats=jax.tree.map(jnp.copy, batch_stats))
        return template.replace(params=params, batch_stats=batch_stats, swa=averages)

    def restore_model(
        self, graph_state: tuple[nnx.State, nnx.State], weights: str, step: int | None = None
    ) -> tuple[nnx.State, nnx.State, int, str]:
        """Read only parameters and batch statistics.

        Args:
            graph_state: parameters and batch statistics of a network of the same architecture.
            weights: "last", or "swa" for the averaged weights. The last ones replace averaged
                weights that do not exist yet or whose batch statistics are out of date.
            step: the checkpoint's step; None for the latest.

        Returns:
            Parameters, batch statistics, the step, and "swa" or "last".

        Raises:
            UserError: as `restore`.
        """
        return self._read_latest(
            lambda chosen: self._restore_model(graph_state, weights, chosen), step
        )

    def _restore_model(
        self, graph_state: tuple[nnx.State, nnx.State], weights: str, step: int
    ) -> tuple[nnx.State, nnx.State, int, str]:
        params, batch_stats = graph_state
        which = "last"
        if weights == "swa" and (self.folder / str(step) / "swa").is_dir():
            target = flatten("params", params) | flatten("batch_stats", batch_stats)
            counts = dict.fromkeys(("count", "measured"), np.zeros((), np.int32))
            flat = self._read(step, "swa", target | counts)
            # Batch statistics are measured at evaluations; later means have none that fit.
            which = "swa" if flat["count"] and flat["count"] == flat["measured"] else "last"
        if which == "last":
            target = flatten("params", params) | flatten("batch_stats", batch_stats)
            flat = self._read(step, "model", target)
        return (
            unflatten("params", params, flat),
            unflatten("batch_stats", batch_stats, flat),
            step,
            which,
        )

    def find(self, step: int | None = None) -> int:
        """Return `step`, or the latest for None; raises UserError if it is missing."""
        latest = self.latest_step()
        if latest is None:
            raise UserError(f"no checkpoint in {self.folder}: train first, or name another workdir")
        if step is None:
            return latest
        steps = self.steps()
        if step not in steps:
            known = ", ".join(map(str, steps))
            raise UserError(
                f"no checkpoint of step {step} in {self.folder}: existing ones are {known}"
            )
        return step

    def _read(self, step: int, name: str, target: Flat) -> Flat:
        place = self.folder / str(step)
        try:
            found = self._manager.item_metadata(step)[name]
            shapes = {key: tuple(value.shape) for key, value in dict(found).items()}
        except Exception as error:
            raise unreadable(place, error) from error
        check_shapes(place, shapes, {key: tuple(np.shape(value)) for key, value in target.items()})
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        silence_failed_threads()
        try:
            arguments = ocp.args.Composite(**{name: ocp.args.StandardRestore(abstract)})
            return self._manager.restore(step, args=arguments)[name]
        except Exception as error:
            raise unreadable(place, error) from error

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if cause := re.search(r"No space left on device|Disk quota exceeded", reason):
                reason = cause[0]  # at the end of paths and names
            raise UserError(
                f"cannot save a checkpoint in {self.folder}: {reason[:200]}; free disk space; "
                "earlier checkpoints are intact"
            ) from error


def _items_of(state: TrainState) -> dict[str, Flat]:
    items = {
        "model": flatten("params", state.params) | flatten("batch_stats", state.batch_stats),
        "training": flatten("opt_state", state.opt_state)
        | {"step": state.step, "bad_steps": state.bad_steps, "skipped": state.skipped},
    }
    if state.swa is not None:
        items["swa"] = (
            flatten("params", state.swa.params)
            | flatten("batch_stats", state.swa.batch_stats)
            | {"count": state.swa.count, "measured": state.swa.measured}
        )
    return items


def _with_items(template: TrainState, items: Mapping[str, Flat]) -> TrainState:
    model, training = items["model"], items["training"]
    averages = template.swa
    if averages is not None:
        averages = averages.replace(
            count=items["swa"]["count"],
            measured=items["swa"]["measured"],
            params=unflatten("params", averages.params, items["swa"]),
            batch_stats=unflatten("batch_stats", averages.batch_stats, items["swa"]),
        )
    return template.replace(
        step=training["step"],
        params=unflatten("params", template.params, model),
        batch_stats=unflatten("batch_stats", template.batch_stats, model),
        opt_state=unflatten("opt_state", template.opt_state, training),
        swa=averages,
        bad_steps=training["bad_steps"],
        skipped=training["skipped"],
    )


def _copy(value: Any) -> Any:
    """Copy an array, to the host or as a global array; the next step donates its memory."""
    if not isinstance(value, jax.Array):
        return value
    return np.array(value) if value.is_fully_addressable else jnp.copy(value)
