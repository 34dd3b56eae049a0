"""Responses to requests that no app sees: they have the same JSON and headers as all other errors."""

from collections.abc import Sequence

from creemson.errors import CreemsonError, InvalidFormat, internal_error
from creemson.server.http.middleware import cors_headers, security_headers
from creemson.server.http.responses import error_response

__all__ = ["describe_refusal", "unparsed_refusal"]


def describe_refusal(
    allowed: Sequence[str], status: int, why: str, origin: str | None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of a refusal.

    Args:
        allowed: origins of pages that may read it.
        status: the HTTP status.
        why: text for people.
        origin: the `Origin` header of the request, if it has one.
    """
    response = error_response(_error(status, why), status=status)
    own = [header for header in response.raw_headers if header[0] != b"content-length"]
    listed = tuple(allowed)
    return [*own, *cors_headers(origin, listed), *security_headers(origin, listed)], bytes(response.body)


def unparsed_refusal(why: str) -> bytes:
    """Return a complete 503 response to a connection whose requests are not even read."""
    headers, body = describe_refusal((), 503, why, None)
    length = (b"content-length", str(len(body)).encode())
    lines = [b"%b: %b" % header for header in [*headers, length, (b"connection", b"close")]]
    return b"\r\n".join([b"HTTP/1.1 503 Service Unavailable", *lines, b"", body])


def _error(status: int, why: str) -> CreemsonError:
    match status:
        case 500:
            return internal_error()
        case 503:
            return InvalidFormat("too_many_connections", why, retry_after=1.0)
        case 431:
            return InvalidFormat("message_too_large", why)
        case _:
            return InvalidFormat("invalid_message", why)
