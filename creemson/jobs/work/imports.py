"""Imports: columnar copies of files, made in the background so that later work on the files is fast.

A copy is made on a job worker, but never in the way of a job: only while nothing else runs, and it stops as soon as a
job starts. One that was stopped too often may run beside jobs, as long as these leave a worker free.
:class:`Candidates` decides which file is next, and when; :class:`Imports` carries it out. Whatever fails costs only the
copy.
"""

import math
from collections import OrderedDict
from functools import partial
from pathlib import PurePath
from typing import Literal, TypeAlias

import attrs
import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError
from creemson.executors import commands
from creemson.executors.executor import Executor, TransientFault
from creemson.jobs.journal import InThread
from creemson.metrics import Metrics
from creemson.model.converter import plain
from creemson.model.query import Options
from creemson.storage.store import Found
from creemson.storage.stores import Stores
from creemson.storage.tables.tables import TableKey

__all__ = ["Candidate", "Candidates", "Imports"]

MIN_BYTES = 256 * 1024
"""Minimum size of a file that gets a copy. Workers read smaller files into memory anyway, which takes milliseconds."""
COLUMNAR = frozenset({".parquet", ".arrow", ".feather", ".ipc"})
"""Endings of files that need no copy; others of these formats are refused by the worker."""
IDLE_AGAIN, IDLE_ONCE = 0.2, 2.0
"""Seconds without a job after which a copy begins: of a file that was used again, and of one that was used once."""
PATIENCE = 3
"""Number of times that an import is stopped by jobs before it may run beside them."""
BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds before an import that was stopped is tried again, doubled each time; and their maximum."""
REST, REST_AFTER_FAILURE = 600.0, 3600.0
"""Seconds in which a copy that was made is not made again, though it may have been removed to make room; and seconds
after which one is tried again that failed, perhaps because the disk was full."""
MAX_CANDIDATES, MAX_CLOSED = 100, 10_000
"""Maximum number of files that wait for a copy, and of those that are known to need none."""

End: TypeAlias = Literal["done", "refused", "failed", "stopped"]
"""How an import ended; ``refused``: this file gets no copy."""


@attrs.define
class Candidate:
    """A file that may get a copy.

    Attributes:
        key: what is copied.
        filename: name of the file.
        options: how it is read; None if everything is detected.
        uses: number of its uses.
        tries: number of times that its import was stopped.
        earliest: time before which it is not tried again.
    """

    key: TableKey
    filename: str
    options: Options | None
    uses: int = 0
    tries: int = 0
    earliest: float = 0.0

    @property
    def is_patient(self) -> bool:
        """Whether it waits until nothing else runs."""
        return self.tries < PATIENCE


class Candidates:
    """Decides which file gets a copy next. Times are in seconds, of any monotonic clock."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[TableKey, Candidate] = OrderedDict()
        self._closed: OrderedDict[TableKey, float] = OrderedDict()  # until when they are not tried again
        self._idle_since = -math.inf  # infinity while jobs run
        self._has_room = True

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def used(self, now: float, key: TableKey, filename: str, options: Options | None) -> None:
        """Note the use of a file without a copy."""
        if self._closed.get(key, -math.inf) > now:
            return
        candidate = self._waiting.setdefault(key, Candidate(key, filename, options))
        candidate.uses += 1
        if len(self._waiting) > MAX_CANDIDATES:
            self._waiting.popitem(last=False)

    def jobs_changed(self, now: float, *, running: bool, has_room: bool) -> None:
        """Note whether any job runs or waits, and whether the jobs leave a worker free."""
        if running:
            self._idle_since = math.inf
        elif self._idle_since == math.inf:
            self._idle_since = now
        self._has_room = has_room

    def may_run(self, candidate: Candidate) -> bool:
        """Whether an import that runs may go on."""
        return self._idle_since < math.inf if candidate.is_patient else self._has_room

    def next(self, now: float) -> Candidate | None:
        """Return the file whose import must begin now: of those that were used most, the one that waits longest."""
        ready = [one for one in self._waiting.values() if self._due(one) <= now]
        return max(ready, key=lambda one: min(one.uses, 2), default=None)

    def next_wake(self) -> float:
        """Return the time when :meth:`next` may return a file; infinity if only an event can change that."""
        return min(map(self._due, self._waiting.values()), default=math.inf)

    def ended(self, now: float, candidate: Candidate, how: End) -> None:
        """Note the end of an import."""
        if how == "stopped":
            candidate.tries += 1
            candidate.earliest = now + min(BACKOFF * 2 ** (candidate.tries - 1), MAX_BACKOFF)
            return
        self._waiting.pop(candidate.key, None)
        rest = {"done": REST, "failed": REST_AFTER_FAILURE}.get(how, math.inf)
        self._closed[candidate.key] = now + rest
        self._closed.move_to_end(candidate.key)
        if len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)

    def _due(self, candidate: Candidate) -> float:
        if not candidate.is_patient and self._has_room:
            return candidate.earliest
        wait = IDLE_AGAIN if candidate.uses > 1 else IDLE_ONCE
        return max(candidate.earliest, self._idle_since + wait)


