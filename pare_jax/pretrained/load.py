"""Loads pretrained weights into a network, as the `pretrained` section of a config says."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from pare_jax.errors import UserError, listed
from pare_jax.models import build_model
from pare_jax.models.flat_state import of_network, unflatten
from pare_jax.pretrained.hrnet_weights import HRNET
from pare_jax.pretrained.mean_parameters import read_mean_parameters
from pare_jax.pretrained.pare_options import options_of
from pare_jax.pretrained.pare_weights import PARE
from pare_jax.pretrained.read import WeightFile, read_weights
from pare_jax.pretrained.resnet_weights import RESNET, TRANSFORMERS_RESNET
from pare_jax.pretrained.table import Report, to_ours
from pare_jax.pretrained.weight_format import WeightFormat, within

# The first format that fits is taken: PARE's files also contain a backbone.
FORMATS: dict[str, WeightFormat] = {
    "pare": PARE,
    "hrnet": HRNET,
    "resnet": RESNET,
    "transformers": TRANSFORMERS_RESNET,
}
# Published backbones have this width; there are no files for another.
_USUAL_WIDTH = 64
_MEANS = "batch_stats.heads.mean_"


class Loaded(NamedTuple):
    """Converted weights.

    Attributes:
        flat: our arrays by dotted name; those that the files contain.
        notes: texts to show to the user.
    """

    flat: dict[str, np.ndarray]
    notes: list[str]


def load(config: ConfigDict) -> Loaded:
    """Read and convert the files that `config.pretrained` names.

    Args:
        config: a whole config; `model` and `pretrained` are used.

    Raises:
        UserError: a file cannot be read, has an unknown format or belongs to another network, or
            the config freezes random weights.
    """
    section = config.pretrained
    if section.freeze_epochs and not section.path:
        raise UserError(
            f"config.pretrained.freeze_epochs={section.freeze_epochs} would freeze a backbone of "
            "random weights: name a file in config.pretrained.path, or set it to 0"
        )
    flat: dict[str, np.ndarray] = {}
    notes = []
    if section.path:
        weights = read_weights(section.path)
        flat, report = convert(weights, config.model, section.format)
        side = options_of(weights.metadata).get("IMG_RES", config.image_size)
        if side != config.image_size:
            notes.append(
                f"{section.path} was trained on crops of {side} pixels (IMG_RES), this run has "
                f"config.image_size={config.image_size}"
            )
        if section.mean_parameters and any(name.startswith(_MEANS) for name in flat):
            raise UserError(
                f"config.pretrained.mean_parameters={section.mean_parameters} conflicts with the "
                f'mean parameters in {section.path}: set it to ""'
            )
        notes.append(str(report))
    elif config.model.backbone_width == _USUAL_WIDTH and config.model.input == "image":
        notes.append(
            "the backbone starts from random weights: --config.pretrained.path=FILE starts from "
            "pretrained ones, for instance ImageNet's (docs/weights.md)"
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
        format: one of `FORMATS`, or "auto" to detect it by the names of the tensors.

    Returns:
        Our arrays by dotted name, and the report.

    Raises:
        UserError: as `load`.
    """
    tensors, path = weights.tensors, str(weights.path)
    name, prefix = detect(tensors, path, format)
    weight_format = FORMATS[name]
    own = within(tensors, prefix)
    if weight_format.check_options is not None:
        weight_format.check_options(own, weights.metadata, path)
    weight_format.check(own, model, path)
    network = nnx.eval_shape(lambda: build_model(model, rngs=nnx.Rngs(0)))
    flat, report = to_ours(
        weight_format.table(model), tensors, of_network(network), file=path, prefix=prefix
    )
    if weight_format.after_reading is not None:
        report = weight_format.after_reading(flat, report, weights.metadata)
    return flat, report


def detect(tensors: Mapping[str, np.ndarray], file: str, format: str = "auto") -> tuple[str, str]:
    """Detect the format of a file by the names of its tensors.

    Args:
        tensors: the file's, by name.
        file: path of the file, for errors.
        format: one of `FORMATS` to accept only that one, or "auto".

    Returns:
        One of `FORMATS`, and the text before the table's names in this file.

    Raises:
        UserError: the format is unknown, or not `format`.
    """
    candidates = FORMATS if format == "auto" else {format: FORMATS[format]}
    for name, candidate in candidates.items():
        prefix = candidate.prefix(tensors)
        if prefix is not None:
            return name, prefix
    titles = ", or a ".join(candidate.title for candidate in candidates.values())
    raise UserError(
        f"{file} has weights of an unknown network, with tensors "
        f"{listed(list(tensors), 3)}: give the weights of a {titles}"
    )


def fill(network: nnx.Module, flat: Mapping[str, np.ndarray]) -> None:
    """Replace arrays of a network by dotted name; the others stay."""
    _, params, batch_stats = nnx.split(network, nnx.Param, ...)
    arrays = of_network(network) | {name: jnp.asarray(value) for name, value in flat.items()}
    nnx.update(
        network, unflatten("params", params, arrays), unflatten("batch_stats", batch_stats, arrays)
    )
