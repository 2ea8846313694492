"""Writes synthetic people as a TFDS dataset, once for each settings."""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from data_pipelines.preparing import processes, tfds_writer
from data_pipelines.reading.storage import (
    VERSION,
    cannot_write,
    is_prepared,
    stored_features,
    synthetic_path,
)
from data_pipelines.synthetic.generate import generate_examples
from data_pipelines.synthetic.settings import SPLITS, SyntheticSettings
from pare_jax.io.progress import with_progress


@dataclasses.dataclass(kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """Settings as a TFDS configuration, named after size and digest."""

    settings: SyntheticSettings
    workers: int | None = None


def make_config(settings: SyntheticSettings, workers: int | None = None) -> SyntheticConfig:
    """Return the configuration of `settings`; its name does not depend on `workers`."""
    return SyntheticConfig(
        name=settings.name(),
        description="Synthetic people drawn with the free body.",
        settings=settings,
        workers=workers,
    )


class SyntheticPeople(tfds_writer.SameBytes, tfds.core.GeneratorBasedBuilder):
    """TFDS builder of people drawn with the free body."""

    name = "synthetic"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = []  # noqa: RUF012 - made from settings
    url_infos = {}  # noqa: RUF012 - nothing is downloaded, so TFDS needs no checksums

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=stored_features(),
            disable_shuffling=True,  # example i of the split is example i of the generator
        )

    def _split_generators(self, dl_manager):
        settings = self.builder_config.settings
        return {split: self._generate_examples(split) for split in SPLITS if settings.size(split)}

    def _generate_examples(self, split: str):
        config = self.builder_config
        examples = generate_examples(config.settings, split, workers=config.workers)
        size = config.settings.size(split)
        yield from enumerate(with_progress(examples, size, f"synthetic/{split}"))


def prepare(settings: SyntheticSettings, data_root: str | Path, workers: int | None = None) -> Path:
    """Write the dataset of these settings, or return the one that exists.

    An interrupted run never leaves a folder that is read as a complete dataset.

    Args:
        settings: sizes, seed and difficulties.
        data_root: folder of prepared datasets.
        workers: processes; None is one per core. It changes only the speed.

    Returns:
        The dataset's directory, for `data_pipelines.reading.storage.open_split`.

    Raises:
        UserError: `data_root` cannot be written to, or a background photograph cannot be used.
    """
    path = synthetic_path(settings, data_root)
    if is_prepared(path):
        return path
    try:
        with processes.one_at_a_time(path.parent):
            if is_prepared(path):  # another process was faster
                return path
            builder = SyntheticPeople(
                config=make_config(settings, workers),
                data_dir=str(data_root),
                file_format="array_record",
            )
            tfds_writer.write_dataset(builder, path.parent)
    except OSError as error:
        raise cannot_write(path, error, "another place") from error
    return path
