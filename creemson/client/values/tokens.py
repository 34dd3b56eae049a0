"""Reads from a token when it expires."""

import base64
import json

__all__ = ["expiry_of"]


def expiry_of(token: str | None) -> float | None:
    """Return when a JSON web token expires, in seconds since 1970; None for other tokens.

    Nothing is verified: the client only wants to know when it needs the next token.

    >>> expiry_of("crm_0123_secret")
    """
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
