"""The connection actor: reader and writer of one connection, its heartbeat, and what it has open.

It alone owns its :class:`~creemson.server.protocol.ConnectionState`. The protocol decides, this module
carries out. When :meth:`Connection.run` returns, everything of the connection is gone: its tasks, its
part of an upload, its place among the processor's ports.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol as Interface
from typing import TypeAlias

import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import CloseCode, ConnectionLost, CreemsonError, disk_error
from creemson.metrics import Metrics
from creemson.processing import mailbox
from creemson.processing.jobs import Accepted, Ended, Logged, Progressed
from creemson.server import effects as wanted
from creemson.server.effects import Effect
from creemson.server.gate import Gate
from creemson.server.heartbeats import Heartbeats
from creemson.server.outbox import Outbox
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.receiving import Receiving
from creemson.server.sending import Sending
from creemson.server.transport import Closed, TooLarge
from creemson.server.uploads import Uploads
from creemson.settings import Settings
from creemson.storage.store import Store
from creemson.storage.stores import Stores
from creemson.wire import codec
from creemson.wire.codec import error_message
from creemson.wire.messages import Error

__all__ = ["Connection", "Transport"]

Storing: TypeAlias = (
    wanted.OpenUpload
    | wanted.WriteChunk
    | wanted.FinishUpload
    | wanted.DropUpload
    | wanted.RemoveUpload
    | wanted.ListFiles
    | wanted.DeleteFile
)
Asking: TypeAlias = (
    wanted.Submit
    | wanted.Attach
    | wanted.ListJobs
    | wanted.CancelJob
    | wanted.CancelRequest
    | wanted.ReadColumns
    | wanted.ReadRows
    | wanted.OpenDownload
)
REFUSALS = frozenset(
    {
        "unauthenticated",
        "forbidden",
        "rate_limited",
        "too_many_connections",
        "message_too_large",
        "upload_too_large",
        "storage_full",
        "busy",
        "shutting_down",
        "out_of_memory",
        "job_timeout",
    }
)
"""Reasons that tell of a limit, and not only of a mistake."""
GOODBYE = 3.0
"""Seconds in which a peer that seems gone can be told so."""
SIGN_OF_LIFE = 1.0
"""Seconds in which a peer whose upload somebody else wants can show that it lives."""
MIN_RATE = 1024
"""Bytes per second that count as a sign of life: the slowest links for which a large message goes on."""
TURN = 100
"""Messages that are answered before the other connections have a turn."""
QUIET = 0.02
"""Seconds without a message after which nothing seems to be left of what a peer that has gone has sent."""


class Transport(Interface):
    """What a connection needs of :class:`~creemson.server.fast.FastSocket`."""

    last_activity: float
    rtt: float | None

    @property
    def received(self) -> int:
        """Bytes that have come."""

    @property
    def unsent(self) -> bytes:
        """What ``post`` took and the system did not."""

    def next(self) -> str | bytes | None:
        """A message that has come already."""

    async def receive(self) -> str | bytes:
        """The next message; raises ``Closed`` or ``TooLarge``."""

    def post(self, messages: Sequence[str | bytes]) -> bool:
        """Send messages at once, if that can be; returns whether they were taken."""

    async def send(self, messages: Sequence[str | bytes]) -> None:
        """Send what is unsent, then messages; raises ``Closed`` or ``trio.TooSlowError``."""

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye."""

    async def probe(self) -> None:
        """Ask for a sign of life; raises ``Closed``."""


