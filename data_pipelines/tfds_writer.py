"""Writing a TFDS dataset: quietly, whole or not at all."""

import contextlib
import io
import shutil
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging


def write_dataset(builder: tfds.core.GeneratorBasedBuilder, folder: Path) -> None:
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
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        logging.set_verbosity(verbosity)
        shutil.rmtree(folder / "downloads", ignore_errors=True)  # TFDS makes it, empty
