"""Types, refusals and short responses of ASGI, the interface between web server and page."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestRefused(Exception):
    """A request that is not served.

    Attributes:
        status: HTTP status.
        text: one line for the browser.
    """

    def __init__(self, status: int, text: str):
        """Take the HTTP status and one line for the browser."""
        super().__init__(text)
        self.status, self.text = status, text


async def respond(
    send: Send,
    status: int,
    content: bytes,
    kind: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole response.

    Args:
        send: of the request.
        status: HTTP status.
        content: the body.
        kind: the content's media type.
        headers: further headers.
    """
    own = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(content)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": content})
