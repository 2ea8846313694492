"""Makes the config of a fine-tuning: the recipe, with the network and data of the first run."""

import copy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.common import get_base
from configs.finetune import on_own_photographs
from pare_jax.errors import UserError
from pare_jax.training import config as config_lib
from pare_jax.training.config import PHOTOGRAPHS
from pare_jax.training.first_weights import is_run
from pare_jax.training.trained_run import load_config, split_checkpoint

# The part of the held-out photographs and clips, as config.data.eval names it.
HELD_OUT_SPLIT = f"{PHOTOGRAPHS}/validation"
# The network, its input, its body, and how it is trained.
_ADOPTED = ("precision", "image_size", "crop_scale", "body_model", "model", "loss", "augment")
# Large steps of a few pictures would undo the first training.
_LEARNING_RATE = 0.1


def first_run(config: ConfigDict) -> ConfigDict | None:
    """Return the config of the run that a fine-tuning starts from; None for a weight file.

    Raises:
        UserError: config.pretrained.path is empty, no run, or a run of a network on keypoints.
    """
    path = config.pretrained.path
    if not path:
        raise UserError(
            "config.data.photos needs a trained network: give --config.pretrained.path=RUN, a "
            "run's folder or a file of PARE's weights"
        )
    if not is_run(path):
        return None
    run = load_config(split_checkpoint(path)[0], get_base())
    if run.model.input != "image":
        raise UserError(
            f"the network of config.pretrained.path={path} sees keypoints, not pixels, so that "
            "photographs cannot train it: run python -m pare_jax.predict with --refine, which "
            "fits its bodies to the keypoints of each photograph"
        )
    return run


def adopted(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """Return the config that fine-tunes on `config.data.photos`.

    Args:
        config: configs/finetune.py with the overrides of the command line.
        overrides: these values by dotted key; they replace what is adopted.

    Raises:
        UserError: as `first_run`.
    """
    run = first_run(config)
    config = copy.deepcopy(config).unlock()
    others = config.data.train
    if run is not None:
        for key in _ADOPTED:
            config[key] = copy.deepcopy(run[key])
        config.model.dtype = config.get_ref("precision")
        config.optimizer.learning_rate = _LEARNING_RATE * run.optimizer.learning_rate
        config.data.synthetic, config.data.root = run.data.synthetic, run.data.root
        others = run.data.train
    if config.data.photos_share == 1.0:
        # Photographs have no part labels.
        config.loss.parts = 0.0
    on_own_photographs(config)
    config.update_from_flattened_dict(dict(overrides))
    if "data.train" in overrides:
        others = overrides["data.train"]
    config.data.train = _mixed(others, config.data.photos_share)
    config.data.eval = (HELD_OUT_SPLIT,)
    config = config.lock()
    config_lib.validate(config)
    return config


def _mixed(others: tuple, share: float) -> tuple:
    """Return the photographs with their share, and other data in the rest."""
    if share == 1.0:
        return ((PHOTOGRAPHS, 1.0),)
    total = sum(weight for _, weight in others)
    rest = tuple((name, (1.0 - share) * weight / total) for name, weight in others)
    return ((PHOTOGRAPHS, share), *rest)
