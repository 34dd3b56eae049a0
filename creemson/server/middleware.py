"""What every HTTP request goes through: security headers, the Origin check, CORS."""

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from creemson.errors import InvalidFormat
from creemson.server.access import may_come_from
from creemson.server.answers import error_response

__all__ = ["CORS", "Origins", "SecurityHeaders"]

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

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        headers = Request(scope).headers
        origin = headers.get("origin")
        if origin is not None and not may_come_from(origin, headers.get("host", ""), self._allowed):
            fault = InvalidFormat(
                "forbidden", f"Pages of {origin} may not ask; server.allowed_origins lists those that may."
            )
            await error_response(fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


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
