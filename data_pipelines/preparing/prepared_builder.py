"""Defines the TFDS builder that writes prepared releases."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.preparing import tfds_writer
from data_pipelines.reading.storage import VERSION, stored_features


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of a split and how they are divided into shards.

    Attributes:
        examples: with the fields of `example.STORED_FIELDS`, in order.
        shard_sizes: number of examples of each shard; all of a shard are in memory at once.
    """

    examples: Iterator[Mapping[str, Any]]
    shard_sizes: Sequence[int]


# TFDS's generator-based builder sorts a whole split in memory, even if it keeps the generator's
# order. This one streams.
class _FromExamples(tfds_writer.SameBytes, tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes the given examples in their order, and JSON files beside the shards."""

    VERSION = tfds.core.Version(VERSION)
    url_infos = {}  # noqa: RUF012 - nothing is downloaded; do not look for checksum files

    def __init__(self, *, splits: Mapping[str, Split], side_files: Mapping[str, Any], **kwargs):
        self._to_write, self._side_files = splits, side_files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"People of {self.name}, one in each square crop.",
            features=stored_features(),
            disable_shuffling=True,  # the split keeps the order of the examples
        )

    def _shard_iterators_per_split(self, dl_manager):
        # TFDS moves this directory into place as a whole: shards and these files together.
        for name, content in self._side_files.items():
            (Path(self.data_dir) / name).write_text(json.dumps(content, indent=1) + "\n")
        return {name: _shards(split) for name, split in self._to_write.items()}


def _shards(split: Split) -> list:
    """Return a function per shard; called in order, each returns its part of the examples."""
    examples = enumerate(split.examples)
    # The last shard takes all that are left: the iterator, which shows progress, must be exhausted.
    sizes = [*split.shard_sizes[:-1], None]
    return [lambda size=size: itertools.islice(examples, size) for size in sizes]


def make_builder(
    name: str,
    data_root: str | Path,
    splits: Mapping[str, Split],
    side_files: Mapping[str, Any],
) -> tfds.core.ShardBasedBuilder:
    """Make the builder of a dataset.

    Args:
        name: the dataset's name.
        data_root: the folder of prepared datasets.
        splits: the splits by name, each with at least one example.
        side_files: names and contents of JSON files to write beside the shards.

    Returns:
        A builder for `tfds_writer.write_dataset`.
    """
    kind = type(name, (_FromExamples,), {"name": name}, skip_registration=True)
    return kind(
        splits=splits, side_files=side_files, data_dir=str(data_root), file_format="array_record"
    )
