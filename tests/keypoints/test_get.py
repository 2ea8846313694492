"""Fetching BlazePose's files, with a made-up package in place of mediapipe."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from pare_jax.errors import UserError
from pare_jax.keypoints import blazepose_files, get

CONTENT = {name: f"content of {name}".encode() for name in blazepose_files.HASHES}


@pytest.fixture(name="wheel")
def made_up_wheel(tmp_path, monkeypatch):
    """Write a wheel with made-up files, whose hashes are the expected ones."""
    path = tmp_path / "made" / "mediapipe.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in get._MEMBERS.items():
            archive.writestr(member, CONTENT[name])
    for hashes, name, content in (
        *((blazepose_files.HASHES, *item) for item in CONTENT.items()),
        (get._WHEEL_HASH, get._WHEEL, path.read_bytes()),
    ):
        monkeypatch.setitem(hashes, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("PARE_JAX_CACHE", str(tmp_path / "cache"))
    return path


@pytest.fixture(name="pip")
def fake_pip(wheel, monkeypatch):
    """Let pip copy the made-up wheel; returns the commands that were run."""
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = next(part[7:] for part in command if part.startswith("--dest="))
        Path(folder, get._WHEEL).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_files_are_fetched_once(pip, tmp_path, capsys):
    for _ in range(2):
        assert get.main(["get"]) == 0
    assert len(pip) == 1
    assert "mediapipe==0.10.21" in pip[0]
    printed = capsys.readouterr().out
    for name, content in CONTENT.items():
        path = tmp_path / "cache" / name
        assert path.read_bytes() == content
        assert str(path) in printed


def test_a_damaged_file_is_not_used_and_fetched_again(pip, tmp_path):
    get.main(["get"])
    path = tmp_path / "cache" / blazepose_files.LANDMARKS
    path.write_bytes(b"damaged")
    if blazepose_files.missing() is None:  # else LiteRT is missing
        with pytest.raises(UserError, match=blazepose_files.LANDMARKS):
            blazepose_files.load_blazepose()
    get.main(["get"])
    assert path.read_bytes() == CONTENT[path.name]


def test_a_copied_wheel_needs_no_network(pip, wheel, tmp_path):
    assert get.main(["get", f"--wheel={wheel}"]) == 0
    assert pip == []
    assert (tmp_path / "cache" / blazepose_files.DETECTOR).is_file()


def refusal(capsys, *arguments):
    assert get.main(["get", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("reason", ["ERROR: no network", ""])
def test_without_a_network_one_line_says_what_to_do(wheel, tmp_path, monkeypatch, capsys, reason):
    failed = subprocess.CompletedProcess([], 1, "", f"{reason}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    line = refusal(capsys)
    assert "--wheel" in line
    assert reason.removeprefix("ERROR: ") in line
    assert not (tmp_path / "cache").exists()


def test_other_wheels_are_not_used(wheel, tmp_path, monkeypatch, capsys):
    with wheel.open("ab") as file:
        file.write(b"x")
    assert "mediapipe.whl" in refusal(capsys, f"--wheel={wheel}")
    assert "nowhere.whl" in refusal(capsys, "--wheel=nowhere.whl")
    # A wheel with the right hash whose file has another one.
    monkeypatch.setitem(get._WHEEL_HASH, get._WHEEL, hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setitem(blazepose_files.HASHES, blazepose_files.LANDMARKS, "0" * 64)
    assert blazepose_files.LANDMARKS in refusal(capsys, f"--wheel={wheel}")
    assert not (tmp_path / "cache").exists()
