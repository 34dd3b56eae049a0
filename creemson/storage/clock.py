"""A clock for the age of files; it does not jump forward when the wall clock does."""

import time
from collections.abc import Callable

__all__ = ["AgeClock"]

JUMP = 60.0
"""Difference between the clocks, in seconds, above which the wall clock has jumped; time servers adjust it by less."""
ACCEPTED_AFTER = 86_400.0
"""Seconds after which a jump is accepted: then the clock was probably wrong before."""


def _since_boot() -> float:
    """Return seconds since boot; unlike ``time.monotonic``, this also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AgeClock:
    """Seconds since 1970 that do not jump forward.

    Old files are removed. If the clock jumped ahead by a week, all files would be old at once. So this clock returns
    the earlier of two times: the time of the wall clock, and the time of a steady clock that was set by the wall clock
    at the start. After a jump back, this is the wall clock; after a jump forward, the steady clock. Files that were
    stored or used meanwhile may be kept too long, but never too short. A jump that has lasted for a day is accepted:
    then the clock was probably wrong before, for example on a machine without a battery.

    A jump while no server runs cannot be distinguished from a long pause.

    Args:
        wall: returns seconds since 1970.
        steady: returns seconds since any fixed time.
        on_jump: called once per jump, with its size in seconds.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        *,
        steady: Callable[[], float] = _since_boot,
        on_jump: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._on_jump = on_jump
        self._origin = wall() - steady()  # seconds since 1970 at time 0 of the steady clock
        self._seen = self._origin  # the same, at the last call
        self._jumped = 0.0  # time of the last jump, by the steady clock

    def __call__(self) -> float:
        """Return the time. Not safe for use from several threads at once."""
        wall, steady = self._wall(), self._steady()
        jump = wall - steady - self._seen
        self._seen = wall - steady
        if abs(jump) > JUMP:
            self._jumped = steady
            self._on_jump(jump)
        # Smaller differences are adjustments, which this clock follows.
        if abs(self._seen - self._origin) <= JUMP or steady - self._jumped >= ACCEPTED_AFTER:
            self._origin = self._seen
        return min(wall, steady + self._origin)
