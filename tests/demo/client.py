"""Raw requests to a running demo, as a browser or an attacker sends them."""

import contextlib
import http.client
import json
import re
import secrets

BOUNDARY = "0123456789"


class Client:
    """A browser: its cookie, and the name of its open page.

    Attributes:
        port: of the server on this machine.
        visit: name of the page.
        cookie: as the header.
    """

    def __init__(self, port):
        self.port, self.visit, self.cookie = port, secrets.token_hex(5), None
        response, self.html = self.request("GET", "/")
        self.cookie = response.getheader("set-cookie").split(";")[0]

    def request(self, method, path, body=None, headers=()):
        """Send a request; return the response and its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        with contextlib.closing(connection):
            connection.request(method, path, body, cookie | dict(headers))
            response = connection.getresponse()
            return response, response.read()

    def status(self, method, path, body=None, headers=()):
        """Send a request and return its status."""
        return self.request(method, path, body, headers)[0].status

    def upload(self, content, name="me.png"):
        """Upload a file; return status, and the path or the refusal."""
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode() + content
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        response, answer = self.request(
            "POST",
            "/gradio_api/upload?upload_id=a1",
            body + f"\r\n--{BOUNDARY}--\r\n".encode(),
            {"Content-Type": kind},
        )
        return response.status, json.loads(answer)[0] if response.status == 200 else answer

    def event(self, target):
        """Return the number of the event of an element of the page: "picture", "joint", ..."""
        config = json.loads(
            re.search(rb"window\.gradio_config = (\{.*?\});</script>", self.html)[1]
        )
        ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
        (event,) = [
            event["id"]
            for event in config["dependencies"]
            if event["backend_fn"] and [ids[target]] == [number for number, _ in event["targets"]]
        ]
        return event

    def join(self, target, *values, **more):
        """Send an event; return status and body of the answer."""
        event = {
            "data": values,
            "fn_index": self.event(target) if isinstance(target, str) else target,
            "trigger_id": 1,
            "session_hash": self.visit,
        }
        response, answer = self.request(
            "POST",
            "/gradio_api/queue/join?",
            json.dumps(event | more),
            {"Content-Type": "application/json"},
        )
        return response.status, answer

    def result(self):
        """Return the values of the event that was joined."""
        _, stream = self.request("GET", f"/gradio_api/queue/data?session_hash={self.visit}")
        lines = [
            json.loads(line[5:]) for line in stream.decode().splitlines() if line[:5] == "data:"
        ]
        (ended,) = [line for line in lines if line["msg"] == "process_completed"]
        assert ended["success"], ended
        return ended["output"]["data"]

    @contextlib.contextmanager
    def open_page(self):
        """Hold the connection that shows that the page is open."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            path = f"/gradio_api/heartbeat/{self.visit}"
            connection.request("GET", path, headers={"Cookie": self.cookie})
            response = connection.getresponse()
            assert response.status == 200
            response.fp.readline()
            yield


def file_data(path, name="me.png"):
    """Return the browser's description of an uploaded file."""
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
