"""Middleware for every HTTP request: security headers, Origin check, CORS, authentication, rate limits."""

import contextlib
from collections.abc import Callable

import trio
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from creemson.errors import CreemsonError, InvalidFormat
from creemson.model.callers import ANYONE
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity, bearer, unauthenticated
from creemson.server.auth.origins import (
    Fetch,
    dns_rebinding_message,
    fetch_refusal,
    is_dns_rebinding,
    is_listed_origin,
)
from creemson.server.auth.rate_limit import TokenBucket
from creemson.server.http.responses import error_response
from creemson.storage.stores import Stores

__all__ = [
    "CALLER",
    "CORS",
    "AuthenticationMiddleware",
    "ConnectionLimits",
    "OriginCheck",
    "SecurityHeaders",
    "cors_headers",
    "limited",
    "rate_limit",
    "security_headers",
]

CALLER = "creemson.caller"
"""The key of the caller in the scope of a request."""
REFUSE = "creemson.refuse"
"""The key of what decides whether the connection of a request is refused: see :func:`limited`."""
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/asyncapi.json", "/ws"})
"""Paths that need no authentication, in addition to ``/static``: they reveal nothing about any caller."""
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths requested by monitoring systems, which may use any host name."""

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html"""
_SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
EXPOSED_HEADERS = ("Content-Disposition", "Content-Range", "Accept-Ranges", "ETag", "Retry-After")


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = security_headers(_fetch_of(scope).page, self._allowed)
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def security_headers(page: str | None, allowed: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """Return the security headers of a response.

    Args:
        page: origin of the page that sent the request, if a page did.
        allowed: the allowed origins: only their pages may embed what this server sends.
    """
    policy = b"cross-origin" if page is not None and is_listed_origin(page, allowed) else b"same-origin"
    return [*_SECURITY_HEADERS, (b"cross-origin-resource-policy", policy)]


def cors_headers(origin: str | None, allowed: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """Return the headers that let a page read a response; for responses that :class:`CORS` does not see.

    Args:
        origin: the `Origin` header.
        allowed: the allowed origins.
    """
    if origin is None or not is_listed_origin(origin, allowed):
        return [(b"vary", b"Origin")]
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()),
        (b"vary", b"Origin"),
    ]


def _fetch_of(scope: Scope) -> Fetch:
    """Return what the browser says about the page that sends a request."""
    headers = Request(scope).headers
    return Fetch(
        origin=headers.get("origin"),
        referer=headers.get("referer"),
        site=headers.get("sec-fetch-site"),
        mode=headers.get("sec-fetch-mode"),
        destination=headers.get("sec-fetch-dest"),
    )


class ConnectionLimits:
    """Refuses what the connection of a request may not do now: see :func:`limited`."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        refusal: Response | None = scope[REFUSE]() if REFUSE in scope else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        refusal.raw_headers += cors_headers(Request(scope).headers.get("origin"), self._allowed)
        await refusal(scope, receive, send)


def limited(app: ASGIApp, refuse: Callable[[], Response | None]) -> ASGIApp:
    """Return an app for one connection, whose requests can be refused.

    Args:
        app: an app with the middleware :class:`ConnectionLimits`.
        refuse: called for each request; returns the response to one that is refused.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope[REFUSE] = refuse
        await app(scope, receive, send)

    return serve


def rate_limit(bucket: TokenBucket) -> Callable[[], Response | None]:
    """Return what refuses requests above the rate limit of a connection."""

    def refuse() -> Response | None:
        wait = bucket.take(trio.current_time())
        return error_response(_rate_limited(wait)) if wait else None

    return refuse


class OriginCheck:
    """Refuses requests from pages of other origins: without it, their forms could upload without a preflight."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...], *, dns_rebinding_possible: bool) -> None:
        self._app = app
        self._allowed = allowed
        self._dns_rebinding_possible = dns_rebinding_possible

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        host = Request(scope).headers.get("host", "")
        refusal = fetch_refusal(_fetch_of(scope), scope["path"], host, self._allowed)
        # Also without an Origin header: a page's GET requests to its own origin have none.
        checks_host = self._dns_rebinding_possible and scope["path"] not in PROBES
        if refusal is None and checks_host and is_dns_rebinding(host, self._allowed):
            refusal = dns_rebinding_message(host)
        if refusal is not None:
            await error_response(InvalidFormat("forbidden", refusal))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class AuthenticationMiddleware:
    """Authenticates callers; refuses requests without a valid token or above the caller's rate limit."""

    def __init__(self, app: ASGIApp, callers: Callers, stores: Stores) -> None:
        self._app = app
        self._callers = callers
        self._stores = stores

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI), with the caller in its scope under :data:`CALLER`."""
        path: str = scope["path"]
        if not self._callers.guarded:
            scope[CALLER] = ANYONE
            await self._app(scope, receive, send)
        elif path in PUBLIC or path.startswith("/static/"):
            await self._app(scope, receive, send)
        else:
            try:
                identity = self._authenticate(Request(scope).headers.getlist("authorization"))
                scope[CALLER] = identity.caller
                if not self._stores.is_open(identity.caller):  # a new caller
                    with contextlib.suppress(OSError):  # then the requests that need the store fail, too
                        await trio.to_thread.run_sync(self._stores.of, identity.caller)
                await self._while_valid(identity, scope, receive, send)
            except CreemsonError as error:
                headers = {"www-authenticate": "Bearer"} if error.reason == "unauthenticated" else {}
                await error_response(error, headers=headers)(scope, receive, send)

    async def _while_valid(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request until the token expires or is revoked.

        Raises:
            InvalidFormat: ``unauthenticated``: this has happened, and no response had begun. If one had, it stays
                incomplete, and the connection ends.
        """
        begun = False

        async def send_noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with trio.CancelScope() as serving, self._callers.using(identity, serving.cancel):
            await self._app(scope, receive, send_noting)
        if serving.cancelled_caught and not begun:
            raise unauthenticated("The token has expired or was revoked meanwhile. Ask for a new one.")

    def _authenticate(self, headers: list[str]) -> Identity:
        if not headers:
            raise unauthenticated("Authenticate with the header `Authorization: Bearer TOKEN`.")
        identity = self._callers.identify(bearer(", ".join(headers)))
        wait = self._callers.pace(identity.caller, trio.current_time())
        if wait:
            raise _rate_limited(wait)
        return identity


def _rate_limited(wait: float) -> InvalidFormat:
    """Make the error for a request above a rate limit.

    Args:
        wait: seconds until the next request is accepted.
    """
    return InvalidFormat("rate_limited", f"Too many requests. Wait {wait:.3g} s.", retry_after=round(wait, 3))


class CORS(CORSMiddleware):
    """Starlette's CORS middleware; compares origins like the other checks do (fetch.spec.whatwg.org, 3.3)."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=allowed,
            allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
        self._allowed = tuple(origin.lower() for origin in allowed)

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether a page of this origin may read the response."""
        return self.allow_all_origins or origin.lower() in self._allowed
