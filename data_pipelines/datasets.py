"""Opens the datasets that a config names: streams of batches, names, the mean pose."""

import sys
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipelines import mean_pose, mixture
from data_pipelines.bodies import splits as body_splits
from data_pipelines.bodies.splits import DrawnBodies
from data_pipelines.label_checks import check_measurable, check_part_labels
from data_pipelines.reading import device_cache, input_pipeline, remembering, storage
from data_pipelines.reading.damaged_examples import DamagedExamples
from data_pipelines.reading.fitted_split import FittedSplit, with_fits
from data_pipelines.reading.storage import StoredSplit
from data_pipelines.synthetic import builder, settings
from pare_jax.errors import UserError, be, listed
from pare_jax.io.progress import say
from pare_jax.skeleton import NUM_JOINTS
from pare_jax.training.config import BODIES, PHOTOGRAPHS, dataset_names
from pare_jax.training.data import HeldOut, RunData, TrainStream
from pare_jax.training.workdir import has_trained


def check_config(config: ConfigDict) -> None:
    """Check what a config says of synthetic people or drawn bodies, before any data is read.

    Args:
        config: passed `pare_jax.training.config.validate`.

    Raises:
        UserError: a setting is unknown or out of range, or a split that the config uses is empty.
    """
    if _has_bodies(config):
        body_splits.from_mapping(config.data.bodies)
        if config.data.cache:
            raise UserError(
                f"config.data.cache is {config.data.cache!r}, but bodies are drawn on the devices "
                "already: set it to ''"
            )
        for name in config.data.eval:
            if name.split("/")[1] not in body_splits.SPLITS:
                raise UserError(
                    f"config.data.eval names {name}: bodies have {', '.join(body_splits.SPLITS)}"
                )
        return
    used = [*_train_splits(config), *config.data.eval]
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
        workdir: keeps the mean pose of the training sets, and how they share the batches.

    Raises:
        UserError: a dataset or split is missing or damaged.
    """
    if _has_bodies(config):
        return _load_bodies(config)
    _check_cache(config)
    recorded = _recorded_mixture(config, workdir)
    opened = _open_recorded(config, workdir, recorded, config.data.eval)
    sets, notes = _resolve(config, opened, recorded)
    notes += _missing_evaluations(config, opened)
    sources, of_fits = _with_fits(config, _sources(sets, opened))
    notes += [*of_fits, *mean_pose.replaced_fits(config.data.root, workdir, sources)]
    damaged = DamagedExamples()
    if config.loss.parts:
        check_part_labels(sources, damaged)
    # Part labels are decoded only for the loss that reads them.
    used = [
        (source if config.loss.parts else source.without_part_labels(), weight)
        for source, weight in sources
    ]
    if config.data.cache:
        train, note = _on_the_devices(config, used, damaged)
        notes.append(note)
    else:
        train = _from_the_host(config, used, damaged)
    examples = sum(len(source) for source, _ in sources)
    mean = mean_pose.of_mixture(config.data.root, workdir, sources, damaged)
    held_out = _held_out(config, opened, mean, damaged)
    if recorded is None and workdir.is_dir():
        mixture.keep(workdir / mixture.MIXTURE_FILE, config.data.train, sets)
    return RunData(
        train=train,
        steps_per_epoch=max(1, examples // config.batch_size),
        held_out=held_out,
        notes=notes,
        fingerprints={
            f"{source.path.parent.name}/{source.split}": source.fingerprint()
            for source, _ in sources
        },
    )


def _from_the_host(
    config: ConfigDict, sources: mean_pose.Sources, damaged: DamagedExamples
) -> TrainStream:
    """Return the stream that tf.data makes, and keep decoded examples in memory."""
    room = config.data.memory * 2**30 / len(sources)
    remembered = [
        (remembering.remember(source, room, config.image_size, config.augment.scale), weight)
        for source, weight in sources
    ]
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
    return lambda step: stream(start_step=step)


def _check_cache(config: ConfigDict) -> None:
    """Raise UserError if this run cannot keep its training sets on the devices."""
    if not config.data.cache:
        return
    if _processes()["process_count"] > 1:
        raise UserError(
            "config.data.cache is 'device', which one process alone can use: set it to '' "
            "or give --num_processes=1"
        )
    device_cache.check_augmentations(config.augment)


def _on_the_devices(
    config: ConfigDict, sources: mean_pose.Sources, damaged: DamagedExamples
) -> tuple[TrainStream, str]:
    """Put the training sets on the devices; return their stream and a line for the user."""
    return device_cache.cached_batches(
        sources,
        batch_size=config.batch_size,
        image_size=config.image_size,
        seed=config.seed,
        augment=config.augment,
        part_labels=bool(config.loss.parts),
        damaged=damaged,
    )


def training_sets(config: ConfigDict) -> list[mixture.TrainingSet]:
    """Return the training sets of a new run of a config, in the order of its stream.

    Raises:
        UserError: a dataset is missing or damaged.
    """
    opened = _open_all(config, _train_splits(config), Path(), optional=_shares(config))
    return _resolve(config, opened, None)[0]


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
    opened = _open_all(config, config.data.eval, workdir, optional=_shares(config))
    damaged = DamagedExamples()
    for note in _missing_evaluations(config, opened):
        say(note, sys.stderr)
    path = workdir / mean_pose.STATISTICS_FILE
    mean = mean_pose.read(path)
    if mean is None:
        # Where the datasets are now, and whether all must be there.
        there = trained.copy_and_resolve_references().unlock()
        there.data.root, there.data.missing = config.data.root, config.data.missing
        try:
            recorded = _recorded_mixture(there, workdir)
            trained_on = _open_recorded(there, workdir, recorded)
            sources = _sources(_resolve(there, trained_on, recorded)[0], trained_on)
            sources, _ = _with_fits(there, sources)
        except UserError as error:
            say(
                f"the error of the mean-pose baseline is not measured: {path} is missing or "
                f"damaged, and the training sets cannot be read ({error})",
                sys.stderr,
            )
            mean = np.full((NUM_JOINTS, 3), np.nan, np.float32)
        else:
            mean = mean_pose.of_mixture(config.data.root, workdir, sources, damaged)
    return _held_out(config, opened, mean, damaged)


def _has_bodies(config: ConfigDict) -> bool:
    return BODIES in dataset_names(config.data.train)


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
        name: partial(
            bodies.eval_batches,
            name.split("/")[1],
            batch_size=config.eval.batch_size,
            **_processes(),
        )
        for name in config.data.eval
    }
    return HeldOut(evals, dict.fromkeys(evals, bodies.names), bodies.mean_joints())


def _processes() -> dict[str, int]:
    import jax

    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _shares(config: ConfigDict) -> bool:
    return config.data.missing == mixture.SHARE


def _train_splits(config: ConfigDict) -> list[str]:
    return [f"{name}/train" for name in dataset_names(config.data.train)]


def _recorded_mixture(config: ConfigDict, workdir: Path) -> list[mixture.TrainingSet] | None:
    """Return how a run that has trained shares its batches; None for a new run or an older one."""
    if not has_trained(workdir):
        return None
    return mixture.read(workdir / mixture.MIXTURE_FILE, config.data.train)


def _open_recorded(
    config: ConfigDict,
    workdir: Path,
    recorded: list[mixture.TrainingSet] | None,
    evals: Iterable[str] = (),
) -> dict[str, StoredSplit]:
    """Open the training sets, recorded or all, and evaluation splits.

    Raises:
        UserError: a dataset is missing that the run was trained on, or any if config.data.missing
            is "refuse".
    """
    if recorded is None or not _shares(config):
        names = [*_train_splits(config), *evals]
        if recorded is not None:
            names = [*(f"{one.name}/train" for one in recorded), *evals]
        return _open_all(config, names, workdir, optional=_shares(config))
    try:
        needed = _open_all(config, [f"{one.name}/train" for one in recorded], workdir)
    except (storage.MissingDatasetError, storage.MissingSplitError) as error:
        raise UserError(f"the run in {workdir} cannot go on without a set it has: {error}") from (
            error
        )
    return needed | _open_all(config, evals, workdir, optional=True)


def own_data(workdir: Path) -> Path:
    """Return the folder of the datasets that are prepared inside a run's folder."""
    return workdir / "data"


