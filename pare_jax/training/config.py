"""Check a config before anything expensive starts."""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from pare_jax import skeleton
from pare_jax.crop import BOX_SCALE
from pare_jax.errors import UserError
from pare_jax.evaluation import protocols
from pare_jax.models.build import check_model, part_map_stride
from pare_jax.pretrained import load as pretrained
from pare_jax.training import losses, optimizer

# Said wherever such a network predicts people in photographs.
SYNTHETIC_ALONE = (
    "this network was trained on synthetic people alone, which are drawn: do not trust its bodies "
    "on photographs"
)

# The data set of drawn bodies, as config.data names it.
BODIES = "bodies"
# The data set of the user's own photographs, which is in the workdir.
PHOTOGRAPHS = "photographs"

_Check = tuple[Callable[[Any], bool], str]

_POSITIVE: _Check = (lambda v: v > 0, "must be greater than 0")
_FINITE: _Check = (lambda v: 0 < v < float("inf"), "must be a finite number greater than 0")
_NOT_NEGATIVE: _Check = (lambda v: v >= 0, "must not be negative")
_SHARE: _Check = (lambda v: 0 <= v <= 1, "must be between 0 and 1")


def _one_of(*names: str) -> _Check:
    return (lambda v: v in names, f"must be one of {', '.join(names)}")


