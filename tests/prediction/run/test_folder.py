"""A run's output folder: its lock, its records, and refusals before anything is computed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pare_jax.errors import UserError
from pare_jax.prediction.run import output_folder
from pare_jax.prediction.run.output_folder import OutputFolder, Record, claimed_folder
from tests.prediction.run.folders import save_photos

ROOT = Path(__file__).resolve().parents[3]

_HOLD = """
import sys, time
from pathlib import Path
from pare_jax.prediction.run.output_folder import claimed_folder
with claimed_folder(Path(sys.argv[1])):
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
        assert (status, len(errors)) == (2, 1)
        assert f"another run is writing into {output}" in errors[0]
        assert command(f"--output={tmp_path / 'other'}", folder)[0] == 0
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert command(folder)[0] == 0
    assert command(folder)[0] == 0


def test_a_lock_is_removed_with_its_empty_folder(tmp_path):
    output = tmp_path / "out"
    with claimed_folder(output):
        with pytest.raises(UserError, match=re.escape(str(output))), claimed_folder(output):
            pass
        assert (output / ".predictions" / "lock").exists()
    assert not output.exists()
    with claimed_folder(output):
        assert output.is_dir()


def test_folders_without_outputs_are_removed(command, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    for output in (tmp_path / "new" / "er" / "out", tmp_path / "existing"):
        (tmp_path / "existing").mkdir(exist_ok=True)
        assert command(f"--output={output}", text)[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["existing", "text.jpg"]
    assert not list((tmp_path / "existing").iterdir())


@pytest.mark.parametrize("step", [(os, "open"), (tempfile, "TemporaryFile"), (Path, "mkdir")])
def test_a_folder_that_cannot_be_written_is_one_line(command, tmp_path, monkeypatch, step):
    folder = save_photos(tmp_path / "photos", 3)
    (tmp_path / "out").mkdir()

    def load(*_, **__):
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
    assert (status, len(errors)) == (2, 1)
    assert f"{output}: Permission denied" in errors[0]


def test_a_file_is_no_output_folder(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 1)
    place = tmp_path / "notes.txt"
    place.write_text("mine")
    status, _, errors, _ = command(f"--output={place}", folder)
    assert (status, len(errors)) == (2, 1)
    assert f"--output={place}" in errors[0]
    assert command(f"--output={place / 'deeper'}", folder)[0] == 2
    assert place.read_text() == "mine"


def test_a_drive_without_locks_can_be_used(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pare_jax.io.files.fcntl.flock", refuse)
    with claimed_folder(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()


# Records and files that are not a run's.


def publish(folder: OutputFolder, name: str, *files: str, key: str = "key") -> Record:
    """Record an input's outputs, each of which holds its own name."""
    with folder.scratch() as scratch:
        for file in files:
            (scratch / file).parent.mkdir(exist_ok=True)
            (scratch / file).write_text(file)
        return folder.publish(scratch, Record(name, f"{name}.jpg", f"/photos/{name}.jpg", key))


@pytest.mark.parametrize(
    "file", ["../a.npz", "/tmp/a.npz", "b.npz", "a.txt", "sub/a.npz", "a_track_1.npz/..", ".."]
)
def test_a_record_of_files_that_its_input_cannot_have_is_ignored(tmp_path, file):
    publish(OutputFolder(tmp_path), "a", "a.npz")
    path = tmp_path / ".predictions" / "a.json"
    fields = json.loads(path.read_text())
    assert len(OutputFolder(tmp_path)) == 1
    for wrong in ({"files": {file: 0}}, {"name": file}):
        path.write_text(json.dumps(fields | wrong))
        assert len(OutputFolder(tmp_path)) == 0


@pytest.mark.parametrize(
    "wrong", [{"people": "2"}, {"files": ["a.npz"]}, {"facts": {"a": 1}}, {"more": 1}]
)
def test_a_record_of_other_types_is_ignored(tmp_path, wrong):
    publish(OutputFolder(tmp_path), "a", "a.npz")
    path = tmp_path / ".predictions" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    assert len(OutputFolder(tmp_path)) == 0


@pytest.mark.timeout(30, method="signal")
def test_a_record_that_is_a_pipe_or_a_link_or_endless_is_ignored(tmp_path, monkeypatch):
    """A folder of photographs from elsewhere may hold anything; opening a pipe would block."""
    publish(OutputFolder(tmp_path), "a", "a.npz")
    path = tmp_path / ".predictions" / "a.json"
    text = path.read_bytes()
    assert [record.name for record in OutputFolder(tmp_path)] == ["a"]
    for name in ("b", "c"):
        (tmp_path / f"{name}.json").write_bytes(text.replace(b'"a', f'"{name}'.encode()))
    os.mkfifo(path.with_name("p.json"))
    path.with_name("b.json").symlink_to(tmp_path / "b.json")
    path.with_name("c.json").symlink_to("/dev/zero")
    assert [record.name for record in OutputFolder(tmp_path)] == ["a"]
    path.with_name("b.json").unlink()
    (tmp_path / "b.json").rename(path.with_name("b.json"))
    assert [record.name for record in OutputFolder(tmp_path)] == ["a", "b"]
    monkeypatch.setattr(output_folder, "_LARGEST_RECORD", len(text) - 1)
    assert not list(OutputFolder(tmp_path))


@pytest.mark.timeout(60, method="signal")
def test_pipes_in_place_of_the_pages_files_are_not_opened(command, tmp_path):
    folder = save_photos(tmp_path / "photos", 2)
    output = command("--outputs=npz,page", folder)[3]
    for name in ("index.html", "p01.npz"):
        (output / name).unlink()
        os.mkfifo(output / name)
    status, _, errors, _ = command("--outputs=npz,page", folder / "p00.png")
    assert status == 1
    assert "index.html" in "".join(errors)
    (output / "index.html").unlink()
    _, printed, errors, _ = command("--outputs=npz,page", folder / "p00.png")
    assert "p01.npz" in "".join([*printed, *errors])


def test_links_are_neither_followed_nor_replaced(tmp_path):
    folder, mine = OutputFolder(tmp_path / "out"), tmp_path / "mine"
    mine.mkdir()
    (mine / "000001.obj").write_text("mine")
    files = ["a_track_1.npz", "a_track_1_obj/000001.obj"]
    publish(folder, "a", *files)
    # The user moves outputs away and leaves links.
    (folder.path / "a_track_1.npz").rename(mine / "a.npz")
    (folder.path / "a_track_1.npz").symlink_to(mine / "a.npz")
    (folder.path / "a_track_1_obj" / "000001.obj").unlink()
    (folder.path / "a_track_1_obj").rmdir()
    (folder.path / "a_track_1_obj").symlink_to(mine)
    for file in files:
        with pytest.raises(UserError, match=re.escape(file.split("/")[0])):
            publish(folder, "a", file)
    publish(folder, "a", "a.npz")  # leaves the others out
    assert (mine / "000001.obj").read_text() == "mine"
    assert (mine / "a.npz").read_text() == "a_track_1.npz"
    assert (folder.path / "a_track_1_obj").is_symlink()


def test_links_in_place_of_the_folders_own_files_are_not_followed(tmp_path):
    output, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    names = ("a.txt", "unfinished-a", "a.json", f".a.json.{16 * '0'}.partial")
    for name in names:
        (mine / name).write_text("mine")
    records = output / ".predictions"
    records.mkdir(parents=True)
    # The second is what an earlier version wrote.
    for scratch in (f".a.json.{16 * '0'}.partial", ".a.json.partial", "unfinished-abc"):
        (records / scratch).symlink_to(mine / "a.txt")
    (records / "unfinished-abd").symlink_to(mine)
    (output / f".index.html.{16 * 'a'}.partial").symlink_to(mine / "a.txt")
    with claimed_folder(output) as folder:
        publish(folder, "a", "a.npz")
    assert [record.name for record in OutputFolder(output)] == ["a"]
    shutil.rmtree(records)
    records.symlink_to(mine)
    with pytest.raises(UserError, match=re.escape(str(records))), claimed_folder(output):
        pass
    assert sorted(path.name for path in mine.iterdir()) == sorted(names)
    assert {path.read_text() for path in mine.iterdir()} == {"mine"}


def test_a_name_cannot_fake_a_line_of_output(command, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    made = save_photos(tmp_path / "made", 2)
    good, broken = "a\nerror: b.jpg: lost\x1b[2J.png", "c\rdone: 9 photographs\u202e.png"
    (made / "p00.png").rename(folder / good)
    (folder / broken).write_text("no image")
    status, printed, errors, _ = command("--detector=whole", folder)
    assert status == 1
    assert not [line for line in printed if line.startswith("error")]
    assert [line for line in printed if line.startswith("done")] == [printed[-3]]
    assert not set("\x1b\r\u202e") & set("".join([*printed, *errors]))
    assert "a\\nerror: b.jpg: lost\\x1b[2J.png" in "\n".join(printed)
    assert len([line for line in errors if "c\\rdone: 9 photographs\\u202e.png" in line]) == 1


def test_an_input_is_done_with_its_key_and_all_files(tmp_path):
    folder = OutputFolder(tmp_path)
    published = publish(folder, "a", "a_track_1.npz", "a_track_1_obj/000001.obj")
    assert published.files == {"a_track_1.npz": 0, "a_track_1_obj": 1}
    assert OutputFolder(tmp_path).done("a", "key") == published
    assert folder.done("a", "other") is None
    assert folder.done("b", "key") is None
    (tmp_path / "a_track_1_obj" / "000001.obj").unlink()
    assert folder.done("a", "key") is None


def test_a_kill_while_files_are_moved_leaves_none_without_a_record(tmp_path, monkeypatch):
    folder = OutputFolder(tmp_path)
    (tmp_path / "a.json").mkdir()  # cannot be replaced by a file
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: False)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))):
            publish(folder, "a", "a.glb", "a.json")
    assert (tmp_path / "a.glb").exists()
    again = OutputFolder(tmp_path)
    assert again.wrote(tmp_path / "a.glb")
    assert len(again) == 0
