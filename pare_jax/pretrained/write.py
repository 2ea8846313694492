"""Writes trained networks as PyTorch state dicts, for the code that the formats come from."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.crop import CROP_RESOLUTION
from pare_jax.errors import UserError
from pare_jax.io.files import write_atomically
from pare_jax.models.flat_state import of_network
from pare_jax.pretrained.load import FORMATS
from pare_jax.pretrained.table import to_torch

# Suffixes of the files that torch.save writes.
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
# Entry of `.ckpt` and `.safetensors` files with settings that PARE's code does not know.
OWN_SETTINGS = "pare_jax"


def export(
    network: nnx.Module,
    model: ConfigDict,
    path: str | Path,
    format: str = "resnet",
    image_size: int = CROP_RESOLUTION,
    own: Mapping[str, Any] | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Write a network, or its backbone, in a weight format.

    Args:
        network: the network to write.
        model: the `model` section of its config.
        path: file to write: `.safetensors`, or one of `TORCH_SUFFIXES`, which needs torch.
        format: one of `load.FORMATS`: "resnet" writes the backbone under torchvision's names,
            without the classifier, which networks here lack; "pare" writes the whole network.
        image_size: side of the network's crops, pixels, which PARE's format keeps.
        own: settings that are stored under `OWN_SETTINGS`, see `save_tensors`.

    Returns:
        The tensors written, and notes for the user, one line each.

    Raises:
        UserError: the format is unknown or cannot hold this network, or the file cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    weight_format, flat = FORMATS[format], of_network(network)
    options, notes = {}, []
    if weight_format.before_writing is not None:
        options, notes = weight_format.before_writing(flat, model, image_size)
    tensors = to_torch(weight_format.table(model), flat) | dict(weight_format.constants)
    save_tensors(tensors, path, options, own)
    return tensors, notes


def save_tensors(
    tensors: Mapping[str, np.ndarray],
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors as a state dict: `.safetensors`, or one of `TORCH_SUFFIXES` with torch.

    A `.ckpt` has the layout of Lightning's checkpoints, which PARE's code reads: `state_dict`, with
    "model." before each name, and `hyper_parameters`.

    Args:
        tensors: by name.
        path: file to write.
        options: hyperparameters; `.ckpt` and `.safetensors` store them, `.pth` cannot.
        own: settings of this project's network that PARE's code does not know, likewise.

    Raises:
        UserError: the suffix is another, torch is missing, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        texts = {"hyper_parameters": options, OWN_SETTINGS: own}
        metadata = {name: json.dumps(value) for name, value in texts.items() if value}
        content = save(dict(tensors), metadata)
    elif path.suffix in TORCH_SUFFIXES:
        content = _torch_bytes(tensors, path, options, own)
    else:
        raise UserError(
            f"cannot write {path}: give it the suffix .safetensors or one of "
            f"{', '.join(TORCH_SUFFIXES)}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    write_atomically(path, content)


def _torch_bytes(
    tensors: Mapping[str, np.ndarray],
    path: Path,
    options: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
) -> bytes:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"writing {path} needs torch: pip install 'pare-jax[torch]' (the CPU build suffices), "
            "or give the file the suffix .safetensors"
        ) from None
    buffer = io.BytesIO()
    content: dict[str, Any] = {name: torch.tensor(value) for name, value in tensors.items()}
    if path.suffix == ".ckpt":
        state = {f"model.{name}": value for name, value in content.items()}
        content = {"epoch": 0, "global_step": 0, "state_dict": state}
        content["hyper_parameters"] = dict(options or {})
        content |= {OWN_SETTINGS: dict(own)} if own else {}
    torch.save(content, buffer)
    return buffer.getvalue()
