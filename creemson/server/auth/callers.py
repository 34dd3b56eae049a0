"""Who is let in: callers prove who they are, and each has so many connections and messages at the most.

Where callers are not told apart, nobody is stopped here: the limits of each connection and address are what counts.
"""

from collections import Counter

from structlog.typing import FilteringBoundLogger

from creemson.errors import InvalidFormat, ProcessingError
from creemson.server.bucket import Buckets
from creemson.server.identity import Authenticator, Identity

__all__ = ["Gate"]


class Gate:
    """Lets callers in.

    Args:
        authenticator: decides who somebody is.
        per_caller: connections that one caller may have open.
        pace: messages of each caller in the long run and at once, over all connections.
        logger: for what the operator should know.
    """

    def __init__(
        self, authenticator: Authenticator, *, per_caller: int, pace: Buckets, logger: FilteringBoundLogger
    ) -> None:
        self._authenticator = authenticator
        self._per_caller = per_caller
        self._pace = pace
        self._log = logger
        self._inside: Counter[str] = Counter()

    @property
    def guarded(self) -> bool:
        """Whether everybody has to prove who they are."""
        return self._authenticator.required

    def identify(self, token: str) -> Identity:
        """Who has this token.

        Raises:
            InvalidFormat: ``unauthenticated``.
            ProcessingError: ``internal``: the tokens cannot be read.
        """
        try:
            return self._authenticator.identify(token)
        except OSError as error:
            self._log.error("tokens cannot be read", error=str(error))
            raise ProcessingError(
                "internal", "The server cannot check tokens now. It is logged; try again later."
            ) from error

    def holds(self, identity: Identity) -> bool:
        """Whether what somebody has proved still holds; in doubt it does, for as long as the tokens cannot be read."""
        try:
            return self._authenticator.holds(identity)
        except OSError as error:
            self._log.error("tokens cannot be read", error=str(error))
            return True

    def check(self, identity: Identity) -> None:
        """Whether a caller may have one more connection.

        Raises:
            InvalidFormat: ``too_many_connections``.
        """
        inside = self._inside[identity.caller]
        if inside >= self._per_caller:
            raise InvalidFormat(
                "too_many_connections",
                f"You have {inside} connections open already, and no more may be. Close some.",
                retry_after=1.0,
            )

    def pace(self, caller: str, now: float, count: int = 1) -> float:
        """Seconds until so many messages of this caller may be taken; 0 if they were."""
        return self._pace.of(caller, now).take(now, count)

    def enter(self, identity: Identity) -> None:
        """A caller has one more connection."""
        self._inside[identity.caller] += 1

    def leave(self, identity: Identity) -> None:
        """A connection has ended."""
        self._inside[identity.caller] -= 1
        if not self._inside[identity.caller]:
            del self._inside[identity.caller]

    def connections(self, caller: str) -> int:
        """How many a caller has open."""
        return self._inside[caller]
