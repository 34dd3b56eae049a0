"""Measures how the server's process grows."""

import asyncio
import statistics

import attrs
import psutil

MIB = 2**20


@attrs.define
class Samples:
    """The resident memory of a process, about once a second."""

    process: psutil.Process
    every: float = 1.0
    times: list = attrs.field(factory=list)
    values: list = attrs.field(factory=list)

    async def collect(self):
        """Sample forever."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self.times.append(loop.time() - began)
            self.values.append(self.process.memory_info().rss / MIB)
            await asyncio.sleep(self.every)

    def slope(self, since, until):
        """Return the slope between two times in MiB per minute, by least squares."""
        chosen = [(t, v) for t, v in zip(self.times, self.values, strict=True) if since <= t <= until]
        return statistics.linear_regression(*zip(*chosen, strict=True)).slope * 60

    def at(self, time):
        """Return MiB at a time: the median of the nearest samples."""
        nearest = sorted(zip(self.times, self.values, strict=True), key=lambda pair: abs(pair[0] - time))
        return statistics.median(value for _, value in nearest[:5])
