"""What HTTP answers look like: JSON, and errors in the words of the protocol."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from creemson.errors import REASONS, ConnectionLost, CreemsonError, InvalidFormat, ProcessingError

__all__ = [
    "error_response",
    "http_error",
    "internal_error",
    "json_response",
    "refusing",
    "shutting_down",
    "too_large",
]


def error_response(
    error: CreemsonError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error as HTTP says it."""
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
    return json_response(body, status=status, headers=sent)


async def http_error(_: Request, error: Exception) -> Response:
    """Starlette's own errors, in our words."""
    assert isinstance(error, HTTPException)
    what = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    fault = InvalidFormat("invalid_message", what.get(error.status_code, str(error.detail)))
    return error_response(fault, status=error.status_code, headers=error.headers)


async def internal_error(_: Request, __: Exception) -> Response:
    """What is answered to a fault of ours; it is logged elsewhere."""
    return error_response(
        ProcessingError("internal", "This failed for a reason that is ours, and was logged.")
    )


def refusing(status: int, message: str) -> ASGIApp:
    """An app that answers every request with a refusal."""
    reason = "rate_limited" if status == 429 else "too_many_connections"
    return error_response(InvalidFormat(reason, message), status=status, headers={"connection": "close"})


def too_large(what: str, size: int, limit: int) -> ProcessingError:
    """The error for an upload of more than ``limit`` bytes."""
    return ProcessingError("upload_too_large", f"{what} has {size:,} bytes or more, allowed are {limit:,}.")


def shutting_down() -> ConnectionLost:
    """The error for whoever comes too late."""
    return ConnectionLost("shutting_down", "The server is shutting down. Try again when it is back.")


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON, which nobody is to keep."""
    return Response(
        orjson.dumps(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )
