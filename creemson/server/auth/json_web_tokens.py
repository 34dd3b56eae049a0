"""Authentication by JSON web tokens; imported only if it is configured, because its libraries delay each start."""

import errno
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import jwt
from jwt.algorithms import get_default_algorithms, requires_cryptography

from creemson.server.auth.identities import Identity, unauthenticated
from creemson.settings.sections import Auth
from creemson.settings.units import SettingsError

__all__ = ["JWTAuthenticator"]

SYMMETRIC = ("HS256", "HS384", "HS512")
"""Algorithms whose key both creates and checks signatures."""
MAX_SUBJECT = 200
"""Maximum number of characters of the subject of a JWT."""
MIN_SECRET = 32
"""Characters that a secret must have for HS256 (RFC 7518, section 3.2); what is shorter hardly is a random one."""
KEY_SUFFIXES = (".pem", ".key", ".pub", ".txt", ".secret")
"""What names of files with keys usually end in."""


class JWTAuthenticator:
    """Identifies callers by signed claims (RFC 7519).

    Args:
        auth: key, algorithms and audience.
        clock: returns seconds since 1970.

    Raises:
        SettingsError: a setting that it needs is missing or invalid.
    """

    required = True

    def __init__(self, auth: Auth, clock: Callable[[], float]) -> None:
        _check(auth)
        self._key = _key(auth)
        self._algorithms = list(auth.jwt_algorithms)
        self._audience = auth.jwt_audience
        self._leeway = auth.jwt_leeway
        self._clock = clock

    def identify(self, token: str) -> Identity:
        """Return the identity that a token proves; see :class:`Authenticator`."""
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
        """Whether the token that has proved an identity has not expired."""
        return identity.expires is not None and self._clock() < identity.expires + self._leeway


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
    key = _key(auth)
    try:
        for name in named:
            known_here[name].prepare_key(key)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise SettingsError(f"auth.jwt_key is not a key for {', '.join(sorted(named))}: {error}") from None


def _key(auth: Auth) -> str:
    """Return the key: the content of the file with this name if there is one, otherwise the setting itself.

    The name of a file that is not there, or may not be read, must not become a secret, which anybody could guess.

    Raises:
        SettingsError: it names a file that cannot be used.
    """
    assert auth.jwt_key is not None
    try:
        key = Path(auth.jwt_key).read_text().strip()
    except FileNotFoundError:
        if _is_path(auth.jwt_key):
            raise SettingsError("auth.jwt_key is the path of a file, and there is no such file.") from None
        return auth.jwt_key
    except UnicodeDecodeError:
        raise SettingsError(
            "auth.jwt_key is the path of a file that is no text: it must be PEM, or a secret."
        ) from None
    except (NotADirectoryError, ValueError):  # a key that has slashes or NUL characters
        return auth.jwt_key
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return auth.jwt_key
        raise SettingsError(
            f"auth.jwt_key is the path of a file that cannot be read: {error.strerror}. Let the server's user read it."
        ) from None
    if not key:
        raise SettingsError("auth.jwt_key is the path of a file that is empty.")
    return key


def _is_path(text: str) -> bool:
    """Whether a text was meant as the path of a file; a random secret that happens to begin with "/" was not."""
    path = PurePath(text)
    above = path.parts[:-1][: 1 + path.is_absolute()]  # not the root, which there always is
    has_folder = len(above) == 1 + path.is_absolute()
    # A folder may be missing as a whole, for example one that a container should have mounted.
    is_random = len(text) >= MIN_SECRET and not text.islower()
    in_folder = has_folder and (Path(*above).is_dir() or (path.is_absolute() and not is_random))
    return in_folder or text.startswith(("~/", "./", "../")) or path.suffix.lower() in KEY_SUFFIXES
