"""Makes the authenticator that the settings ask for."""

import time
from collections.abc import Callable
from pathlib import Path

from creemson.model.callers import ANYONE
from creemson.server.auth.identities import Authenticator, Identity, unauthenticated
from creemson.server.auth.tokens import Tokens, TokenSource
from creemson.settings.sections import Settings

__all__ = ["make_authenticator", "token_file"]


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


def make_authenticator(
    settings: Settings, *, tokens: TokenSource | None = None, clock: Callable[[], float] = time.time
) -> Authenticator:
    """Make the authenticator for `auth.mode`.

    Args:
        settings: effective settings.
        tokens: where the opaque tokens are; None: in the token file.
        clock: returns seconds since 1970.

    Raises:
        SettingsError: a setting that the mode needs is missing or invalid.
    """
    match settings.auth.mode:
        case "token":
            return _TokenAuthenticator(Tokens(tokens or token_file(settings)))
        case "jwt":
            from creemson.server.auth.json_web_tokens import JWTAuthenticator  # noqa: PLC0415 - it takes 30 ms

            return JWTAuthenticator(settings.auth, clock)
        case _:
            return _NoAuthentication()


def token_file(settings: Settings) -> Path:
    """Return the path of the file with the digests of the opaque tokens."""
    return settings.auth.token_file or settings.storage.data_dir / "tokens"
