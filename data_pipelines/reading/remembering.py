"""Keeps decoded examples in memory, so that small images are decoded once, not in every epoch.

At the quickstart's size, decoding and parsing are half of the input pipeline's work. Without an
accelerator the pipeline shares its cores with the training step.
"""

import sys
from collections.abc import Mapping
from typing import Any, Protocol

from data_pipelines import transforms
from data_pipelines.reading.damaged_examples import DamagedExampleError


class _Source(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


def remember(source: _Source, num_bytes: float, image_size: int, scale: float) -> _Source:
    """Keep as many examples of a split decoded as fit into memory.

    The batches stay the same to the byte. If crops may shrink by two or more, images are decoded
    at a fraction of their size, which depends on the crop; such a split is returned unchanged.

    Args:
        source: the split.
        num_bytes: memory for the decoded examples; the others are read again each time.
        image_size: side of the network's crop, pixels.
        scale: the largest crop_scale is 1 + scale.

    Returns:
        A split of the same examples.
    """
    if num_bytes <= 0 or not len(source):
        return source
    try:
        side = transforms.stored_side(source[0]["image"])
    except (transforms.BadExampleError, DamagedExampleError):
        return source  # The example is named where its batch is made.
    if transforms.may_skip_pixels(side, image_size, scale):
        return source
    return _Remembering(source, num_bytes)


class _Remembering:
    """A split that decodes each example at its first use; safe to use from several threads."""

    def __init__(self, source: _Source, num_bytes: float):
        self._source = source
        self._room = num_bytes
        self._kept: dict[int, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        # Messages name a split by its `path` and `split`.
        return getattr(self._source, name)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        example = self._kept.get(index)
        if example is not None:
            return example
        example = self._source[index]
        if self._room <= 0:
            return example
        example = transforms.decode_images(example)
        # Two threads may decode the same example, which only counts its size twice.
        self._room -= sum(
            getattr(value, "nbytes", sys.getsizeof(value)) for value in example.values()
        )
        self._kept[index] = example
        return example
