"""Imports: columnar copies of files, made in the background so that later work on the files is fast.

A copy is made on a job worker, but never in the way of a job; :mod:`creemson.jobs.work.candidates` decides which file
is next, and when. Whatever fails costs only the copy.
"""

import math
from functools import partial
from pathlib import PurePath

import orjson
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CreemsonError
from creemson.executors import commands
from creemson.executors.executor import Executor, TransientFault
from creemson.jobs.journal import InThread
from creemson.jobs.work.candidates import Candidate, Candidates, End
from creemson.metrics import Metrics
from creemson.model.converter import plain
from creemson.model.query import Options
from creemson.storage.store import Found
from creemson.storage.stores import Stores
from creemson.storage.tables.tables import TableKey

__all__ = ["Imports"]

MIN_BYTES = 256 * 1024
"""Minimum size of a file that gets a copy. Workers read smaller files into memory anyway, which takes milliseconds."""
COLUMNAR = frozenset({".parquet", ".arrow", ".feather", ".ipc"})
"""Endings of files that need no copy; others of these formats are refused by the worker."""
GONE = frozenset({"file_changed", "file_not_found"})
"""Reasons that say that the file was deleted or replaced before its copy was made, which is no failure."""


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
                if fault.reason in GONE:
                    how = "refused"
                else:
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
        versions = self._stores.of(key.caller).versions
        found = await self._in_thread(versions.find, candidate.filename, key.version)
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
