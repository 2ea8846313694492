"""A run's output folder: what cannot be written is said once, and one run at a time writes."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.run.folder import claimed
from tests.prediction.run.folders import save_photos

ROOT = Path(__file__).resolve().parents[3]

_HOLD = """
import sys, time
from pathlib import Path
from pare_jax.prediction.run.folder import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_ends_however_it_ends(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    output = tmp_path / "out"
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        status, _, errors, _ = command(folder)
        assert (status, errors) == (
            2,
            [
                f"error: another run is writing into {output}: wait until it ends, or give another "
                "--output"
            ],
        )
        assert command(f"--output={tmp_path / 'other'}", folder)[0] == 0
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert command(folder)[0] == 0
    assert command(folder)[0] == 0


def test_a_lock_that_went_with_its_folder_is_taken_anew(tmp_path):
    output = tmp_path / "out"
    with claimed(output):
        with pytest.raises(UserError, match="another run"), claimed(output):
            pass
        assert (output / ".predictions" / "lock").exists()
    assert not output.exists()
    with claimed(output):
        assert output.is_dir()


def test_what_was_made_for_nothing_goes_again(command, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    for output in (tmp_path / "new" / "er" / "out", tmp_path / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        assert command(f"--output={output}", text)[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.jpg", "there"]
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("step", [(os, "open"), (tempfile, "TemporaryFile"), (Path, "mkdir")])
def test_a_folder_that_cannot_be_written_is_said_once(command, tmp_path, monkeypatch, step):
    folder = save_photos(tmp_path / "photos", 3)
    (tmp_path / "out").mkdir()

    def load(path, weights):
        raise AssertionError("loaded")

    monkeypatch.setattr("pare_jax.prediction.run.command.load_predictor", load)
    with monkeypatch.context() as patch:
        owner, name = step
        usual = getattr(owner, name)

        def refuse(*arguments, **options):
            if any(str(tmp_path / "out") in str(a) for a in (*arguments, *options.values())):
                raise PermissionError(13, "Permission denied")
            return usual(*arguments, **options)

        patch.setattr(owner, name, refuse)
        status, _, errors, output = command(folder)
    assert (status, errors) == (2, [f"error: cannot write into {output}: Permission denied"])


def test_a_file_is_no_output_folder(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    place = tmp_path / "notes.txt"
    place.write_text("mine")
    status, _, errors, _ = command(f"--output={place}", folder)
    assert (status, len(errors)) == (2, 1)
    assert f"--output={place} is a file; name a folder" in errors[0]
    assert command(f"--output={place / 'deeper'}", folder)[0] == 2
    assert place.read_text() == "mine"


def test_where_a_drive_has_no_locks_a_run_goes_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pare_jax.prediction.run.folder.fcntl.flock", refuse)
    with claimed(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
