"""The command: what it says when the page cannot be served, and what it refuses once it is."""

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
    """Runs the command with a stand-in for gradio: exit status and lines on stderr."""
    monkeypatch.setattr(command, "import_gradio", lambda: None)
    monkeypatch.setattr(command, "be_discreet", lambda: None)

    def run(*arguments):
        status = command.main(["demo", *arguments])
        return status, capsys.readouterr().err.splitlines()

    return run


def test_a_missing_gradio_is_one_line_that_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(command, "be_discreet", lambda: None)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command.main(["demo", "--checkpoint=run"]) == 2
    assert capsys.readouterr().err == (
        "error: the page needs gradio: pip install 'pare-jax[demo]'\n"
    )


def test_a_port_in_use_is_said_before_anything_is_loaded(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, lines = run("--checkpoint=nowhere", f"--port={port}")
    assert status == 2
    assert lines == [
        f"error: port {port} of 127.0.0.1 is in use; choose another with --port, 0 takes a free one"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--checkpoint=RUN is needed"),
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
def test_what_cannot_be_done_is_one_line(run, arguments, said):
    if not any(argument.startswith("--port") for argument in arguments):
        arguments = (*arguments, "--port=0")
    status, lines = run(*arguments)
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]


def test_only_this_machine_is_let_in_unless_asked():
    assert is_local("127.0.0.1")
    assert is_local("localhost")
    assert not is_local("0.0.0.0")
    assert not is_local("192.168.1.2")
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with pytest.raises(UserError, match=r"no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)


def asked(size: bytes | None):
    """What a server of nothing answers to an upload of so many bytes: status, headers, calls."""
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
        status, _, calls = asked(size)
        assert (status, calls) == (413, 0)
    for size in (None, b"0", str(MAX_UPLOAD_BYTES).encode()):
        status, _, calls = asked(size)
        assert (status, calls) == (200, 1)


def test_a_file_that_is_gone_is_not_found():
    """Its length has been announced by then, which is not to be sent before its content is."""
    pytest.importorskip("starlette")
    sent = []

    async def app(scope, receive, send):
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise FileNotFoundError("person.glb")

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nothing is to be read")

    asyncio.run(guarded(app)({"type": "http", "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 404
    assert int(headers[b"content-length"]) == len(sent[1]["body"])
    assert b"content-security-policy" in headers


def test_the_page_is_told_to_fetch_nothing_from_others():
    _, headers, _ = asked(None)
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert "*" not in policy
