"""The story of a fine-tuning: prepare, fit, train, compare, keep the better weights."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from configs.common import get_base
from data_pipelines import datasets
from data_pipelines.event_writer import tensorboard_writer
from pare_jax.evaluation.evaluate import Weights
from pare_jax.evaluation.report import aligned
from pare_jax.finetuning.adopt import first_run
from pare_jax.finetuning.comparison import MEASURES, Errors, WeightComparison, badness, compare
from pare_jax.finetuning.comparison_page import (
    SIDE,
    Body,
    WorstPerson,
    table_rows,
    write_page,
)
from pare_jax.finetuning.earlier_data import Kept, measure_earlier, splits_at_hand
from pare_jax.finetuning.held_out_people import HeldOutPeople
from pare_jax.finetuning.own_photographs import OwnPhotographs, prepare_photographs
from pare_jax.io.archives import read_npz
from pare_jax.io.files import read_json, write_atomically
from pare_jax.io.progress import say
from pare_jax.models import build_model
from pare_jax.models.build import Network
from pare_jax.pretrained.load import fill
from pare_jax.training import manifest
from pare_jax.training import workdir as workdir_lib
from pare_jax.training.checkpoints import Checkpoints
from pare_jax.training.data import HeldOut, RunData
from pare_jax.training.evaluate_checkpoint import evaluate_checkpoint
from pare_jax.training.first_weights import load_first_weights
from pare_jax.training.step import TrainState, network_graphs
from pare_jax.training.train import train
from pare_jax.training.trained_run import COMPARISON_FILE, warning_of_run

FOLDER = COMPARISON_FILE.parent
PAGE = "index.html"
# An epoch has at least so many steps: few photographs take minutes, and are not seen too often.
_FEWEST_STEPS = 40
_WORST = 12


def finetune(config: ConfigDict, workdir: Path, again: Path | None = None) -> None:
    """Fine-tune a network on the user's photographs, or go on with it; prints the comparison.

    WORKDIR gets data/photographs (crops, keypoints, fits), the run, and finetuning/: the errors of
    each evaluation, comparison.json and index.html. The better weights are the latest checkpoint.

    Args:
        config: from `adopt.adopted`.
        workdir: the run's folder.
        again: the workdir of the fine-tuning to do again, to say what differs.

    Raises:
        UserError: photographs, labels or weights cannot be used, or as `train`.
    """
    defaults = get_base()
    # All that may be refused is checked before the long work.
    workdir_lib.check(workdir, config, defaults)
    start = _start(config)
    photographs = prepare_photographs(config, workdir)
    people = HeldOutPeople(photographs.held_out, config)
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    first = nnx.split(start, nnx.Param, ...)[1:]
    before = people.errors(*first)
    _write_errors(folder, 0, before)

    def judge(weights: Weights, tell: Callable[[str], object]) -> dict[str, float]:
        errors = people.errors(weights.params, weights.batch_stats)
        _write_errors(folder, weights.step, errors)
        tell(f"step {weights.step}  held-out people: {_summary(before, errors)}")
        return {"choice": badness(before, errors)}

    def load_data() -> RunData:
        data = datasets.load(config, workdir)
        steps = max(_FEWEST_STEPS, len(photographs.train) // config.batch_size)
        compared = manifest.compare_run(again, config, data.fingerprints) if again else []
        notes = (*data.notes, *photographs.notes, *compared)
        return dataclasses.replace(data, steps_per_epoch=steps, notes=notes)

    state = train(
        config,
        workdir,
        load_data,
        lambda: tensorboard_writer(workdir),
        defaults,
        judge,
    )
    _Ending(config, workdir, photographs, people, start, before).end(state)


def _start(config: ConfigDict) -> Network:
    """Return the network with the first weights."""
    model = build_model(config.model, rngs=nnx.Rngs(config.seed))
    fill(model, load_first_weights(config).flat)
    return model


@dataclasses.dataclass(frozen=True, eq=False)
class _Ending:
    """Ends a fine-tuning: comparison, page, checkpoint of the better weights, evaluation."""

    config: ConfigDict
    workdir: Path
    photographs: OwnPhotographs
    people: HeldOutPeople
    start: Network
    before: Errors

    def end(self, state: TrainState) -> None:
        """Compare, keep the better weights and report.

        The result is written before the checkpoint that it names. So a killed command compares
        again until that checkpoint exists, and never takes it for one of the training.
        """
        last = int(state.step)
        is_new = _read_result(self.workdir).get("checkpoint") != last
        if is_new:
            self._keep_better(state)
        if is_new or not (self.workdir / "eval" / "metrics.json").exists():
            evaluate_checkpoint(self.config, self.workdir, self._held_out)
        for line in _read_result(self.workdir)["lines"]:
            say(line)

    def _keep_better(self, state: TrainState) -> None:
        """Write page, result and errors; save the better weights as one checkpoint more."""
        folder, last = self.workdir / FOLDER, int(state.step)
        checkpoints = Checkpoints(self.workdir, keep=self.config.checkpoint.keep)
        try:
            evaluations = {
                step: errors
                for step in checkpoints.steps()
                if 0 < step <= last and (errors := _read_errors(folder, step)) is not None
            }
            earlier = _evaluations(folder, last, len(self.before["missed"]))
            comparison = compare(self.before, earlier, self.photographs.groups, tuple(evaluations))
            best = checkpoints.restore(state, comparison.step)
            lines = self._report(comparison, best)
            kept = best if comparison.is_better else self._with_first_weights(best)
            kept = kept.replace(step=jnp.asarray(last + 1, jnp.int32))
            errors = evaluations[comparison.step] if comparison.is_better else self.before
            _write_errors(folder, last + 1, errors)
            result = dataclasses.asdict(comparison) | {
                "checkpoint": last + 1,
                "first_warning": self._first_warning(),
                "lines": lines,
            }
            text = json.dumps(result, indent=1) + "\n"
            write_atomically(self.workdir / COMPARISON_FILE, text.encode())
            checkpoints.save(kept, {"choice": badness(self.before, errors)})
            checkpoints.wait()
        finally:
            checkpoints.close()

    def _first_warning(self) -> str | None:
        run = first_run(self.config)
        return None if run is None else warning_of_run(self.config.pretrained.path, run)

    def _held_out(self, trained: ConfigDict) -> HeldOut:
        return datasets.load_held_out(self.config, self.workdir, trained)

    def _first(self) -> tuple[nnx.State, nnx.State]:
        _, params, batch_stats = nnx.split(self.start, nnx.Param, ...)
        return params, batch_stats

    def _with_first_weights(self, state: TrainState) -> TrainState:
        params, batch_stats = self._first()
        # Averages of refused weights are not kept either.
        averages = state.swa
        if averages is not None:
            zero = jnp.zeros((), jnp.int32)
            averages = averages.replace(count=zero, measured=zero)
        return state.replace(params=params, batch_stats=batch_stats, swa=averages)

    def _report(self, comparison: WeightComparison, best: TrainState) -> list[str]:
        """Write the page; return the lines to print."""
        run = first_run(self.config)
        weights = [
            Weights(*self._first(), "first", 0),
            Weights(best.params, best.batch_stats, "last", comparison.step),
        ]
        earlier: list[Kept] = []
        if run is not None:
            graphs = network_graphs(self.start)
            names = splits_at_hand(run, self.config.data.root)
            earlier = measure_earlier(self.config, run, self.workdir, names, weights, graphs)
        verdict = self._verdict(comparison)
        notes = self._notes(comparison, earlier)
        page = self.workdir / FOLDER / PAGE
        write_page(
            page,
            f"Fine-tuning of {self.config.pretrained.path}",
            verdict,
            comparison,
            notes,
            self._worst(comparison, weights),
            self.people.faces,
        )
        return [*aligned(table_rows(comparison)), verdict, *notes, f"written: {page}"]

    def _verdict(self, comparison: WeightComparison) -> str:
        first = self.config.pretrained.path
        if comparison.is_better:
            return (
                f"the fine-tuned weights (step {comparison.step}) are kept: {comparison.reason}; "
                f"those of {first} are not"
            )
        return (
            f"the weights of {first} are kept: the fine-tuned ones (step {comparison.step}) are "
            f"not better ({comparison.reason})"
        )

    def _notes(self, comparison: WeightComparison, earlier: Sequence[Kept]) -> list[str]:
        notes = list(self.photographs.notes)
        if not self.photographs.annotated:
            notes.append(
                "the 2D truth is what BlazePose found, not annotated: a change says that the "
                "bodies agree more with BlazePose"
            )
        if len(comparison.changes) == 1:
            notes.append("nobody has 3D labels: depth and turns are not measured")
        for kept in earlier:
            name = "MPJPE" if kept.unit == "mm" else "keypoints missed"
            notes.append(
                f"{kept.split} of the first run: {name} {kept.before:.1f} -> {kept.after:.1f} "
                f"{kept.unit}"
            )
        if any(kept.is_forgotten for kept in earlier):
            notes.append(
                "the fine-tuned weights are worse on the first run's data: mix it in with "
                "--config.data.photos_share=0.5 and another --workdir"
            )
        return notes

    def _worst(self, comparison: WeightComparison, weights: Sequence[Weights]) -> list[WorstPerson]:
        """Return the people with the largest errors of the fine-tuned weights."""
        after = _read_errors(self.workdir / FOLDER, comparison.step)
        assert after is not None
        measure = comparison.changes[-1].measure
        order = np.argsort(-np.nan_to_num(after[measure], nan=-1.0), kind="stable")
        rows = [int(row) for row in order[:_WORST]]
        drawn = [self.people.draw(one.params, one.batch_stats, rows) for one in weights]
        names = self.photographs.held_out.names().samples
        found = []
        for row, old, new in zip(rows, *drawn, strict=True):
            sample = names[row]
            frame = f", frame {sample.frame}" if sample.frame else ""
            found.append(
                WorstPerson(
                    f"{sample.sequence}{frame}, person {sample.person}",
                    self.people.crop(row, SIDE),
                    self.people.keypoints(row, SIDE),
                    Body(old.vertices, old.root, _in_words(self.before, row)),
                    Body(new.vertices, new.root, _in_words(after, row)),
                )
            )
        return found


def _in_words(errors: Errors, row: int) -> str:
    parts = []
    if np.isfinite(errors["missed"][row]):
        parts.append(f"PCK {100 - errors['missed'][row]:.0f} %")
    if np.isfinite(errors["pa_mpjpe"][row]):
        parts.append(f"PA-MPJPE {errors['pa_mpjpe'][row]:.0f} mm")
    return ", ".join(parts) or "no labels"


def _summary(before: Errors, errors: Errors) -> str:
    parts = []
    for name, text, unit in (("missed", "PCK@0.1 2D", "%"), ("pa_mpjpe", "PA-MPJPE", "mm")):
        known = np.isfinite(before[name])
        if known.any():
            pair = [float(one[name][known].mean()) for one in (errors, before)]
            pair = [100.0 - value for value in pair] if unit == "%" else pair
            parts.append(f"{text} {pair[0]:.1f} {unit} (first weights {pair[1]:.1f})")
    return ", ".join(parts)


def _errors_path(folder: Path, step: int) -> Path:
    return folder / "evaluations" / f"{step}.npz"


def _write_errors(folder: Path, step: int, errors: Errors) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: errors[name] for name in MEASURES}
    np.savez(buffer, **arrays)
    path = _errors_path(folder, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def _read_errors(folder: Path, step: int) -> Errors | None:
    path = _errors_path(folder, step)
    return dict(read_npz(path)) if path.is_file() else None


def _evaluations(folder: Path, last: int, people: int) -> dict[int, Errors]:
    """Return the errors of all evaluations of the training, of this many people, by step."""
    steps = sorted(
        int(path.stem) for path in (folder / "evaluations").glob("*.npz") if path.stem.isdecimal()
    )
    found = {step: _read_errors(folder, step) for step in steps if 0 < step <= last}
    return {
        step: errors
        for step, errors in found.items()
        if errors is not None and len(errors["missed"]) == people
    }


def _read_result(workdir: Path) -> dict[str, Any]:
    try:
        return dict(read_json(workdir / COMPARISON_FILE))
    except FileNotFoundError:
        return {}
