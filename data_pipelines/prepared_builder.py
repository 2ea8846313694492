"""The TFDS builder of every dataset that is read from a release."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.storage import VERSION, stored_features


class _FromExamples(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes the examples it is given, in their order, and JSON files beside them."""

    VERSION = tfds.core.Version(VERSION)
    url_infos = {}  # noqa: RUF012 - nothing is downloaded; do not look for checksum files

    def __init__(self, *, splits: Mapping[str, Iterable], side_files: Mapping[str, Any], **kwargs):
        self._splits, self._side_files = splits, side_files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"People of {self.name}, one in each square crop.",
            features=stored_features(),
            disable_shuffling=True,  # example i of the split is the i-th that was read
        )

    def _split_generators(self, dl_manager):
        # TFDS moves this directory into place as a whole, these files with the shards.
        for name, content in self._side_files.items():
            (Path(self.data_dir) / name).write_text(json.dumps(content, indent=1) + "\n")
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split: str):
        yield from enumerate(self._splits[split])


def make_builder(
    name: str,
    data_root: str | Path,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    side_files: Mapping[str, Any],
) -> tfds.core.GeneratorBasedBuilder:
    """Make the builder of a dataset.

    Args:
        name: the dataset's name.
        data_root: where prepared datasets lie.
        splits: the examples of each split, as `example.STORED_FIELDS` says; at least one each.
        side_files: names and contents of JSON files to write beside the shards.

    Returns:
        A builder for `tfds_writer.write_dataset`.
    """
    kind = type(name, (_FromExamples,), {"name": name}, skip_registration=True)
    return kind(
        splits=splits, side_files=side_files, data_dir=str(data_root), file_format="array_record"
    )
