"""Bring a file of weights into a network, as the section `pretrained` of a config asks."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models import build_model
from pare_jax.models.flat_state import of_network, unflatten
from pare_jax.pretrained import (
    hrnet_weights as hrnet,
)
from pare_jax.pretrained import (
    pare_weights as pare,
)
from pare_jax.pretrained import (
    resnet_weights as resnet,
)
from pare_jax.pretrained.mean_parameters import read_mean_parameters
from pare_jax.pretrained.read import WeightFile, read_weights
from pare_jax.pretrained.table import Report, to_ours
from pare_jax.pretrained.weight_format import WeightFormat, within

# Whatever holds another as a part comes before it.
SOURCES: dict[str, WeightFormat] = {
    "pare": pare.PARE,
    "hrnet": hrnet.HRNET,
    "resnet": resnet.RESNET,
    "transformers": resnet.TRANSFORMERS_RESNET,
}
# Published backbones have this width; of a network of another one nothing needs to be said.
_USUAL_WIDTH = 64
_MEANS = "batch_stats.heads.mean_"


class Loaded(NamedTuple):
    """Converted weights.

    Attributes:
        flat: our arrays by dotted name; a part of the network's.
        notes: what the user should know, one text each.
    """

    flat: dict[str, np.ndarray]
    notes: list[str]


def load(config: ConfigDict) -> Loaded:
    """Read and convert what `config.pretrained` names, for a run that starts.

    Args:
        config: a whole config; `model` and `pretrained` are looked at.

    Raises:
        UserError: a file cannot be read, is of no known kind or of another network, or random
            weights would be frozen.
    """
    section = config.pretrained
    if section.freeze_epochs and not section.path:
        raise UserError(
            f"config.pretrained.freeze_epochs is {section.freeze_epochs}, which would keep a "
            "backbone of random weights as it is: name a file in config.pretrained.path or set it "
            "to 0"
        )
    flat: dict[str, np.ndarray] = {}
    notes = []
    if section.path:
        flat, report = convert(read_weights(section.path), config.model, section.format)
        if section.mean_parameters and any(name.startswith(_MEANS) for name in flat):
            raise UserError(
                f"config.pretrained.mean_parameters is set, but {section.path} was trained with "
                'means of its own: leave it ""'
            )
        notes.append(str(report))
    elif config.model.backbone_width == _USUAL_WIDTH:
        notes.append(
            "the backbone starts from random weights: --config.pretrained.path=FILE starts from "
            "ImageNet's or others (docs/weights.md)"
        )
    if section.mean_parameters:
        flat = flat | read_mean_parameters(section.mean_parameters)
        notes.append(f"mean pose, shape and camera from {section.mean_parameters}")
    return Loaded(flat, notes)


def convert(
    weights: WeightFile, model: ConfigDict, format: str = "auto"
) -> tuple[dict[str, np.ndarray], Report]:
    """Convert a weight file for a network.

    Args:
        weights: the file's content.
        model: the `model` section of a config.
        format: one of `SOURCES`, or "auto" to tell it by the names of the tensors.

    Returns:
        Our arrays by dotted name, and what became of the file's tensors and the network's arrays.

    Raises:
        UserError: as `load`.
    """
    tensors, path = weights.tensors, str(weights.path)
    name, prefix = detect(tensors, path, format)
    source = SOURCES[name]
    source.check(within(tensors, prefix), model, path)
    network = nnx.eval_shape(lambda: build_model(model, rngs=nnx.Rngs(0)))
    flat, report = to_ours(
        source.table(model), tensors, of_network(network), source=path, prefix=prefix
    )
    if source.after_reading is not None:
        report = source.after_reading(flat, report, weights.metadata)
    return flat, report


def detect(tensors: Mapping[str, np.ndarray], file: str, format: str = "auto") -> tuple[str, str]:
    """Tell of which kind a file is by the names of its tensors.

    Args:
        tensors: the file's.
        file: its name, for the error.
        format: one of `SOURCES` if it must be of that kind; or "auto".

    Returns:
        One of `SOURCES`, and what stands before the table's names in this file.

    Raises:
        UserError: it is of no known kind, or not of the one asked for.
    """
    for name in SOURCES if format == "auto" else (format,):
        prefix = SOURCES[name].prefix(tensors)
        if prefix is not None:
            return name, prefix
    known = SOURCES.values() if format == "auto" else (SOURCES[format],)
    raise UserError(
        f"{file} holds the weights of a network that is not known here; its tensors begin with "
        f"{', '.join(list(tensors)[:3])}: give the weights of a "
        f"{', or a '.join(source.title for source in known)}"
    )


def fill(network: nnx.Module, flat: Mapping[str, np.ndarray]) -> None:
    """Put arrays, by dotted name, in the place of a network's own; the others stay."""
    _, params, batch_stats = nnx.split(network, nnx.Param, ...)
    arrays = of_network(network) | {name: jnp.asarray(value) for name, value in flat.items()}
    nnx.update(
        network, unflatten("params", params, arrays), unflatten("batch_stats", batch_stats, arrays)
    )
