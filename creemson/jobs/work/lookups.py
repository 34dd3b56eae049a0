"""Look-ups, the requests that need no job: columns, windows of rows, files for download.

Columns and rows are read by two quick workers, so that they do not wait for jobs. Parties take turns for them
(:mod:`creemson.jobs.sharing.turns`): one that makes many look-ups, or some that take long, keeps one worker at most,
and another party's look-up gets the other. A look-up ends with its request: when that is cancelled, or its connection
is gone.
"""

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import (
    CreemsonError,
    ProcessingError,
    database_away,
    disk_error,
    internal_error,
    shutting_down,
)
from creemson.executors import commands
from creemson.executors.commands import WorkerCommand
from creemson.executors.executor import Executor, TransientFault
from creemson.jobs.commands import (
    ColumnsRead,
    Command,
    FileReady,
    FindFile,
    ReadColumns,
    ReadRows,
    Reply,
    RowsRead,
)
from creemson.jobs.events import Ended
from creemson.jobs.journal import InThread
from creemson.jobs.sharing.bounds import Bound, busy
from creemson.jobs.sharing.turns import SPARE, Turns, party_of
from creemson.jobs.work.reading import call_on
from creemson.jobs.work.renderings import Renderings
from creemson.jobs.work.results import structure_trusted
from creemson.model.converter import plain
from creemson.model.query import Options
from creemson.model.results import Described, Window
from creemson.storage.store import Found, Store
from creemson.storage.stores import Stores

__all__ = ["LOOKUP_TIME", "MAX_WAIT", "LookUp", "Lookups"]

LOOKUP_TIME = 10.0
"""Maximum seconds for one look-up of columns or rows, from its start. Most take milliseconds; longer work is a job."""
MAX_WAIT = 25.0
"""Maximum seconds that it waits for its turn."""

LookUp: TypeAlias = ReadColumns | ReadRows | FindFile


@attrs.frozen(eq=False)
class _Entrant:
    """A look-up that waits for its turn, or has it."""

    caller: str
    party: str
    admitted: trio.Event = attrs.field(factory=trio.Event)


