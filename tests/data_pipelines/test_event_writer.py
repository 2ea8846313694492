"""TensorBoard's writer on a disk that is full for a while."""

import resource

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.event_writer import tensorboard_writer


@pytest.fixture(name="full")
def full_fixture():
    """Return a function that lets the kernel refuse files of more than 4 KiB, or not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda is_full: resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096 if is_full else before[0], before[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def steps_in(folder):
    """Return the steps of the events that TensorBoard can read."""
    found = set()
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)).ignore_errors():
            found.add(tf.compat.v1.Event.FromString(record.numpy()).step)
    return found


def test_a_full_disk_is_said_once_and_events_are_written_again_when_there_is_space(
    tmp_path, full, capsys
):
    writer = tensorboard_writer(tmp_path)
    pictures = {"noise": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)}
    for step in range(1, 9):
        full(3 <= step <= 6)
        writer.write_scalars(step, {"loss": 1.0})
        writer.write_images(step, pictures)
    writer.close()
    assert {1, 2, 8} <= steps_in(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    said = capsys.readouterr().err
    assert said.count("TensorBoard") == said.count("\n") == 1
    assert str(tmp_path) in said
