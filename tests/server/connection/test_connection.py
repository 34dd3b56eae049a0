"""Connections over memory streams and a mock clock: time passes only when nothing else can happen."""

import contextlib
import json
from functools import partial

import pytest
import structlog
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from creemson.errors import CloseCode, ProcessingError
from creemson.processing import mailbox
from creemson.processing.jobs import Accepted, Ended, Progressed
from creemson.server.bucket import Buckets
from creemson.server.connection import Connection
from creemson.server.fast import FastSocket
from creemson.server.gate import Gate
from creemson.server.heartbeats import Heartbeats
from creemson.server.identity import make_authenticator
from creemson.server.listener import Listener
from creemson.server.outbox import Outbox
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.transport import LINGER
from creemson.server.uploads import Uploads
from creemson.settings import Limits, Settings, Timeouts
from creemson.settings import Server as ServerSettings
from creemson.storage.catalog import Catalog
from creemson.storage.store import Store
from creemson.storage.stores import Stores
from creemson.wire import messages
from tests.servers import frame
from tests.test_protocol import COLUMNS, DATA, FIGURES


class MemoryPeer:
    """The client's end of a connection: wsproto over a memory stream."""

    def __init__(self, stream):
        self.stream = stream
        self.wsproto = WSConnection(ConnectionType.CLIENT)
        self.events = []
        self.answers_pings = True

    async def shake_hands(self, path="/ws"):
        await self.send(Request(host="test", target=path))
        assert isinstance(await self.next(), AcceptConnection)

    async def send(self, event):
        await self.stream.send_all(self.wsproto.send(event))

    async def say(self, value):
        await self.send(TextMessage(json.dumps(value)))

    async def next(self):
        """The next event; None at the end of the stream."""
        while not self.events:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.wsproto.receive_data(data)
            for event in self.wsproto.events():
                if isinstance(event, Ping) and self.answers_pings:
                    await self.send(event.response())
                elif self.wsproto.state is WebSocketState.REMOTE_CLOSING:
                    with contextlib.suppress(trio.BrokenResourceError):
                        await self.send(event.response())
                self.events.append(event)
        return self.events.pop(0)

    async def hear(self):
        """The next message, without pings and pongs."""
        while isinstance(event := await self.next(), (Ping, Pong)):
            pass
        return json.loads(event.data) if isinstance(event, TextMessage) else event


def gate_of(settings):
    pace = Buckets(rate=settings.limits.messages_per_s, burst=settings.limits.messages_burst)
    return Gate(make_authenticator(settings), per_caller=2, pace=pace, logger=structlog.get_logger())


class FakeProcessor:
    """Keeps the commands; a test replies as it likes."""

    def __init__(self):
        self.send, self.inbox = trio.open_memory_channel(100)
        self.port = None

    async def next(self):
        command = await self.inbox.receive()
        if isinstance(command, mailbox.Connect):
            self.port = command.port
            return await self.next()
        return command

    def reply(self, command, reply):
        self.port.deliver(command.request, reply)


class World:
    """A listener without a socket, its processor, and the connections that it made."""

    def __init__(self, folder, nursery, **changes):
        self.settings = Settings(**changes)
        catalog = Catalog(folder / "catalog.db")
        catalog.open()
        self.stores = Stores(folder, catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of("ann")
        self.files = self.store.files
        self.uploads = Uploads()
        self.heartbeats = Heartbeats()
        nursery.start_soon(self.heartbeats.run)
        self.processor = FakeProcessor()
        self.connections = []
        self.nursery = nursery
        self.logs = structlog.testing.CapturingLogger()
        self.logger = structlog.wrap_logger(
            self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]
        )
        self.listener = Listener(
            settings=self.settings, connect=self.connect, app=None, gate=gate_of(self.settings),
            draining=trio.Event(), logger=self.logger,
        )  # fmt: skip

    def connect(self, socket, peer, identity=None):
        state = ConnectionState(id=f"c{len(self.connections)}", caller="ann", peer=peer)
        protocol = Protocol(
            state,
            limits=self.settings.limits,
            timeouts=self.settings.timeouts,
            server="test",
            wall_clock=lambda: 1.0,
        )
        connection = Connection(
            socket,
            protocol=protocol,
            processor=self.processor.send,
            stores=self.stores,
            uploads=self.uploads,
            heartbeats=self.heartbeats,
            settings=self.settings,
            logger=self.logger,
        )
        self.connections.append(connection)
        return connection

    async def peer(self, *, shaken=True, pair=memory_stream_pair):
        ours, theirs = pair()
        self.nursery.start_soon(self.listener.serve_stream, theirs, "memory")
        peer = MemoryPeer(ours)
        if shaken:
            await peer.shake_hands()
        return peer

    def logged(self):
        return [call.kwargs["event"] for call in self.logs.calls]


