"""Writing a TFDS dataset: quietly, whole or not at all."""

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


class _SortedFields(writer.ExampleWriter):
    """Writes the fields of a record in order of their names."""

    def write(self, path, examples):
        return super().write(path, ((key, _sort_fields(record)) for key, record in examples))


def _sort_fields(record: bytes) -> bytes:
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


class SameBytes:
    """For builders: the same examples give the same bytes, whichever process writes them.

    The fields of a record are a protobuf map, whose order TFDS leaves to the process's hashes.
    """

    info: Any  # the builder's

    def _example_writer(self) -> writer.ExampleWriter:
        return _SortedFields(file_format=self.info.file_format)


def _as_os_error(text: str) -> OSError:
    """Return what the system said, of a message that holds it among the writer's own words."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
    number = next((one for one in known if os.strerror(one) in text), errno.EIO)
    return OSError(number, os.strerror(number))


def write_dataset(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    """Run a builder. What it writes appears under its name only when it is whole.

    Args:
        builder: generates the examples.
        folder: the dataset's folder, which holds its versions.

    Raises:
        OSError: the place is full or cannot be written to.
    """
    for left_over in folder.glob("incomplete.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    tfds.disable_progress_bar()  # ours shows the time left
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download of nothing
            builder.download_and_prepare(download_dir=str(folder / "downloads"))
    except RuntimeError as error:  # what array_record raises when the disk is full
        if "write" not in str(error):
            raise
        raise _as_os_error(str(error)) from error
    finally:
        logging.set_verbosity(verbosity)
        shutil.rmtree(folder / "downloads", ignore_errors=True)  # TFDS makes it, empty
