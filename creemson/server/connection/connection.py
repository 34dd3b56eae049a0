"""The connection actor: the reader, the writer and the heartbeat of one connection, and its open transfers.

    socket ──> _read() ──> Protocol ── effects ──> _perform() ──┬──> outbox ──> _flush(), _write() ──> socket
                             ↑                                  ├──> inbox of the processor
                             │                                  └──> store, in a thread
                             └── deliver() <── replies of the processor

The protocol decides, and this module carries out its decisions. When :meth:`Connection.run` returns, nothing of the
connection remains: its tasks have ended, its open upload is saved, its port is removed from the processor.
"""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol as Interface
from typing import TypeAlias

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from creemson.errors import SHUTDOWN_REASON, CloseCode, ConnectionLost, CreemsonError, disk_error
from creemson.jobs import commands
from creemson.jobs.events import Accepted
from creemson.metrics import Metrics
from creemson.server.auth.callers import Callers
from creemson.server.connection.downloads import Downloads
from creemson.server.connection.effects import (
    Close,
    DeleteFile,
    DropUpload,
    Effect,
    FinishUpload,
    ListFiles,
    OpenUpload,
    RemoveUpload,
    Send,
    StopDownload,
    WriteChunk,
)
from creemson.server.connection.liveness import Action, Liveness, Probe
from creemson.server.connection.outbox import Outbox
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.state import ConnectionState
from creemson.server.connection.upload_registry import UploadRegistry
from creemson.server.connection.uploads import Uploads
from creemson.server.heartbeats import Heartbeats
from creemson.server.transport.closing import Closed
from creemson.server.transport.frames import Outgoing
from creemson.server.transport.size_limit import TooLarge
from creemson.settings.sections import Settings
from creemson.storage.store import Store
from creemson.storage.stores import Stores
from creemson.wire import codec
from creemson.wire.batching import batched
from creemson.wire.codec import error_message
from creemson.wire.messages import Error

__all__ = ["Connection", "Shared", "Transport"]

StoreEffect: TypeAlias = (
    OpenUpload | WriteChunk | FinishUpload | DropUpload | RemoveUpload | ListFiles | DeleteFile
)
"""The effects that need the store."""
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
"""Reasons of errors that are logged: a limit was reached, or access was denied."""
GOODBYE = 3.0
"""Seconds in which a peer that seems dead can read the reason before it is disconnected."""
SIGN_OF_LIFE = 1.0
"""Seconds in which a peer can show a sign of life when another connection wants its upload."""
TURN = 100
"""Number of messages that are handled before other connections get a turn."""
QUIET = 0.02
"""Seconds without a message after which everything that a disconnected peer sent has been read."""


class Transport(Interface):
    """The part of :class:`~creemson.server.transport.websocket.WebSocket` that a connection uses."""

    last_activity: float
    rtt: float | None

    @property
    def received(self) -> int:
        """Number of bytes received."""

    @property
    def unsent(self) -> bytes:
        """Bytes that ``post`` took and the kernel did not."""

    def next(self) -> str | bytes | None:
        """Return a message that has arrived already, or None."""

    def take_texts(self) -> list[str]:
        """Take the text messages that were parsed together with the last message, to handle them together."""

    def put_back(self, texts: Sequence[str]) -> None:
        """Let ``next`` return these messages one by one."""

    async def receive(self) -> str | bytes:
        """Return the next message; raises ``Closed`` or ``TooLarge``."""

    def post(self, messages: Sequence[Outgoing]) -> bool:
        """Send messages without waiting, if possible; return whether they were taken."""

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send what is unsent, then messages; raises ``Closed`` or ``trio.TooSlowError``."""

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame and close."""

    async def probe(self) -> None:
        """Send a ping; raises ``Closed``."""


