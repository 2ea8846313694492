"""High-resolution networks: the files of pose estimation and ImageNet that PARE starts from.

Their names are our own. What PARE adds, the layers that bring all sizes to the finest one, is in
none of them; files of pose estimation also lack the last exchange to all but the finest size.
"""

import itertools
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from pare_jax.errors import UserError
from pare_jax.models import hrnet
from pare_jax.pretrained.table import Entry, Table, batch_norm, conv
from pare_jax.pretrained.weight_format import WeightFormat

# The layers of a sequence of [2x upsampling, convolution, normalisation, ReLU].
_UPSAMPLING_STRIDE, _UPSAMPLING_CONV = 4, 1


def table(*, place: str = "backbone.", prefix: str = "", complete: bool = False) -> Table:
    """Make the table of a high-resolution network; it is the same for every width.

    Args:
        place: of the network in our state, with a dot at its end; "" for a network by itself.
        prefix: what stands before the names in the file.
        complete: whether a file must have what only PARE's have.
    """

    def both(ours: str, theirs: str) -> list[Entry]:
        """Make the entries of a `ConvBn`, which is a sequence there."""
        return conv(f"{place}{ours}.conv", f"{prefix}{theirs}.0") + batch_norm(
            f"{place}{ours}.bn", f"{prefix}{theirs}.1"
        )

    def numbered(block: str, count: int) -> list[Entry]:
        """Make the entries of a block's conv1, bn1, conv2, ..."""
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
                    # Towards finer maps it is one layer, not a sequence of some.
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
    """Make the entries of a `branches.Branch`, which is one flat sequence of layers there.

    Args:
        ours: the branch.
        theirs: the sequence.
        blocks: how many the branch has.
        stride: layers of a block.
        first: the convolution's number within it; the normalisation comes next.
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
    """Tell which network a file holds: one of `models.hrnet.WIDTHS`, and its stem's width.

    Raises:
        UserError: it is no multiple of a published one.
    """
    stem, finest = tensors["conv1.weight"].shape[0], tensors[_FINEST].shape[0]
    for name in hrnet.WIDTHS:
        if hrnet.finest_features(name, stem) == finest:
            return name, stem
    raise UserError(
        f"{file} holds an HRNet with {finest} channels on the finest maps and {stem} in the stem, "
        f"which is neither of {', '.join(hrnet.WIDTHS)}: give one of these"
    )


def _check(tensors: Mapping[str, np.ndarray], model: ConfigDict, file: str) -> None:
    name, width = describe(tensors, file)
    if (name, width) != (model.backbone, model.backbone_width):
        raise UserError(
            f"{file} holds a {name} of width {width}, but this network's backbone is a "
            f"{model.backbone} of width {model.backbone_width}: give another file, or "
            f"--config.model.backbone={name} --config.model.backbone_width={width}"
        )
    refuse_strange(tensors, table(), file, name)


def refuse_strange(tensors: Mapping[str, np.ndarray], known: Table, file: str, name: str) -> None:
    """Raise UserError when a file has layers, beside others of a stage, that the table lacks."""
    names = {entry.theirs for entry in known}
    own = {entry.theirs.split(".")[0] for entry in known}
    strange = [n for n in tensors if n.split(".")[0] in own and n not in names]
    if strange:
        raise UserError(
            f"{file} holds {strange[0]}, which a {name} lacks: it is a variant that this network "
            f"cannot compute; give a plain {name}"
        )


HRNET = WeightFormat(
    title="HRNet of pose estimation or ImageNet",
    marks=MARKS,
    table=lambda model: table(),
    check=_check,
)
