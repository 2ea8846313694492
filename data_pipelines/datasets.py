"""From a config to everything a run needs of the data: streams, lengths, the best constant."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.reading import input_pipeline, remembering, storage
from data_pipelines.reading.input_pipeline import Batch
from data_pipelines.synthetic import builder, settings
from pare_jax.errors import UserError
from pare_jax.evaluation.sequences import SplitNames
from pare_jax.io.files import write_atomically
from pare_jax.skeleton import NUM_JOINTS
from pare_jax.training.data import HeldOut, RunData

_STATISTICS_FILE = "train_statistics.json"
# Enough for a mean known to a fraction of a millimetre.
_STATISTICS_EXAMPLES = 5_000
# Enough to find part labels where people of either gender have them.
_LABEL_EXAMPLES = 200


def check_config(config: ConfigDict) -> None:
    """Check what a config says of synthetic people, before any data is read.

    Args:
        config: passed `pare_jax.training.config.validate`.

    Raises:
        UserError: a setting is unknown or out of range, or a split that the config uses is empty.
    """
    used = [*_train_names(config), *config.data.eval]
    splits = [name.split("/")[1] for name in used if name.split("/")[0] == "synthetic"]
    if not splits:
        return
    people = settings.from_mapping(config.data.synthetic)
    for split in splits:
        if not people.size(split):
            raise UserError(
                f"config.data.synthetic.{split} is 0, but data.train or data.eval names it: "
                "set a size or remove the split from them"
            )


def load(config: ConfigDict, workdir: Path) -> RunData:
    """Open, and for synthetic people first draw, what a config names.

    Args:
        config: a validated config.
        workdir: where the training set's statistics are kept.

    Returns:
        The run's data.

    Raises:
        UserError: a dataset or split is missing or damaged.
    """
    opened = _open_all(config, [*_train_names(config), *config.data.eval])
    sources = _mixture(config, opened)
    room = config.data.memory * 2**30 / len(sources)
    # Part labels that no loss compares with need not be decoded.
    wanted = [(s if config.loss.parts else _WithoutParts(s), weight) for s, weight in sources]
    remembered = [
        (remembering.remember(source, room, config.image_size, config.augment.scale), weight)
        for source, weight in wanted
    ]
    stream = partial(
        input_pipeline.train_batches,
        remembered,
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        augment=config.augment,
        **_processes(),
    )
    evals, names = _held_out(config, opened)
    if config.loss.parts:
        _check_part_labels(sources)
    examples = sum(len(source) for source, _ in sources)
    path, key = workdir / _STATISTICS_FILE, _mixture_key(sources, config.data.root)
    mean = _read_mean(path, key)
    if mean is None:
        mean = _measure_mean(sources)
        _keep_mean(path, key, mean)
    return RunData(
        train=lambda step: stream(start_step=step),
        steps_per_epoch=max(1, examples // config.batch_size),
        held_out=HeldOut(evals, names, mean),
    )


def load_held_out(config: ConfigDict, workdir: Path, trained: ConfigDict) -> HeldOut:
    """Open the evaluation splits alone.

    The best constant is the one of the mixture the run was trained on, whatever `config` says now.
    The run has kept it in its workdir; only where that file is missing (as in a run converted from
    other people's weights) are the training sets opened, to measure it. Where these are not there
    either, it stays unknown, and a line on stderr says so.

    Args:
        config: a validated config.
        workdir: of a run that was trained.
        trained: the config of that training.

    Returns:
        The evaluation's data.

    Raises:
        UserError: an evaluation's dataset or split is missing or damaged.
    """
    evals, names = _held_out(config, _open_all(config, config.data.eval))
    path = workdir / _STATISTICS_FILE
    mean = _read_mean(path)
    if mean is None:
        mixture = trained.copy_and_resolve_references()
        mixture.data.root = config.data.root
        try:
            sources = _mixture(mixture, _open_all(mixture, _train_names(mixture)))
        except UserError as error:
            print(
                f"the best constant's error is left out: {path}, which training keeps, is not "
                f"there, and the training sets cannot be read ({error})",
                file=sys.stderr,
            )
            mean = np.full((NUM_JOINTS, 3), np.nan, np.float32)
        else:
            mean = _measure_mean(sources)
            _keep_mean(path, _mixture_key(sources, config.data.root), mean)
    return HeldOut(evals, names, mean)


def tensorboard_writer(workdir: Path) -> Any:
    """Make clu's writer of TensorBoard events; other processes than the first write nothing."""
    import jax
    from clu import metric_writers

    if jax.process_index():
        return metric_writers.MultiWriter([])
    return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(str(workdir))])


