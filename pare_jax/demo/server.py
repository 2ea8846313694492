"""Serves the page, by default to this machine only, and without requests to other servers."""

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from pare_jax.demo.blocks import HEAD, STYLE, build_page, import_gradio
from pare_jax.demo.session import Session
from pare_jax.demo.uploads import MAX_UPLOAD_BYTES
from pare_jax.errors import UserError

# The browser may load nothing from other servers. gradio needs unsafe-eval for its templates, and
# the 3D viewer for WebAssembly.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; frame-ancestors 'self'"
)
# An upload has some header lines besides the photograph.
_ENVELOPE_BYTES = 10_000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def disable_telemetry() -> None:
    """Disable telemetry of gradio and its dependencies; call it before they are imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"


def listen(host: str, port: int) -> socket.socket:
    """Open the port to listen on; 0 chooses a free one.

    Raises:
        UserError: the port is in use or not allowed, or the host does not exist.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use: choose another with --port, or 0 for a free one"
            ) from None
        raise UserError(
            f"cannot listen on --host={host} --port={port}: {error.strerror}; choose others"
        ) from None
    return listener


def is_local(host: str) -> bool:
    """Return whether only this machine can reach the host."""
    return host in _LOOPBACK or host.startswith("127.")


def make_app(session: Session, detector_name: str) -> Callable[..., Awaitable[None]]:
    """Return the page as an ASGI application.

    Raises:
        UserError: gradio is missing.
    """
    gr = import_gradio()
    import fastapi  # pyright: ignore[reportMissingImports]

    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        build_page(session, detector_name),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=MAX_UPLOAD_BYTES,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=theme,
        css=STYLE,
        head=HEAD,
    )
    return guarded(app)


def guarded(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap an application: refuse too large uploads before reading them, and add the policy."""
    from starlette.requests import ClientDisconnect  # pyright: ignore[reportMissingImports]

    largest = MAX_UPLOAD_BYTES + _ENVELOPE_BYTES

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        waiting: list[MutableMapping[str, Any]] = []

        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                # Sent with the first content: until then a missing file can become a 404.
                waiting.append({**message, "headers": [*message.get("headers", ()), *own]})
                return
            while waiting:
                await send(waiting.pop())
            await send(message)

        size = dict(scope["headers"]).get(b"content-length", b"0")
        if not size.isdigit() or int(size) > largest:
            text = f"The photograph is larger than {MAX_UPLOAD_BYTES // 2**20} MB."
            await _respond(send_with_policy, 413, text)
            return
        # Two normal events: a user leaves during an upload, and a browser requests a file again
        # after it was removed.
        with contextlib.suppress(ClientDisconnect):
            try:
                await app(scope, receive, send_with_policy)
            except FileNotFoundError:
                waiting.clear()
                await _respond(send_with_policy, 404, "The file was removed.")

    return respond


async def _respond(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@contextlib.contextmanager
def exiting_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda *_: sys.exit(0)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def serve(app: Callable[..., Awaitable[None]], listener: socket.socket) -> None:
    """Serve until Ctrl-C or a signal."""
    import uvicorn  # pyright: ignore[reportMissingImports]

    settings = uvicorn.Config(
        app, log_level="error", access_log=False, timeout_graceful_shutdown=1, server_header=False
    )
    uvicorn.Server(settings).run(sockets=[listener])
