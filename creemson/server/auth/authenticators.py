"""Who a caller is: what a token says, and for how long it says so."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import jwt
from jwt.algorithms import get_default_algorithms, requires_cryptography

from creemson.errors import InvalidFormat
from creemson.server.tokens import Tokens
from creemson.settings import Auth, Settings, SettingsError
from creemson.storage.stores import ANYONE

__all__ = ["Authenticator", "Identity", "bearer", "make_authenticator", "token_file", "unauthenticated"]

SYMMETRIC = ("HS256", "HS384", "HS512")
"""Algorithms whose key can make signatures as well as check them."""
SUBJECT_MOST = 200
"""Characters of the name of a caller in a JWT."""
BEARER = "bearer"


@attrs.frozen
class Identity:
    """Who somebody has proved to be.

    Attributes:
        caller: whose files and jobs they see.
        expires: when the proof ends, in seconds since 1970; None if it does not end by itself.
        token: id of the opaque token; None if it was none.
    """

    caller: str
    expires: float | None = None
    token: str | None = None


class Authenticator(Protocol):
    """Decides who somebody is."""

    required: bool
    """Whether everybody has to say who they are."""

    def identify(self, token: str) -> Identity:
        """Who has this token.

        Raises:
            InvalidFormat: ``unauthenticated``.
            OSError: the tokens cannot be read.
        """

    def holds(self, identity: Identity) -> bool:
        """Whether what was proved before is still so.

        Raises:
            OSError: the tokens cannot be read.
        """


class _Anyone:
    required = False

    def identify(self, token: str) -> Identity:  # noqa: ARG002 - a token does no harm where none is wanted
        return Identity(ANYONE)

    def holds(self, identity: Identity) -> bool:  # noqa: ARG002
        return True


class _ByToken:
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


class _ByJWT:
    required = True

    def __init__(self, auth: Auth, clock: Callable[[], float]) -> None:
        self._key = _key(auth)
        self._algorithms = list(auth.jwt_algorithms)
        self._audience = auth.jwt_audience
        self._clock = clock

    def identify(self, token: str) -> Identity:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,  # pinned: what the token says of itself does not count
                audience=self._audience,
                options={"require": ["exp", "aud", "sub"]},  # RFC 8725 section 3
            )
            subject, expires = claims["sub"], float(claims["exp"])
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise unauthenticated(f"The token is not valid here: {error}. Ask for a new one.") from None
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_MOST:
            raise unauthenticated(f"The token's subject has to have 1 to {SUBJECT_MOST} characters.")
        return Identity(f"jwt:{subject}", expires=expires)

    def holds(self, identity: Identity) -> bool:
        return identity.expires is not None and self._clock() < identity.expires


def make_authenticator(settings: Settings, *, clock: Callable[[], float] = time.time) -> Authenticator:
    """What decides who somebody is, with these settings.

    Args:
        settings: in force.
        clock: seconds since 1970.

    Raises:
        SettingsError: they do not suffice.
    """
    match settings.auth.mode:
        case "token":
            return _ByToken(Tokens(token_file(settings)))
        case "jwt":
            _check(settings.auth)
            return _ByJWT(settings.auth, clock)
        case _:
            return _Anyone()


def token_file(settings: Settings) -> Path:
    """Where the digests of the tokens are."""
    return settings.auth.token_file or settings.storage.data_dir / "tokens"


def bearer(header: str) -> str:
    """The token of an ``Authorization`` header (RFC 6750 section 2.1).

    Raises:
        InvalidFormat: ``unauthenticated``: it is of another scheme.
    """
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != BEARER or not token.strip():
        raise unauthenticated("The Authorization header has to be `Bearer TOKEN`.")
    return token.strip()


def unauthenticated(message: str) -> InvalidFormat:
    """The error for whoever is not let in."""
    return InvalidFormat("unauthenticated", message)


def _check(auth: Auth) -> None:
    """Whether signatures can be checked with these settings."""
    needed = ("jwt_key", "jwt_algorithms", "jwt_audience")
    missing = [f"auth.{name}" for name in needed if not getattr(auth, name)]
    if missing:
        raise SettingsError(f'auth.mode = "jwt" needs {", ".join(missing)}, too.')
    named = set(auth.jwt_algorithms)
    unknown = named - requires_cryptography - set(SYMMETRIC)
    if unknown:
        known = ", ".join([*SYMMETRIC, *sorted(requires_cryptography)])
        raise SettingsError(f"auth.jwt_algorithms has {', '.join(sorted(unknown))}; known are {known}.")
    if named - set(SYMMETRIC) and named & set(SYMMETRIC):
        # Else the public key would do as the secret of a forged token (RFC 8725 section 2.1).
        raise SettingsError("auth.jwt_algorithms mixes HS… with others: keep one kind.")
    known_here = get_default_algorithms()
    if not named <= set(known_here):
        raise SettingsError(f"{', '.join(sorted(named))} need more: pip install 'creemson[jwt]'.")
    try:
        for name in named:
            known_here[name].prepare_key(_key(auth))
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise SettingsError(f"auth.jwt_key is no key for {', '.join(sorted(named))}: {error}") from None


def _key(auth: Auth) -> str:
    """The key itself, or what the file of that name holds."""
    assert auth.jwt_key is not None
    with contextlib.suppress(OSError, ValueError):
        if Path(auth.jwt_key).is_file():
            return Path(auth.jwt_key).read_text().strip()
    return auth.jwt_key