class Lookups:
    """Answers look-ups.

    Args:
        stores: the stores of all callers.
        quick: reads columns and rows; one of the commands that it runs at once is for the spare slot.
        renderings: makes outputs in other formats.
        copy_of: returns the path of a file's columnar copy; see :meth:`creemson.jobs.work.imports.Imports.copy_of`.
        bound: maximum numbers of look-ups of columns and rows that wait.
        timeout: maximum seconds for one of them, if this is less than :data:`LOOKUP_TIME`.
        limits: how large an answer may be; see :func:`creemson.executors.commands.answer_limits`.
        reply: sends the answer to a request of a connection.
        ask: calls a function of a store with arguments; in a thread if it may wait for a database.
        logger: Logger.
    """

    def __init__(
        self,
        *,
        stores: Stores,
        quick: Executor,
        renderings: Renderings,
        copy_of: Callable[[str, str, Found, Options | None], str | None],
        bound: Bound,
        timeout: float,
        limits: commands.AnswerLimits,
        reply: Callable[[str, int, Reply], None],
        ask: InThread,
        logger: FilteringBoundLogger,
    ) -> None:
        self._stores = stores
        self._quick = quick
        self._renderings = renderings
        self._copy_of = copy_of
        self._bound = bound
        self._timeout = min(timeout, LOOKUP_TIME)
        self._limits = limits
        self._reply = reply
        self._ask = ask
        self._log = logger
        slots = quick.size - SPARE
        self._turns: Turns[_Entrant] = Turns(slots=slots, slots_per_caller=slots)
        self._scopes: dict[str, dict[int, trio.CancelScope]] = {}  # by connection, then by request
        self._stopped = False

    def start(self, nursery: trio.Nursery, command: Command, ask: LookUp) -> None:
        """Start a look-up; it answers by itself."""
        if self._stopped:
            self._reply(command.connection, command.request, Ended(None, None, error=shutting_down()))
            return
        scope = trio.CancelScope()
        self._scopes.setdefault(command.connection, {})[command.request] = scope
        nursery.start_soon(self._run, command, ask, scope)

    def cancel(self, connection: str, request: int) -> bool:
        """Stop a look-up without an answer; return whether there was one."""
        scope = self._scopes.get(connection, {}).get(request)
        if scope is None:
            return False
        scope.cancel()
        return True

    def disconnect(self, connection: str) -> None:
        """Stop all look-ups of a connection."""
        for scope in self._scopes.get(connection, {}).values():
            scope.cancel()

    def stop(self) -> None:
        """Stop all look-ups, and refuse later ones: the server is about to close the connections."""
        self._stopped = True
        for connection, scopes in self._scopes.items():
            for request, scope in scopes.items():
                if not scope.cancel_called:
                    scope.cancel()
                    self._reply(connection, request, Ended(None, None, error=shutting_down()))

    async def _run(self, command: Command, ask: LookUp, scope: trio.CancelScope) -> None:
        reply: Reply | None = None
        with scope:
            reply = await self._answer(command, ask)
        of_connection = self._scopes[command.connection]
        del of_connection[command.request]
        if not of_connection:
            del self._scopes[command.connection]
        if reply is not None and not scope.cancel_called:
            self._reply(command.connection, command.request, reply)

    async def _answer(self, command: Command, ask: LookUp) -> Reply:
        """Answer a look-up; errors are returned as replies."""
        error: CreemsonError
        try:
            match ask:
                case ReadColumns():
                    return ColumnsRead(await self._columns(command, ask))
                case ReadRows():
                    return RowsRead(await self._rows(command, ask))
                case FindFile():
                    return FileReady(await self._file(command, ask.filename))
        except TransientFault as fault:
            error = fault.error
        except CreemsonError as fault:
            error = fault
        except OSError as fault:  # of the disk, or of the database that tells where the file is
            self._log.warning("request failed", caller=command.caller, error=str(fault))
            error = disk_error(fault)
        except Exception:
            # A bug in one look-up must not affect the others.
            self._log.exception("request failed unexpectedly", caller=command.caller)
            error = internal_error()
        return Ended(None, None, error=error)

    # --- columns and rows ----------------------------------------------------------------------------

    async def _columns(self, command: Command, ask: ReadColumns) -> Described:
        value = await self._read(command, ask, commands.columns, of_upload=ask.of_upload)
        return structure_trusted(value, Described)

    async def _rows(self, command: Command, ask: ReadRows) -> Window:
        value = await self._read(
            command,
            ask,
            commands.rows,
            fields=lambda found: {
                "offset": ask.offset,
                "limit": ask.limit,
                "texts": ask.texts,
                "view": plain(ask.view),
                "copy": self._copy_of(command.caller, ask.filename, found, ask.options),
            },
        )
        return structure_trusted(value, Window)

    async def _read(
        self,
        command: Command,
        ask: ReadColumns | ReadRows,
        worker_command: Callable[..., WorkerCommand],
        *,
        of_upload: bool = False,
        fields: Callable[[Found], Mapping[str, Any]] = lambda _: {},
    ) -> Any:
        """Wait for a turn, then let a quick worker read the file.

        Args:
            command: the request.
            ask: what it asks for.
            worker_command: makes the command of :mod:`creemson.executors.commands`.
            of_upload: see :meth:`_turn`.
            fields: returns further arguments of ``worker_command`` for a file.
        """

        def read(found: Found) -> WorkerCommand:
            return worker_command(
                source=found.path,
                identity=found.identity,
                name=ask.filename,
                options=_plain_options(ask.options),
                limits=self._limits,
                **fields(found),
            )

        async with self._turn(command, of_upload=of_upload):
            return await self._call(command.caller, ask.filename, read)

    async def _call(self, caller: str, filename: str, read: Callable[[Found], WorkerCommand]) -> Any:
        is_asking = False

        async def find() -> Found:
            nonlocal is_asking
            is_asking = True
            found: Found = await self._ask(self._stores.of(caller).look_up, filename)
            await trio.lowlevel.checkpoint_if_cancelled()  # a thread that waits does not end early
            is_asking = False
            return found

        with trio.move_on_after(self._timeout):
            return await call_on(self._quick, find, read)
        if is_asking:
            raise database_away()
        raise ProcessingError(
            "job_timeout",
            f"Reading took longer than {self._timeout:g} s. Use `process` and read its output, or a smaller file.",
        )

    @asynccontextmanager
    async def _turn(self, command: Command, *, of_upload: bool = False) -> AsyncIterator[None]:
        """Wait for a quick worker, and use it in the block.

        An upload has been accepted, so its look-up is never refused: it waits as long as necessary, before the other
        look-ups of its party.

        Raises:
            ProcessingError: ``busy``: too many wait, or for too long.
        """
        entrant = _Entrant(command.caller, party_of(command.caller, command.connection))
        mine, turns = self._turns.waiting_of[command.caller], self._turns
        if not of_upload and mine >= self._bound.per_caller:
            raise busy(f"{mine} of your requests for columns or rows wait already, the most for one caller.")
        if not of_upload and turns.waiting >= self._bound.total:
            raise busy(f"{turns.waiting} requests for columns or rows wait already.")
        turns.enqueue(entrant, first=of_upload)
        self._admit()
        try:
            with trio.move_on_after(math.inf if of_upload else MAX_WAIT):
                await entrant.admitted.wait()
            if not entrant.admitted.is_set():
                raise busy(f"Other requests for columns or rows have taken more than {MAX_WAIT:g} s.")
            yield
        finally:
            if entrant.admitted.is_set():
                turns.give_back(entrant)
            else:
                turns.withdraw(entrant)
            self._admit()

    def _admit(self) -> None:
        while (entrant := self._turns.next()) is not None:
            self._turns.take(entrant)
            entrant.admitted.set()

    # --- files ---------------------------------------------------------------------------------------

    async def _file(self, command: Command, filename: str) -> Path:
        """Find a file; an output that exists only in another format is rendered first."""
        store = self._stores.of(command.caller)
        try:
            return await self._find(store, filename)
        except ProcessingError:
            stored: Path | None = await self._ask(store.outputs.find_stored, filename)
            if stored is None:
                raise
        await self._ask(store.quota.check)
        party = party_of(command.caller, command.connection)
        await self._renderings.render(store, stored, filename, command.caller, party)
        return await self._find(store, filename)

    async def _find(self, store: Store, filename: str) -> Path:
        path: Path = await self._ask(store.find, filename)
        return path


def _plain_options(options: Options | None) -> Any:
    return None if options is None else plain(options)
