"""Decides whether a message may be handled: who sent it, how fast, and how much is in flight. Sans-IO.

    every message           ──> throttle()      ──> rate_limited; the connection closes if the peer continues
    decoded message         ──> check()         ──> duplicate_id, busy, unauthenticated, shutting_down
    hello                   ──> authenticate()  ──> unauthenticated, forbidden, too_many_connections
    from time to time       ──> recheck()       ──> unauthenticated: too late, expired or revoked
    pings (the hot path)    ──> takes_ping()

Errors after which the connection closes are listed in ``CLOSES``; :meth:`Admission.close_for` turns them into a close.
The nesting of a message is limited where it is parsed, in :func:`creemson.wire.codec.parse`.
"""

from enum import Enum

from creemson.errors import (
    HOW_TO_AUTHENTICATE,
    CloseCode,
    CreemsonError,
    InvalidFormat,
    ProcessingError,
    shutting_down,
)
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import unauthenticated
from creemson.server.auth.rate_limit import TokenBucket
from creemson.server.connection.effects import Close
from creemson.server.connection.requests import Requests
from creemson.server.connection.state import ConnectionState
from creemson.settings.sections import Settings
from creemson.wire import messages
from creemson.wire.messages import ClientMessage

__all__ = ["CLOSING", "Admission", "Phase", "missing_identity"]

MAX_REFUSALS = 10_000
"""Number of refused messages, in addition to ten bursts, after which the connection closes."""
CLOSES = {
    "unauthenticated": CloseCode.UNAUTHENTICATED,
    "too_many_connections": CloseCode.RATE_LIMITED,
    "rate_limited": CloseCode.RATE_LIMITED,
}
"""Errors after which the connection closes. (``rate_limited`` closes it only after ``MAX_REFUSALS``.)"""


class Phase(Enum):
    """What the connection still accepts."""

    SERVING = "serving"
    DRAINING = "draining"  # no new uploads
    CLOSING = "closing"  # nothing: messages are ignored


CLOSING = Phase.CLOSING  # looking up a global takes a third of the time, and every message needs it


def missing_identity() -> InvalidFormat:
    """Return the error for a peer that must authenticate first."""
    return unauthenticated(f"Authenticate first: {HOW_TO_AUTHENTICATE}.")


class Admission:
    """Decides which messages of one connection are handled.

    Args:
        state: state of the connection; its identity and caller are set here.
        settings: effective settings.
        callers: authenticates callers and limits their message rates; None disables both.

    Attributes:
        phase: what the connection still accepts.
    """

    def __init__(self, state: ConnectionState, *, settings: Settings, callers: Callers | None) -> None:
        limits = settings.limits
        self.phase = Phase.SERVING
        self._state = state
        self._limits = limits
        self._auth_timeout = settings.auth.timeout
        self._callers = callers if callers is not None and callers.guarded else None
        self._pace = TokenBucket(limits.messages_per_s, limits.messages_burst)  # of messages
        # Of refused messages.
        self._patience = TokenBucket(limits.messages_per_s, limits.messages_burst * 10 + MAX_REFUSALS)

    @property
    def is_identified(self) -> bool:
        """Whether the peer has proved its identity, if it must."""
        return self._callers is None or self._state.identity is not None

    # --- messages ------------------------------------------------------------------------------------

    def throttle(self, now: float) -> InvalidFormat | None:
        """Count a message against the rate limits; return the error if it exceeds them."""
        wait = self._wait(now, 1)
        if not wait:
            return None
        return InvalidFormat(
            "rate_limited",
            f"The limit is {self._limits.messages_per_s:g} messages per second, in bursts of at most "
            f"{self._limits.messages_burst}. Wait {wait:.3g} s.",
            retry_after=round(wait, 3),
        )

    def is_flooded(self, now: float) -> bool:
        """Count a refused message; return whether the peer has ignored the error too often."""
        return self._patience.take(now) > 0

    def takes_ping(self, now: float, count: int = 1) -> bool:
        """Count pings against the rate limits and return True; if they exceed them, count nothing and return False."""
        if self.phase is CLOSING or (self._callers is not None and self._state.identity is None):
            return False
        return not self._wait(now, count)

    def _wait(self, now: float, count: int) -> float:
        """Take ``count`` messages from the rate limits; return 0, or the seconds to wait if nothing was taken."""
        wait = self._pace.take(now, count)
        if not wait and self._callers is not None and self._state.identity is not None:
            wait = self._callers.pace(self._state.caller, now, count)
            if wait:
                self._pace.put_back(count)
        return wait

    def check(
        self,
        message: ClientMessage,
        size_bytes: int,
        requests: Requests,
        has_slot: bool,
    ) -> CreemsonError | None:
        """Check a decoded message; return the error if it may not be handled.

        Args:
            message: the message.
            size_bytes: its size.
            requests: the requests in flight, without this one.
            has_slot: whether its answer has a slot; only legacy requests may lack one.
        """
        if message.id is not None and message.id in requests.by_id:
            return InvalidFormat(
                "duplicate_id",
                f"The id {message.id!r} is already in flight. Give each message its own id.",
            )
        limits, count = self._limits, len(requests.by_number)
        too_large = count > 0 and requests.size_bytes + size_bytes > limits.in_flight_bytes
        if not has_slot or too_large or count >= limits.batch_messages:
            return ProcessingError(
                "busy",
                f"This connection has {count} requests of {requests.size_bytes} bytes in flight, which is the "
                "maximum. Wait for some answers.",
                retry_after=1.0,
            )
        if not self.is_identified and not isinstance(message, messages.Hello):
            return missing_identity()
        if self.phase is Phase.DRAINING and isinstance(message, messages.Upload):
            return shutting_down()
        return None

    # --- identity ------------------------------------------------------------------------------------

    def authenticate(self, token: str | None) -> None:
        """Identify the peer by the token of its ``hello``, or renew its identity.

        Raises:
            CreemsonError: the token is missing, wrong or another caller's, or the caller has too many connections.
        """
        state = self._state
        if self._callers is None or (token is None and state.identity is not None):
            return
        if token is None:
            raise missing_identity()
        identity = self._callers.identify(token)
        if state.identity is None:
            self._callers.check(identity)
            self._callers.enter(identity)
            state.caller = identity.caller
        elif identity.caller != state.caller:
            raise InvalidFormat(
                "forbidden", "This token belongs to another caller. Open another connection for it."
            )
        state.identity = identity

    def recheck(self, now: float) -> CreemsonError | None:
        """Check again whether the peer may stay connected: its time may be over, or its token revoked."""
        if self._callers is None or self.phase is CLOSING:
            return None
        identity = self._state.identity
        if identity is None:
            if now < self._state.began + self._auth_timeout:
                return None
            return unauthenticated(
                f"No valid token arrived within {self._auth_timeout:g} s. Send `hello` with one."
            )
        if self._callers.holds(identity):
            return None
        return unauthenticated("The token has expired or was revoked. Connect again with another one.")

    # --- the end -------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Refuse new uploads from now on."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING

    def close_for(self, error: CreemsonError) -> list[Close]:
        """Return the close that follows an error, if any; after it, messages are ignored."""
        code = CLOSES.get(error.reason)
        if code is None:
            return []
        self.phase = CLOSING
        return [Close(code, error.message[:100])]