def _processes() -> dict[str, int]:
    import jax

    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _open_all(config: ConfigDict, names: Iterable[str]) -> dict[str, storage.StoredSplit]:
    """Open splits by DATASET/SPLIT; one error names all the datasets that are not there."""
    opened, missing = {}, []
    # Synthetic people last: they may have to be drawn, for nothing if another one is not there.
    for name in sorted(dict.fromkeys(names), key=lambda name: name.startswith("synthetic/")):
        if missing and name.startswith("synthetic/"):
            break
        try:
            opened[name] = _open(config, *name.rsplit("/", 1))
        except storage.MissingDatasetError as error:
            missing += [one for one in error.names if one not in missing]
    if missing:
        raise storage.MissingDatasetError(missing, config.data.root)
    return opened


def _mixture(
    config: ConfigDict, opened: Mapping[str, storage.StoredSplit]
) -> list[tuple[storage.StoredSplit, float]]:
    """Return the training sets with their weights."""
    return [(opened[f"{name}/train"], weight) for name, weight in config.data.train]


def _train_names(config: ConfigDict) -> list[str]:
    return [f"{name}/train" for name, _ in config.data.train]


def _held_out(
    config: ConfigDict, opened: Mapping[str, storage.StoredSplit]
) -> tuple[Mapping[str, Callable[[], Iterator[Batch]]], Mapping[str, Callable[[], SplitNames]]]:
    """Return passes over the evaluation splits, and their samples' names."""
    splits = {name: opened[name] for name in config.data.eval}
    evals = {
        name: partial(
            input_pipeline.eval_batches,
            source,
            batch_size=config.eval.batch_size,
            image_size=config.image_size,
        )
        for name, source in splits.items()
    }
    return evals, {name: cache(source.names) for name, source in splits.items()}


def _open(config: ConfigDict, name: str, split: str) -> storage.StoredSplit:
    if name == "synthetic":
        chosen = settings.from_mapping(config.data.synthetic)
        path = builder.prepare(chosen, config.data.root, config.data.workers or None)
    else:
        path = storage.find_dataset(config.data.root, name)
    return storage.open_split(path, split)


class _WithoutParts:
    """A split whose examples have no part labels; the rest of it is as it was."""

    def __init__(self, source: storage.StoredSplit):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        # Where the split lies, for messages.
        return getattr(self._source, name)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {**self._source[index], "part_labels": b"", "parts_weight": np.float32(0)}


def _check_part_labels(sources: list[tuple[storage.StoredSplit, float]]) -> None:
    """Raise UserError when no dataset has what loss.parts compares with."""
    for source, _ in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _LABEL_EXAMPLES))
        if any(source[int(index)]["parts_weight"] > 0 for index in chosen):
            return
    raise UserError(
        "config.loss.parts needs part labels, which none of data.train has: prepare 3DPW with "
        "--body=SMPL (docs/data.md), or set it to 0"
    )


def _mixture_key(sources: list[tuple[storage.StoredSplit, float]], data_root: str) -> list:
    """Identify a mixture, wherever the prepared datasets lie."""
    return [
        [os.path.relpath(source.path, data_root), len(source), weight] for source, weight in sources
    ]


def _read_mean(path: Path, key: list | None = None) -> np.ndarray | None:
    """Read the mean joints that a workdir keeps, if they are there and of the mixture `key`."""
    try:
        kept = json.loads(path.read_text())
        mean = np.array(kept["mean_joints"], np.float32)
        if key not in (None, kept["sources"]) or mean.shape != (NUM_JOINTS, 3):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return mean


def _measure_mean(sources: list[tuple[storage.StoredSplit, float]]) -> np.ndarray:
    """Return the mean root-centred joints over the mixture, metres, (24, 3).

    NaN where no training set has 3D joints: a constant that nobody was asked for has no error.
    """
    total, weights = np.zeros((NUM_JOINTS, 3)), 0.0
    for source, weight in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _STATISTICS_EXAMPLES))
        examples = [source[int(index)] for index in chosen]
        joints = [e["joints_3d"] for e in examples if e["joints_3d_weight"] > 0]
        if joints:
            total += weight * np.mean(np.asarray(joints, np.float64), 0)
            weights += weight
    if not weights:
        return np.full((NUM_JOINTS, 3), np.nan, np.float32)
    return (total / weights).astype(np.float32)


def _keep_mean(path: Path, key: list, mean: np.ndarray) -> None:
    if path.parent.is_dir():
        # JSON has null, and no NaN.
        told = [[float(x) if np.isfinite(x) else None for x in joint] for joint in mean]
        statistics = {"sources": key, "mean_joints": told}
        # Without room for it, it is measured again next time.
        with contextlib.suppress(UserError):
            write_atomically(path, (json.dumps(statistics) + "\n").encode())