def _open_all(
    config: ConfigDict, names: Iterable[str], workdir: Path, *, optional: bool = False
) -> dict[str, StoredSplit]:
    """Open splits by DATASET/SPLIT; one error names all missing datasets.

    Args:
        config: a validated config.
        names: the splits.
        workdir: the run's folder, which has the user's own photographs.
        optional: leave out missing datasets, missing splits and empty ones.
    """
    opened, missing = {}, []
    # Synthetic people last: rendering them takes long, in vain if another dataset is missing.
    for name in sorted(dict.fromkeys(names), key=lambda name: name.startswith("synthetic/")):
        if missing and name.startswith("synthetic/"):
            break
        try:
            dataset, _, split = name.rpartition("/")
            source = _open(config, dataset, split, workdir)
        except storage.MissingDatasetError as error:
            if not optional:
                missing += [one for one in error.names if one not in missing]
        except storage.MissingSplitError:
            if not optional:
                raise
        else:
            if len(source) or not optional:
                opened[name] = source
    if missing:
        raise storage.MissingDatasetError(missing, config.data.root)
    return opened


def _resolve(
    config: ConfigDict,
    opened: Mapping[str, StoredSplit],
    recorded: list[mixture.TrainingSet] | None,
) -> tuple[list[mixture.TrainingSet], list[str]]:
    """Return the training sets with their weights, and the lines about them."""
    train = config.data.train
    people = {
        name: len(opened[f"{name}/train"])
        for name in dataset_names(train)
        if f"{name}/train" in opened
    }
    if recorded is None:
        sets = mixture.resolve(train, people)
        return sets, mixture.describe(train, sets, f"in {config.data.root}")
    lines = mixture.describe(train, recorded, "since the run began")
    return recorded, [*lines, *mixture.changed(recorded, people)]


