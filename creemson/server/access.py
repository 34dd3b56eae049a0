"""Who may connect: pure decisions, taken at the opening handshake."""

from collections.abc import Sequence

import attrs

from creemson.settings import Limits

__all__ = ["Refusal", "may_come_from", "refusal_for"]


@attrs.frozen
class Refusal:
    """Why the handshake is refused: an HTTP status and words for the person who looks."""

    status: int
    message: str


def refusal_for(
    origin: str | None,
    host: str,
    *,
    allowed_origins: Sequence[str],
    limits: Limits,
    connections: int,
    from_address: int,
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

    Returns:
        Why it is refused; None if it is not.
    """
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
