"""Loads the weights that a training starts from: a run's, or those of a weight file."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.models.flat_state import of_network
from pare_jax.pretrained import load as pretrained
from pare_jax.pretrained.load import Loaded
from pare_jax.training import config as config_lib
from pare_jax.training.trained_run import load_model, split_checkpoint

# Parameters are float32 whatever the network computes in.
_SAME_NETWORK = "model.dtype"


def is_run(path: str | Path) -> bool:
    """Return whether `config.pretrained.path` names a run, or a checkpoint of one, by its folder.

    A path without a suffix that does not exist is a run too: weight files have suffixes.
    """
    path = Path(path)
    return path.is_dir() or not (path.exists() or path.suffix)


def load_first_weights(config: ConfigDict) -> Loaded:
    """Load what `config.pretrained` names.

    Args:
        config: a whole config; `pretrained.path` may be a run's workdir, or
            WORKDIR/checkpoints/STEP.

    Raises:
        UserError: as `pretrained.load.load`; or the run is missing, damaged, or has another
            network than the config.
    """
    path = config.pretrained.path
    if not path or not is_run(path):
        return pretrained.load(config)
    for key in ("mean_parameters", "format"):
        if config.pretrained[key] not in ("", "auto"):
            raise UserError(
                f"config.pretrained.{key} is for weight files, and {path} is a run: leave it out"
            )
    notes = [f"first weights from the run {path}"]
    trained, network = load_model(path, say=notes.append)
    differing = [
        (key, own, other)
        for key, own, other in config_lib.differing(trained, config, ("model",))
        if key != _SAME_NETWORK
    ]
    wanted = {name: tuple(x.shape) for name, x in of_network(_shapes(config)).items()}
    flat = jax.device_get(of_network(network))
    if differing or wanted != {name: np.shape(x) for name, x in flat.items()}:
        key, own, other = differing[0] if differing else ("model", "", "")
        raise UserError(
            f"the run {split_checkpoint(path)[0]} has another network than this config "
            f"(config.{key}: {own!r} there, {other!r} here): set its keys of config.model, or "
            "fine-tune it with --config=configs/finetune.py --config.data.photos=FOLDER"
        )
    if trained.image_size != config.image_size:
        notes.append(
            f"{path} was trained on crops of {trained.image_size} pixels, this run has "
            f"config.image_size={config.image_size}"
        )
    return Loaded(flat, notes)


def _shapes(config: ConfigDict) -> nnx.Module:
    return nnx.eval_shape(lambda: build_model(config.model, rngs=nnx.Rngs(0)))
