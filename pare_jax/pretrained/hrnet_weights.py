"""Weight format of HRNet: files trained for 2D pose or ImageNet, which PARE starts from.

Their names are ours. No such file has the layers that PARE adds, which upsample all sizes to the
finest one. Files of pose estimation also lack the last exchange to all but the finest size.
"""

import itertools
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models import hrnet
from pare_jax.pretrained.table import Entry, Table, batch_norm, conv
from pare_jax.pretrained.weight_format import WeightFormat, refuse_unknown_layers

# The layers of a sequence of [2x upsampling, convolution, normalisation, ReLU].
_UPSAMPLING_STRIDE, _UPSAMPLING_CONV = 4, 1


def table(*, place: str = "backbone.", prefix: str = "", complete: bool = False) -> Table:
    """Return the table of an HRNet; it is the same for every width.

    Args:
        place: text before our names, with a final dot; "" for an HRNet without a head.
        prefix: text before the names in the file.
        complete: whether the layers that only PARE's files have are required.
    """

    def both(ours: str, theirs: str) -> list[Entry]:
        """Return the entries of a `ConvBn`, a sequence in the file."""
        return conv(f"{place}{ours}.conv", f"{prefix}{theirs}.0") + batch_norm(
            f"{place}{ours}.bn", f"{prefix}{theirs}.1"
        )

    def numbered(block: str, count: int) -> list[Entry]:
        """Return the entries of a block's conv1, bn1, conv2, ..."""
        return [
            entry
            for number in range(1, count + 1)
            for entry in conv(f"{place}{block}conv{number}", f"{prefix}{block}conv{number}")
            + batch_norm(f"{place}{block}bn{number}", f"{prefix}{block}bn{number}")
        ]

    entries = numbered("", 2)
    for block in range(hrnet.LAYER1_BLOCKS):
        entries += numbered(f"layer1.{block}.", 3)
    shortcut = "layer1.0.downsample"
    entries += both(shortcut, shortcut)
    entries += both("transition1.0", "transition1.0") + both("transition1.1", "transition1.1.0")
    entries += both("transition2", "transition2.2.0") + both("transition3", "transition3.3.0")
    for sizes, modules in enumerate(hrnet.MODULES, start=2):
        for module in range(modules):
            here = f"stage{sizes}.{module}"
            for size, block in itertools.product(range(sizes), range(hrnet.BLOCKS)):
                entries += numbered(f"{here}.branches.{size}.{block}.", 2)
            last = sizes == 4 and module == modules - 1
            for target, source in itertools.permutations(range(sizes), 2):
                change = f"{here}.fuse_layers.{target}.{source}"
                steps = max(1, target - source)
                layers = [
                    # Towards finer maps the file has one layer instead of a sequence.
                    both(f"{change}.{step}", change if source > target else f"{change}.{step}")
                    for step in range(steps)
                ]
                exchange = [entry for layer in layers for entry in layer]
                entries += _optional(exchange) if last and target and not complete else exchange
    for times in (1, 2, 3):
        stage = f"upsample_stage_{times + 1}"
        upsampling = sequence(
            f"{place}{stage}", f"{prefix}{stage}", times, _UPSAMPLING_STRIDE, _UPSAMPLING_CONV
        )
        entries += upsampling if complete else _optional(upsampling)
    return entries


def sequence(ours: str, theirs: str, blocks: int, stride: int, first: int) -> list[Entry]:
    """Return the entries of a `branches.Branch`, one flat sequence of layers in the file.

    Args:
        ours: name of the branch.
        theirs: name of the sequence.
        blocks: number of blocks.
        stride: layers of the sequence in a block.
        first: index of the convolution in a block; the normalisation is next.
    """
    entries = []
    for block in range(blocks):
        number = block * stride + first
        entries += conv(f"{ours}.blocks.{block}.conv", f"{theirs}.{number}")
        entries += batch_norm(f"{ours}.blocks.{block}.bn", f"{theirs}.{number + 1}")
    return entries


def _optional(entries: list[Entry]) -> list[Entry]:
    return [Entry(e.ours, e.theirs, e.layout, required=False) for e in entries]


_FINEST = "stage2.0.branches.0.0.conv1.weight"
MARKS = ("conv1.weight", "transition1.0.0.weight", _FINEST)


def describe(tensors: Mapping[str, np.ndarray], file: str) -> tuple[str, int]:
    """Detect the HRNet of a file: one of `models.hrnet.WIDTHS`, and its stem's width.

    Raises:
        UserError: the widths are not in the proportion of a published network.
    """
    stem, finest = tensors["conv1.weight"].shape[0], tensors[_FINEST].shape[0]
    for name in hrnet.WIDTHS:
        if hrnet.finest_features(name, stem) == finest:
            return name, stem
    raise UserError(
        f"{file} has an HRNet with {finest} channels on the finest maps and {stem} in the stem, "
        f"which is not published: give one of {', '.join(hrnet.WIDTHS)}"
    )


def _check(tensors: Mapping[str, np.ndarray], model: ConfigDict, file: str) -> None:
    name, width = describe(tensors, file)
    if (name, width) != (model.backbone, model.backbone_width):
        raise UserError(
            f"{file} has a {name} of width {width}, but this network's backbone is a "
            f"{model.backbone} of width {model.backbone_width}: give another file, or "
            f"--config.model.backbone={name} --config.model.backbone_width={width}"
        )
    refuse_unknown_layers(tensors, table(), file, name)


HRNET = WeightFormat(
    title="HRNet of pose estimation or ImageNet",
    marks=MARKS,
    table=lambda model: table(),
    check=_check,
)
