"""One timer for the heartbeats of all connections.

One task per connection would take more memory than the rest of the connection.
"""

import heapq
import itertools
from collections.abc import Callable

import trio

__all__ = ["Heartbeats"]


class Heartbeats:
    """Calls each connection back at the time that it requested."""

    def __init__(self) -> None:
        self._beats: dict[int, Callable[[float], float]] = {}  # callbacks by number
        self._due: list[tuple[float, int]] = []  # a heap of times and numbers
        self._numbers = itertools.count()
        self._sooner = trio.Event()  # set when a new callback is due before all others

    def add(self, due: float, beat: Callable[[float], float]) -> int:
        """Add a callback.

        Args:
            due: when to call it first, on trio's clock.
            beat: takes the current time and returns the time of its next call; must not block.

        Returns:
            A number for :meth:`remove`.
        """
        number = next(self._numbers)
        self._beats[number] = beat
        if not self._due or due < self._due[0][0]:
            self._sooner.set()
        heapq.heappush(self._due, (due, number))
        return number

    def remove(self, number: int) -> None:
        """Remove a callback; its entry in the heap stays until it is due."""
        del self._beats[number]

    async def run(self) -> None:
        """Make the calls that are due, until cancelled."""
        while True:
            if self._due:
                with trio.move_on_at(self._due[0][0]):
                    await self._sooner.wait()
            else:
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                _, number = heapq.heappop(self._due)
                beat = self._beats.get(number)
                if beat is not None:
                    heapq.heappush(self._due, (beat(now), number))
