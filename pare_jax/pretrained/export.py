"""The way back: networks trained here as the state dict that the original code loads."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.io.files import write_atomically
from pare_jax.models.flat_state import of_network
from pare_jax.pretrained.load import SOURCES
from pare_jax.pretrained.table import to_torch

# Endings that torch's own files have.
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")


def export(
    network: nnx.Module, model: ConfigDict, path: str | Path, format: str = "resnet"
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Write the part of a network that a format holds, under the names of that format.

    Args:
        network: with the weights to write.
        model: the `model` section of its config.
        path: what to write: `.safetensors`, or one of `TORCH_SUFFIXES`, which needs torch.
        format: one of `load.SOURCES`: "resnet" writes the backbone as torchvision has it, without
            the classifier, which networks here do not have; "pare" the whole network.

    Returns:
        What was written, and what the user should know, a line each.

    Raises:
        UserError: the network is not what the format holds, the format is unknown, or the file
            cannot be written.
    """
    if format not in SOURCES:
        raise UserError(f"there is no format {format!r} to write: use {', '.join(SOURCES)}")
    source, flat = SOURCES[format], of_network(network)
    options, notes = {}, []
    if source.before_writing is not None:
        options, notes = source.before_writing(flat, model)
    tensors = to_torch(source.table(model), flat) | dict(source.constants)
    save_tensors(tensors, path, options)
    return tensors, notes


def save_tensors(
    tensors: Mapping[str, np.ndarray],
    path: str | Path,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors as a state dict: `.safetensors`, or one of `TORCH_SUFFIXES` through torch.

    A `.ckpt` is written as Lightning writes its checkpoints, which is what PARE's code reads: the
    state dict inside, under names that begin with "model.", beside the hyperparameters.

    Args:
        tensors: by name.
        path: of the file.
        options: hyperparameters, for the formats that have a place for them (not `.pth`).

    Raises:
        UserError: another ending, torch is needed and not installed, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        metadata = {"hyper_parameters": json.dumps(options)} if options else None
        content = save(dict(tensors), metadata)
    elif path.suffix in TORCH_SUFFIXES:
        content = _torch_bytes(tensors, path, options)
    else:
        raise UserError(
            f"cannot tell how to write {path}: let it end in .safetensors or "
            f"{', '.join(TORCH_SUFFIXES)}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    write_atomically(path, content)


def _torch_bytes(
    tensors: Mapping[str, np.ndarray], path: Path, options: Mapping[str, Any] | None
) -> bytes:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"writing {path} needs torch: pip install 'pare-jax[torch]' (its CPU build will do), "
            "or let its name end in .safetensors"
        ) from None
    buffer = io.BytesIO()
    content: dict[str, Any] = {name: torch.tensor(value) for name, value in tensors.items()}
    if path.suffix == ".ckpt":
        state = {f"model.{name}": value for name, value in content.items()}
        content = {"epoch": 0, "global_step": 0, "state_dict": state}
        content["hyper_parameters"] = dict(options or {})
    torch.save(content, buffer)
    return buffer.getvalue()
