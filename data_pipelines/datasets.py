"""Opens the datasets that a config names: streams of batches, names, the mean pose."""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.bodies import splits as body_splits
from data_pipelines.bodies.splits import DrawnBodies
from data_pipelines.event_writer import EventWriter
from data_pipelines.reading import input_pipeline, remembering, storage
from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.synthetic import builder, settings
from pare_jax.errors import UserError
from pare_jax.io.files import read_json, write_atomically
from pare_jax.io.progress import say
from pare_jax.skeleton import NUM_JOINTS
from pare_jax.training.config import BODIES
from pare_jax.training.data import HeldOut, RunData

_STATISTICS_FILE = "train_statistics.json"
# Examples of each training set for the mean pose, which they give to a fraction of a millimetre.
_STATISTICS_EXAMPLES = 5_000
# Examples searched for part labels, which a dataset may have for one gender only.
_LABEL_EXAMPLES = 200


def check_config(config: ConfigDict) -> None:
    """Check what a config says of synthetic people or drawn bodies, before any data is read.

    Args:
        config: passed `pare_jax.training.config.validate`.

    Raises:
        UserError: a setting is unknown or out of range, or a split that the config uses is empty.
    """
    if _has_bodies(config):
        body_splits.from_mapping(config.data.bodies)
        for name in config.data.eval:
            if name.split("/")[1] not in body_splits.SPLITS:
                raise UserError(
                    f"config.data.eval names {name}: bodies have {', '.join(body_splits.SPLITS)}"
                )
        return
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
    """Open the training and evaluation splits of a config; renders missing synthetic people.

    Args:
        config: a validated config.
        workdir: keeps the mean pose of the training sets.

    Raises:
        UserError: a dataset or split is missing or damaged.
    """
    if _has_bodies(config):
        return _load_bodies(config)
    opened = _open_all(config, [*_train_names(config), *config.data.eval])
    sources, damaged = _mixture(config, opened), DamagedExamples()
    room = config.data.memory * 2**30 / len(sources)
    remembered = []
    for source, weight in sources:
        # Part labels are decoded only for the loss that reads them.
        used = source if config.loss.parts else source.without_part_labels()
        used = remembering.remember(used, room, config.image_size, config.augment.scale)
        remembered.append((used, weight))
    stream = partial(
        input_pipeline.train_batches,
        remembered,
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        augment=config.augment,
        damaged=damaged,
        **_processes(),
    )
    if config.loss.parts:
        _check_part_labels(sources, damaged)
    examples = sum(len(source) for source, _ in sources)
    return RunData(
        train=lambda step: stream(start_step=step),
        steps_per_epoch=max(1, examples // config.batch_size),
        held_out=_held_out(
            config, opened, _mean_joints(config, workdir, sources, damaged), damaged
        ),
        fingerprints={name: opened[name].fingerprint() for name in _train_names(config)},
    )


def load_held_out(config: ConfigDict, workdir: Path, trained: ConfigDict) -> HeldOut:
    """Open the evaluation splits of a config, and the mean pose of a trained run.

    The mean pose is that of the mixture the run was trained on. If the workdir lacks its file, as
    in a run converted from published weights, the training sets are opened and it is measured. If
    they are missing too, the mean pose is NaN, and a line on stderr gives the reason.

    Args:
        config: a validated config.
        workdir: the workdir of the run.
        trained: the config the run was trained with.

    Raises:
        UserError: an evaluation split is missing or damaged.
    """
    if _has_bodies(config):
        return _held_out_bodies(config, _drawn_bodies(config))
    opened, damaged = _open_all(config, config.data.eval), DamagedExamples()
    path = workdir / _STATISTICS_FILE
    mean = _read_mean(path)
    if mean is None:
        mixture = trained.copy_and_resolve_references()
        mixture.data.root = config.data.root
        try:
            sources = _mixture(mixture, _open_all(mixture, _train_names(mixture)))
        except UserError as error:
            say(
                f"the error of the mean-pose baseline is not measured: {path} is missing or "
                f"damaged, and the training sets cannot be read ({error})",
                sys.stderr,
            )
            mean = np.full((NUM_JOINTS, 3), np.nan, np.float32)
        else:
            mean = _mean_joints(config, workdir, sources, damaged)
    return _held_out(config, opened, mean, damaged)


def _has_bodies(config: ConfigDict) -> bool:
    return any(name == BODIES for name, _ in config.data.train)


def _drawn_bodies(config: ConfigDict) -> DrawnBodies:
    splits, settings = body_splits.from_mapping(config.data.bodies)
    return DrawnBodies(splits, settings, Path(config.data.root) / BODIES, config.body_model or None)


def _load_bodies(config: ConfigDict) -> RunData:
    bodies = _drawn_bodies(config)
    stream = partial(bodies.train_batches, batch_size=config.batch_size, seed=config.seed)
    return RunData(
        train=stream,
        steps_per_epoch=max(1, bodies.splits.epoch // config.batch_size),
        held_out=_held_out_bodies(config, bodies),
        fingerprints={f"{BODIES}/train": bodies.fingerprint()},
    )


def _held_out_bodies(config: ConfigDict, bodies: DrawnBodies) -> HeldOut:
    evals = {
        name: partial(bodies.eval_batches, name.split("/")[1], batch_size=config.eval.batch_size)
        for name in config.data.eval
    }
    return HeldOut(evals, dict.fromkeys(evals, bodies.names), bodies.mean_joints())


def tensorboard_writer(workdir: Path) -> Any:
    """Make the writer of TensorBoard's events; only the first process writes."""
    import jax
    from clu import metric_writers

    if jax.process_index():
        return metric_writers.MultiWriter([])

    def open_writer() -> Any:
        return metric_writers.AsyncMultiWriter([metric_writers.SummaryWriter(str(workdir))])

    return EventWriter(workdir, open_writer)


def _processes() -> dict[str, int]:
    import jax

    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _open_all(config: ConfigDict, names: Iterable[str]) -> dict[str, storage.StoredSplit]:
    """Open splits by DATASET/SPLIT; one error names all missing datasets."""
    opened, missing = {}, []
    # Synthetic people last: rendering them takes long, in vain if another dataset is missing.
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
    config: ConfigDict,
    opened: Mapping[str, storage.StoredSplit],
    mean_joints: np.ndarray,
    damaged: DamagedExamples,
) -> HeldOut:
    evals, names = {}, {}
    for name in config.data.eval:
        _check_measurable(name, opened[name], config.eval.protocol, damaged)
        evals[name] = partial(
            input_pipeline.eval_batches,
            opened[name],
            batch_size=config.eval.batch_size,
            image_size=config.image_size,
            damaged=damaged,
        )
        names[name] = cache(opened[name].names)
    return HeldOut(evals, names, mean_joints, damaged.counts)


def _open(config: ConfigDict, name: str, split: str) -> storage.StoredSplit:
    if name == "synthetic":
        chosen = settings.from_mapping(config.data.synthetic)
        path = builder.prepare(chosen, config.data.root, config.data.workers or None)
    else:
        path = storage.find_dataset(config.data.root, name)
    return storage.open_split(path, split)


def _check_measurable(
    name: str, source: storage.StoredSplit, protocol: str, damaged: DamagedExamples
) -> None:
    """Raise UserError if no metric can be measured on a split."""
    # Most splits have labels everywhere, and few are without any.
    first = np.linspace(0, len(source) - 1, min(len(source), _LABEL_EXAMPLES))
    for example in damaged.readable(source, itertools.chain(map(int, first), range(len(source)))):
        needed = ("pose_weight", "betas_weight") if protocol == "j14" else ("joints_3d_weight",)
        if all(example[weight] > 0 for weight in needed):
            return
        points = np.append(example["joints_2d_weight"], example["head_top_weight"])
        if np.count_nonzero(points) > 1:
            return
    raise UserError(
        f"config.data.eval: nobody in {name} has what protocol {protocol} needs, or two joints in "
        "2D: name another split"
    )


def _check_part_labels(
    sources: list[tuple[storage.StoredSplit, float]], damaged: DamagedExamples
) -> None:
    """Raise UserError if no dataset has the part labels that loss.parts needs."""
    for source, _ in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _LABEL_EXAMPLES))
        examples = damaged.readable(source, map(int, chosen))
        if any(example["parts_weight"] > 0 for example in examples):
            return
    raise UserError(
        "config.loss.parts needs part labels, which no dataset of config.data.train has: prepare "
        "3DPW with --body=SMPL (docs/data.md), or set config.loss.parts to 0"
    )


