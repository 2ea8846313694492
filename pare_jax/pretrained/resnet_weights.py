"""Weight formats of ResNets from torchvision, timm, DINO and Hugging Face's transformers.

torchvision's names are ours, and timm and DINO use them too. transformers has the same
layers under other names. Both tables are generated from the depths of the network.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models.resnet import DEPTHS
from pare_jax.pretrained.table import Entry, Table, batch_norm, conv
from pare_jax.pretrained.weight_format import WeightFormat, refuse_unknown_layers


class Naming(NamedTuple):
    """Names of the layers in a file, each a pair of a convolution and its normalisation.

    Attributes:
        stem: names of the first layer.
        layer: names of layer `number` of a block, from (stage, block, number), all from 0.
        shortcut: names of a block's shortcut, from (stage, block).
    """

    stem: tuple[str, str]
    layer: Callable[[int, int, int], tuple[str, str]]
    shortcut: Callable[[int, int], tuple[str, str]]


TORCHVISION = Naming(
    stem=("conv1", "bn1"),
    layer=lambda stage, block, number: (
        f"layer{stage + 1}.{block}.conv{number + 1}",
        f"layer{stage + 1}.{block}.bn{number + 1}",
    ),
    shortcut=lambda stage, block: (
        f"layer{stage + 1}.{block}.downsample.0",
        f"layer{stage + 1}.{block}.downsample.1",
    ),
)


def _transformers(layer: str) -> tuple[str, str]:
    return f"{layer}.convolution", f"{layer}.normalization"


TRANSFORMERS = Naming(
    stem=_transformers("embedder.embedder"),
    layer=lambda stage, block, number: _transformers(
        f"encoder.stages.{stage}.layers.{block}.layer.{number}"
    ),
    shortcut=lambda stage, block: _transformers(f"encoder.stages.{stage}.layers.{block}.shortcut"),
)


def table(backbone: str, naming: Naming = TORCHVISION, *, place: str = "backbone") -> Table:
    """Return the table of a ResNet.

    Args:
        backbone: one of `models.resnet.DEPTHS`.
        naming: names of the layers in the file.
        place: name of the backbone in our network.
    """
    kind, depths = DEPTHS[backbone]
    bottleneck = kind.expansion > 1

    def layer(ours: tuple[str, str], theirs: tuple[str, str]) -> list[Entry]:
        convolution, normalisation = ours
        return conv(f"{place}.{convolution}", theirs[0]) + batch_norm(
            f"{place}.{normalisation}", theirs[1]
        )

    entries = layer(("conv1", "bn1"), naming.stem)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            here = f"layer{stage + 1}.{block}"
            for number in range(3 if bottleneck else 2):
                ours = f"{here}.conv{number + 1}", f"{here}.bn{number + 1}"
                entries += layer(ours, naming.layer(stage, block, number))
            # Only a block that changes the shape of its maps has a shortcut.
            if block == 0 and (stage > 0 or bottleneck):
                ours = f"{here}.downsample.conv", f"{here}.downsample.bn"
                entries += layer(ours, naming.shortcut(stage, block))
    return entries


def describe(names: Iterable[str], naming: Naming = TORCHVISION) -> str:
    """Return the one of `models.resnet.DEPTHS` that a file's names fit best.

    Args:
        names: names of the tensors, as in the table.
        naming: names of the layers in the file.
    """
    names = set(names)

    def likeness(backbone: str) -> int:
        theirs = {entry.theirs for entry in table(backbone, naming)}
        return len(theirs & names) - len(theirs - names)

    return max(DEPTHS, key=likeness)


def _check(tensors: Mapping[str, np.ndarray], model: ConfigDict, file: str, naming: Naming) -> None:
    found, width = describe(tensors, naming), tensors[f"{naming.stem[0]}.weight"].shape[0]
    if (found, width) != (model.backbone, model.backbone_width):
        raise UserError(
            f"{file} has a {found} of width {width}, but this network's backbone is a "
            f"{model.backbone} of width {model.backbone_width}: give another file, or "
            f"--config.model.backbone={found} --config.model.backbone_width={width}"
        )
    refuse_unknown_layers(tensors, table(found, naming), file, found)


def _format(title: str, naming: Naming) -> WeightFormat:
    return WeightFormat(
        title=title,
        marks=(f"{naming.stem[0]}.weight", f"{naming.layer(3, 0, 0)[0]}.weight"),
        table=lambda model: table(model.backbone, naming),
        check=lambda tensors, model, file: _check(tensors, model, file, naming),
    )


RESNET = _format("ResNet of torchvision, timm or DINO", TORCHVISION)
TRANSFORMERS_RESNET = _format("ResNet of transformers", TRANSFORMERS)
