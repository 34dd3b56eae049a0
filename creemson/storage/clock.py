"""The time by which the age of files is told, when the clock on the wall may jump."""

import time
from collections.abc import Callable

__all__ = ["AgeClock"]

JUMP = 60.0
"""Seconds by which the clocks may come apart before it is a jump: time servers turn a clock by less."""
BELIEVED = 86_400.0
"""Seconds after which a clock that has jumped is believed: it may have been wrong before."""


def _since_boot() -> float:
    """Seconds that nobody can set; unlike those of ``time.monotonic``, they go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AgeClock:
    """Seconds since 1970 that do not jump forward.

    Files are removed when they have become old. A clock that jumps ahead by a week would make all of them old at
    once; so ages are told by the earlier of two clocks: the one on the wall, and one that was set by it in the
    beginning and goes on steadily. After a jump back it is the first, after one forward the second. What has come
    or was used in between is kept for longer than it should, and nothing for less. A jump that has lasted
    for a day is believed: then the clock was wrong before, as that of a machine without a battery.

    A clock that jumps while no server runs cannot be told from a long rest.

    Args:
        wall: seconds since 1970.
        steady: seconds since any moment.
        on_jump: is told of a jump, once, in seconds.
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
        self._origin = wall() - steady()  # seconds since 1970 at the steady clock's zero
        self._seen = self._origin  # the same, at the last look
        self._jumped = 0.0  # when the wall's clock was last seen to jump, by the steady one

    def __call__(self) -> float:
        """The time for telling ages. Not to be called from several threads at once."""
        wall, steady = self._wall(), self._steady()
        jump = wall - steady - self._seen
        self._seen = wall - steady
        if abs(jump) > JUMP:
            self._jumped = steady
            self._on_jump(jump)
        # What is no jump is a clock that is turned slowly, and followed.
        if abs(self._seen - self._origin) <= JUMP or steady - self._jumped >= BELIEVED:
            self._origin = self._seen
        return min(wall, steady + self._origin)
