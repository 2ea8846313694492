"""From a config to everything a run needs of the data: streams, lengths, the best constant."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipelines import input_pipeline, remembering, storage
from data_pipelines.input_pipeline import Batch
from data_pipelines.synthetic import builder, settings
from pare_jax.errors import UserError
from pare_jax.files import write_atomically
from pare_jax.sequences import SplitNames
from pare_jax.skeleton import NUM_JOINTS

_STATISTICS_FILE = "train_statistics.json"
# Enough for a mean known to a fraction of a millimetre.
_STATISTICS_EXAMPLES = 5_000
# Enough to find part labels where people of either gender have them.
_LABEL_EXAMPLES = 200


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The data of a run, as `pare_jax.train.Data` asks for it."""

    train: Callable[[int], Iterator[Batch]]
    evals: Mapping[str, Callable[[], Iterator[Batch]]]
    eval_names: Mapping[str, Callable[[], SplitNames]]
    steps_per_epoch: int
    mean_joints: np.ndarray


def load(config: ConfigDict, workdir: Path) -> Datasets:
    """Open, and for synthetic people first draw, what a config names.

    Args:
        config: a validated config.
        workdir: where the training set's statistics are kept.

    Returns:
        The run's data.

    Raises:
        UserError: a dataset or split is missing or damaged.
    """
    sources = [(_open(config, name, "train"), weight) for name, weight in config.data.train]
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
    held_out = {name: _open(config, *name.split("/")) for name in config.data.eval}
    evals = {
        name: partial(
            input_pipeline.eval_batches,
            source,
            batch_size=config.eval.batch_size,
            image_size=config.image_size,
        )
        for name, source in held_out.items()
    }
    if config.loss.parts:
        _check_part_labels(sources)
    examples = sum(len(source) for source, _ in sources)
    return Datasets(
        train=lambda step: stream(start_step=step),
        evals=evals,
        eval_names={name: cache(source.names) for name, source in held_out.items()},
        steps_per_epoch=max(1, examples // config.batch_size),
        mean_joints=_mean_joints(sources, workdir),
    )


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


def _mean_joints(sources: list[tuple[storage.StoredSplit, float]], workdir: Path) -> np.ndarray:
    """Return the mean root-centred joints over the mixture, measured once per workdir."""
    path = workdir / _STATISTICS_FILE
    key = [[str(source.path), len(source), weight] for source, weight in sources]
    with contextlib.suppress(OSError, ValueError, KeyError):
        kept = json.loads(path.read_text())
        if kept["sources"] == key:
            return np.array(kept["mean_joints"], np.float32)
    total, weights = np.zeros((NUM_JOINTS, 3)), 0.0
    for source, weight in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _STATISTICS_EXAMPLES))
        examples = [source[int(index)] for index in chosen]
        joints = [e["joints_3d"] for e in examples if e["joints_3d_weight"] > 0]
        if joints:
            total += weight * np.mean(np.asarray(joints, np.float64), 0)
            weights += weight
    mean = total / max(weights, 1e-9)
    if workdir.is_dir():
        statistics = {"sources": key, "mean_joints": mean.tolist()}
        # Without room for it, it is measured again next time.
        with contextlib.suppress(UserError):
            write_atomically(path, (json.dumps(statistics) + "\n").encode())
    return mean.astype(np.float32)
