"""Measures and reports the progress of a job; ``on_progress`` can stop the job by raising an exception."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import attrs
import polars as pl

from creemson.formats.blocks import is_decompression_bomb
from creemson.formats.source import decompression_bomb_error
from creemson.formats.table import Table

__all__ = ["Progress", "ProgressMeter", "after_reading", "collect", "sink"]

PROGRESS_INTERVAL = 0.05
"""Minimum number of seconds between two calls of ``on_progress``."""
QUIET = 0.3
"""Seconds without a batch of rows after which the reading is assumed to have ended."""
READING_SHARES: Mapping[str, float] = MappingProxyType({"reading": 0.99, "writing": 0.95, "sorting": 0.5})
"""The share of the whole work that reading has, by the phase that follows. Sorting takes about as long again."""
MOST = 0.99
"""The largest fraction before everything is done."""
LEAST_PACE = 0.5
"""Minimum seconds that what follows reading is assumed to take."""


def after_reading(fraction: float, quiet: float, reading: float) -> float:
    """Estimate the fraction after the last row was read, when nothing can be measured.

    It approaches :data:`MOST`, two thirds of the way in the time that the reading took. So it moves, but never says
    that the work is done.

    Args:
        fraction: The fraction when the last row was read.
        quiet: Seconds since then.
        reading: Seconds that the reading took.

    >>> [round(after_reading(0.5, seconds, 2.0), 2) for seconds in (0, 1, 2, 60)]
    [0.5, 0.69, 0.81, 0.99]
    """
    return fraction + max(0.0, MOST - fraction) * -math.expm1(-quiet / max(reading, LEAST_PACE))


@attrs.frozen
class Progress:
    """The progress of a job.

    Attributes:
        phase: ``reading``, ``sorting`` or ``writing``.
        bytes_read: Estimated number of bytes of the input that have been read.
        bytes_total: Size of the input in bytes.
        rows: Number of rows that have been read.
        fraction: The share of the work that is done, from 0 to 1: measured while the file is read, estimated after.
    """

    phase: str
    bytes_read: int
    bytes_total: int
    rows: int
    fraction: float


class ProgressMeter:
    """Counts the rows that are read, and reports the progress.

    polars calls :meth:`tap` with every batch of rows, from its own threads. After the last batch,
    polars may still sort or group for a long time; then another thread reports that the job is still running.
    Another one decompresses a suspicious file, because reading as much of it as is allowed may take minutes.

    Args:
        table: The table that is read.
        path: Path of its file.
        on_progress: Called from any thread; an exception that it raises stops the job.
        after: The phase that follows reading.

    Attributes:
        stopped_by: The exception that stops the job, if any.
    """

    def __init__(
        self, table: Table, path: Path, on_progress: Callable[[Progress], None], *, after: str
    ) -> None:
        self._table, self._path = table, path
        self._on_progress = on_progress
        self._after = after
        self._lock = threading.Lock()
        self._rows = 0
        self._fraction = 0.0  # the last one reported
        self._measured = 0.0  # that of the rows read
        self._began = self._last_batch = self._last_report = time.monotonic()
        self.stopped_by: BaseException | None = None
        source = table.source
        # A compressed file with more rows than this expands to more than the limit, or may do so.
        self._max_rows = self._plausible_rows = math.inf
        if source.compression is not None and table.row_bytes:
            self._max_rows = source.maximum / (table.row_bytes * source.expansion)
            self._plausible_rows = source.plausible / (table.row_bytes * source.expansion)
        self._ended = threading.Event()
        self._inspector: threading.Thread | None = None

    def tap(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Count a batch, and return it unchanged."""
        with self._lock:
            self._rows += batch.height
            self._last_batch = time.monotonic()
            if self._rows > self._max_rows:
                self._refuse()
            elif self._rows > self._plausible_rows and self._inspector is None:
                self._inspector = threading.Thread(target=self._inspect, daemon=True)
                self._inspector.start()
            self._report("reading")
        return batch

    def all_read(self) -> None:
        """Note that other workers have read all rows."""
        with self._lock:
            self._rows, self._measured = self._table.rows or 0, 1.0

    def repairing(self, read: int) -> None:
        """Report that the first ``read`` bytes have been repaired; repairing the whole file is half of the work."""
        with self._lock:
            self._last_batch = time.monotonic()
            self._measured = max(self._measured, read / max(1, self._table.source.size) / 2)
            self._report("reading")

    def check(self, phase: str = "writing") -> None:
        """Report progress between two steps that read no new rows, so that the job can be stopped."""
        with self._lock:
            self._report(phase)

    def finish(self) -> None:
        """Report that everything has been read and written."""
        total = self._table.source.size
        self._on_progress(Progress("writing", total, total, self._rows, 1.0))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the rows of one reading of the file; a thread reports the phase that follows."""
        self._rows = 0
        self._began = self._last_batch = time.monotonic()
        self._ended.clear()
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()
            if self._inspector is not None:
                self._inspector.join()  # it must not read the file longer than the caller expects
                self._inspector = None

    def _refuse(self) -> None:
        if self.stopped_by is None:
            self.stopped_by = decompression_bomb_error(self._table.name, self._table.source)

    def _inspect(self) -> None:
        if is_decompression_bomb(self._path, self._table.name, self._table.source, self._ended.is_set):
            with self._lock:
                self._refuse()

    def _watch(self) -> None:
        while not self._ended.wait(QUIET / 2):
            with self._lock:
                if time.monotonic() - self._last_batch > QUIET:
                    try:  # before the first row, types are being inferred from the whole file
                        self._report(self._after if self._rows else "reading")
                    except Exception:  # kept in stopped_by; the waiting thread raises it
                        return

    def _report(self, phase: str) -> None:
        if self.stopped_by is not None:
            raise self.stopped_by
        now = time.monotonic()
        if now - self._last_report < PROGRESS_INTERVAL:
            return
        self._last_report = now
        total = self._table.source.size
        read = self._read_share()
        done = READING_SHARES[self._after] * read
        if now - self._last_batch > QUIET and self._rows:
            done = after_reading(done, now - self._last_batch, self._last_batch - self._began)
        # The fraction never reaches 1 and never decreases, even if the file is read a second time.
        fraction = self._fraction = max(self._fraction, min(round(done, 4), MOST))
        try:
            self._on_progress(Progress(phase, int(total * read), total, self._rows, fraction))
        except BaseException as error:
            self.stopped_by = error
            raise

    def _read_share(self) -> float:
        """The share of the file that has been read; an estimate unless the number of its rows is known."""
        rows = self._table.rows
        share = (
            self._rows * self._table.row_bytes / max(1, self._table.source.size)
            if rows is None
            else self._rows / max(1, rows)
        )
        self._measured = max(self._measured, min(share, 1.0))
        return self._measured


def sink(frames: Sequence[pl.LazyFrame], meter: ProgressMeter) -> None:
    """Run a plan that writes to files; what several of its ends share runs once. See :func:`collect`."""
    _collect(frames, meter)


def collect(frame: pl.LazyFrame, meter: ProgressMeter) -> pl.DataFrame:
    """Run a plan with the streaming engine.

    Args:
        frame: The plan.
        meter: The meter that a part of the plan calls.

    Returns:
        The result.

    Raises:
        Exception: What the meter's ``on_progress`` raised, or what polars raised.
    """
    return _collect([frame], meter)[0]


def _collect(frames: Sequence[pl.LazyFrame], meter: ProgressMeter) -> Sequence[pl.DataFrame]:
    try:
        results = pl.collect_all(frames, engine="streaming")
    except (Exception, pl.exceptions.PanicException):
        if meter.stopped_by is not None:
            raise meter.stopped_by from None
        raise
    if meter.stopped_by is not None:  # set after the last batch, so that no tap could stop polars
        raise meter.stopped_by
    return results
