"""Serves the page, by default to this machine only, and without requests to other servers."""

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from pare_jax.demo.asgi import Application
from pare_jax.demo.blocks import build_page, head, import_gradio, style
from pare_jax.demo.events import event_inputs
from pare_jax.demo.guard import Guard
from pare_jax.demo.hosts import HostNames
from pare_jax.demo.session import Session
from pare_jax.demo.uploads import MAX_UPLOAD_BYTES, UploadFolder
from pare_jax.errors import UserError

# Connections at the same time; a browser opens at most six.
_MAX_CONNECTIONS = 200
# Time for a connection to send the first lines of a request, or the next request.
_IDLE_SECONDS = 10.0
_MAX_HEADER_BYTES = 16_384
# Pages whose values gradio keeps.
_MAX_STATES = 32
# Events that wait for the network.
_MAX_WAITING = 16
# After a signal, requests get this time to end, and then the process ends.
_CLOSING_SECONDS = 1
_LAST_SECONDS = 4.0


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


def make_app(
    session: Session, folder: UploadFolder, names: HostNames, detector_name: str
) -> Application:
    """Return the page as an ASGI application.

    Args:
        session: handles the events.
        folder: folder of the uploads.
        names: names under which the page is served.
        detector_name: name of the detector on the page.

    Raises:
        UserError: gradio is missing.
    """
    gr = import_gradio()
    import fastapi  # pyright: ignore[reportMissingImports]

    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
    page = build_page(session, detector_name)
    page.queue(max_size=_MAX_WAITING)
    page.state_session_capacity = _MAX_STATES
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
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
        css=style(),
        head=head(),
    )
    # gradio checks files only if a page was launched by itself. The guard checks first.
    page.has_launched = True

    def forget(owner: str) -> None:
        session.memory.forget_owner(owner)
        # What gradio keeps of a page has the photograph in it.
        page.state_holder.session_data.pop(owner, None)

    return Guard(app, event_inputs(page), folder, names, forget)


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


def make_server(
    app: Application,
    clean_up: Callable[[], None] = lambda: None,
    idle: float = _IDLE_SECONDS,
    last: float = _LAST_SECONDS,
) -> Any:
    """Return uvicorn's server, which serves until Ctrl-C or a signal.

    Args:
        app: the page.
        clean_up: called if the process must be ended because a request does not end.
        idle: time for a connection to send the first lines of a request, seconds.
        last: time after a signal at which the process ends, seconds.
    """
    import uvicorn  # pyright: ignore[reportMissingImports]

    def leave() -> None:
        clean_up()
        os._exit(0)

    class EndingServer(uvicorn.Server):
        """Ends the process a few seconds after a signal, even if a thread never ends."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            timer = threading.Timer(last, leave)
            timer.daemon = True
            timer.start()
            super().handle_exit(sig, frame)

    settings = uvicorn.Config(
        app,
        http=_impatient_protocol(idle),
        ws="none",
        log_level="critical",
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )
    return EndingServer(settings)


def _impatient_protocol(idle: float) -> Any:
    """Return uvicorn's protocol that closes connections on which no request arrives in time."""
    from uvicorn.protocols.http.h11_impl import (  # pyright: ignore[reportMissingImports]
        H11Protocol,
    )

    class ImpatientProtocol(H11Protocol):
        """Closes a connection that had no request at two checks in a row."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._was_idle = False
            self._check = self.loop.call_later(idle / 2, self._close_if_idle)

        def connection_lost(self, exc: Exception | None) -> None:
            self._check.cancel()
            super().connection_lost(exc)

        def _close_if_idle(self) -> None:
            is_idle = self.cycle is None or self.cycle.response_complete
            if is_idle and self._was_idle:
                self.transport.abort()
                return
            self._was_idle = is_idle
            self._check = self.loop.call_later(idle / 2, self._close_if_idle)

    return ImpatientProtocol
