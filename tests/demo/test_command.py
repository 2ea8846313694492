"""The command: its errors, the requests that the page refuses, and the headers that it sends."""

import asyncio
import socket
import sys

import pytest

from pare_jax.demo import __main__ as command
from pare_jax.demo.server import guarded, is_local, listen
from pare_jax.demo.uploads import MAX_UPLOAD_BYTES
from pare_jax.errors import UserError


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
        ((), "--checkpoint"),
        (("--checkpoint=/no/such/run",), "/no/such/run"),
        (("--checkpoint=run", "photo.jpg"), "photo.jpg"),
        (("--checkpoint=run", "--port=99999"), "99999"),
        (("--checkpoint=run", "--port=-1"), "-1"),
        (("--checkpoint=run", "--port=many"), "port"),
        (("--checkpoint=run", "--host=no.such.host.invalid"), "no.such.host.invalid"),
        (("--checkpoint=run", "--detector=yolo"), "yolo"),
        (("--checkpoint=run", "--colour=red"), "colour"),
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


def upload_of(size: bytes | None):
    """Send an upload of `size` bytes; returns status, headers and calls of the application."""
    pytest.importorskip("starlette")
    calls, sent = [], []

    async def app(scope, receive, send):
        calls.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("the upload was read")

    headers = [] if size is None else [(b"content-length", size)]
    asyncio.run(guarded(app)({"type": "http", "headers": headers}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), len(calls)


def test_a_large_upload_is_refused_before_it_is_read():
    for size in (str(MAX_UPLOAD_BYTES + 100_000).encode(), b"-1", b"many"):
        status, _, calls = upload_of(size)
        assert (status, calls) == (413, 0)
    for size in (None, b"0", str(MAX_UPLOAD_BYTES).encode()):
        status, _, calls = upload_of(size)
        assert (status, calls) == (200, 1)


def test_a_removed_file_is_status_404():
    """The start of the response, with the file's length, must wait for the first content."""
    pytest.importorskip("starlette")
    sent = []

    async def app(scope, receive, send):
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise FileNotFoundError("person.glb")

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("the request was read")

    asyncio.run(guarded(app)({"type": "http", "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 404
    assert int(headers[b"content-length"]) == len(sent[1]["body"])
    assert b"content-security-policy" in headers


def test_the_policy_forbids_requests_to_other_servers():
    _, headers, _ = upload_of(None)
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert "*" not in policy
