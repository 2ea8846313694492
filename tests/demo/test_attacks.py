"""A running demo is attacked by raw requests: it discloses nothing and stays alive."""

import contextlib
import importlib.util
import json
import os
import socket
import threading
import time
from http.client import IncompleteRead
from pathlib import Path

import numpy as np
import pytest

from pare_jax.demo.hosts import HostNames
from pare_jax.demo.server import disable_telemetry, listen, make_app, make_server
from pare_jax.demo.session import BOXES, DETECTOR, WHOLE, DemoNetwork, Session
from pare_jax.demo.uploads import MAX_FILES_OF_ONE, UploadFolder
from pare_jax.io.images import encode_png
from pare_jax.prediction.detection import WholePicture
from tests.demo.client import Client, file_data
from tests.demo.fakes import FakePredictor
from tests.prediction.made_up_people import small_body

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is missing"
)
PICTURE = encode_png(np.full((300, 400, 3), 90, np.uint8))
_IDLE = 2.0
# The network and whether to fit, as a page sends them.
CHOSEN = ("net", False)


@pytest.fixture(scope="module", name="demo")
def running_demo():
    """Serve the page in a thread; return the port, the folder, the session and the application."""
    disable_telemetry()
    with UploadFolder() as folder, listen("127.0.0.1", 0) as listener:
        session = Session([DemoNetwork("net", FakePredictor(small_body()))], WholePicture(), folder)
        app = make_app(session, folder, HostNames("127.0.0.1"), "blazepose")
        server = make_server(app, idle=_IDLE)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1], folder, session
        finally:
            server.should_exit = True
            thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def client(demo):
    """Return a browser with an open page."""
    client = Client(demo[0])
    with client.open_page():
        yield client


def files_in(folder):
    # Files may be removed meanwhile; os.walk ignores that.
    return [Path(base, name) for base, _, names in os.walk(folder.path) for name in names]


def predict(client, how=WHOLE):
    """Upload a photograph and return the page's new values."""
    _, path = client.upload(PICTURE)
    assert client.join("picture", file_data(path), how, "", None, "left_wrist", *CHOSEN)[0] == 200
    return client.result()


def test_an_upload_is_predicted_and_removed(client, demo):
    values = predict(client)
    assert "One person found in" in json.dumps(values)
    assert [path.name for path in files_in(demo[1])] == ["person.glb"]
    (body,) = [value["path"] for value in values if isinstance(value, dict) and "path" in value]
    response, content = client.request("GET", f"/gradio_api/file={body}")
    assert (response.status, content[:4]) == (200, b"glTF")


def test_files_that_were_not_uploaded_are_neither_read_nor_copied(client, demo, tmp_path):
    outside = tmp_path / "private.png"
    outside.write_bytes(PICTURE)
    (_, folder, _), before = demo, files_in(demo[1])
    answers = set()
    for path in (
        outside,
        tmp_path / "missing.png",
        tmp_path,
        "/dev/zero",
        folder.path,
        "/etc/passwd",
    ):
        begun = time.monotonic()
        data = file_data(str(path))
        answers.add(client.join("picture", data, WHOLE, "", None, "left_wrist", *CHOSEN))
        assert time.monotonic() - begun < 5
    # The answer is always the same, so that it does not tell which files exist.
    ((status, _),) = answers
    assert status == 403
    assert files_in(folder) == before
    assert "One person" in json.dumps(predict(client))