class Imports:
    """Makes the copies, one at a time.

    Args:
        stores: the stores of all callers, with their copies.
        workers: makes the copies.
        timeout: maximum seconds for one.
        metrics: counts the imports.
        in_thread: runs what blocks in a thread.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        stores: Stores,
        workers: Executor,
        timeout: float,
        metrics: Metrics,
        in_thread: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._stores = stores
        self._workers = workers
        self._timeout = timeout
        self._metrics = metrics
        self._in_thread = in_thread
        self._log = logger
        self._candidates = Candidates()
        self._enabled = False
        self._current: tuple[Candidate, trio.CancelScope] | None = None
        self._changed = trio.Event()
        self._jobs = False, True  # whether any runs or waits, and whether they leave a worker free

    async def open(self, reader: str, limit: int | None) -> None:
        """Find the copies that there are; see :meth:`creemson.storage.tables.tables.Tables.open`."""
        try:
            await self._in_thread(partial(self._stores.tables.open, reader, limit))
        except OSError as error:
            self._log.warning("copies of files cannot be used", error=str(error))
        else:
            self._enabled = limit != 0

    def copy_of(self, caller: str, filename: str, found: Found, options: Options | None) -> str | None:
        """Return the path of a file's copy; None if it has none, which may be made later. Counts as a use."""
        if not self._enabled or found.identity.size < MIN_BYTES:
            return None
        key = TableKey(caller, found.version, "" if options is None else _as_text(options))
        path = self._stores.tables.find(key)
        if path is None and self._may_get_copy(caller, filename, found, options):
            self._candidates.used(trio.current_time(), key, filename, options)
            self._changed.set()
        return path

    def _may_get_copy(self, caller: str, filename: str, found: Found, options: Options | None) -> bool:
        if options is not None and (options.types or isinstance(options.date_format, dict)):
            return False  # what they mean depends on the columns that are read
        is_columnar = PurePath(filename).suffix.lower() in COLUMNAR
        return not is_columnar and self._stores.of(caller).is_upload(found)

    def jobs_changed(self, *, running: bool, has_room: bool) -> None:
        """Stop an import that is in the way of jobs, or let one begin."""
        if (running, has_room) == self._jobs:  # several thousand times a second
            return
        self._jobs = running, has_room
        self._candidates.jobs_changed(trio.current_time(), running=running, has_room=has_room)
        if self._current is not None and not self._candidates.may_run(self._current[0]):
            self._current[1].cancel()
        if self._candidates:
            self._changed.set()

    def stop(self) -> None:
        """Make no more copies: the server is shutting down."""
        self._enabled = False
        if self._current is not None:
            self._current[1].cancel()

    async def run(self) -> None:
        """Make copies until cancelled."""
        while True:
            candidate = self._candidates.next(trio.current_time()) if self._enabled else None
            if candidate is None:
                self._changed = trio.Event()
                with trio.move_on_at(self._candidates.next_wake() if self._enabled else math.inf):
                    await self._changed.wait()
                continue
            how = await self._import(candidate)
            self._metrics.imports[how] += 1
            self._candidates.ended(trio.current_time(), candidate, how)

    async def _import(self, candidate: Candidate) -> End:
        log = self._log.bind(file=candidate.filename, caller=candidate.key.caller)
        began = trio.current_time()
        how: End = "stopped"
        with trio.CancelScope() as scope, trio.move_on_after(self._timeout) as limit:
            self._current = candidate, scope
            try:
                how = await self._make(candidate)
            except TransientFault as fault:
                log.info("import failed", error=fault.error.message)
                how = "failed"
            except CreemsonError as fault:  # of the file; a request for it gets the same error
                log.info("import failed", error=fault.message)
                how = "failed"
            except OSError as error:
                log.warning("import failed", error=str(error))
                how = "failed"
            except Exception:
                # A bug in one import must not end the others.
                log.exception("import failed unexpectedly")
                how = "failed"
            finally:
                self._current = None
        if limit.cancelled_caught:
            log.info("import took too long", timeout=self._timeout)
            return "failed"
        log.debug("import ended", how=how, seconds=round(trio.current_time() - began, 3))
        return how

    async def _make(self, candidate: Candidate) -> End:
        key, tables = candidate.key, self._stores.tables
        found = self._stores.of(key.caller).find_version(candidate.filename, key.version)
        with tables.making(key) as target:
            await self._in_thread(partial(tables.discard, key))
            copied = await self._workers.call(
                commands.import_(
                    source=found.path,
                    identity=found.identity,
                    name=candidate.filename,
                    options=None if candidate.options is None else plain(candidate.options),
                    target=target,
                    objects=tables.shared(target),
                )
            )
            if copied is None:
                return "refused"
            stays = False
            with trio.CancelScope(shield=True):  # the copy is there: without its row, it would be removed
                stays = await self._in_thread(
                    partial(tables.add, key, rows=copied["rows"], size=copied["bytes"])
                )
        return "done" if stays else "refused"


def _as_text(options: Options) -> str:
    found = plain(options)
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() if found else ""
