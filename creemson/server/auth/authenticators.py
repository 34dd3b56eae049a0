"""Authenticators: find the caller that a token identifies, and check whether the token is still valid."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import jwt
from jwt.algorithms import get_default_algorithms, requires_cryptography

from creemson.errors import InvalidFormat
from creemson.model.callers import ANYONE
from creemson.server.auth.tokens import Tokens
from creemson.settings.sections import Auth, Settings
from creemson.settings.units import SettingsError

__all__ = ["Authenticator", "Identity", "bearer", "make_authenticator", "token_file", "unauthenticated"]

SYMMETRIC = ("HS256", "HS384", "HS512")
"""Algorithms whose key both creates and checks signatures."""
MAX_SUBJECT = 200
"""Maximum number of characters of the subject of a JWT."""
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


class _NoAuthentication:
    required = False

    def identify(self, token: str) -> Identity:  # noqa: ARG002 - tokens are accepted and ignored
        return Identity(ANYONE)

    def holds(self, identity: Identity) -> bool:  # noqa: ARG002
        return True


class _TokenAuthenticator:
    required = True

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def identify(self, token: str) -> Identity:
        entry = self._tokens.find(token)
        if entry is None:
            raise unauthenticated("The token is not known here, or was revoked. Ask for a new one.")
        return Identity(f"token:{entry.name}", token=entry.id)

    def holds(self, identity: Identity) -> bool:
        return identity.token is not None and self._tokens.knows(identity.token)


class _JWTAuthenticator:
    required = True

    def __init__(self, auth: Auth, clock: Callable[[], float]) -> None:
        self._key = _key(auth)
        self._algorithms = list(auth.jwt_algorithms)
        self._audience = auth.jwt_audience
        self._leeway = auth.jwt_leeway
        self._clock = clock

    def identify(self, token: str) -> Identity:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,  # never the one that the token names
                audience=self._audience,
                leeway=self._leeway,  # for `exp`, `nbf` and `iat`: clocks differ (RFC 7519 section 4.1.4)
                options={"require": ["exp", "aud", "sub"]},  # RFC 8725 section 3
            )
            subject, expires = claims["sub"], float(claims["exp"])
        # OverflowError: an `exp` such as 10^400 is a valid integer, and no time.
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError) as error:
            raise unauthenticated(f"The token is invalid: {error}. Ask for a new one.") from None
        if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT:
            raise unauthenticated(f"The token's subject must have 1 to {MAX_SUBJECT} characters.")
        if not _is_unicode(subject):
            raise unauthenticated(f"The token's subject {subject!a} has half of a surrogate pair.")
        return Identity(f"jwt:{subject}", expires=expires)

    def holds(self, identity: Identity) -> bool:
        return identity.expires is not None and self._clock() < identity.expires + self._leeway


def make_authenticator(settings: Settings, *, clock: Callable[[], float] = time.time) -> Authenticator:
    """Make the authenticator for `auth.mode`.

    Args:
        settings: effective settings.
        clock: returns seconds since 1970.

    Raises:
        SettingsError: a setting that the mode needs is missing or invalid.
    """
    match settings.auth.mode:
        case "token":
            return _TokenAuthenticator(Tokens(token_file(settings)))
        case "jwt":
            _check(settings.auth)
            return _JWTAuthenticator(settings.auth, clock)
        case _:
            return _NoAuthentication()


def token_file(settings: Settings) -> Path:
    """Return the path of the file with the digests of the opaque tokens."""
    return settings.auth.token_file or settings.storage.data_dir / "tokens"


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


def _is_unicode(text: str) -> bool:
    """Whether a text can be stored as UTF-8: JSON can express lone surrogates (RFC 8259 section 8.2)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(auth: Auth) -> None:
    """Raise SettingsError if signatures cannot be checked with these settings."""
    needed = ("jwt_key", "jwt_algorithms", "jwt_audience")
    missing = [f"auth.{name}" for name in needed if not getattr(auth, name)]
    if missing:
        raise SettingsError(f'auth.mode = "jwt" also needs {", ".join(missing)}.')
    named = set(auth.jwt_algorithms)
    unknown = named - requires_cryptography - set(SYMMETRIC)
    if unknown:
        known = ", ".join([*SYMMETRIC, *sorted(requires_cryptography)])
        raise SettingsError(f"auth.jwt_algorithms has unknown {', '.join(sorted(unknown))}; use {known}.")
    if named - set(SYMMETRIC) and named & set(SYMMETRIC):
        # Otherwise a token could be forged with the public key as HMAC secret (RFC 8725 section 2.1).
        raise SettingsError("auth.jwt_algorithms mixes HS… with other algorithms: use one kind.")
    known_here = get_default_algorithms()
    if not named <= set(known_here):
        raise SettingsError(f"{', '.join(sorted(named))} need another package: pip install 'creemson[jwt]'.")
    try:
        for name in named:
            known_here[name].prepare_key(_key(auth))
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise SettingsError(f"auth.jwt_key is not a key for {', '.join(sorted(named))}: {error}") from None


def _key(auth: Auth) -> str:
    """Return the key: the content of the file with this name if there is one, otherwise the setting itself."""
    assert auth.jwt_key is not None
    with contextlib.suppress(OSError, ValueError):
        if Path(auth.jwt_key).is_file():
            return Path(auth.jwt_key).read_text().strip()
    return auth.jwt_key