@pytest.fixture(params=["fast", "plain"])
async def make_world(request, tmp_path, nursery):
    """Makes a world with the settings given; each test runs over both transports."""
    return partial(World, tmp_path, nursery, server=ServerSettings(transport=request.param))


@pytest.fixture
async def world(make_world):
    return make_world()


async def test_a_ping_is_answered(world, autojump_clock):
    """The whole road in memory."""
    peer = await world.peer()
    await peer.say({"type": "ping", "id": "a"})
    assert await peer.hear() == {"type": "pong", "id": "a", "time": 1.0}


async def test_a_job_is_submitted_and_its_end_is_told(world, autojump_clock):
    """The command has what the processor needs; progress that was not sent yet is overwritten."""
    peer = await world.peer()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv", "timeout": 7})
    command = await world.processor.next()
    assert (command.connection, command.caller, command.timeout, command.keep) == ("c0", "ann", 7.0, True)
    assert world.connections[0].state.processing == 1
    world.processor.reply(command, Accepted("j", 0))
    for seq in range(1, 6):
        world.processor.reply(command, Progressed("j", seq, FIGURES))
    world.processor.reply(command, Ended("j", 6, DATA, cached=True))
    assert (await peer.hear())["type"] == "accepted"
    assert (await peer.hear())["seq"] == 5
    result = await peer.hear()
    assert (result["seq"], result["data"]["output_data"]["cached"]) == (6, True)
    assert world.connections[0].state.processing == 0


async def test_errors_columns_and_cancels_are_told(world, autojump_clock):
    """Each reply of the processor becomes its message."""
    peer = await world.peer()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv"})
    job = await world.processor.next()
    await peer.say({"type": "cancel", "id": "c", "request": "p"})
    cancel = await world.processor.next()
    assert cancel == mailbox.CancelRequest("c0", cancel.request, job.request)
    world.processor.reply(cancel, mailbox.Cancelled("j"))
    world.processor.reply(job, Ended("j", 1, error=ProcessingError("cancelled", "It was.")))
    assert (await peer.hear()) == {"type": "cancelled", "id": "c", "job": "j"}
    assert (await peer.hear())["reason"] == "cancelled"
    await peer.say({"type": "cancel", "id": "c", "job": "j"})
    assert isinstance(await world.processor.next(), mailbox.CancelJob)
    await peer.say({"type": "columns", "id": "d", "filename": "a.csv"})
    world.processor.reply(
        await world.processor.next(), mailbox.ColumnsRead(messages.Described(columns=COLUMNS))
    )
    assert (await peer.hear())["columns"] == [{"index": 0, "name": "a", "dtype": "Int64"}]


async def test_a_lost_connection_is_told_to_the_processor(world, autojump_clock):
    """So that the jobs which nobody wants are stopped."""
    peer = await world.peer()
    await peer.stream.aclose()
    assert await world.processor.next() == mailbox.Disconnect("c0")


async def test_a_polite_close_is_answered(world, autojump_clock):
    """With the same code; then nothing of the connection is left."""
    peer = await world.peer()
    await peer.send(CloseConnection(1000, "bye"))
    event = await peer.next()
    assert (event.code, event.reason) == (1000, "bye")
    assert await world.processor.next() == mailbox.Disconnect("c0")
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 0


async def test_heartbeat_of_a_peer_that_lives(world, autojump_clock):
    """A peer that answers pings is kept for as long as it likes."""
    peer = await world.peer()
    pings = [await peer.next() for _ in range(10)]
    assert all(isinstance(event, Ping) for event in pings)
    assert trio.current_time() == pytest.approx(10 * 20.0, abs=21)


