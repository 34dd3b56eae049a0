"""Decides whether a peer is still alive, from the bytes and messages that arrive. Sans-IO.

    QUIET ── nothing arrived for the interval: PROBE ──> PROBING ── the ping was sent ──> AWAITING
      ↑                                                                                      │
      └── ALIVE ── a message, a pong, or enough bytes arrived within the timeout ────────────┤
                                                                  DEAD <── none of these ────┘

QUIET, PROBING and AWAITING are phases; PROBE, ALIVE and DEAD are actions.
"""

import math
from enum import Enum

import attrs

__all__ = ["MIN_RATE", "Action", "Liveness", "Probe"]

MIN_RATE = 1024
"""Minimum bytes per second that count as a sign of life, so that a large message may arrive over a slow network."""
PROBE_CHECKS = 10
"""Number of checks per timeout while a probe cannot be sent yet."""


class Action(Enum):
    """What the connection must do after a check."""

    WAIT = "wait"
    PROBE = "probe"  # send a ping, then call `probe_sent`
    ALIVE = "alive"  # the probe was answered
    DEAD = "dead"  # close the connection


class _Phase(Enum):
    QUIET = "quiet"
    PROBING = "probing"
    AWAITING = "awaiting"


@attrs.frozen
class Probe:
    """A question to the peer whether it is alive.

    Attributes:
        asked: when the probe was due.
        had: number of bytes received until then.
    """

    asked: float
    had: int

    def is_answered(self, now: float, *, last_activity: float, received: int) -> bool:
        """Return whether a message, or bytes at ``MIN_RATE``, have arrived since."""
        return last_activity >= self.asked or received - self.had >= MIN_RATE * (now - self.asked)


@attrs.define
class Liveness:
    """The heartbeat of one connection.

    Attributes:
        interval: seconds without activity before the peer is probed.
        timeout: seconds in which the peer must answer a probe.
        listening_since: when the reader began to wait for a message; None while it handles one. During that time,
            silence means nothing: the reader may be waiting for the disk or the processor.
    """

    interval: float
    timeout: float
    listening_since: float | None = None
    _phase: _Phase = attrs.field(default=_Phase.QUIET, init=False)
    _probe: Probe = attrs.field(default=Probe(-math.inf, 0), init=False)
    _answer_by: float = attrs.field(default=math.inf, init=False)

    @property
    def silence(self) -> float:
        """Seconds without a sign of life after which a peer is dead."""
        return self.interval + self.timeout

    def check(self, now: float, *, last_activity: float, received: int) -> tuple[Action, float]:
        """Look at the connection.

        Args:
            now: the time.
            last_activity: when the last message or control frame arrived.
            received: number of bytes received so far.

        Returns:
            What to do, and when to check again.
        """
        if self._phase is _Phase.QUIET:
            due = last_activity + self.interval
            if now < due:
                return Action.WAIT, due
            self._phase, self._probe = _Phase.PROBING, Probe(now, received)
            return Action.PROBE, now + self.timeout
        if self._phase is _Phase.PROBING:
            return Action.WAIT, now + self.timeout / PROBE_CHECKS
        if now < self._answer_by:
            return Action.WAIT, self._answer_by
        self._phase = _Phase.QUIET
        listened = self.listening_since is not None and self.listening_since <= self._probe.asked
        if listened and not self._probe.is_answered(now, last_activity=last_activity, received=received):
            return Action.DEAD, math.inf
        return Action.ALIVE, max(now, last_activity + self.interval)

    def probe_sent(self, now: float) -> None:
        """Start the timeout of the probe, which was sent after messages that have their own timeout."""
        self._phase, self._answer_by = _Phase.AWAITING, now + self.timeout
