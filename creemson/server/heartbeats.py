"""One timer for the heartbeats of all connections: a task for each would take more memory than all else of it."""

import heapq
import itertools
from collections.abc import Callable

import trio

__all__ = ["Heartbeats"]


class Heartbeats:
    """Calls back, each one when it wants to be called."""

    def __init__(self) -> None:
        self._beats: dict[int, Callable[[float], float]] = {}
        self._due: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._sooner = trio.Event()

    def add(self, due: float, beat: Callable[[float], float]) -> int:
        """Have something called at a time.

        Args:
            due: on trio's clock.
            beat: is given the time, and returns when it is to be called next; it does not wait.

        Returns:
            What :meth:`remove` wants.
        """
        number = next(self._numbers)
        self._beats[number] = beat
        if not self._due or due < self._due[0][0]:
            self._sooner.set()
        heapq.heappush(self._due, (due, number))
        return number

    def remove(self, number: int) -> None:
        """Call no more; its place in the queue is left to pass."""
        del self._beats[number]

    async def run(self) -> None:
        """Call, for ever."""
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