class Connection:
    """One connection from the accepted handshake to its end.

    Args:
        transport: the messages' way.
        protocol: of this connection.
        processor: the processor's inbox.
        stores: of all callers.
        uploads: who has which upload open.
        heartbeats: of all connections.
        gate: that the peer has come through, or will; None if there is none.
        metrics: where bytes are counted.
        settings: in force.
        logger: bound to the connection's id.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        protocol: Protocol,
        processor: trio.MemorySendChannel[mailbox.Command],
        stores: Stores,
        uploads: Uploads,
        heartbeats: Heartbeats,
        settings: Settings,
        gate: Gate | None = None,
        metrics: Metrics | None = None,
        logger: FilteringBoundLogger,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._processor = processor
        self._stores = stores
        self._gate = gate
        self._metrics = metrics or Metrics()
        self._refusals: Counter[str] = Counter()
        self._uploads = uploads
        self._heartbeats = heartbeats
        self._settings = settings
        self._log = logger
        self._outbox = Outbox(settings.limits.outbox_bytes, on_overflow=self._drop)
        self._receiving = Receiving(
            holder=self, protocol=protocol, store=self._store, uploads=uploads, logger=logger
        )
        self._sending = Sending(
            protocol=protocol,
            store=self._store,
            put=self._put,
            room=self._outbox.room,
            tell=self._tell,
            most=settings.limits.outbox_bytes // 2,
            logger=logger,
        )
        self._writing = False
        self._asked: float | None = None  # when a sign of life was asked for
        self._asking = False  # it could not be sent yet
        self._answer_by = 0.0
        self._had = 0  # bytes received until then
        self._received = 0
        self._waits = False  # the reader, for a message
        self._waits_since = 0.0
        self._ended = False
        self._nursery: trio.Nursery | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size

    @property
    def state(self) -> ConnectionState:
        """The state, to look at."""
        return self._protocol.state

    async def run(self) -> None:
        """Serve the peer until one side closes."""
        try:
            await self._serve()
        finally:
            if self._gate is not None and self.state.identity is not None:
                self._gate.leave(self.state.identity)

    async def _serve(self) -> None:
        try:
            await self._processor.send(mailbox.Connect(self.state.id, self))
        except trio.BrokenResourceError:  # the server is ending
            await self._transport.close(CloseCode.GOING_AWAY, "the server is shutting down")
            return
        try:
            async with trio.open_nursery() as self._nursery:
                due = self._transport.last_activity + self._settings.timeouts.heartbeat_interval
                beat = self._heartbeats.add(due, self._beat)
                try:
                    self._flush()
                    await self._read()
                    await trio.sleep_forever()  # the writer says goodbye, and ends it all
                finally:
                    self._ended = True
                    self._heartbeats.remove(beat)
        finally:
            repeated = {reason: count for reason, count in self._refusals.items() if count > 1}
            if repeated:
                self._log.info("refused repeatedly", caller=self.state.caller, **repeated)
            with trio.CancelScope(shield=True):
                await self._receiving.save()
                await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the processor has ended first
            await self._processor.send(mailbox.Disconnect(self.state.id))

    def close(self, code: CloseCode, reason: str) -> None:
        """Send what is waiting, then close."""
        self._outbox.close(code, reason)
        self._flush()

    def drain(self) -> None:
        """Refuse new work from now on."""
        self._protocol.drain()

    def recheck(self) -> None:
        """Close, if the peer may not be here any more."""
        self._tell(self._protocol.recheck(trio.current_time()))

    def _store(self) -> Store:
        """The caller's, who is known by now."""
        return self._stores.of(self.state.caller)

    # --- tasks ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._nursery is not None
        caller = self.state.caller
        turn = 0
        try:
            while True:
                message = self._transport.next()
                if message is None:
                    self._flush()
                    turn = 0
                    self._waits, self._waits_since = True, trio.current_time()
                    message = await self._transport.receive()
                    self._waits = False
                elif turn == TURN:  # a megabyte of short messages would take a quarter of a second
                    self._flush()
                    turn = 0
                    await trio.lowlevel.checkpoint()
                turn += 1
                self._received += 1
                for effect in self._handle(message):
                    if isinstance(effect, wanted.Send):
                        self._send(effect)
                    else:
                        await self._perform([effect])
                if self.state.caller != caller:
                    caller = self.state.caller
                    self._log.info("authenticated", caller=caller)
        except TooLarge as fault:
            await self._perform(
                self._protocol.too_large(binary=fault.binary, size=fault.size, limit=fault.limit)
            )
            self._flush()
        except Closed as closed:
            self._log.info("closed", code=int(closed.code))
            self._nursery.cancel_scope.cancel()
        except trio.BrokenResourceError:  # the processor has ended, and the server is about to
            self.close(CloseCode.GOING_AWAY, "the server is shutting down")

    def _handle(self, message: str | bytes) -> Sequence[Effect]:
        """Have a message understood; what is left to do."""
        now = trio.current_time()
        if isinstance(message, str):
            self._metrics.bytes_received["text"] += len(message)
            pong = self._protocol.ping(now, message)
            if pong is None:
                return self._protocol.text(now, message)
            self._outbox.put(pong)
            return ()
        self._metrics.bytes_received["binary"] += len(message)
        return self._protocol.binary(now, message)

    def _flush(self) -> None:
        """Send what waits: at once where that can be, else a writer does it."""
        if self._writing or not self._outbox or self._nursery is None or self._ended:
            return
        messages = self._batched(self._outbox.take())
        if messages and self._transport.post(messages):
            self._count(messages)
            messages = ()
            if not self._transport.unsent:
                self._outbox.sent()
                if self._outbox.closing is None:
                    return
        self._writing = True
        self._nursery.start_soon(self._write, messages)

    async def _write(self, messages: Sequence[str | bytes]) -> None:
        """Send these, what comes meanwhile, and in the end that there is no more."""
        assert self._nursery is not None
        try:
            while messages or self._transport.unsent:
                await self._transport.send(messages)
                self._count(messages)
                self._outbox.sent()
                messages = self._batched(self._outbox.take())
            if self._outbox.closing is None:
                self._writing = False
                return
            code, reason = self._outbox.closing
            self._log.info("closing", code=int(code), reason=reason)
            self._metrics.closes[str(int(code))] += 1
            await self._transport.close(code, reason)
        except Closed as closed:
            self._log.info("closed while sending", code=int(closed.code))
            await trio.sleep(GOODBYE)  # the reader takes in what came before, and sees the end by itself
        except trio.TooSlowError:
            self._drop()
        self._nursery.cancel_scope.cancel()

    def _count(self, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            self._metrics.bytes_sent["text" if isinstance(message, str) else "binary"] += len(message)

    def _drop(self) -> None:
        """End the connection of a peer that does not read; so a close frame would be in vain."""
        self._log.warning("the peer does not read what it is sent")
        self._metrics.closes["unread"] += 1
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _put(self, data: bytes) -> None:
        """Send a piece of a file."""
        self._outbox.put(data)
        self._flush()

    def _batched(self, messages: Sequence[str | bytes]) -> Sequence[str | bytes]:
        """Join neighbouring text messages into batches, where the peer understands them."""
        if not self.state.batching or len(messages) < 2:
            return messages
        limits = self._settings.limits
        joined: list[str | bytes] = []
        run: list[str] = []
        size = 0

        def flush() -> None:
            joined.extend([codec.encode_batch(run)] if len(run) > 1 else run)

        for message in messages:
            fits = len(run) < limits.batch_messages and size + len(message) < limits.message_bytes // 2
            if isinstance(message, bytes) or not fits:
                flush()
                run, size = [], 0
            if isinstance(message, bytes):
                joined.append(message)
            else:
                run.append(message)
                size += len(message)
        flush()
        return joined

    def _beat(self, now: float) -> float:
        """Ask for a sign of life when there was none for a while, and drop the peer without one.

        Returns:
            When to look again.
        """
        assert self._nursery is not None
        timeouts, transport = self._settings.timeouts, self._transport
        if self._asked is None:
            due = transport.last_activity + timeouts.heartbeat_interval
            if now < due:
                return due
            self._asked, self._had, self._asking = now, transport.received, True
            self._nursery.start_soon(self._ask)
            return now + timeouts.heartbeat_timeout
        if self._asking:
            return now + timeouts.heartbeat_timeout / 10
        if now < self._answer_by:
            return self._answer_by
        asked, self._asked = self._asked, None
        if transport.rtt is not None:
            self._metrics.heartbeat.observe(transport.rtt)
        silent = transport.last_activity < asked and transport.received - self._had < MIN_RATE * (now - asked)
        # As long as nobody listens, silence says nothing: the disk or the processor may keep the reader.
        if silent and self._waits and self._waits_since <= asked:
            self._nursery.start_soon(self._part)
            return math.inf
        return max(now, transport.last_activity + timeouts.heartbeat_interval)

    async def _ask(self) -> None:
        with contextlib.suppress(Closed):  # the reader sees it too
            await self._transport.probe()  # behind what is being sent, which has its own time
        self._answer_by = trio.current_time() + self._settings.timeouts.heartbeat_timeout
        self._asking = False

    async def _part(self) -> None:
        """Tell a peer that seems to have gone."""
        timeouts = self._settings.timeouts
        silence = timeouts.heartbeat_interval + timeouts.heartbeat_timeout
        self._log.info("no sign of life", seconds=silence)
        fault = ConnectionLost(
            "connection_lost", f"There was no sign of life for {silence:g} s. Connect again."
        )
        self._send(wanted.Send(error_message(fault)))
        self.close(CloseCode.TIMED_OUT, "no sign of life")
        await trio.sleep(GOODBYE)
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    # --- effects -------------------------------------------------------------------------------------

    async def _perform(self, effects: Sequence[Effect]) -> None:
        """Carry out what the protocol decided, in its order, with what follows from it."""
        for effect in effects:
            if isinstance(effect, wanted.Send):
                self._send(effect)
            elif isinstance(effect, wanted.Close):
                self._outbox.close(effect.code, effect.reason)
            elif isinstance(effect, wanted.StopDownload):
                self._sending.forget(effect.request)
            else:
                self._flush()  # what is ready waits neither for the disk nor for the processor
                if isinstance(effect, Storing):
                    await self._perform(await self._keep(effect))
                else:
                    await self._processor.send(self._command(effect))

    def _tell(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, wanted.Close):
                self._outbox.close(effect.code, effect.reason)
            else:
                assert isinstance(effect, wanted.Send), effect
                self._send(effect)
        self._flush()

    def _send(self, effect: wanted.Send) -> None:
        if isinstance(effect.message, Error) and effect.message.reason in REFUSALS:
            self._audit(effect.message)
        self._outbox.put(codec.encode(effect.message), replaces=effect.replaces, follows=effect.follows)

    def _audit(self, error: Error) -> None:
        """Every refusal has its line in the log; a peer that is refused the same again and again has one."""
        self._refusals[error.reason] += 1
        if self._refusals[error.reason] == 1:
            self._log.info(
                "refused",
                reason=error.reason,
                caller=self.state.caller,
                request=error.id,
                job=error.job,
                why=error.message,
            )

    def _command(self, effect: Asking) -> mailbox.Command:
        connection, caller = self.state.id, self.state.caller
        match effect:
            case wanted.Submit(request, query, timeout, keep):
                return mailbox.Submit(connection, request, caller, query, timeout, keep)
            case wanted.Attach(request, job, after):
                return mailbox.Attach(connection, request, caller, job, after)
            case wanted.ListJobs(request):
                return mailbox.ListJobs(connection, request, caller)
            case wanted.CancelJob(request, job):
                return mailbox.CancelJob(connection, request, caller, job)
            case wanted.CancelRequest(request, other):
                return mailbox.CancelRequest(connection, request, other)
            case wanted.ReadColumns(request, filename, options):
                return mailbox.ReadColumns(connection, request, caller, filename, options)
            case wanted.ReadRows(request, filename, offset, limit, options):
                return mailbox.ReadRows(connection, request, caller, filename, offset, limit, options)
            case wanted.OpenDownload(request, filename, offset):
                self._sending.expect(request, offset)
                return mailbox.FindFile(connection, request, caller, filename)

    async def _keep(self, effect: Storing) -> list[Effect]:
        """Do what is asked of the store, in a thread; tell the protocol how it went."""
        try:
            match effect:
                case wanted.ListFiles(request):
                    listing = await trio.to_thread.run_sync(self._store().listing)
                    return self._protocol.files(request, listing)
                case wanted.DeleteFile(request, filename):
                    async with self._uploads.without((self.state.caller, filename)):
                        await trio.to_thread.run_sync(self._store().delete, filename)
                    return self._protocol.deleted(request)
                case _:
                    return await self._receiving.handle(effect)
        except CreemsonError as error:
            fault = error
        except OSError as error:
            self._log.error("the disk failed", error=str(error))
            fault = disk_error(error)
        if isinstance(effect, wanted.DropUpload):  # answered already
            return []
        return self._protocol.fail(effect.request, fault)

    # --- as the holder of an upload ------------------------------------------------------------------

    async def is_alive(self) -> bool:
        """Whether the peer shows a sign of life: see :class:`creemson.server.uploads.Holder`."""
        asked, had = trio.current_time(), self._transport.received
        assert self._nursery is not None
        if not self._ended and not self._nursery.cancel_scope.cancel_called:
            self._nursery.start_soon(self._probe)  # not cancelled in the middle of a frame
            while trio.current_time() < asked + SIGN_OF_LIFE and not self._ended:
                await trio.sleep(SIGN_OF_LIFE / 50)
                much = self._transport.received - had >= MIN_RATE * SIGN_OF_LIFE
                if self._transport.last_activity >= asked or much:
                    return True
        return False

    async def _probe(self) -> None:
        with contextlib.suppress(Closed):  # the reader sees it too
            await self._transport.probe()

    async def let_go(self) -> None:
        """Close the open upload in favour of another: see :class:`creemson.server.uploads.Holder`.

        A peer that has gone may have sent more than has been read: that is taken in first.
        """
        with trio.move_on_after(SIGN_OF_LIFE):
            seen = -1
            while not self._ended and (seen != self._received or not self._waits):
                seen = self._received
                await trio.sleep(QUIET)
        if await self._receiving.save() and not self._ended:
            for effect in self._protocol.upload_taken():
                if isinstance(effect, wanted.Send):
                    self._send(effect)
            self._flush()

    # --- what the processor says ---------------------------------------------------------------------

    def deliver(self, request: int, reply: mailbox.Reply) -> None:
        """Take a reply of the processor's: see :class:`creemson.processing.mailbox.Port`."""
        if self._receiving.awaits_columns(request):
            effects = self._receiving.columns_read(request, reply)
        elif not self._protocol.awaits(
            request
        ):  # a download that was cancelled while its file was looked for
            return
        elif isinstance(reply, mailbox.FileReady):
            if self._sending.found(request, reply.path) and not self._ended:
                assert self._nursery is not None
                self._nursery.start_soon(self._sending.run)
            return
        else:
            self._sending.forget(request)
            effects = self._told(request, reply)
        self._tell(effects)

    def _told(
        self,
        request: int,
        reply: Accepted
        | Progressed
        | Logged
        | Ended
        | mailbox.Cancelled
        | mailbox.ColumnsRead
        | mailbox.RowsRead
        | mailbox.JobsListed,
    ) -> list[Effect]:
        match reply:
            case Accepted(job, position):
                self._log.debug("accepted", job=job, request=self._protocol.id_of(request))
                return self._protocol.accepted(request, job, position)
            case Progressed(job, seq, figures):
                return self._protocol.progress(request, job, seq, figures)
            case Logged(job, seq, level, text):
                return self._protocol.log(request, job, seq, level, text)
            case mailbox.JobsListed(jobs):
                return self._protocol.jobs(request, jobs)
            case mailbox.Cancelled(job):
                return self._protocol.cancelled(request, job)
            case mailbox.ColumnsRead(described):
                return self._protocol.columns(request, described)
            case mailbox.RowsRead(window):
                return self._protocol.rows(request, window)
            case Ended(job, seq, error=error) if error is not None:
                return self._protocol.fail(request, error, job=job, seq=seq)
            case Ended(job, seq):
                assert job is not None
                assert seq is not None
                return self._protocol.result(request, job, seq, mailbox.result_of(reply))
