"""The way back: networks trained here as the state dict that the original code loads."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.files import write_atomically
from pare_jax.flat_state import of_network
from pare_jax.pretrained.load import SOURCES
from pare_jax.pretrained.table import to_torch

# Endings that torch's own files have.
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")


def export(
    network: nnx.Module, model: ConfigDict, path: str | Path, format: str = "resnet"
) -> dict[str, np.ndarray]:
    """Write the part of a network that a format holds, under the names of that format.

    Args:
        network: with the weights to write.
        model: the `model` section of its config.
        path: what to write: `.safetensors`, or one of `TORCH_SUFFIXES`, which needs torch.
        format: one of `load.SOURCES`: "resnet" writes the backbone as torchvision has it, without
            the classifier, which networks here do not have.

    Returns:
        What was written.

    Raises:
        UserError: the network is not what the format holds, the format is unknown, or the file
            cannot be written.
    """
    if format not in SOURCES:
        raise UserError(f"there is no format {format!r} to write: use {', '.join(SOURCES)}")
    tensors = to_torch(SOURCES[format].table(model), of_network(network))
    save_tensors(tensors, path)
    return tensors


def save_tensors(tensors: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write tensors as a state dict: `.safetensors`, or one of `TORCH_SUFFIXES` through torch.

    Raises:
        UserError: another ending, torch is needed and not installed, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        content = save(dict(tensors))
    elif path.suffix in TORCH_SUFFIXES:
        content = _torch_bytes(tensors, path)
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


def _torch_bytes(tensors: Mapping[str, np.ndarray], path: Path) -> bytes:

    try:
        import torch
    except ImportError:
        raise UserError(
            f"writing {path} needs torch: pip install 'pare-jax[torch]' (its CPU build will do), "
            "or let its name end in .safetensors"
        ) from None
    buffer = io.BytesIO()
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, buffer)
    return buffer.getvalue()