async def test_a_busy_server_takes_nobody_for_silent(world, autojump_clock, monkeypatch):
    """While a message is in work for minutes, such as an upload on a slow disk, what comes is not read."""
    peer = await world.peer()
    perform = world.connections[0]._perform

    async def slowly(effects):
        await trio.sleep(300)
        await perform(effects)

    monkeypatch.setattr(world.connections[0], "_perform", slowly)
    for name in "abcd":
        await peer.say({"type": "jobs", "id": name})
    for _ in range(4):
        world.processor.reply(await world.processor.next(), mailbox.JobsListed(()))
    assert [(await peer.hear())["id"] for _ in range(4)] == list("abcd")
    assert trio.current_time() == pytest.approx(1200)


async def test_heartbeat_of_a_peer_that_is_silent(world, autojump_clock):
    """No sign of life for interval and timeout: close code 4408."""
    began = trio.current_time()
    peer = await world.peer()
    peer.answers_pings = False
    assert isinstance(await peer.next(), Ping)
    assert trio.current_time() - began == pytest.approx(20.0)
    assert (await peer.hear())["reason"] == "connection_lost"
    event = await peer.next()
    assert event.code == CloseCode.TIMED_OUT
    assert trio.current_time() - began == pytest.approx(40.0)
    assert "no sign of life" in world.logged()


async def test_any_whole_frame_is_a_sign_of_life(world, autojump_clock):
    """Who talks is not asked."""
    peer = await world.peer()
    peer.answers_pings = False
    for _ in range(20):
        await trio.sleep(15)
        await peer.say({"type": "ping"})
        assert (await peer.hear())["type"] == "pong"
    await trio.sleep(10)
    await peer.send(Pong())
    await trio.sleep(15)
    await peer.send(Ping())
    assert isinstance(await peer.next(), Pong)
    assert peer.events == []


LARGE = json.dumps({"type": "ping", "pad": "x" * 100_000}).encode()


async def send_slowly(peer, data, *, piece, seconds):
    for start in range(0, len(data), piece):
        await trio.sleep(seconds)
        await peer.stream.send_all(data[start : start + piece])


async def test_a_large_message_may_take_its_time(world, autojump_clock):
    """2 KiB/s are a sign of life, though no pong can come before the frame has ended."""
    peer = await world.peer()
    peer.answers_pings = False
    began = trio.current_time()
    await send_slowly(peer, frame(LARGE), piece=4096, seconds=2)
    assert (await peer.hear())["type"] == "pong"
    assert trio.current_time() - began == pytest.approx(50, abs=2)


@pytest.mark.parametrize(
    ("sent", "piece"),
    [
        (frame(LARGE), 1),
        (frame(LARGE), 512),
        (frame(b"{", final=False) + 100 * frame(b"", 0, final=False), 6),
    ],
    ids=["byte by byte", "half as fast as necessary", "in fragments"],
)
async def test_a_peer_that_dribbles_is_dropped(world, autojump_clock, sent, piece):
    """What comes now and then is no sign of life before it is a message."""
    began = trio.current_time()
    peer = await world.peer()
    peer.answers_pings = False
    async with trio.open_nursery() as dribbling:
        dribbling.start_soon(partial(send_slowly, peer, sent, piece=piece, seconds=1))
        assert (await peer.hear())["reason"] == "connection_lost"
        assert (await peer.next()).code == CloseCode.TIMED_OUT
        dribbling.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(40.0, abs=1)


async def test_an_upload_over_a_slow_link_is_not_taken_for_dead(world, autojump_clock):
    """Who is in the middle of a chunk cannot answer a ping before its end; bytes are an answer, too."""
    peer = await world.peer()
    peer.answers_pings = False
    await peer.stream.send_all(frame(LARGE, opcode=2)[:1000])
    async with trio.open_nursery() as sending:
        sending.start_soon(partial(send_slowly, peer, LARGE, piece=512, seconds=0.1))
        assert await world.connections[0].is_alive()
        sending.cancel_scope.cancel()
    assert not await world.connections[0].is_alive()


async def test_a_message_in_a_thousand_fragments_takes_no_more_room(world):
    """Nothing is kept of empty fragments, and those of one byte are joined as they come."""
    peer = await world.peer()
    socket = world.connections[0]._transport
    fast = isinstance(socket, FastSocket)
    parts = [] if fast else socket._message_parts

    def held():
        return socket._frames._text.getvalue() if fast else "".join(parts)

    padded = json.dumps({"type": "ping", "pad": "é" * 2000}, ensure_ascii=False).encode()
    await peer.stream.send_all(frame(padded[:1], final=False))
    await peer.stream.send_all(5000 * frame(b"", 0, final=False))
    await trio.testing.wait_all_tasks_blocked()
    assert len(parts) <= 1
    assert held() == "{"
    await peer.stream.send_all(
        b"".join(frame(padded[n : n + 1], 0, final=False) for n in range(1, len(padded)))
    )
    await trio.testing.wait_all_tasks_blocked()
    assert len(parts) < 1010
    assert held().encode() == padded
    await peer.stream.send_all(frame(b"", 0))
    assert (await peer.hear())["type"] == "pong"


