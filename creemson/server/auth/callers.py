"""Admission of callers: authentication, and limits on the connections and the message rate of each caller.

Without authentication, all callers share one name; then the limits per connection and per address apply instead.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator

from structlog.typing import FilteringBoundLogger

from creemson.errors import InvalidFormat, ProcessingError
from creemson.logs.limiter import LineLimiter
from creemson.server.auth.identities import Authenticator, Identity
from creemson.server.auth.rate_limit import TokenBuckets

__all__ = ["Callers"]

UNREADABLE_INTERVAL = 10.0
"""Minimum seconds between two lines about tokens that cannot be read."""


class Callers:
    """Authenticates callers, and counts their connections and messages.

    Args:
        authenticator: finds the caller that a token identifies.
        per_caller: maximum number of open connections of one caller.
        pace: limits the message rate of each caller over all its connections.
        logger: Logger.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        per_caller: int,
        pace: TokenBuckets,
        logger: FilteringBoundLogger,
    ) -> None:
        self._authenticator = authenticator
        self._per_caller = per_caller
        self._pace = pace
        self._log = logger
        self._unreadable = LineLimiter(interval=UNREADABLE_INTERVAL, rate=1.0, burst=1, max_keys=1)
        self._open: Counter[str] = Counter()  # open connections by caller
        self._used: dict[Identity, dict[object, Callable[[], object]]] = {}  # what ends with an identity

    @property
    def guarded(self) -> bool:
        """Whether every caller must authenticate."""
        return self._authenticator.required

    def identify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Raises:
            InvalidFormat: ``unauthenticated``: the token proves no identity.
            ProcessingError: ``internal``: the tokens cannot be read.
        """
        try:
            return self._authenticator.identify(token)
        except OSError as error:
            self._log_unreadable(error)
            raise ProcessingError(
                "internal", "The server cannot check tokens now. The error has been logged; try again later."
            ) from error

    def holds(self, identity: Identity) -> bool:
        """Whether an identity is still valid. While the tokens cannot be read, every identity stays valid."""
        try:
            return self._authenticator.holds(identity)
        except OSError as error:
            self._log_unreadable(error)
            return True

    @contextlib.contextmanager
    def using(self, identity: Identity, on_end: Callable[[], object]) -> Iterator[None]:
        """Use an identity; if it becomes invalid meanwhile, the next :meth:`recheck` calls ``on_end``."""
        key = object()
        self._used.setdefault(identity, {})[key] = on_end
        try:
            yield
        finally:
            del self._used[identity][key]
            if not self._used[identity]:
                del self._used[identity]

    def recheck(self) -> None:
        """Check all identities that are in use: tokens expire and are revoked."""
        for identity, ends in list(self._used.items()):
            if not self.holds(identity):
                for on_end in list(ends.values()):
                    on_end()

    def _log_unreadable(self, error: OSError) -> None:
        """Log that the tokens cannot be read: not for each connection, which are checked twice a second."""
        line = self._unreadable.admit(None, time.monotonic())
        if line is not None:
            self._log.error("tokens cannot be read", error=str(error), **line.counts)

    def check(self, identity: Identity) -> None:
        """Check that a caller may open another connection.

        Raises:
            InvalidFormat: ``too_many_connections``.
        """
        count = self._open[identity.caller]
        if count >= self._per_caller:
            raise InvalidFormat(
                "too_many_connections",
                f"You already have {count} open connections, which is the maximum. Close some.",
                retry_after=1.0,
            )

    def pace(self, caller: str, now: float, count: int = 1) -> float:
        """Count messages of a caller.

        Returns:
            0; or, if they exceed the rate limit, the seconds until they are allowed. Then none is counted.
        """
        return self._pace.of(caller, now).take(now, count)

    def enter(self, identity: Identity) -> None:
        """Note that a caller has opened a connection."""
        self._open[identity.caller] += 1

    def leave(self, identity: Identity) -> None:
        """Note that a connection of a caller has ended."""
        self._open[identity.caller] -= 1
        if not self._open[identity.caller]:
            del self._open[identity.caller]

    def connections(self, caller: str) -> int:
        """Return the number of open connections of a caller."""
        return self._open[caller]