def _mean_joints(
    config: ConfigDict,
    workdir: Path,
    sources: list[tuple[storage.StoredSplit, float]],
    damaged: DamagedExamples,
) -> np.ndarray:
    """Return the mean joints of a mixture, read from the workdir or measured and kept there."""
    path = workdir / _STATISTICS_FILE
    # Identifies the mixture by names, lengths and weights, without the folder of the datasets.
    key = [
        [os.path.relpath(source.path, config.data.root), len(source), weight]
        for source, weight in sources
    ]
    mean = _read_mean(path, key)
    if mean is None:
        mean = _measure_mean(sources, damaged)
        _keep_mean(path, key, mean)
    return mean


def _read_mean(path: Path, key: list | None = None) -> np.ndarray | None:
    """Read the mean joints of a workdir; None if missing, damaged or of another mixture."""
    try:
        kept = read_json(path)
        mean = np.array(kept["mean_joints"], np.float32)
        if key not in (None, kept["sources"]) or mean.shape != (NUM_JOINTS, 3):
            return None
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None
    return mean


def _measure_mean(
    sources: list[tuple[storage.StoredSplit, float]], damaged: DamagedExamples
) -> np.ndarray:
    """Return the mean root-centred joints of the mixture, metres, (24, 3); NaN if it has none."""
    total, weights = np.zeros((NUM_JOINTS, 3)), 0.0
    for source, weight in sources:
        chosen = np.linspace(0, len(source) - 1, min(len(source), _STATISTICS_EXAMPLES))
        examples = damaged.readable(source, map(int, chosen))
        joints = [e["joints_3d"] for e in examples if e["joints_3d_weight"] > 0]
        if joints:
            total += weight * np.mean(np.asarray(joints, np.float64), 0)
            weights += weight
    if not weights:
        return np.full((NUM_JOINTS, 3), np.nan, np.float32)
    return (total / weights).astype(np.float32)


def _keep_mean(path: Path, key: list, mean: np.ndarray) -> None:
    if path.parent.is_dir():
        # JSON has no NaN.
        joints = [[float(x) if np.isfinite(x) else None for x in joint] for joint in mean]
        statistics = {"sources": key, "mean_joints": joints}
        # If it cannot be written, it is measured again next time.
        with contextlib.suppress(UserError):
            write_atomically(path, (json.dumps(statistics) + "\n").encode())