def _sources(
    sets: Iterable[mixture.TrainingSet], opened: Mapping[str, StoredSplit]
) -> list[tuple[StoredSplit, float]]:
    """Return the training sets with their weights, as the input pipeline takes them."""
    return [(opened[f"{one.name}/train"], one.weight) for one in sets]


def _with_fits(
    config: ConfigDict, sources: list[tuple[StoredSplit, float]]
) -> tuple[mean_pose.Sources, list[str]]:
    """Give training sets their fits, if the config says so; return a line about each."""
    fits = config.data.get("fits")  # older runs have none
    if not fits or not fits.use:
        return list(sources), []
    wide, lines = [], []
    for source, weight in sources:
        wider, line = with_fits(source, fits, config.body_model or None)
        wide.append((wider, weight))
        lines.append(line)
    # The sets of a mixture, and the user's photographs, may have poses of their own.
    may_lack = _shares(config) or config.data.get("photos")
    if not may_lack and not any(isinstance(source, FittedSplit) for source, _ in wide):
        raise UserError(
            "config.data.fits.use is True, but no dataset of config.data.train has fits: run "
            "python -m data_pipelines.fit_labels, or set it to False"
        )
    return wide, lines


def _missing_evaluations(config: ConfigDict, opened: Mapping[str, StoredSplit]) -> list[str]:
    """Return a line about evaluation splits that are missing.

    Raises:
        UserError: all are.
    """
    names = list(config.data.eval)
    there = [name for name in names if name in opened]
    missing = [name for name in names if name not in opened]
    if not there:
        raise UserError(
            f"config.data.eval: none of {listed(names)} is prepared in {config.data.root}: prepare "
            "one, or name another split (docs/data.md)"
        )
    if not missing:
        return []
    first = "" if names[0] in opened else f"; {there[0]} chooses the best checkpoint"
    return [
        f"{listed(missing)} {be(len(missing))} missing in {config.data.root}: not evaluated{first}"
    ]


def _held_out(
    config: ConfigDict,
    opened: Mapping[str, StoredSplit],
    mean_joints: np.ndarray,
    damaged: DamagedExamples,
) -> HeldOut:
    evals, names = {}, {}
    for name in config.data.eval:
        if name not in opened:
            continue
        check_measurable(name, opened[name], config.eval.protocol, damaged)
        evals[name] = partial(
            input_pipeline.eval_batches,
            opened[name],
            batch_size=config.eval.batch_size,
            image_size=config.image_size,
            damaged=damaged,
            **_processes(),
        )
        names[name] = cache(opened[name].names)
    return HeldOut(evals, names, mean_joints, damaged.found)


def _open(config: ConfigDict, name: str, split: str, workdir: Path) -> StoredSplit:
    if name == "synthetic":
        chosen = settings.from_mapping(config.data.synthetic)
        path = builder.prepare(chosen, config.data.root, config.data.workers or None)
    else:
        root = own_data(workdir) if name == PHOTOGRAPHS else config.data.root
        path = storage.find_dataset(root, name)
    return storage.open_split(path, split)