@attrs.frozen(kw_only=True)
class Shared:
    """What the connections of a server share.

    Attributes:
        settings: effective settings.
        processor: inbox of the processor.
        stores: the stores of all callers.
        uploads: the open uploads of all connections.
        heartbeats: the timer of all heartbeats.
        callers: authenticates callers and limits their message rates; None disables both.
        metrics: counts messages and bytes.
        wall_clock: returns the seconds since 1970.
    """

    settings: Settings
    processor: trio.MemorySendChannel[commands.InboxMessage]
    stores: Stores
    uploads: UploadRegistry
    heartbeats: Heartbeats
    callers: Callers | None
    metrics: Metrics
    wall_clock: Callable[[], float]


class Connection:
    """One connection, from the accepted handshake to its end.

    Args:
        transport: carries the messages.
        state: state of the connection after the handshake.
        shared: what all connections of the server share.
        logger: logger that is bound to the connection's id.
    """

    def __init__(
        self, transport: Transport, state: ConnectionState, *, shared: Shared, logger: FilteringBoundLogger
    ) -> None:
        settings = shared.settings
        self.state = state
        self._transport = transport
        self._shared = shared
        self._settings = settings
        self._metrics = shared.metrics
        self._log = logger
        self._protocol = protocol = Protocol(
            state,
            settings=settings,
            callers=shared.callers,
            metrics=shared.metrics,
            wall_clock=shared.wall_clock,
        )
        self._outbox = Outbox(settings.limits.outbox_bytes, on_overflow=self._drop_peer)
        self._uploads = Uploads(
            holder=self,
            protocol=protocol,
            store=self._store,
            registry=shared.uploads,
            start=self._start,
            perform=self._perform_now,
            logger=logger,
        )
        self._downloads = Downloads(
            protocol=protocol,
            store=self._store,
            put=self._put,
            room=self._outbox.room,
            perform=self._perform_now,
            max_frame=self._outbox.ahead,
            logger=logger,
        )
        timeouts = settings.timeouts
        self._liveness = Liveness(timeouts.heartbeat_interval, timeouts.heartbeat_timeout)
        self._refusals: Counter[str] = Counter()  # by reason
        self._received = 0  # number of messages
        self._writing = False  # whether a writer task runs
        self._ended = False  # whether the nursery accepts no more tasks
        self._nursery: trio.Nursery | None = None

    @property
    def unsent(self) -> int:
        """Number of bytes that wait to be sent."""
        return self._outbox.size

    async def run(self) -> None:
        """Serve the peer until one side closes."""
        try:
            await self._serve()
        finally:
            if self._shared.callers is not None and self.state.identity is not None:
                self._shared.callers.leave(self.state.identity)

    async def _serve(self) -> None:
        try:
            await self._shared.processor.send(commands.Connect(self.state.id, self))
        except trio.BrokenResourceError:  # the server is stopping
            await self._transport.close(CloseCode.GOING_AWAY, SHUTDOWN_REASON)
            return
        heartbeats = self._shared.heartbeats
        try:
            async with trio.open_nursery() as self._nursery:
                beat = heartbeats.add(self._transport.last_activity + self._liveness.interval, self._beat)
                try:
                    self._flush()
                    await self._read()
                    await trio.sleep_forever()  # until the writer has sent the close frame
                finally:
                    self._ended = True
                    heartbeats.remove(beat)
        finally:
            repeated = {reason: count for reason, count in self._refusals.items() if count > 1}
            if repeated:
                self._log.info("refused repeatedly", caller=self.state.caller, **repeated)
            with trio.CancelScope(shield=True):
                await self._uploads.save()
                with contextlib.suppress(trio.BrokenResourceError):  # the processor has ended first
                    await self._shared.processor.send(commands.Disconnect(self.state.id))

    def close(self, code: CloseCode, reason: str) -> None:
        """Send what is waiting, then close."""
        self._outbox.close(code, reason)
        self._flush()

    def drain(self) -> None:
        """Refuse new uploads from now on."""
        self._protocol.drain()

    def recheck(self) -> None:
        """Close the connection if the peer is not authenticated in time, or no longer."""
        self._perform_now(self._protocol.recheck(trio.current_time()))

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task that ends with the connection."""
        assert self._nursery is not None
        if not self._ended:
            self._nursery.start_soon(work)

    async def _open_store(self) -> None:
        """Create the folders of a new caller in a thread. If this fails, so do the requests that need them."""
        if self.state.caller and not self._shared.stores.is_open(self.state.caller):
            with contextlib.suppress(OSError):
                await trio.to_thread.run_sync(self._shared.stores.of, self.state.caller)

    def _store(self) -> Store:
        """Return the caller's store. Used only when the caller is known."""
        return self._shared.stores.of(self.state.caller)

    # --- reading -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._nursery is not None
        caller = self.state.caller
        turn = 0
        await self._open_store()
        try:
            while True:
                message = self._transport.next()
                if message is None:
                    self._flush()
                    turn = 0
                    self._liveness.listening_since = trio.current_time()
                    message = await self._transport.receive()
                    self._liveness.listening_since = None
                elif turn >= TURN:  # a megabyte of short messages would take a quarter of a second
                    self._flush()
                    turn = 0
                    await trio.lowlevel.checkpoint()
                pings = self._answer_pings(message) if isinstance(message, str) else 0
                turn += pings or 1
                self._received += pings or 1
                if pings:
                    continue
                for effect in self._handle(message):
                    if isinstance(effect, Send):
                        self._send(effect)
                    else:
                        await self._perform([effect])
                if self.state.caller != caller:
                    caller = self.state.caller
                    self._log.info("authenticated", caller=caller)
                    await self._open_store()
        except TooLarge as fault:
            await self._perform(
                self._protocol.too_large(binary=fault.binary, size=fault.size, limit=fault.limit)
            )
            self._flush()
        except Closed as closed:
            self._log.info("closed", code=int(closed.code))
            self._nursery.cancel_scope.cancel()
        except trio.BrokenResourceError:  # the processor has ended; the server follows
            self.close(CloseCode.GOING_AWAY, SHUTDOWN_REASON)

    def _answer_pings(self, message: str) -> int:
        """Answer a message and those that arrived with it, if all are pings; return their number.

        If it is 0, the message must be handled as any other one; the transport returns those that follow one by one.
        """
        more = self._transport.take_texts()
        texts = [message, *more]
        pongs = self._protocol.pings(self._transport.last_activity, texts)
        if pongs:
            self._metrics.bytes_received["text"] += sum(map(len, texts))
            self._outbox.put_all(pongs)
        elif more:
            self._transport.put_back(more)
        return len(pongs)

    def _handle(self, message: str | bytes) -> Iterable[Effect]:
        """Pass a message to the protocol; return the effects."""
        now = trio.current_time()
        if isinstance(message, str):
            self._metrics.bytes_received["text"] += len(message)
            return self._protocol.text(now, message)
        self._metrics.bytes_received["binary"] += len(message)
        return self._protocol.binary(now, message)

    # --- writing -------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what is waiting: at once if the kernel takes it, otherwise in a writer task."""
        if self._writing or not self._outbox or self._nursery is None or self._ended:
            return
        messages = self._take()
        if messages and self._transport.post(messages):
            self._count(messages)
            messages = ()
            if not self._transport.unsent:
                self._outbox.sent()
                if self._outbox.closing is None:
                    return
        self._writing = True
        self._nursery.start_soon(self._write, messages)

    async def _write(self, messages: Sequence[Outgoing]) -> None:
        """Send these messages and those that arrive meanwhile; at the end of the connection, the close frame."""
        assert self._nursery is not None
        try:
            while messages or self._transport.unsent:
                await self._transport.send(messages)
                self._count(messages)
                self._outbox.sent()
                messages = self._take()
            if self._outbox.closing is None:
                self._writing = False
                return
            code, reason = self._outbox.closing
            self._log.info("closing", code=int(code), reason=reason)
            self._metrics.closes[str(int(code))] += 1
            await self._transport.close(code, reason)
        except Closed as closed:
            self._log.info("closed while sending", code=int(closed.code))
            await trio.sleep(GOODBYE)  # the reader handles what arrived before, and notices the end itself
        except trio.TooSlowError:
            self._drop_peer()
        self._nursery.cancel_scope.cancel()

    def _take(self) -> Sequence[Outgoing]:
        """Take all waiting messages, joined into batches if the peer understands them."""
        messages = self._outbox.take()
        if not self.state.batching:
            return messages
        limits = self._settings.limits
        return batched(messages, max_messages=limits.batch_messages, max_bytes=limits.message_bytes // 2)

    def _count(self, messages: Sequence[Outgoing]) -> None:
        text = binary = 0
        for message in messages:
            if isinstance(message, str):
                text += len(message)
            else:
                binary += len(message)
        if text:
            self._metrics.bytes_sent["text"] += text
        if binary:
            self._metrics.bytes_sent["binary"] += binary

    def _drop_peer(self) -> None:
        """Disconnect a peer that does not read; it would not read a close frame either."""
        self._log.warning("the peer does not read what it is sent")
        self._metrics.closes["unread"] += 1
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _put(self, data: bytes | memoryview) -> int:
        """Send a piece of a file; return the number of its batch."""
        self._outbox.put(data)
        batch = self._outbox.next_batch
        self._flush()
        return batch

    # --- heartbeat -----------------------------------------------------------------------------------

    def _beat(self, now: float) -> float:
        """Probe a silent peer, and disconnect a dead one; return when to check again."""
        assert self._nursery is not None
        transport = self._transport
        action, due = self._liveness.check(
            now, last_activity=transport.last_activity, received=transport.received
        )
        if action is Action.PROBE:
            self._nursery.start_soon(self._probe_peer)
        elif action is not Action.WAIT and transport.rtt is not None:
            self._metrics.heartbeat.observe(transport.rtt)
        if action is Action.DEAD:
            self._nursery.start_soon(self._disconnect_dead_peer)
        return due

    async def _probe_peer(self) -> None:
        await self._ping()
        self._liveness.probe_sent(trio.current_time())

    async def _ping(self) -> None:
        with contextlib.suppress(Closed):  # the reader notices it, too
            await self._transport.probe()  # waits behind what is being sent, which has its own timeout

    async def _disconnect_dead_peer(self) -> None:
        """Send the reason to a peer that seems dead, and disconnect it."""
        silence = self._liveness.silence
        self._log.info("no sign of life", seconds=silence)
        fault = ConnectionLost(
            "connection_lost", f"There was no sign of life for {silence:g} s. Connect again."
        )
        self._send(Send(error_message(fault)))
        self.close(CloseCode.TIMED_OUT, "no sign of life")
        await trio.sleep(GOODBYE)
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    # --- effects -------------------------------------------------------------------------------------

    async def _perform(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in their order, and the effects that follow from them."""
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, Close):
                self._outbox.close(effect.code, effect.reason)
            elif isinstance(effect, StopDownload):
                self._downloads.stop(effect.request)
            else:
                self._flush()  # messages that are ready must not wait for the disk or the processor
                if isinstance(effect, StoreEffect):
                    await self._perform(await self._use_store(effect))
                else:
                    command = commands.Command(self.state.id, effect.request, self.state.caller, effect.ask)
                    await self._shared.processor.send(command)

    def _perform_now(self, effects: Sequence[Effect]) -> None:
        """Carry out effects that need not wait: messages and the close."""
        for effect in effects:
            if isinstance(effect, Close):
                self._outbox.close(effect.code, effect.reason)
            else:
                assert isinstance(effect, Send), effect
                self._send(effect)
        self._flush()

    def _send(self, effect: Send) -> None:
        if isinstance(effect.message, Error) and effect.message.reason in REFUSALS:
            self._log_refusal(effect.message)
        text = effect.encoded or codec.encode(effect.message)
        self._outbox.put(text, replaces=effect.replaces, follows=effect.follows)

    def _log_refusal(self, error: Error) -> None:
        """Log the first refusal for each reason; repetitions are logged in one line at the end."""
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

    async def _use_store(self, effect: StoreEffect) -> list[Effect]:
        """Use the store in a thread; return the effects that the protocol derives from the result."""
        try:
            match effect:
                case ListFiles(request):
                    listing = await trio.to_thread.run_sync(self._store().listing)
                    answer = self._protocol.files(request, listing)
                    return await trio.to_thread.run_sync(_encoded, answer)  # 0.2 s for 100,000 files
                case DeleteFile(request, filename):
                    if self._uploads.has_open(
                        filename
                    ):  # nothing more arrives for it before this message is handled
                        await self._end_upload(filename, deleted=True)
                    async with self._shared.uploads.without((self.state.caller, filename)):
                        await trio.to_thread.run_sync(self._store().delete, filename)
                    return self._protocol.deleted(request)
                case _:
                    return await self._uploads.handle(effect)
        except CreemsonError as error:
            fault = error
        except OSError as error:
            self._log.error("the disk failed", error=str(error))
            fault = disk_error(error)
        if isinstance(effect, DropUpload | RemoveUpload):  # its request has already been answered
            return []
        return self._protocol.fail(effect.request, fault)

    # --- as the holder of an upload ------------------------------------------------------------------

    async def is_alive(self) -> bool:
        """See :meth:`creemson.server.connection.upload_registry.Holder.is_alive`."""
        transport = self._transport
        probe = Probe(trio.current_time(), transport.received)
        until = probe.asked + SIGN_OF_LIFE
        assert self._nursery is not None
        if not self._ended and not self._nursery.cancel_scope.cancel_called:
            self._nursery.start_soon(self._ping)  # in a task of its own: never cancelled within a frame
            while trio.current_time() < until and not self._ended:
                await trio.sleep(SIGN_OF_LIFE / 50)
                last_activity, received = transport.last_activity, transport.received
                if probe.is_answered(until, last_activity=last_activity, received=received):
                    return True
        return False

    async def let_go(self, filename: str, *, deleted: bool) -> None:
        """See :meth:`creemson.server.connection.upload_registry.Holder.let_go`.

        A disconnected peer may have sent more than has been read; that is handled first.
        """
        with trio.move_on_after(SIGN_OF_LIFE):
            seen = -1
            while not self._ended and (seen != self._received or self._liveness.listening_since is None):
                seen = self._received
                await trio.sleep(QUIET)
        await self._end_upload(filename, deleted=deleted)

    async def _end_upload(self, filename: str, *, deleted: bool) -> None:
        """Save and close the upload of a file, if it is open, and report that to the peer."""
        if await self._uploads.save(filename) and not self._ended:
            for effect in self._protocol.upload_taken(deleted=deleted):
                if isinstance(effect, Send):
                    self._send(effect)
            self._flush()

    # --- replies of the processor --------------------------------------------------------------------

    def deliver(self, request: int, reply: commands.Reply) -> None:
        """Handle a reply of the processor: see :class:`creemson.jobs.commands.Port`."""
        if self._uploads.awaits_columns(request):
            self._perform_now(self._uploads.columns_read(request, reply))
        elif not self._protocol.awaits(request):
            return  # it was a download, cancelled while the processor looked for its file
        elif isinstance(reply, commands.FileReady):
            if self._downloads.found(request, reply.path) and not self._ended:
                assert self._nursery is not None
                self._nursery.start_soon(self._downloads.run)
        else:
            if isinstance(reply, Accepted):
                self._log.debug("accepted", job=reply.job, request=self._protocol.id_of(request))
            self._perform_now(self._protocol.reply(request, reply))


def _encoded(effects: Sequence[Effect]) -> list[Effect]:
    """Encode the messages of effects."""
    return [
        attrs.evolve(effect, encoded=codec.encode(effect.message)) if isinstance(effect, Send) else effect
        for effect in effects
    ]
