"""Who may connect: pure decisions, taken at the opening handshake."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

import attrs

from creemson.settings import Limits

__all__ = ["Refusal", "is_rebound", "may_come_from", "rebound", "refusal_for"]


RETRY = [(b"Retry-After", b"1")]


@attrs.frozen
class Refusal:
    """Why the handshake is refused: an HTTP status and words for the person who looks."""

    status: int
    message: str

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What goes with the status."""
        return {401: [(b"WWW-Authenticate", b"Bearer")], 429: RETRY, 503: RETRY}.get(self.status, [])


def refusal_for(
    origin: str | None,
    host: str,
    *,
    allowed_origins: Sequence[str],
    limits: Limits,
    connections: int,
    from_address: int,
    may_be_rebound: bool = False,
) -> Refusal | None:
    """Decide on an upgrade request.

    A browser sends along where the page comes from that opens the connection (RFC 6455 section 10.2).
    Without this check any page that its user visits could talk to a server on the user's own machine.

    Args:
        origin: of the page that opens the connection; None where no browser does.
        host: that the request is for, as the client wrote it.
        allowed_origins: besides the server's own; ``*`` allows all.
        limits: in force.
        connections: that are open.
        from_address: of these, from the same address.
        may_be_rebound: see :func:`is_rebound`; False where it does not matter.

    Returns:
        Why it is refused; None if it is not.
    """
    if origin is not None and may_be_rebound and is_rebound(host, allowed_origins):
        return Refusal(403, rebound(host))
    if origin is not None and not may_come_from(origin, host, allowed_origins):
        return Refusal(
            403, f"Pages of {origin} may not connect; server.allowed_origins lists those that may."
        )
    if connections >= limits.connections:
        return Refusal(
            503, f"There are {connections} connections already, and no more may be. Try again later."
        )
    if from_address >= limits.connections_per_address:
        return Refusal(429, f"There are {from_address} connections from your address already. Close some.")
    return None


def may_come_from(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page may connect.

    Args:
        origin: of the page, as browsers write it: scheme://host, and the port if it is unusual.
        host: that the request is for, as the client wrote it.
        allowed: origins besides the server's own; ``*`` allows all.
    """
    if "*" in allowed:
        return True
    normal = origin.lower()
    if normal in {one.lower() for one in allowed}:
        return True
    # The scheme is left out: behind a proxy that speaks TLS, the page is https and the server is not.
    return normal.partition("://")[2] == host.lower() != ""


def is_rebound(host: str, allowed: Sequence[str]) -> bool:
    """Whether a request may come from a page whose name was let point to us (DNS rebinding).

    To the browser, such a page is of our own origin, so only the name itself tells: it is somebody's domain.
    Those that an attacker can have are not served, unless they are listed. It matters where only this machine can
    reach the server and nobody has to prove who they are.

    Args:
        host: that the request is for, as the client wrote it.
        allowed: origins besides the server's own; ``*`` allows all.

    >>> is_rebound("localhost:8000", ()), is_rebound("[::1]:8000", ()), is_rebound("attacker.example", ())
    (False, False, True)
    """
    name = (urlsplit(f"//{host}").hostname or "") if host.count("[") == host.count("]") else ""
    if "*" in allowed or "." not in name.rstrip("."):  # nobody can buy a name without a dot
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        listed = {urlsplit(one).hostname for one in allowed}
        return name not in listed and not name.endswith(".localhost")
    return False


def rebound(host: str) -> str:
    """The words for such a request."""
    return (
        f"This server is not known as {host!r}. Use its address, or list the origin of its pages in "
        "server.allowed_origins."
    )
