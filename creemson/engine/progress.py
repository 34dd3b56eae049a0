"""How far the work is, and where it can be stopped."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import polars as pl

from creemson.processing.formats import bomb
from creemson.processing.tables import Table

__all__ = ["Meter", "Tick", "sink"]

TICK_INTERVAL = 0.05
"""Seconds between two calls of ``tick`` at the least."""
QUIET = 0.3
"""Seconds without a batch of rows after which reading is taken to be over."""


@attrs.frozen
class Tick:
    """How far the work is: counts of the input's bytes and rows, and the share that is done (0 to 1)."""

    phase: str
    bytes_read: int
    bytes_total: int
    rows: int
    fraction: float


class Meter:
    """Counts what is read, and is where the work can be stopped.

    polars calls :meth:`tap` with every batch of rows, from its own threads. After the last batch of a
    sort or a grouping it calls nothing more; then a thread of ours tells that it is still at it.
    """

    def __init__(self, table: Table, tick: Callable[[Tick], None], *, after: str) -> None:
        self._table = table
        self._tick = tick
        self._after = after
        self._lock = threading.Lock()
        self._rows = 0
        self._fraction = 0.0
        self._last_batch = self._last_tick = time.monotonic()
        self.stopped_by: BaseException | None = None
        sniffed = table.sniffed
        self._rows_most = (
            math.inf
            if sniffed.compression is None or not table.row_bytes
            else sniffed.most / (table.row_bytes * sniffed.expansion)
        )

    def tap(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Look at a batch on its way."""
        with self._lock:
            self._rows += batch.height
            self._last_batch = time.monotonic()
            if self._rows > self._rows_most and self.stopped_by is None:
                self.stopped_by = bomb(self._table.name, self._table.sniffed)
            self._tell("reading")
        return batch

    def mending(self, read: int) -> None:
        """So many bytes of a file have been mended, which is half of the work."""
        with self._lock:
            self._last_batch = time.monotonic()
            self._tell("reading", read / max(1, self._table.sniffed.size) / 2)

    def check(self) -> None:
        """Tick between two steps that read nothing."""
        with self._lock:
            self._tell("writing")

    def finish(self) -> None:
        """All is read and written."""
        total = self._table.sniffed.size
        self._tick(Tick("writing", total, total, self._rows, 1.0))

    @contextmanager
    def running(self) -> Iterator[None]:
        """One reading of the file, from its first row on; tell of the phase that comes after it, too."""
        self._rows = 0
        self._last_batch = time.monotonic()
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(QUIET / 2):
            with self._lock:
                if time.monotonic() - self._last_batch > QUIET:
                    try:  # before the first row, types are being looked for in the whole file
                        self._tell(self._after if self._rows else "reading")
                    except Exception:  # it is kept, and raised where somebody waits for it
                        return

    def _tell(self, phase: str, done: float | None = None) -> None:
        if self.stopped_by is not None:
            raise self.stopped_by
        now = time.monotonic()
        if now - self._last_tick < TICK_INTERVAL:
            return
        self._last_tick = now
        total = self._table.sniffed.size
        if done is not None:
            fraction = done
        elif self._table.rows is not None:
            fraction = self._rows / max(1, self._table.rows)
        else:
            fraction = self._rows * self._table.row_bytes / total
        # An estimate never says that it is done, and a second reading not that less is done than before.
        fraction = self._fraction = max(self._fraction, min(round(fraction, 4), 0.99))
        try:
            self._tick(Tick(phase, int(total * fraction), total, self._rows, fraction))
        except BaseException as error:
            self.stopped_by = error
            raise


def sink(frame: pl.LazyFrame, meter: Meter) -> None:
    """Let the streaming engine run a plan that ends in a file.

    Args:
        frame: that ends in a sink.
        meter: whose tap is in it.

    Raises:
        Exception: whatever the meter's ``tick`` raised, or what polars did.
    """
    try:
        pl.collect_all([frame], engine="streaming")
    except (Exception, pl.exceptions.PanicException):
        if meter.stopped_by is not None:
            raise meter.stopped_by from None
        raise
    if meter.stopped_by is not None:  # while no batch passed that could have stopped the engine
        raise meter.stopped_by
