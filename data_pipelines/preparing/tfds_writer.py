"""Writes TFDS datasets, without TFDS's messages; an interrupted run leaves no dataset."""

import contextlib
import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import writer

from data_pipelines.reading.storage import system_error


class _SortedFields(writer.ExampleWriter):
    """Writes the fields of each record in the order of their names."""

    def write(self, path, examples):
        return super().write(path, ((key, _sort_fields(record)) for key, record in examples))


def _sort_fields(record: bytes) -> bytes:
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


class SameBytes:
    """A mixin for builders: the same examples give the same bytes in every process.

    The fields of a record are a protobuf map. TFDS writes it in an order that depends on the
    process's hashes.
    """

    info: Any  # the builder's

    def _example_writer(self) -> writer.ExampleWriter:
        return _SortedFields(file_format=self.info.file_format)


def write_dataset(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    """Run a builder; the dataset gets its name when it is finished.

    Args:
        builder: makes the examples.
        folder: the dataset's folder, which has a folder per version.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    for interrupted in folder.glob("incomplete.*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    tfds.disable_progress_bar()  # the examples have their own, which shows the time left
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS reports an empty download
            builder.download_and_prepare(download_dir=str(folder / "downloads"))
    except RuntimeError as error:  # raised by array_record, for instance when the disk is full
        if "write" not in str(error):
            raise
        raise system_error(str(error)) or OSError(errno.EIO, os.strerror(errno.EIO)) from error
    finally:
        logging.set_verbosity(verbosity)
        shutil.rmtree(folder / "downloads", ignore_errors=True)  # an empty folder of TFDS
