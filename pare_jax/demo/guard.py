"""Passes on to gradio only the requests that the page needs; refuses all others.

gradio also answers requests for other files, other servers, its settings and its events by other
ways. This module stands in front of it. Uploads and files are handled here: gradio sees neither.
"""

import asyncio
import contextlib
import json
import re
import secrets
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from pare_jax.demo.asgi import Application, Message, Receive, RequestRefused, Scope, Send, respond
from pare_jax.demo.events import Inputs, checked_event, checked_visit
from pare_jax.demo.hosts import HostNames
from pare_jax.demo.uploads import EVERYBODY, MAX_UPLOAD_BYTES, UploadFolder
from pare_jax.demo.visits import Visits
from pare_jax.errors import UserError

COOKIE = "pare_jax_demo"
_API = "/gradio_api/"
# The page's scripts, styles and fonts.
_ASSET = re.compile(r"/(assets|static)/[\w./@+-]+|/theme\.css|/favicon\.ico")
# An upload has some header lines besides the photograph.
_ENVELOPE_BYTES = 10_000
_MAX_EVENT_BYTES = 65_536
_MAX_HEADERS = 16_384
_MAX_UPLOADS_AT_ONCE = 4
_UPLOAD_SECONDS, _EVENT_SECONDS, _ANSWER_SECONDS = 120.0, 10.0, 60.0
# A page that is open holds a connection, and another while an event runs.
_VISIT_SECONDS, _MESSAGES_SECONDS = 43_200.0, 3600.0
# The browser may load nothing from other servers. gradio needs unsafe-eval for its templates, and
# the 3D viewer for WebAssembly.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; frame-ancestors 'self'; "
    "base-uri 'self'; form-action 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# Media types of the files that the page shows. All others are sent as data, so that an upload
# cannot be a page.
_KINDS = {".png": "image/png", ".glb": "model/gltf-binary"}