def test_files_in_other_places_of_an_event_are_refused(client, demo, tmp_path):
    outside = tmp_path / "private.png"
    outside.write_bytes(PICTURE)
    before = files_in(demo[1])
    hidden = file_data(str(outside))
    for values in (
        (None, hidden, "", None, "left_wrist", *CHOSEN),
        (None, WHOLE, [hidden], None, "left_wrist", *CHOSEN),
        (None, WHOLE, "", None, {"deep": [hidden]}, *CHOSEN),
        ([hidden], WHOLE, "", None, "left_wrist", *CHOSEN),
        (file_data(["a"]), WHOLE, "", None, "left_wrist", *CHOSEN),
        (file_data("https://example.org/a.png"), WHOLE, "", None, "left_wrist", *CHOSEN),
    ):
        assert client.join("picture", *values)[0] in (400, 403)
    # What the browser gives for a state is not used, nor is what the page does not send.
    status, _ = client.join("joint", hidden, None, "left_wrist", event_data=hidden)
    assert status == 200
    assert "No photograph yet" in json.dumps(client.result())
    assert files_in(demo[1]) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/redoc"),
        ("GET", "/config"),
        ("GET", "/monitoring"),
        ("GET", "/manifest.json"),
        ("GET", "/login_check"),
        ("POST", "/login"),
        ("POST", "/"),
        ("PUT", "/"),
        ("OPTIONS", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/app_id"),
        ("GET", "/gradio_api/queue/status"),
        ("GET", "/gradio_api/startup-events"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/file=http://127.0.0.1/a.png"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/file=/etc/passwd"),
        ("POST", "/gradio_api/call/received"),
        ("POST", "/gradio_api/call/v2/received"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/run/predict"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/stream/abc"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/reset"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/queue/join/"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/assets/../../routes.py"),
        ("GET", "/assets/%2e%2e/%2e%2e/routes.py"),
        ("GET", "/static//etc/passwd"),
        ("GET", "/svelte/svelte.js"),
        ("GET", "//"),
    ],
)
def test_other_requests_are_not_served(client, method, path):
    response, body = client.request(method, path)
    assert response.status == 404
    assert b"\n" not in body


def test_only_the_own_name_is_served(client, demo):
    port = demo[0]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "8.8.8.8"):
        assert client.status("GET", "/", headers={"Host": host}) in (400, 421)
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST."):
        assert client.status("GET", "/", headers={"Host": host}) == 200
    own = {"X-Forwarded-Host": "evil.example"}
    assert client.status("GET", "/", headers=own) == 421


def test_other_pages_can_send_nothing(client, demo):
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{demo[0] + 1}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        for path in ("/gradio_api/queue/join", "/gradio_api/upload"):
            assert client.status("POST", path, "{}", headers) == 403
    own = {"Origin": f"http://127.0.0.1:{demo[0]}", "Sec-Fetch-Site": "same-origin"}
    assert client.status("POST", "/gradio_api/queue/join", "{}", own) == 400


def test_browsers_see_and_use_only_their_own_files_and_pages(client, demo):
    other = Client(demo[0])
    _, path = client.upload(PICTURE)
    file = f"/gradio_api/file={path}"
    assert client.status("GET", file) == 200
    assert other.status("GET", file) == 404
    status, _ = other.join("picture", file_data(path), WHOLE, "", None, "left_wrist", *CHOSEN)
    assert status == 403
    other.visit = client.visit
    assert other.join("joint", None, None, "left_wrist")[0] == 403
    data = f"/gradio_api/queue/data?session_hash={client.visit}"
    assert other.status("GET", data) == 403
    (body,) = [v["path"] for v in predict(client) if isinstance(v, dict) and "path" in v]
    for cookie in (other.cookie, "pare_jax_demo=short", None):
        other.cookie = cookie
        for theirs in (file, f"/gradio_api/file={body}"):
            assert client.status("GET", theirs) == 200
            assert other.status("GET", theirs) == 404
    assert other.status("GET", data) == 403
    assert other.upload(PICTURE)[0] == 403


def test_requests_cannot_fill_the_terminal(client, capfd):
    for number in range(5):  # gradio knows no such page
        with contextlib.suppress(IncompleteRead):
            client.status("GET", f"/gradio_api/queue/data?session_hash=unknown{number}")
    assert len(capfd.readouterr().err.splitlines()) <= 1


def test_everything_of_a_page_is_gone_when_it_is_closed(demo):
    _, folder, session = demo
    client = Client(demo[0])
    with client.open_page():
        predict(client)
        client.upload(PICTURE)
        assert len(files_in(folder)) >= 2
        assert len(session.memory) >= 1
    end = time.monotonic() + 20
    while files_in(folder) or len(session.memory):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        ("joint", (None, None, "elbow"), "No photograph yet"),
        ("again", (None, DETECTOR, "", "left_wrist", *CHOSEN), "No photograph yet"),
    ],
)
def test_events_before_a_photograph_are_one_line(client, target, values, message):
    assert client.join(target, *values)[0] == 200
    assert message in json.dumps(client.result())


