"""Checks by which names the page is requested, and from which pages (DNS rebinding)."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from pare_jax.demo.asgi import RequestRefused
from pare_jax.errors import UserError

# Browsers send names in ASCII.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def is_local(host: str) -> bool:
    """Return whether only this machine can reach the host."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


class HostNames:
    """The names under which the page is served.

    Another site can let its own name point to this machine. A browser would then send that site's
    scripts here. The name in the request tells the two apart.
    """

    def __init__(self, host: str, names: Sequence[str] = ()):
        """Take the names.

        Args:
            host: address that the server listens on.
            names: further names, for instance that of a proxy.

        Raises:
            UserError: one of them has a port, a scheme or a path, or is no name at all.
        """
        self._given = {_checked_name(name) for name in names}
        self._names = {"localhost", host.lower(), *self._given}
        # No site can take over an address, so that any address of this machine is right.
        self._any_address = not is_local(host)
        if self._any_address:
            machine = socket.gethostname().lower()
            self._names |= {machine, f"{machine}.local"}

    def check(self, host: str | None, origin: str | None, fetched_from: str | None) -> None:
        """Check the headers of a request.

        Args:
            host: of the header Host.
            origin: of the header Origin, which scripts and forms send.
            fetched_from: of the header Sec-Fetch-Site; None for a page that is being opened.

        Raises:
            RequestRefused: the name is another, or the request comes from another page.
        """
        named = _split(f"//{host}") if host else None
        if named is None or not self._includes(named[0]):
            raise RequestRefused(
                421, "The page is not served under this name: use the address that it printed."
            )
        if origin is not None:
            asking = _split(origin)
            if asking is None or not (asking == named or asking[0] in self._given):
                raise RequestRefused(403, "The request comes from another page.")
        if fetched_from not in (None, "same-origin", "none"):
            raise RequestRefused(403, "The request comes from another page.")

    def _includes(self, name: str) -> bool:
        if name in self._names:
            return True
        address = _address(name)
        return address is not None and (self._any_address or address.is_loopback)


def _checked_name(given: str) -> str:
    """Return a name of `--names` as requests have it."""
    name = given.strip().lower().rstrip(".")
    if not _NAME.fullmatch(name) and _address(name) is None:
        raise UserError(
            f"--names has {given!r}, which is not a name like demo.example.org: leave out scheme, "
            "port and path"
        )
    return name


def _split(url: str) -> tuple[str, int | None] | None:
    """Return the lower-case name and the port of a URL; None if it has none."""
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.path or not parts.hostname:
            return None
        port = parts.port
    except ValueError:
        return None
    default = {"http": 80, "https": 443, "": 80}.get(parts.scheme)
    if default is None:
        return None
    return parts.hostname.rstrip("."), port or default


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