class Guard:
    """The ASGI application: checks each request, and answers it or passes it on."""

    def __init__(
        self,
        app: Application,
        inputs: Inputs,
        folder: UploadFolder,
        names: HostNames,
        forget: Callable[[str], None] = lambda owner: None,
    ):
        """Take the application behind the guard.

        Args:
            app: the page, made by gradio.
            inputs: inputs of the page's events, from `event_inputs`.
            folder: folder of the uploads.
            names: names under which the page is served.
            forget: called when a visit or all visits of a browser end, with its name.
        """

        def ended(owner: str) -> None:
            folder.forget(owner)
            forget(owner)

        self._app, self._inputs, self._folder, self._names = app, inputs, folder, names
        self._visits = Visits(ended)
        self._uploading = 0
        self._printed: set[str] = set()  # kinds of errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = _Request(scope, receive, send)
        try:
            await self._answer(request)
        except RequestRefused as refused:
            await request.refuse(refused.status, refused.text)
        except _Disconnected:
            pass
        except TimeoutError:
            await request.refuse(408, "The request took too long.")
        except Exception as error:
            # Once for each kind: requests must not be able to fill the terminal.
            kind = type(error).__name__
            if kind not in self._printed:
                self._printed.add(kind)
                print(f"error: {kind} in a request", file=sys.stderr, flush=True)
            await request.refuse(500, "The request failed.")

    async def _answer(self, request: "_Request") -> None:
        request.check_headers()
        header = request.header
        fetched_from = None if request.path == "/" else header("sec-fetch-site")
        self._names.check(header("host"), header("origin"), fetched_from)
        forwarded = header("x-forwarded-host")  # gradio builds addresses from it
        if forwarded is not None:
            self._names.check(forwarded, None, None)
        method, path = request.method, request.path
        if method == "POST":
            answer = {_API + "upload": self._upload, _API + "queue/join": self._join}.get(path)
        elif method in ("GET", "HEAD") and not request.has_body:
            answer = self._getter(path)
        else:
            answer = None
        if answer is None:
            raise RequestRefused(404, "There is nothing here.")
        await answer(request)

    def _getter(self, path: str) -> Callable[["_Request"], Any] | None:
        """Return the method that answers a GET of a path; None if nothing does."""
        if path == "/":
            return self._page
        if _ASSET.fullmatch(path) and not re.search(r"\.\.|//", path):
            return self._pass_on
        if path.startswith(_API + "heartbeat/"):
            return self._heartbeat
        if path.startswith(_API + "file="):
            return self._file
        return {
            _API + "queue/data": self._messages,
            _API + "upload_progress": _no_progress,
        }.get(path)

    async def _page(self, request: "_Request") -> None:
        if request.browser is None:
            cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax"
            request.headers.append((b"set-cookie", cookie.encode()))
        request.headers.append((b"cache-control", b"no-store"))
        # gradio would load a stored state that the query names.
        request.scope["query_string"] = b""
        await self._pass_on(request)

    async def _pass_on(
        self, request: "_Request", body: bytes = b"", seconds: float = _ANSWER_SECONDS
    ) -> None:
        """Let gradio answer, with a body that was checked."""
        async with asyncio.timeout(seconds):
            await self._app(request.scope, request.replayed(body), request.send)

    async def _heartbeat(self, request: "_Request") -> None:
        visit = checked_visit(request.path.removeprefix(_API + "heartbeat/"))
        with self._visits.stream(visit, request.known_browser(), ends_visit=True):
            await self._pass_on(request, seconds=_VISIT_SECONDS)

    async def _messages(self, request: "_Request") -> None:
        query = parse_qs(request.scope.get("query_string", b"").decode("latin-1"))
        visit = checked_visit(query.get("session_hash", [None])[0])
        with self._visits.stream(visit, request.known_browser(), ends_visit=False):
            await self._pass_on(request, seconds=_MESSAGES_SECONDS)

    async def _join(self, request: "_Request") -> None:
        browser = request.known_browser()
        async with asyncio.timeout(_EVENT_SECONDS):
            body = b"".join([part async for part in request.body(_MAX_EVENT_BYTES)])
        visit, body = checked_event(
            body, self._inputs, lambda path: self._folder.is_upload(path, browser)
        )
        self._visits.claim(visit, browser)
        await self._pass_on(request, body)

    async def _upload(self, request: "_Request") -> None:
        browser = request.known_browser()
        request.check_length(MAX_UPLOAD_BYTES + _ENVELOPE_BYTES)
        with self._one_more_upload():
            async with asyncio.timeout(_UPLOAD_SECONDS):
                path = await self._stored_upload(request, browser)
        await respond(request.send, 200, json.dumps([path]).encode(), "application/json")

    async def _stored_upload(self, request: "_Request", browser: str) -> str:
        from python_multipart.exceptions import (  # pyright: ignore[reportMissingImports]
            MultipartParseError,
        )
        from starlette.datastructures import Headers  # pyright: ignore[reportMissingImports]
        from starlette.formparsers import (  # pyright: ignore[reportMissingImports]
            MultiPartException,
            MultiPartParser,
        )

        headers = Headers(scope=request.scope)
        if not headers.get("content-type", "").startswith("multipart/form-data"):
            raise RequestRefused(400, "The upload is not multipart/form-data.")
        largest = MAX_UPLOAD_BYTES + _ENVELOPE_BYTES
        parser = MultiPartParser(headers, request.body(largest), max_files=1, max_fields=0)
        try:
            form = await parser.parse()
        except (MultiPartException, MultipartParseError, KeyError, LookupError):
            raise RequestRefused(400, "The upload is not one file.") from None
        try:
            file = getattr(form.get("files"), "file", None)
            if file is None:
                raise RequestRefused(400, "The upload has no file.")
            try:
                return await asyncio.to_thread(self._folder.store, file, browser)
            except UserError as error:
                raise RequestRefused(429, f"{error}.") from None
        finally:
            await form.close()

    @contextlib.contextmanager
    def _one_more_upload(self) -> Iterator[None]:
        if self._uploading >= _MAX_UPLOADS_AT_ONCE:
            raise RequestRefused(503, "Too many uploads at the same time: try again.")
        self._uploading += 1
        try:
            yield
        finally:
            self._uploading -= 1

    async def _file(self, request: "_Request") -> None:
        path = request.path.removeprefix(_API + "file=")
        if not self._may_see(request.browser, self._folder.owner(path)):
            raise RequestRefused(404, "There is no such file.")
        try:
            content = await asyncio.to_thread(self._folder.read, path)
        except OSError:  # a browser may request a file again after it was removed
            raise RequestRefused(404, "The file was removed.") from None
        ending = "." + path.rpartition(".")[2]
        kind = _KINDS.get(ending, "application/octet-stream")
        request.headers.append((b"cache-control", b"no-store"))
        if kind == "application/octet-stream":
            request.headers.append((b"content-disposition", b"attachment"))
        async with asyncio.timeout(_ANSWER_SECONDS):
            await respond(request.send, 200, content, kind)

    def _may_see(self, browser: str | None, owner: str | None) -> bool:
        """Return whether a file belongs to everybody, to this browser or to one of its visits."""
        if browser is None or owner is None:
            return owner == EVERYBODY
        return owner in (EVERYBODY, browser) or self._visits.browser(owner) == browser