_CHECKS: dict[str, _Check] = {
    "seed": (lambda v: 0 <= v < 2**31, "must be between 0 and 2**31 - 1"),
    "precision": _one_of("float32", "bfloat16"),
    "num_epochs": _FINITE,
    "num_steps": _NOT_NEGATIVE,
    "batch_size": _POSITIVE,
    "accumulate_steps": _POSITIVE,
    "image_size": (lambda v: v > 0 and v % 32 == 0, "must be a positive multiple of 32"),
    "crop_scale": (lambda v: 0.1 <= v <= 10, "must be between 0.1 and 10"),
    "augment.scale": (lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    "augment.rotation": _NOT_NEGATIVE,
    "augment.flip": _SHARE,
    "augment.colour": _SHARE,
    "augment.noise": _NOT_NEGATIVE,
    "augment.occlusion": _SHARE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.schedule": _one_of(*optimizer.SCHEDULES),
    "optimizer.warmup": _NOT_NEGATIVE,
    "optimizer.grad_clip": _NOT_NEGATIVE,
    "max_bad_steps": _POSITIVE,
    "swa.every_steps": _POSITIVE,
    "swa.statistics_batches": _POSITIVE,
    "checkpoint.every_steps": _POSITIVE,
    "checkpoint.keep": _POSITIVE,
    "eval.every_epochs": _FINITE,
    "eval.batch_size": _POSITIVE,
    "eval.protocol": _one_of(*protocols.NAMES),
    "eval.weights": _one_of("swa", "last"),
    "eval.pictures": _NOT_NEGATIVE,
    "log_every_steps": _POSITIVE,
    "data.missing": _one_of("refuse", "share"),
    "data.workers": _NOT_NEGATIVE,
    "data.fits.error": _POSITIVE,
    "data.fits.agreement": _POSITIVE,
    "data.fits.plausibility": _SHARE,
    "data.fits.weight": (lambda v: 0 < v <= 1, "must be greater than 0 and at most 1"),
    "pretrained.format": _one_of("auto", *pretrained.FORMATS),
    "pretrained.freeze_epochs": _NOT_NEGATIVE,
    "data.memory": _NOT_NEGATIVE,
    "data.cache": (lambda v: v in ("", "device"), "must be '' or 'device'"),
    "data.photos_share": (lambda v: 0 < v <= 1, "must be above 0 and at most 1"),
}


def dataset_names(train: Sequence[tuple[str | tuple[str, ...], float]]) -> list[str]:
    """Return all names in config.data.train, in order; see `data_pipelines.mixture`."""
    groups = ((names,) if isinstance(names, str) else names for names, _ in train)
    return [name for group in groups for name in group]


def warning_of(config: ConfigDict) -> str | None:
    """Return `SYNTHETIC_ALONE` if a run learnt bodies from synthetic people alone, else None.

    First weights of a backbone change nothing about that; those of a whole PARE, named by
    `pretrained.format`, do.
    """
    seen = set(dataset_names(config.data.train))
    started = config.pretrained
    has_bodies = bool(started.path) and started.format == "pare"
    return SYNTHETIC_ALONE if seen == {"synthetic"} and not has_bodies else None


def validate(config: ConfigDict) -> None:
    """Raise UserError naming the first key whose value cannot work."""
    for name in _lookup(config, "loss"):
        if name not in losses.TERMS:
            raise UserError(
                f"config.loss.{name} is no term of the loss: use {', '.join(losses.TERMS)}"
            )
    weights = {f"loss.{name}": _NOT_NEGATIVE for name in losses.TERMS}
    for key, (holds, requirement) in (_CHECKS | weights).items():
        value = _lookup(config, key)
        if not holds(value):
            raise UserError(f"config.{key} is {value!r}: it {requirement}")
    check_model(config.model)
    _validate_data(config)
    if config.eval.protocol == "j14" and not config.eval.joint_regressor:
        raise UserError(
            "config.eval.protocol j14 needs config.eval.joint_regressor: the path of "
            "J_regressor_h36m.npy"
        )
    for name in config.eval.attention_joints:
        if name not in skeleton.JOINT_NAMES:
            raise UserError(
                f"config.eval.attention_joints names {name!r}: "
                f"use {', '.join(skeleton.JOINT_NAMES)}"
            )
    if config.pretrained.freeze_epochs and (
        0 <= config.swa.start_epoch <= config.pretrained.freeze_epochs
    ):
        raise UserError(
            f"config.swa.start_epoch is {config.swa.start_epoch}, before the backbone thaws: make "
            f"it greater than pretrained.freeze_epochs, {config.pretrained.freeze_epochs}"
        )
    _validate_input(config)
    if config.loss.parts and config.model.name != "pare":
        raise UserError(
            f"config.loss.parts needs part maps, which model.name {config.model.name} lacks: set "
            "it to 0"
        )
    if config.loss.parts and part_map_stride(config.model) < losses.LABEL_STRIDE:
        raise UserError(
            f"config.loss.parts needs part maps no finer than the labels, 1/{losses.LABEL_STRIDE} "
            "of the picture's side: set it to 0 or make model.num_blocks smaller than "
            f"{config.model.num_blocks}"
        )
    if len(config.profile) != 2 or not 0 <= config.profile[0] <= config.profile[1]:
        raise UserError(f"config.profile is {config.profile}: give (first step, last step)")


def _validate_input(config: ConfigDict) -> None:
    """Raise UserError unless the data has what the network reads."""
    if config.loss.points_2d and config.model.name != "keypoints":
        raise UserError(
            "config.loss.points_2d needs config.model.name to be 'keypoints': set it to 0"
        )
    named = {*dataset_names(config.data.train), *(n.split("/")[0] for n in config.data.eval)}
    if config.model.input == "image":
        if BODIES in named:
            raise UserError(
                f"config.data names {BODIES}, which have no pictures: set config.model.input to "
                "'keypoints'"
            )
        return
    if others := sorted(named - {BODIES}):
        raise UserError(
            f"config.data names {others[0]}, but networks on keypoints are trained and evaluated "
            f"on {BODIES} alone: set config.model.input to 'image', or use configs/keypoints.py"
        )
    for key in (
        *("pretrained.path", "pretrained.mean_parameters", "pretrained.freeze_epochs"),
        "data.fits.use",
    ):
        if _lookup(config, key):
            raise UserError(f"config.{key} is for networks on images: leave it empty, 0 or False")
    if config.loss.parts:
        raise UserError("config.loss.parts needs part labels, which bodies lack: set it to 0")


def _validate_data(config: ConfigDict) -> None:
    train = config.data.train
    well_formed = isinstance(train, tuple) and all(
        isinstance(item, tuple)
        and len(item) == 2
        and _is_name_or_group(item[0])
        and isinstance(item[1], int | float)
        for item in train
    )
    if not train or not well_formed or not all(0 < weight < math.inf for _, weight in train):
        raise UserError(
            f"config.data.train is {train!r}: give ((dataset, weight), ...), with finite weights "
            "above 0; (dataset, dataset, ...) in place of a dataset shares its weight by size"
        )
    if config.data.labels and not config.data.photos:
        raise UserError(
            f"config.data.labels={config.data.labels} needs config.data.photos=FOLDER, the "
            "photographs of these labels"
        )
    datasets = dataset_names(train)
    if twice := next((name for name in datasets if datasets.count(name) > 1), None):
        raise UserError(f"config.data.train names {twice} twice: name each dataset once")
    names = config.data.eval
    if not names or not all(isinstance(name, str) and name.count("/") == 1 for name in names):
        raise UserError(
            f"config.data.eval is {config.data.eval!r}: give (dataset/split, ...), "
            "for instance ('synthetic/test',)"
        )


def _is_name_or_group(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, tuple) and bool(value) and all(isinstance(name, str) for name in value)
    )


