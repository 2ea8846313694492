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


def test_each_full_disk_is_named_once_and_events_are_written_again_when_there_is_space(
    tmp_path, full, capsys
):
    writer = tensorboard_writer(tmp_path)
    pictures = {"noise": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)}
    for step in range(1, 15):
        full(3 <= step <= 6 or 9 <= step <= 12)
        writer.write_scalars(step, {"loss": 1.0})
        writer.write_images(step, pictures)
    writer.close()
    assert {1, 2, 8, 14} <= steps_in(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    lines = capsys.readouterr().err.splitlines()
    assert ["cannot write" in line for line in lines] == [True, False, True, False]
    assert all(str(tmp_path) in line for line in lines)


def test_another_file_of_events_in_the_folder_is_no_failure(tmp_path, capsys):
    writer = tensorboard_writer(tmp_path)
    writer.write_scalars(1, {"loss": 1.0})
    (tmp_path / "events.out.tfevents.0.other").write_bytes(b"")
    writer.write_scalars(2, {"loss": 1.0})
    writer.close()
    assert {1, 2} <= steps_in(tmp_path)
    assert not capsys.readouterr().err