async def _no_progress(request: "_Request") -> None:
    """Report no progress: an upload to the same machine takes no time."""
    await respond(request.send, 200, b"", "text/event-stream")


class _Disconnected(Exception):
    """The browser left before its request was complete."""


class _Request:
    """A request and what was answered to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send):
        self.scope, self.method, self.path = scope, scope["method"], scope["path"]
        self.headers: list[tuple[bytes, bytes]] = list(_HEADERS)
        self._receive, self._send = receive, send
        self._is_answered = False

    def check_headers(self) -> None:
        """Refuse long headers: the server limits only those that arrive in parts."""
        size = len(self.scope.get("raw_path") or b"") + len(self.scope.get("query_string") or b"")
        if size + sum(len(key) + len(value) for key, value in self.scope["headers"]) > _MAX_HEADERS:
            raise RequestRefused(431, "The headers are too large.")

    def header(self, name: str) -> str | None:
        """Return a header; None if it is missing."""
        wanted = name.encode()
        found = [value for key, value in self.scope["headers"] if key == wanted]
        if len(found) > 1:
            raise RequestRefused(400, f"The header {name} is given twice.")
        return found[0].decode("latin-1") if found else None

    @property
    def has_body(self) -> bool:
        return self.header("content-length") not in (None, "0") or (
            self.header("transfer-encoding") is not None
        )

    @property
    def browser(self) -> str | None:
        """Name of the browser, from its cookie; None if it has none."""
        try:
            found = SimpleCookie(self.header("cookie") or "").get(COOKIE)
        except CookieError:
            return None
        # The page makes names of 32 characters that cannot be guessed.
        return found.value if found and re.fullmatch(r"[\w-]{32}", found.value) else None

    def known_browser(self) -> str:
        if self.browser is None:
            raise RequestRefused(403, "The request has no cookie of this page: load the page.")
        return self.browser

    def check_length(self, largest: int) -> None:
        """Refuse a body that is too large before it is read."""
        size = self.header("content-length") or "0"
        if not (size.isascii() and size.isdigit()) or len(size) > 12 or int(size) > largest:
            raise _too_large(largest)

    async def body(self, largest: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in parts."""
        self.check_length(largest)
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise _Disconnected
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > largest:
                raise _too_large(largest)
            yield part

    def replayed(self, body: bytes) -> Receive:
        """Return a function that gives this body, and then waits until the browser leaves."""
        size = str(len(body)).encode()
        kept = [
            (key, value)
            for key, value in self.scope["headers"]
            if key not in (b"content-length", b"transfer-encoding", b"x-gradio-server")
        ]
        self.scope["headers"] = [*kept, (b"content-length", size)] if body else kept
        waiting = [body]

        async def receive() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": False}
            while (message := await self._receive())["type"] != "http.disconnect":
                pass
            return message

        return receive

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the page's own headers."""
        if message["type"] == "http.response.start":
            self._is_answered = True
            message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
        await self._send(message)

    async def refuse(self, status: int, text: str) -> None:
        """Answer with one line, unless something was answered already."""
        if not self._is_answered:
            self.headers.append((b"connection", b"close"))
            await respond(self.send, status, text.encode())


def _too_large(largest: int) -> RequestRefused:
    if largest >= MAX_UPLOAD_BYTES:
        return RequestRefused(413, f"The photograph is larger than {MAX_UPLOAD_BYTES // 2**20} MB.")
    return RequestRefused(413, "The request is too large.")