def _lookup(config: ConfigDict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if part not in value:
            raise UserError(
                f"config.{key} is missing: start the experiment from get_base() of "
                "configs/common.py, which has all keys"
            )
        value = value[part]
    return value


def plain(config: Any) -> Any:
    """Turn a config into what JSON can hold; tuples become lists."""
    if isinstance(config, ConfigDict):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value) for value in config]
    return config


def differing(
    old: ConfigDict, new: ConfigDict, within: Sequence[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Return the keys in which two configs differ, each with both values, None for a missing one.

    Args:
        old: a config.
        new: another.
        within: only these keys and sections, by their dotted names; empty: all.
    """
    ours, theirs = flat(plain(old)), flat(plain(new))
    return [
        (key, ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
        and (not within or any(f"{key}.".startswith(f"{name}.") for name in within))
        # A key that one of them lacks changes nothing while the other has it off.
        and (key in ours.keys() & theirs.keys() or ours.get(key) or theirs.get(key))
    ]


def differences(old: ConfigDict, new: ConfigDict, within: Sequence[str] = ()) -> list[str]:
    """Describe each of `differing` in one text."""
    return [f"{key}: {was!r} -> {now!r}" for key, was, now in differing(old, new, within)]


def completed(stored: dict[str, Any], defaults: ConfigDict) -> ConfigDict:
    """Return a run's config with the defaults of the keys that are newer than the run.

    Args:
        stored: the content of config.json.
        defaults: all keys of now.

    Raises:
        TypeError, ValueError: a value is of another type than its default.
    """
    _check_sections(stored, defaults)
    config = copy.deepcopy(defaults).unlock()
    config.update(_with_tuples(stored))
    return config


def _check_sections(stored: dict[str, Any], defaults: ConfigDict, prefix: str = "") -> None:
    for key, section in defaults.items():
        if isinstance(section, ConfigDict) and key in stored:
            if not isinstance(stored[key], dict):
                raise ValueError(f"{prefix}{key} is {stored[key]!r}, not a section")
            _check_sections(stored[key], section, f"{prefix}{key}.")


def without_unknown(config: ConfigDict, known: ConfigDict) -> ConfigDict:
    """Return a config without the keys that `known` lacks, which the code no longer reads."""
    kept = copy.deepcopy(config).unlock()
    _prune(kept, known)
    return kept


def _prune(config: ConfigDict, known: ConfigDict) -> None:
    for key in list(config):
        if key not in known:
            del config[key]
        elif isinstance(config[key], ConfigDict):
            _prune(config[key], known[key])


def _with_tuples(value: Any) -> Any:
    """Turn the lists of JSON into tuples, as configs have them."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into one with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def crop_scale_of(config: ConfigDict, run: str | Path) -> float:
    """Return the side of a run's crops over the longer side of the box; 1.2 without the key.

    Args:
        config: the run's config.
        run: its folder, for the message.

    Raises:
        UserError: the config's value is out of range.
    """
    scale = config.get("crop_scale", BOX_SCALE)
    check_crop_scale(scale, f"config.crop_scale of {run}")
    return scale


def check_crop_scale(value: Any, name: str) -> None:
    """Raise UserError unless a crop can have this side over that of its box."""
    if not isinstance(value, int | float) or not 0.1 <= value <= 10:
        raise UserError(f"{name} is {value!r}: it must be a number between 0.1 and 10")