def test_wrong_values_are_one_line_on_the_page_and_none_in_the_terminal(client, capfd):
    predict(client)
    for target, values, name in (
        ("joint", (None, None, "tail"), "tail"),
        ("joint", (None, None, 7), "7"),
        ("joint", (None, "person 99", "left_wrist"), "person 99"),
        ("who", (None, 0.5, "left_wrist"), "0.5"),
        ("again", (None, "guess", "", "left_wrist", *CHOSEN), "guess"),
        ("again", (None, True, "", "left_wrist", *CHOSEN), "True"),
        ("again", (None, "boxes", 12, "left_wrist", *CHOSEN), "12"),
        ("again", (None, "whole", "", "left_wrist", "other", False), "other"),
        ("again", (None, "whole", "", "left_wrist", "net", "perhaps"), "perhaps"),
        ("refine", (None, "whole", "", "left_wrist", "net", True), "net"),
        ("again", (None, "boxes", "1,2,3,1e999", "left_wrist", *CHOSEN), "inf"),
    ):
        assert client.join(target, *values)[0] == 200
        alerts = [v for v in client.result() if isinstance(v, str) and 'role="alert"' in v]
        assert len(alerts) == 1
        assert name in alerts[0]
        assert "\n" not in alerts[0]
    _, path = client.upload(PICTURE)
    for name in (5, {"a": 1}, None, "a\nb\x1b[31m.png"):
        assert (
            client.join("picture", file_data(path, name), WHOLE, "", None, "head", *CHOSEN)[0]
            == 200
        )
        assert "found in" in json.dumps(client.result())
        _, path = client.upload(PICTURE)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'{"session_hash": "a", "fn_index": 1e99, "data": []}',
        b'{"session_hash": "../a", "fn_index": 0, "data": []}',
        b'{"session_hash": ["a"], "fn_index": 0, "data": []}',
        b'{"session_hash": "a", "fn_index": true, "data": []}',
        b'{"session_hash": "a", "fn_index": 0, "data": {"0": 1}}',
        b'{"session_hash": "a", "fn_index": 0, "data": [1, 2]}',
        b'{"session_hash": "a", "fn_index": -1, "data": []}',
    ],
)
def test_malformed_events_are_refused(client, body, capfd):
    status = client.status("POST", "/gradio_api/queue/join", body)
    assert status in (400, 404)
    assert capfd.readouterr().err == ""


def test_too_large_requests_are_refused(client):
    assert client.status("POST", "/gradio_api/queue/join", b" " * 70_000) == 413
    assert (
        client.status("POST", "/gradio_api/upload", headers={"Content-Length": "30000000"}) == 413
    )
    assert client.status("GET", "/", b"x") == 404
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert client.status("GET", "/", headers={"X": "x" * 100_000}) in (400, 431)
    assert client.upload(b"", name="x" * 9000)[0] == 400
    # A body of unknown length ends at the limit.
    parts = (b" " * 10_000 for _ in range(100))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert client.status("POST", "/gradio_api/queue/join", parts) == 413


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_request_is_closed(demo, start):
    with socket.create_connection(("127.0.0.1", demo[0])) as connection:
        connection.settimeout(5 * _IDLE)
        connection.sendall(start)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_one_browser_cannot_fill_the_folder(client, demo):
    before = len(files_in(demo[1]))
    statuses = [client.upload(b"x")[0] for _ in range(MAX_FILES_OF_ONE + 2)]
    assert statuses == [200] * MAX_FILES_OF_ONE + [429] * 2
    assert len(files_in(demo[1])) - before == MAX_FILES_OF_ONE
    other = Client(demo[0])
    with other.open_page():
        assert "One person" in json.dumps(predict(other))


def test_choosing_people_does_not_fill_the_folder(client, demo):
    boxes = "60,40,140,260\n260,40,340,260"
    _, path = client.upload(PICTURE)
    client.join("picture", file_data(path), BOXES, boxes, None, "left_wrist", *CHOSEN)
    client.result()
    for number in range(MAX_FILES_OF_ONE + 2):
        assert client.join("who", None, f"person {number % 2}", "left_wrist")[0] == 200
        body = next(v["path"] for v in client.result() if isinstance(v, dict) and "path" in v)
        assert client.status("GET", f"/gradio_api/file={body}") == 200
    assert files_in(demo[1]) == [Path(body)]


def test_the_policy_forbids_requests_to_other_servers(client):
    response, _ = client.request("GET", "/")
    policy = response.getheader("content-security-policy")
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert "*" not in policy


def test_an_upload_is_no_page(client):
    _, path = client.upload(b"<script>alert(1)</script>", "me.html")
    response, _ = client.request("GET", f"/gradio_api/file={path}")
    assert response.getheader("content-type") == "application/octet-stream"
    assert response.getheader("content-disposition") == "attachment"
