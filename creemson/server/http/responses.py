"""HTTP responses: JSON, and errors with the reasons of the protocol."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from creemson.errors import REASONS, CreemsonError, InvalidFormat, ProcessingError, internal_error

__all__ = [
    "WHY",
    "error_response",
    "http_error",
    "json_response",
    "refusal",
    "too_large",
    "unexpected_error",
]

WHY = "creemson.why"
"""The key of the text of an error in the scope of a request, for the log."""


class _JSONResponse(Response):
    media_type = "application/json"

    def __init__(self, value: Any, status: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(orjson.dumps(value), status, {"cache-control": "no-store", **(headers or {})})


class _ErrorResponse(_JSONResponse):
    """Leaves the text of its error in the scope of the request."""

    def __init__(self, value: Any, status: int, headers: Mapping[str, str], *, why: str) -> None:
        super().__init__(value, status, headers)
        self._why = why

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[WHY] = self._why
        await super().__call__(scope, receive, send)


def error_response(
    error: CreemsonError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Make the response for an error.

    Args:
        error: the error.
        status: HTTP status; None uses the one that belongs to the reason.
        headers: additional headers.
    """
    body = {
        "detail": error.message,
        "code": int(error.code),
        "reason": error.reason,
        "retryable": error.retryable,
        "details": error.details,
    }
    sent = dict(headers or {})
    status = REASONS[error.reason].status if status is None else status
    if error.retryable and status in (429, 503):
        sent["retry-after"] = str(max(1, round(error.retry_after or 1)))
    return _ErrorResponse(body, status, sent, why=error.message)


async def http_error(_: Request, error: Exception) -> Response:
    """Return the response to an error of Starlette, such as an unknown path (an exception handler)."""
    assert isinstance(error, HTTPException)
    texts = {404: "There is nothing at this path.", 405: "This path does not support this method."}
    text = texts.get(error.status_code, str(error.detail))
    if allowed := (error.headers or {}).get("Allow"):
        text = text.removesuffix(".") + f"; it takes {allowed}."
    answer = InvalidFormat("invalid_message", text)
    return error_response(answer, status=error.status_code, headers=error.headers)


async def unexpected_error(_: Request, __: Exception) -> Response:
    """Return the response to an exception that no handler expects; :mod:`creemson.server.http.app` logs it."""
    return error_response(internal_error())


def refusal(status: int, message: str) -> Response:
    """Make a response that refuses a request and closes the connection.

    Args:
        status: 429 or 503.
        message: text for people.
    """
    reason = "rate_limited" if status == 429 else "too_many_connections"
    return error_response(InvalidFormat(reason, message), status=status, headers={"connection": "close"})


def too_large(what: str, size: int, limit: int) -> ProcessingError:
    """Make the error for an upload that is too large.

    Args:
        what: subject of the message, such as the file name.
        size: bytes received or announced so far.
        limit: maximum number of bytes.
    """
    return ProcessingError(
        "upload_too_large", f"{what} has {size:,} bytes or more; the limit is {limit:,} bytes."
    )


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a response with a JSON value, which must not be cached."""
    return _JSONResponse(value, status, headers)
