"""Decides which handshakes are refused: origins, DNS rebinding, limits on the number of connections."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

import attrs

from creemson.settings.sections import Limits

__all__ = [
    "Fetch",
    "Refusal",
    "dns_rebinding_message",
    "fetch_refusal",
    "is_allowed_origin",
    "is_dns_rebinding",
    "is_listed_origin",
    "refusal_for",
]

RETRY = [(b"Retry-After", b"1")]
"""Header that asks the client to wait a second."""


@attrs.frozen
class Refusal:
    """Why a handshake is refused: an HTTP status, and a message for people."""

    status: int
    message: str

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that belong to the status."""
        return {401: [(b"WWW-Authenticate", b"Bearer")], 429: RETRY, 503: RETRY}.get(self.status, [])


def refusal_for(
    origin: str | None,
    host: str,
    *,
    allowed_origins: Sequence[str],
    limits: Limits,
    connections: int,
    from_address: int,
    dns_rebinding_possible: bool = False,
) -> Refusal | None:
    """Decide on an upgrade request.

    A browser sends the origin of the page that opens the connection (RFC 6455 section 10.2). Without this check,
    any page that the user visits could connect to a server on the user's own machine.

    Args:
        origin: origin of the page that opens the connection; None if the client is not a browser.
        host: the `Host` header.
        allowed_origins: origins allowed in addition to the server's own; ``*`` allows all.
        limits: effective limits.
        connections: number of open connections.
        from_address: number of other connections from the same address.
        dns_rebinding_possible: whether :func:`is_dns_rebinding` is checked.

    Returns:
        The refusal; None if the connection is accepted.
    """
    if origin is not None and dns_rebinding_possible and is_dns_rebinding(host, allowed_origins):
        return Refusal(403, dns_rebinding_message(host))
    if origin is not None and not is_allowed_origin(origin, host, allowed_origins):
        message = f"Pages from {origin} must not connect; server.allowed_origins lists the allowed origins."
        return Refusal(403, message)
    if connections >= limits.connections:
        message = f"There are already {connections} connections, which is the maximum. Try again later."
        return Refusal(503, message)
    if from_address >= limits.connections_per_address:
        return Refusal(429, f"There are {from_address} connections from your address already. Close some.")
    return None


def is_allowed_origin(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page may connect.

    Args:
        origin: origin of the page, as browsers write it: scheme://host, and the port if it is not the default.
        host: the `Host` header.
        allowed: origins allowed in addition to the server's own; ``*`` allows all.
    """
    # Without the scheme: behind a proxy that terminates TLS, the page is https and the server is http.
    return is_listed_origin(origin, allowed) or origin.lower().partition("://")[2] == host.lower() != ""


def is_listed_origin(origin: str, allowed: Sequence[str]) -> bool:
    """Whether an origin is one of those allowed in addition to the server's own; see :func:`is_allowed_origin`."""
    return "*" in allowed or origin.lower() in {one.lower() for one in allowed}


@attrs.frozen(kw_only=True)
class Fetch:
    """What a browser says about the page that sends an HTTP request; each is None if the header is missing.

    Attributes:
        origin: the `Origin` header: missing in requests such as those of links, images and frames.
        referer: the `Referer` header.
        site: `Sec-Fetch-Site`: how the page is related to this server (www.w3.org/TR/fetch-metadata).
        mode: `Sec-Fetch-Mode`.
        destination: `Sec-Fetch-Dest`.
    """

    origin: str | None = None
    referer: str | None = None
    site: str | None = None
    mode: str | None = None
    destination: str | None = None

    @property
    def page(self) -> str | None:
        """Origin of the page, if known. A page can leave out its referrer, but cannot send that of another one."""
        if self.origin is not None or self.referer is None:
            return self.origin
        scheme, mark, rest = self.referer.partition("://")
        return f"{scheme}{mark}{rest.partition('/')[0]}" if mark else None


def fetch_refusal(fetch: Fetch, path: str, host: str, allowed: Sequence[str]) -> str | None:
    """Decide on an HTTP request by the page that sends it.

    Requests without an `Origin` header cannot be read by other pages, but a page could learn from their success or
    their duration whether a file exists. So they are refused, unless somebody follows a link to the page at ``/``.

    Args:
        fetch: what the browser says about the page.
        path: path of the request.
        host: the `Host` header.
        allowed: origins allowed in addition to the server's own; ``*`` allows all.

    Returns:
        Why the request is refused; None if it is accepted.
    """
    foreign = fetch.site is not None and fetch.site.lower() in ("cross-site", "same-site")
    if fetch.origin is None and not foreign:
        return None
    page = fetch.page
    if "*" in allowed or (page is not None and is_allowed_origin(page, host, allowed)):
        return None
    navigates = fetch.mode == "navigate" and fetch.destination == "document"
    if fetch.origin is None and navigates and path == "/":
        return None
    who = "of other sites" if page is None else f"from {page}"
    return f"Pages {who} are not allowed; server.allowed_origins lists the allowed origins."


def is_dns_rebinding(host: str, allowed: Sequence[str]) -> bool:
    """Whether a request may come from a page whose domain was made to resolve to this server (DNS rebinding).

    To the browser, such a page has the server's own origin; only its host name shows that it comes from elsewhere.
    Names that an attacker can own are refused unless they are listed. This matters if only this machine can reach
    the server and callers need not authenticate.

    Args:
        host: the `Host` header.
        allowed: origins allowed in addition to the server's own; ``*`` allows all.

    >>> [is_dns_rebinding(host, ()) for host in ("localhost:8000", "[::1]:8000", "attacker.example")]
    [False, False, True]
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that are no IPv6 address, which no browser sends
        name = ""
    if "*" in allowed or "." not in name.rstrip("."):  # nobody can register a name without a dot
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        listed = {urlsplit(one).hostname for one in allowed}
        return name not in listed and not name.endswith(".localhost")
    return False


def dns_rebinding_message(host: str) -> str:
    """Return the message for a request that :func:`is_dns_rebinding`."""
    return (
        f"The host name {host!r} is not allowed. Use the server's IP address, or add the origin of its pages to "
        "server.allowed_origins."
    )
