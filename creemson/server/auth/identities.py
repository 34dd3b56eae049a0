"""Who a caller is, and the interface of what finds out."""

from typing import Protocol

import attrs

from creemson.errors import InvalidFormat

__all__ = ["Authenticator", "Identity", "bearer", "unauthenticated"]

BEARER = "bearer"
"""The only scheme of the ``Authorization`` header that is accepted, in lower case."""


@attrs.frozen
class Identity:
    """An authenticated caller.

    Attributes:
        caller: name of the caller; decides which files and jobs are visible.
        expires: when the token expires, in seconds since 1970; None if it does not expire.
        token: id of the opaque token; None for other kinds of authentication.
    """

    caller: str
    expires: float | None = None
    token: str | None = None


class Authenticator(Protocol):
    """Finds the caller that a token identifies."""

    required: bool
    """Whether every caller must authenticate."""

    def identify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Raises:
            InvalidFormat: ``unauthenticated``: the token proves no identity.
            OSError: the tokens cannot be read.
        """

    def holds(self, identity: Identity) -> bool:
        """Whether an identity is still valid: neither expired nor revoked.

        Raises:
            OSError: the tokens cannot be read.
        """


def bearer(header: str) -> str:
    """Return the token of an ``Authorization`` header (RFC 6750 section 2.1).

    Raises:
        InvalidFormat: ``unauthenticated``: the header has another scheme or no token.
    """
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != BEARER or not token.strip():
        raise unauthenticated("The Authorization header must be `Bearer TOKEN`.")
    return token.strip()


def unauthenticated(message: str) -> InvalidFormat:
    """Make the error for a caller that has not proved its identity."""
    return InvalidFormat("unauthenticated", message)
