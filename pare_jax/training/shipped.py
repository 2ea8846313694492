"""Reads and writes the trained network that comes with the package.

It is two files in `pare_jax/pretrained`: weights as safetensors, mostly float16, and their
description as JSON: config, body model, errors and origin. They are read without Orbax, because a
command that predicts one photograph should not wait for its import.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax import pretrained
from pare_jax.body.io import BodyData, load_body_data
from pare_jax.errors import UserError
from pare_jax.io.files import read_json, write_together
from pare_jax.models import build_model
from pare_jax.models.flat_state import Flat, of_network, unflatten
from pare_jax.training import config as config_lib
from pare_jax.training.base_config import base_config

NAME = "keypoints"
FOLDER = Path(pretrained.__file__).parent
# A repository keeps every version of the file for ever.
MOST_BYTES = 10_000_000
_AGAIN = "install pare-jax again, or give a run by --checkpoint"


class Shipped(NamedTuple):
    """A network for prediction, in evaluation mode, with the config and body of its training."""

    config: ConfigDict
    network: nnx.Module
    body: BodyData


def load_shipped(folder: Path = FOLDER) -> Shipped:
    """Load the network that comes with the package.

    Args:
        folder: where its two files are.

    Raises:
        UserError: a file is missing or damaged, or the free body is not the one it was trained
            with.
    """
    from safetensors.numpy import load

    path, description = folder / f"{NAME}.safetensors", folder / f"{NAME}.json"
    try:
        about = read_json(description, _AGAIN)
        content = path.read_bytes()
        config = config_lib.completed(about["config"], base_config())
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            raise UserError(f"{path} is not the file that {description.name} describes: {_AGAIN}")
        body = load_body_data(None)
        if body.digest != about["body"]["digest"]:
            raise UserError(f"{path} was trained with another version of the free body: {_AGAIN}")
        return Shipped(config, network_of(config, load(content)), body)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read {error.filename or path}: {reason}; {_AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): {_AGAIN}") from None


def shipped_digest(folder: Path = FOLDER) -> str:
    """Return the SHA-256 of the weights that come with the package; "" if they are missing."""
    path = folder / f"{NAME}.safetensors"
    if not path.is_file():
        return ""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    """Return a file's SHA-256; size and time of the last change tell versions apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _OneKey:
    """Gives every weight the same key, for networks of which only the shapes matter."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def network_of(config: ConfigDict, flat: Flat) -> nnx.Module:
    """Return the network of a config with shipped arrays, in evaluation mode.

    Raises:
        ValueError: the arrays are those of another architecture.
    """
    # Flax takes half a second to count keys while it traces. Shapes do not depend on them.
    model = nnx.eval_shape(lambda: build_model(config.model, rngs=cast(nnx.Rngs, _OneKey())))
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    wanted = {name: tuple(value.shape) for name, value in of_network(model).items()}
    if wanted != {name: value.shape for name, value in flat.items()}:
        raise ValueError("arrays of another architecture")
    arrays = jax.device_put({name: np.asarray(flat[name], np.float32) for name in flat})
    network = nnx.merge(
        graphdef, unflatten("params", params, arrays), unflatten("batch_stats", others, arrays)
    )
    network.eval()
    return network


def rounded(network: nnx.Module) -> Flat:
    """Return a network's arrays as they are shipped: parameters as float16, others as they are.

    Raises:
        UserError: a parameter is too large for float16.
    """
    flat = {name: np.asarray(value) for name, value in of_network(network).items()}
    for name, value in flat.items():
        if name.startswith("params."):
            with np.errstate(over="ignore"):
                flat[name] = value.astype(np.float16)
            if not np.isfinite(flat[name]).all():
                raise UserError(f"{name} does not fit float16: was this run's training stopped?")
    return flat


def write_shipped(
    folder: Path, config: ConfigDict, flat: Flat, body: BodyData, origin: dict[str, Any]
) -> None:
    """Write both files.

    Args:
        folder: for `keypoints.safetensors` and `keypoints.json`.
        config: of the run; its paths are left out.
        flat: from `rounded`.
        body: the body model of the run.
        origin: further entries of the description: errors, steps, what it was trained on.

    Raises:
        UserError: the weights are too large, or the folder cannot be written.
    """
    from safetensors.numpy import save

    # The same arrays give the same bytes.
    content = save(dict(sorted(flat.items())))
    if len(content) > MOST_BYTES:
        raise UserError(
            f"the weights take {len(content) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}: "
            "train a smaller network"
        )
    kept = config.copy_and_resolve_references()
    kept.data.root = base_config().data.root
    about = {
        "config": config_lib.plain(kept),
        "body": {"name": body.name, "vertices": len(body.template), "digest": body.digest},
        "sha256": hashlib.sha256(content).hexdigest(),
        **origin,
    }
    text = json.dumps(about, indent=1) + "\n"
    write_together(folder, {f"{NAME}.safetensors": content, f"{NAME}.json": text.encode()})
