"""What every HTTP request goes through: security headers, the Origin check, CORS, who asks, and how often."""

import trio
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from creemson.errors import CreemsonError, InvalidFormat
from creemson.server.access import is_rebound, may_come_from, rebound
from creemson.server.answers import error_response
from creemson.server.bucket import Bucket
from creemson.server.gate import Gate
from creemson.server.identity import bearer, unauthenticated
from creemson.storage.stores import ANYONE

__all__ = ["CALLER", "CORS", "CallerKnown", "Origins", "Paced", "SecurityHeaders"]

CALLER = "creemson.caller"
"""The key of a request's scope under which the caller is."""
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/asyncapi.json", "/ws"})
"""Paths that tell nothing of anybody: the page, signs of life, the protocol. And what is in ``/static``."""
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that are asked for by machines which may have any name for us."""

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
EXPOSED_HEADERS = ("Content-Disposition", "Content-Range", "Accept-Ranges", "ETag", "Retry-After")


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_more)


class Origins:
    """Refuses what pages of other origins ask for: a form of theirs could upload without a preflight."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...], *, may_be_rebound: bool) -> None:
        self._app = app
        self._allowed = allowed
        self._may_be_rebound = may_be_rebound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        headers = Request(scope).headers
        fault = self._fault(scope["path"], headers.get("origin"), headers.get("host", ""))
        if fault is not None:
            await error_response(InvalidFormat("forbidden", fault))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _fault(self, path: str, origin: str | None, host: str) -> str | None:
        if origin is not None and not may_come_from(origin, host, self._allowed):
            return f"Pages of {origin} may not ask; server.allowed_origins lists those that may."
        # A page that asks its own origin for something does not say where it comes from.
        if self._may_be_rebound and path not in PROBES and is_rebound(host, self._allowed):
            return rebound(host)
        return None


class CallerKnown:
    """Finds out who asks, and refuses those who do not say so where they have to, or who ask too often."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI); its scope tells the caller."""
        path: str = scope["path"]
        if not self._gate.guarded:
            scope[CALLER] = ANYONE
        elif path not in PUBLIC and not path.startswith("/static/"):
            try:
                scope[CALLER] = self._identify(Request(scope).headers.getlist("authorization"))
            except CreemsonError as error:
                headers = {"www-authenticate": "Bearer"} if error.reason == "unauthenticated" else {}
                await error_response(error, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _identify(self, given: list[str]) -> str:
        if not given:
            raise unauthenticated("Say who you are: Authorization: Bearer TOKEN.")
        caller = self._gate.identify(bearer(", ".join(given))).caller
        wait = self._gate.pace(caller, trio.current_time())
        if wait:
            raise too_soon(wait)
        return caller


class Paced:
    """Refuses the requests of one connection that come too soon after others."""

    def __init__(self, app: ASGIApp, bucket: Bucket) -> None:
        self._app = app
        self._bucket = bucket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        wait = self._bucket.take(trio.current_time())
        app = error_response(too_soon(wait)) if wait else self._app
        await app(scope, receive, send)


def too_soon(wait: float) -> InvalidFormat:
    """The error for what comes too soon after others."""
    return InvalidFormat("rate_limited", f"Too many requests. Wait {wait:.3g} s.", retry_after=round(wait, 3))


class CORS(CORSMiddleware):
    """Starlette's, with the same notion of an allowed origin as everywhere (fetch.spec.whatwg.org, 3.3)."""

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
        """Whether a page of this origin may read the answer."""
        return self.allow_all_origins or origin.lower() in self._allowed