async def test_who_is_told_goodbye_can_answer(world):
    """Until its close frame, what the peer has still sent is read, and its pings are not answered."""
    peer = await world.peer()
    world.listener.close(CloseCode.GOING_AWAY, "bye")
    await trio.testing.wait_all_tasks_blocked()
    await peer.stream.send_all(frame(b"", opcode=9) + frame(b"late"))
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 1
    assert (await peer.next()).code == CloseCode.GOING_AWAY
    assert await peer.stream.receive_some() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 0
    assert "connection failed unexpectedly" not in world.logged()


@pytest.mark.parametrize("path", ["/ws", "/elsewhere"])
async def test_a_peer_that_leaves_before_the_handshake_is_answered(world, path):
    """It is nothing to be logged."""
    peer = await world.peer(shaken=False)
    await peer.stream.receive_stream.aclose()
    await peer.send(Request(host="test", target=path))
    await trio.testing.wait_all_tasks_blocked()
    assert not [call for call in world.logs.calls if call.method_name in {"exception", "error"}]


async def test_a_message_counts_once_however_it_is_cut(make_world):
    """One of exactly the limit, in fragments with a ping between, is served wherever a segment ends."""
    message = json.dumps({"type": "ping", "id": "p", "pad": "x" * 161}).encode()
    world = make_world(limits=Limits(message_bytes=len(message)))
    peer = await world.peer()
    sent = frame(message[:150], final=False) + frame(b"", opcode=9) + frame(message[150:], opcode=0)
    assert len(message) - 150 < 126 < 150  # both kinds of headers
    for cut in range(1, len(sent)):
        for piece in (sent[:cut], sent[cut:]):
            await peer.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await peer.hear())["type"] == "pong", cut
    await peer.stream.send_all(frame(message[:150], final=False) + frame(message[150:] + b" ", opcode=0))
    assert (await peer.hear())["reason"] == "message_too_large"


async def test_the_heartbeat_is_a_setting(make_world, autojump_clock):
    """`timeouts.heartbeat_interval` and `timeouts.heartbeat_timeout`."""
    world = make_world(timeouts=Timeouts(heartbeat_interval=3.0, heartbeat_timeout=2.0))
    peer = await world.peer()
    peer.answers_pings = False
    assert (await peer.hear())["reason"] == "connection_lost"
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_handshake_that_never_comes(world, autojump_clock):
    """After `timeouts.handshake` the socket is closed."""
    peer = await world.peer(shaken=False)
    assert await peer.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(10.0)


