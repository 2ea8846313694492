"""The command: its errors, its names, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pare_jax.demo import __main__ as command
from pare_jax.demo.asgi import RequestRefused
from pare_jax.demo.hosts import HostNames, is_local
from pare_jax.demo.server import listen
from pare_jax.demo.uploads import UploadFolder
from pare_jax.errors import UserError
from pare_jax.prediction.detection import WholePicture
from tests.demo.fakes import FakePredictor
from tests.prediction.made_up_people import small_body

ROOT = Path(__file__).parents[2]
# Serves an application that hangs in a thread, as a decoder can.
HANGING = """
import asyncio, time
from pare_jax.demo.server import exiting_on_signals, listen, make_server
from pare_jax.demo.uploads import UploadFolder

async def hang(scope, receive, send):
    if scope["type"] == "http":
        print("hangs", flush=True)
        await asyncio.to_thread(time.sleep, 1000)

with exiting_on_signals(), UploadFolder() as folder, listen("127.0.0.1", 0) as listener:
    print(listener.getsockname()[1], flush=True)
    make_server(hang, folder.remove).run(sockets=[listener])
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command without gradio; returns exit status and lines of stderr."""
    monkeypatch.setattr(command, "import_gradio", lambda: None)
    monkeypatch.setattr(command, "disable_telemetry", lambda: None)

    def run(*arguments):
        status = command.main(["demo", *arguments])
        return status, capsys.readouterr().err.splitlines()

    return run


def test_a_missing_gradio_is_one_line_that_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(command, "disable_telemetry", lambda: None)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command.main(["demo", "--checkpoint=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pare-jax[demo]" in error


def test_a_port_in_use_is_refused_before_loading(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, lines = run("--checkpoint=nowhere", f"--port={port}")
    assert (status, len(lines)) == (2, 1)
    assert str(port) in lines[0]
    assert "--port" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--checkpoint=/no/such/run",), "/no/such/run"),
        (("--checkpoint=run", "photo.jpg"), "photo.jpg"),
        (("--checkpoint=run", "--port=99999"), "99999"),
        (("--checkpoint=run", "--port=-1"), "-1"),
        (("--checkpoint=run", "--port=many"), "port"),
        (("--checkpoint=run", "--host=no.such.host.invalid"), "no.such.host.invalid"),
        (("--checkpoint=run", "--detector=yolo"), "yolo"),
        (("--checkpoint=run", "--colour=red"), "colour"),
        (("--checkpoint=run", "--names=demo.example.org:443"), "demo.example.org:443"),
    ],
)
def test_errors_are_one_line(run, arguments, name):
    if not any(argument.startswith("--port") for argument in arguments):
        arguments = (*arguments, "--port=0")
    status, lines = run(*arguments)
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert name in lines[0]


def test_the_body_of_the_command_line_is_used(run, monkeypatch):
    def load(path, weights, body=None, **_):
        raise UserError(f"{path} with {body}")

    monkeypatch.setattr(command, "load_predictor", load)
    status, lines = run("--checkpoint=run", "--body=moved.npz", "--port=0")
    assert (status, lines) == (2, ["error: run with moved.npz"])


def test_only_this_machine_is_served_by_default():
    assert is_local("127.0.0.1")
    assert is_local("localhost")
    assert not is_local("0.0.0.0")
    assert not is_local("192.168.1.2")
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with pytest.raises(UserError, match=r"no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "names", "served", "refused"),
    [
        ("127.0.0.1", [], ["localhost:80", "127.0.0.1", "[::1]:7"], ["box", "192.168.1.2", ""]),
        ("192.168.1.2", [], ["192.168.1.2:7860", "localhost"], ["evil.example"]),
        ("0.0.0.0", [], ["192.168.1.2", socket.gethostname()], ["evil.example", "a@127.0.0.1"]),
        ("127.0.0.1", ["::2"], ["[::2]:7860"], ["[::3]"]),
        ("127.0.0.1", [" Demo.example."], ["demo.example:443"], ["example"]),
        ("127.0.0.1", ["demo.example"], ["demo.example"], ["x.demo.example", "demo.example/a"]),
    ],
)
def test_the_page_is_served_under_its_own_names(host, names, served, refused):
    own = HostNames(host, names)
    for name in served:
        own.check(name, None, None)
    for name in refused:
        with pytest.raises(RequestRefused):
            own.check(name, None, None)


@pytest.mark.parametrize(
    "name",
    [
        "demo.example:443",
        "https://demo.example",
        "demo.example/page",
        "a@demo.example",
        "",
        "[::2]",
    ],
)
def test_a_name_that_no_request_can_have_is_refused(name):
    with pytest.raises(UserError, match=re.escape(repr(name))):
        HostNames("127.0.0.1", ["demo.example", name])


@pytest.mark.parametrize(
    ("arguments", "finds_people"),
    [((), False), (("--detector=whole",), False), (("--detector=blazepose",), True)],
)
def test_people_are_found_only_where_a_detector_is_given(
    run, monkeypatch, tmp_path, arguments, finds_people
):
    found = []
    monkeypatch.setenv("PARE_JAX_CACHE", str(tmp_path))  # without BlazePose

    def make_detector(name, _):
        return WholePicture() if name == "whole" else list

    def make_app(session, *_):
        found.append(session.has_detector)
        raise UserError("enough")

    monkeypatch.setattr(command, "load_predictor", lambda *_, **__: FakePredictor(small_body()))
    monkeypatch.setattr(command, "draw_examples", list)
    monkeypatch.setattr(command, "make_detector", make_detector)
    monkeypatch.setattr(command, "make_app", make_app)
    assert run("--checkpoint=run", "--port=0", *arguments)[1][-1] == "error: enough"
    assert found == [finds_people]


def test_a_proxy_may_have_another_origin():
    own = HostNames("127.0.0.1", ["demo.example"])
    own.check("127.0.0.1:7860", "https://demo.example", "same-origin")
    with pytest.raises(RequestRefused):
        own.check("127.0.0.1:7860", "https://example", "same-origin")


def start_hanging(temporary):
    """Start a server on which a request hangs; return its process."""
    pytest.importorskip("uvicorn")
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    port = int(process.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert process.stdout.readline() == "hangs\n"
    return process


def test_a_signal_ends_a_server_on_which_a_request_hangs(tmp_path):
    process = start_hanging(tmp_path)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert time.monotonic() - begun < 15
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path, monkeypatch):
    process = start_hanging(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    with UploadFolder():
        assert folder.exists()  # its process lives
    process.kill()
    process.wait()
    assert folder.exists()
    with UploadFolder() as own:
        assert list(tmp_path.iterdir()) == [own.path]


def test_folders_of_the_same_name_that_are_links_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "pare-jax-demo-link").symlink_to(outside)
    with UploadFolder():
        assert outside.exists()
    assert (tmp_path / "pare-jax-demo-link").is_symlink()