async def test_a_peer_that_does_not_read(make_world, autojump_clock):
    """A piece that is not taken within `timeouts.send` ends the connection."""
    world = make_world(timeouts=Timeouts(send=3.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.say({"type": "ping"})
    assert await world.processor.next() == mailbox.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(3.0)
    assert "the peer does not read what it is sent" in world.logged()


async def test_a_peer_that_takes_what_had_to_wait_lives(make_world, autojump_clock):
    """Its pong may be long in coming, if the ping is behind a full buffer; at the end, it has to come."""
    world = make_world()
    peer = await world.peer(pair=lockstep_stream_pair)
    peer.answers_pings = False
    await trio.sleep(0.1)
    for _ in range(20):
        world.connections[0]._put("x" * 50_000)
    for _ in range(20):
        await trio.sleep(10)
        while isinstance(event := await peer.next(), Ping) or not event.message_finished:
            pass
        assert isinstance(event, TextMessage)
    began = trio.current_time()
    assert began > 200
    assert (await peer.hear())["reason"] == "connection_lost"
    assert trio.current_time() - began == pytest.approx(40.0, abs=1)


@pytest.mark.parametrize(("asking", "seconds"), [(Ping(), 3.0), (CloseConnection(1000), LINGER)])
async def test_a_peer_that_does_not_read_what_frames_answer(make_world, autojump_clock, asking, seconds):
    """Pongs have the same time, and close frames less; the connection ends without an error of ours."""
    world = make_world(timeouts=Timeouts(send=3.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.send(asking)
    assert await world.processor.next() == mailbox.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(seconds)
    assert world.logged() == ["closed"]


async def test_a_ping_behind_a_message_that_nobody_reads(make_world, autojump_clock):
    """It waits no longer than the message."""
    world = make_world(timeouts=Timeouts(send=3.0, heartbeat_interval=1.0, heartbeat_timeout=9.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.say({"type": "ping"})
    assert await world.processor.next() == mailbox.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(3.0)
    assert "connection failed unexpectedly" not in world.logged()


async def test_a_peer_that_reads_slowly_is_kept(make_world, autojump_clock):
    """`timeouts.send` holds for each piece, not for the message; the heartbeat's ping waits for its turn."""
    world = make_world(timeouts=Timeouts(send=3.0, heartbeat_interval=4.0, heartbeat_timeout=4.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    text = "x" * 2**20
    await trio.sleep(0.1)
    world.connections[0]._put(text)
    began = trio.current_time()
    received = ""
    while len(received) < len(text):
        await trio.sleep(2.5)
        peer.wsproto.receive_data(await peer.stream.receive_some(64 * 1024))
        for event in peer.wsproto.events():
            assert isinstance(event, TextMessage)
            received += event.data
    assert received == text
    assert trio.current_time() - began > 16 * 2.5
    assert isinstance(await peer.next(), Ping)
    await peer.say({"type": "ping"})
    assert (await peer.hear())["type"] == "pong"


async def test_an_outbox_that_overflows(make_world, autojump_clock):
    """More than `limits.outbox_bytes` unsent: at once."""
    world = make_world(limits=Limits(outbox_bytes=5000))
    connection = world.connect(StuckTransport(messages=100), "stuck")
    began = trio.current_time()
    await connection.run()
    assert trio.current_time() == began
    assert "the peer does not read what it is sent" in world.logged()


class StuckTransport:
    """A peer that asks and never reads."""

    def __init__(self, messages=1):
        self.messages = messages
        self.last_activity = trio.current_time()
        self.received = 0
        self.rtt = None
        self.unsent = b""

    def next(self):
        return None

    def post(self, messages):
        return False

    async def receive(self):
        await trio.lowlevel.checkpoint()
        if not self.messages:
            await trio.sleep_forever()
        self.messages -= 1
        return '{"type": "hello", "version": 1}'

    async def send(self, messages):
        await trio.sleep_forever()

    async def close(self, code, reason=""):
        raise AssertionError

    async def probe(self):
        await trio.lowlevel.checkpoint()


async def test_an_unexpected_fault_is_contained(world, autojump_clock):
    """A fault in one connection ends it with 1011, and the next one is served."""
    peer = await world.peer()

    def broken(now, text):
        raise ZeroDivisionError

    world.connections[0]._protocol.ping = broken
    await peer.say({"type": "ping"})
    assert (await peer.next()).code == CloseCode.INTERNAL
    assert "connection failed unexpectedly" in world.logged()
    other = await world.peer()
    await other.say({"type": "ping"})
    assert (await other.hear())["type"] == "pong"


async def test_an_upload_in_memory(world):
    """Written, finished, and answered with the columns that the processor finds."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.send(BytesMessage(b"a\n1\n2\n"))
    command = await world.processor.next()
    assert command == mailbox.ReadColumns("c0", command.request, "ann", "a.csv")
    assert world.files.find("a.csv").read_bytes() == b"a\n1\n2\n"
    world.processor.reply(command, mailbox.ColumnsRead(messages.Described(columns=COLUMNS)))
    assert (await peer.hear())["type"] == "uploaded"


async def test_a_disk_that_fails_is_told(world, monkeypatch):
    """In an upload and in a download; the connection goes on."""
    peer = await world.peer()
    monkeypatch.setattr(
        Store, "begin", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("internal", "u")
    await peer.say({"type": "download", "id": "d", "filename": "a.csv"})
    world.processor.reply(await world.processor.next(), mailbox.FileReady(world.files.root))
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("internal", "d")


async def test_a_processor_that_is_gone_does_not_keep_a_connection(world, autojump_clock):
    """At shutdown the processor may end first."""
    peer = await world.peer()
    world.processor.inbox.close()
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 0


async def test_draining_and_closing(world, autojump_clock):
    """New work is refused; then everybody is told 1001."""
    peers = [await world.peer() for _ in range(3)]
    world.listener.stop()
    await peers[0].say({"type": "upload", "id": "u", "filename": "a.csv", "size": 1})
    assert (await peers[0].hear())["reason"] == "shutting_down"
    world.listener.close(CloseCode.GOING_AWAY, "bye")
    for peer in peers:
        event = await peer.next()
        assert (event.code, event.reason) == (1001, "bye")


async def test_neighbouring_answers_travel_in_one_batch(world, autojump_clock):
    """After a batch of the client's; binary frames keep their place."""
    peer = await world.peer()
    await peer.say({"type": "batch", "messages": [{"type": "ping", "id": str(n)} for n in range(3)]})
    answer = await peer.hear()
    assert [member["id"] for member in answer["messages"]] == ["0", "1", "2"]
    connection = world.connections[0]
    joined = connection._batched(["a", "b", b"c", "d", "e", "f"])
    assert joined == ['{"type":"batch","messages":[a,b]}', b"c", '{"type":"batch","messages":[d,e,f]}']
    large = "x" * (world.settings.limits.message_bytes // 4)
    assert connection._batched([large, large, large])[1:] == [large, large]


async def test_the_outbox_bounds_and_replaces(autojump_clock):
    """Newer progress takes the place of older; what is over the limit is reported."""
    overflows = []
    outbox = Outbox(100, on_overflow=lambda: overflows.append(True))
    outbox.put("a")
    outbox.put("old", replaces=1)
    outbox.put("b")
    outbox.put("newer", replaces=1)
    assert outbox.take() == ["a", "newer", "b"]
    outbox.sent()
    outbox.put("later", replaces=1)
    assert outbox.take() == ["later"]
    outbox.sent()
    outbox.put("x" * 200)
    assert overflows == [], "a single large answer is none"
    outbox.put("y")
    outbox.put("z")
    assert overflows == [True], "told once"
    outbox.close(1000, "")
    outbox.close(1001, "only the first counts")
    outbox.put("too late")
    assert outbox.take() == ["x" * 200, "y"]
    assert outbox.take() == []
    assert outbox.closing == (1000, "")


async def test_progress_does_not_overtake_what_was_logged_before_it(autojump_clock):
    """It replaces older progress of its job only if nothing of the job stands between them."""
    outbox = Outbox(100, on_overflow=lambda: None)
    outbox.put("p1", replaces=1)
    outbox.put("q1", replaces=2)
    outbox.put("log", follows=1)
    outbox.put("p2", replaces=1)
    outbox.put("p3", replaces=1)
    outbox.put("q2", replaces=2)
    assert outbox.take() == ["p1", "q2", "log", "p3"]


async def test_a_file_that_is_found_too_late_hurts_nobody(world):
    """The connection has ended when the processor, which does not know it yet, delivers."""
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.csv"})
    command = await world.processor.next()
    await peer.stream.aclose()
    assert await world.processor.next() == mailbox.Disconnect("c0")
    world.processor.reply(command, mailbox.FileReady(world.files.root / "a.csv"))


async def test_a_file_that_is_not_found_for_a_download_that_was_given_up(world):
    """It has been answered already."""
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.csv"})
    command = await world.processor.next()
    await peer.say({"type": "cancel", "id": "c", "request": "d"})
    assert [(await peer.hear())["type"] for _ in range(2)] == ["error", "cancelled"]
    missing = ProcessingError("file_not_found", "There is none.")
    world.processor.reply(command, Ended(None, None, error=missing))
    await peer.say({"type": "ping", "id": "p"})
    assert (await peer.hear())["id"] == "p"


@pytest.mark.parametrize("when", ["before it is found", "at once", "while it is sent"])
async def test_a_download_that_is_given_up(world, when):
    """Whenever that is: it ends in `cancelled`, no byte comes after that, and the connection goes on."""
    (world.files.uploads / "a.bin").write_bytes(bytes(50_000_000))
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
    command = await world.processor.next()
    if when == "before it is found":
        await peer.say({"type": "cancel", "id": "c", "request": "d"})
        assert (await peer.hear())["reason"] == "cancelled"
    world.processor.reply(command, mailbox.FileReady(world.files.uploads / "a.bin"))
    if when == "while it is sent":
        assert (await peer.hear())["type"] == "download"
    if when != "before it is found":
        await peer.say({"type": "cancel", "id": "c", "request": "d"})
        while isinstance(message := await peer.hear(), BytesMessage) or message["type"] == "download":
            pass
        assert message["reason"] == "cancelled"
    assert (await peer.hear()) == {"type": "cancelled", "id": "c"}
    (world.files.uploads / "b.bin").write_bytes(b"b")
    await peer.say({"type": "download", "id": "e", "filename": "b.bin"})
    world.processor.reply(await world.processor.next(), mailbox.FileReady(world.files.uploads / "b.bin"))
    assert (await peer.hear())["type"] == "download"
    assert (await peer.hear()).data == b"b"
    assert (await peer.hear())["type"] == "downloaded"


async def test_a_file_that_is_removed_before_it_is_sent(world):
    """It is not found; that is no fault of the server's."""
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
    world.processor.reply(await world.processor.next(), mailbox.FileReady(world.files.uploads / "a.bin"))
    assert (await peer.hear())["reason"] == "file_not_found"
    assert "download failed" not in world.logged()


async def test_signs_of_life(world, autojump_clock):
    """A peer that answers lives; one that is silent, is closing, or has gone, does not. Nothing else happens."""
    peers = [await world.peer() for _ in range(4)]
    for peer in peers:
        await peer.say({"type": "ping"})
        await peer.hear()
    living, silent, closing, gone = world.connections
    peers[1].answers_pings = peers[2].answers_pings = False
    await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers[0].next)
        assert await living.is_alive()
        nursery.cancel_scope.cancel()
    assert not await silent.is_alive()
    closing.close(CloseCode.NORMAL, "")
    assert not await closing.is_alive()
    await peers[3].stream.aclose()
    assert not await gone.is_alive()
    assert not await gone.is_alive()
    assert "connection failed unexpectedly" not in world.logged()


async def test_a_connection_that_comes_when_the_processor_has_gone(world, autojump_clock):
    """It is told that the server is going away."""
    world.processor.inbox.close()
    peer = await world.peer()
    assert (await peer.next()).code == CloseCode.GOING_AWAY


async def test_work_that_comes_when_the_processor_has_gone(world, autojump_clock):
    """So is one that asks for something."""
    peer = await world.peer()
    world.processor.inbox.close()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv"})
    assert (await peer.next()).code == CloseCode.GOING_AWAY


async def test_a_handshake_while_draining(world, autojump_clock):
    """503: it would find nobody to serve it."""
    world.listener.stop()
    peer = await world.peer(shaken=False)
    await peer.send(Request(host="test", target="/ws"))
    assert (await peer.next()).status_code == 503


async def test_more_bytes_than_announced_take_the_file_back(world):
    """Also when they come after the file is complete; the late reply of the processor finds nobody."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.send(BytesMessage(b"a\n1\n2\n"))
    command = await world.processor.next()
    await peer.send(BytesMessage(b"3\n"))
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("size_mismatch", "u")
    assert list(world.files.uploads.iterdir()) == []
    world.processor.reply(command, mailbox.ColumnsRead(messages.Described(columns=COLUMNS)))
    await peer.say({"type": "ping", "id": "p"})
    assert (await peer.hear())["type"] == "pong"


def begun(world):
    """Bytes of the unfinished upload."""
    [part] = (world.files.root / "parts").iterdir()
    return part.stat().st_size


async def test_an_upload_that_is_taken_over_keeps_all_that_has_come(world):
    """What the peer had sent before it went is taken in first."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.stream.send_all(b"".join(peer.wsproto.send(BytesMessage(b"12345")) for _ in range(12)))
    await world.connections[0].let_go()
    assert begun(world) == 60
    while (message := await peer.hear())["type"] == "upload_progress":
        pass
    assert (message["reason"], message["id"]) == ("cancelled", "u")


async def test_what_came_before_a_connection_broke_counts(world):
    """Also if it is an answer that cannot be sent which shows the break."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.stream.receive_stream.aclose()
    await peer.send(TextMessage('{"type": "ping"}'))
    for _ in range(12):
        await peer.send(BytesMessage(b"12345"))
        await trio.testing.wait_all_tasks_blocked(0.001)
    await peer.stream.aclose()
    assert await world.processor.next() == mailbox.Disconnect("c0")
    assert begun(world) == 60
