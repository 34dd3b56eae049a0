"""Connections over memory streams with a mock clock: time passes only when every task is blocked."""

import contextlib
import gc
import itertools
import json
import random
import threading
from functools import partial

import h11
import pytest
import structlog
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import CloseCode, ProcessingError
from creemson.jobs import commands
from creemson.jobs.events import Accepted, Ended, Progressed
from creemson.metrics import Metrics
from creemson.model.results import Described
from creemson.server.auth.authenticators import make_authenticator
from creemson.server.auth.callers import Callers
from creemson.server.auth.rate_limit import TokenBuckets
from creemson.server.connection.connection import Connection, Shared
from creemson.server.connection.outbox import Outbox
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.state import ConnectionState
from creemson.server.connection.upload_registry import UploadRegistry
from creemson.server.heartbeats import Heartbeats
from creemson.server.listener import Listener
from creemson.server.refusals import Refusals
from creemson.server.transport.closing import LINGER, Draining
from creemson.server.transport.websocket import WebSocket
from creemson.settings.sections import Limits, Settings, Timeouts
from creemson.settings.sections import Server as ServerSettings
from creemson.storage.folder.uploads import FolderUploads
from creemson.storage.stores import Stores
from creemson.wire import codec, messages
from tests.server.connection.test_protocol import COLUMNS, DATA, FIGURES
from tests.servers import PATIENCE, frame


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


def callers_of(settings):
    pace = TokenBuckets(rate=settings.limits.messages_per_s, burst=settings.limits.messages_burst)
    return Callers(make_authenticator(settings), per_caller=2, pace=pace, logger=structlog.get_logger())


class FakeProcessor:
    """Queues the commands; the test sends the replies."""

    def __init__(self):
        self.send, self.inbox = trio.open_memory_channel(100)
        self.port = None

    async def next(self):
        command = await self.inbox.receive()
        if isinstance(command, commands.Connect):
            self.port = command.port
            return await self.next()
        return command

    async def ignore(self):
        """Receive commands and answer none."""
        async for _ in self.inbox:
            pass

    def reply(self, command, reply):
        self.port.deliver(command.request, reply)


class World:
    """A listener without a socket, its processor, and the connections it created."""

    def __init__(self, folder, nursery, **changes):
        self.settings = Settings(**changes)
        catalog = SqliteCatalog(folder / "catalog.db")
        catalog.open()
        self.stores = Stores(folder, catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of("ann")
        self.files = self.store._files
        self.uploads = UploadRegistry()
        self.heartbeats = Heartbeats()
        nursery.start_soon(self.heartbeats.run)
        self.processor = FakeProcessor()
        self.shared = Shared(
            settings=self.settings, processor=self.processor.send, stores=self.stores, uploads=self.uploads,
            heartbeats=self.heartbeats, callers=None, metrics=Metrics(), wall_clock=lambda: 1.0,
        )  # fmt: skip
        self.connections = []
        self.nursery = nursery
        self.logs = structlog.testing.CapturingLogger()
        self.logger = structlog.wrap_logger(
            self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]
        )
        self.listener = Listener(
            settings=self.settings, connect=self.connect, app=None, callers=callers_of(self.settings),
            draining=Draining(), refusals=Refusals(Metrics(), self.logger), logger=self.logger,
        )  # fmt: skip

    def connect(self, socket, peer, identity=None):
        state = ConnectionState(id=f"c{len(self.connections)}", caller="ann", peer=peer)
        connection = Connection(socket, state, shared=self.shared, logger=self.logger)
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
    """Creates a world with the given settings; each test runs on both transports."""
    return partial(World, tmp_path, nursery, server=ServerSettings(transport=request.param))


@pytest.fixture
async def world(make_world):
    return make_world()


async def test_ping_is_answered_with_pong(world, autojump_clock):
    """The whole data flow in memory."""
    peer = await world.peer()
    await peer.say({"type": "ping", "id": "a"})
    assert await peer.hear() == {"type": "pong", "id": "a", "time": 1.0}


def pings_of(*ids):
    """Pings in a frame each."""
    return b"".join(frame(json.dumps({"type": "ping", "id": id_}).encode()) for id_ in ids)


async def test_messages_that_arrive_together_are_answered_in_order(world, autojump_clock):
    """Pings together, others one by one; what is counted is the same as if each had come alone."""
    peer = await world.peer()
    other = json.dumps({"type": "process", "id": "wrong"}).encode()
    await peer.stream.send_all(pings_of("a", "b", "c"))
    assert [(await peer.hear())["id"] for _ in range(3)] == ["a", "b", "c"]
    await peer.stream.send_all(pings_of("d", "e") + frame(other) + pings_of("f", "g"))
    answers = [await peer.hear() for _ in range(5)]
    assert [answer["id"] for answer in answers] == ["d", "e", "wrong", "f", "g"]
    assert [answer["type"] for answer in answers] == ["pong", "pong", "error", "pong", "pong"]
    metrics = world.shared.metrics
    assert metrics.received["ping"] == metrics.sent["pong"] == world.connections[0].state.messages - 1 == 7
    assert metrics.bytes_received["text"] == 7 * len('{"type": "ping", "id": "a"}') + len(other)
    assert world.connections[0].state.last_activity == trio.current_time()


async def test_pings_above_the_rate_are_refused_one_by_one(make_world, autojump_clock):
    """Those that the burst allows are answered, whatever arrives with them."""
    world = make_world(limits=Limits(messages_per_s=1.0, messages_burst=3))
    peer = await world.peer()
    await peer.stream.send_all(pings_of("a", "b", "c", "d", "e"))
    answers = [await peer.hear() for _ in range(5)]
    assert [answer["id"] for answer in answers] == ["a", "b", "c", "d", "e"]
    assert [answer.get("reason") for answer in answers] == [None, None, None, "rate_limited", "rate_limited"]
    await trio.sleep(2)
    await peer.stream.send_all(pings_of("f", "g"))
    assert [(await peer.hear())["type"] for _ in range(2)] == ["pong", "pong"]


async def test_many_pings_that_arrive_together_let_others_have_their_turn(tmp_path, nursery, autojump_clock):
    """After a hundred messages, although nothing has to wait."""
    world = World(tmp_path, nursery)
    peer = await world.peer()
    turns = []
    checkpoint = trio.lowlevel.checkpoint

    async def counted():
        turns.append(world.connections[0].state.messages)
        await checkpoint()

    await peer.stream.send_all(pings_of(*map(str, range(250))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("creemson.server.connection.connection.trio.lowlevel.checkpoint", counted)
        answers = [await peer.hear() for _ in range(250)]
    assert [answer["id"] for answer in answers] == list(map(str, range(250)))
    assert [count for count in turns if count] == [100, 200]


async def test_idle_connection_keeps_nothing_of_its_request(tmp_path, nursery, autojump_clock):
    """Most connections are idle most of the time: what each of them takes limits their number."""
    world = World(tmp_path, nursery)
    peer = await world.peer(shaken=False)
    await peer.shake_hands("/ws?unlike=others")
    await peer.say({"type": "ping", "id": "a"})
    await peer.hear()
    await wait_all_tasks_blocked()
    gc.collect()
    requests = [thing for thing in gc.get_objects() if type(thing) is h11.Request]
    assert not [request for request in requests if b"unlike" in request.target]


async def test_folders_of_a_new_caller_are_created_in_a_thread(world, autojump_clock, monkeypatch):
    """That waits for the disk; whoever needs them later does not."""
    world.stores._stores.clear()
    in_event_loop = []
    of = Stores.of

    def recorded(stores, caller):
        in_event_loop.append(threading.current_thread() is threading.main_thread())
        return of(stores, caller)

    monkeypatch.setattr(Stores, "of", recorded)
    peer = await world.peer()
    await peer.say({"type": "ping", "id": "a"})
    await peer.hear()
    assert in_event_loop == [False]
    assert world.stores.is_open("ann")


async def test_list_of_files_is_encoded_in_a_thread(world, monkeypatch):
    """A list of 100,000 files takes a fifth of a second, in which the event loop serves others."""
    in_event_loop = []
    encode = codec.encode

    def recorded(message):
        if isinstance(message, messages.Files):
            in_event_loop.append(threading.current_thread() is threading.main_thread())
        return encode(message)

    monkeypatch.setattr(codec, "encode", recorded)
    (world.files.uploads / "a.csv").write_bytes(b"a\n")
    peer = await world.peer()
    await peer.say({"type": "files", "id": "f"})
    assert [info["filename"] for info in (await peer.hear())["files"]] == ["a.csv"]
    assert in_event_loop == [False]


async def test_process_submits_a_job_and_sends_its_result(world, autojump_clock):
    """The command has what the processor needs; newer progress replaces progress not sent yet."""
    peer = await world.peer()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv", "timeout": 7})
    command = await world.processor.next()
    assert (command.connection, command.caller, command.ask.timeout, command.ask.keep) == (
        "c0",
        "ann",
        7.0,
        True,
    )
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


async def test_reply_of_the_processor_is_sent_as_its_message(world, autojump_clock):
    """Cancellations, errors and columns each become the right message."""
    peer = await world.peer()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv"})
    job = await world.processor.next()
    await peer.say({"type": "cancel", "id": "c", "request": "p"})
    cancel = await world.processor.next()
    assert cancel == commands.Command("c0", cancel.request, "ann", commands.CancelRequest(job.request))
    world.processor.reply(cancel, commands.Cancelled("j"))
    world.processor.reply(job, Ended("j", 1, error=ProcessingError("cancelled", "It was.")))
    assert (await peer.hear()) == {"type": "cancelled", "id": "c", "job": "j"}
    assert (await peer.hear())["reason"] == "cancelled"
    await peer.say({"type": "cancel", "id": "c", "job": "j"})
    assert isinstance((await world.processor.next()).ask, commands.CancelJob)
    await peer.say({"type": "columns", "id": "d", "filename": "a.csv"})
    world.processor.reply(await world.processor.next(), commands.ColumnsRead(Described(columns=COLUMNS)))
    assert (await peer.hear())["columns"] == [{"index": 0, "name": "a", "dtype": "Int64"}]


async def test_lost_connection_is_reported_to_the_processor(world, autojump_clock):
    """The processor can then stop jobs that nobody waits for."""
    peer = await world.peer()
    await peer.stream.aclose()
    assert await world.processor.next() == commands.Disconnect("c0")


async def test_close_frame_is_answered_with_the_same_code(world, autojump_clock):
    """Afterwards nothing of the connection is left."""
    peer = await world.peer()
    await peer.send(CloseConnection(1000, "bye"))
    event = await peer.next()
    assert (event.code, event.reason) == (1000, "bye")
    assert await world.processor.next() == commands.Disconnect("c0")
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 0


async def test_heartbeat_of_a_responsive_peer_keeps_the_connection(world, autojump_clock):
    """A peer that answers pings stays connected without limit."""
    peer = await world.peer()
    pings = [await peer.next() for _ in range(10)]
    assert all(isinstance(event, Ping) for event in pings)
    assert trio.current_time() == pytest.approx(10 * 20.0, abs=21)


async def test_heartbeat_while_a_message_is_processed_does_not_time_out(world, autojump_clock, monkeypatch):
    """While one message takes minutes, e.g. an upload to a slow disk, nothing else is read."""
    peer = await world.peer()
    perform = world.connections[0]._perform

    async def slowly(effects):
        await trio.sleep(300)
        await perform(effects)

    monkeypatch.setattr(world.connections[0], "_perform", slowly)
    for name in "abcd":
        await peer.say({"type": "jobs", "id": name})
    for _ in range(4):
        world.processor.reply(await world.processor.next(), commands.JobsListed(()))
    assert [(await peer.hear())["id"] for _ in range(4)] == list("abcd")
    assert trio.current_time() == pytest.approx(1200)


async def test_heartbeat_of_a_silent_peer_closes_with_4408(world, autojump_clock):
    """No sign of life for the interval plus the timeout: close code 4408."""
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


async def test_any_complete_frame_counts_as_a_sign_of_life(world, autojump_clock):
    """A peer that sends frames is not pinged."""
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


async def test_large_message_at_2_kib_per_s_keeps_the_connection(world, autojump_clock):
    """2 KiB/s are a sign of life, though no pong can come before the end of the frame."""
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
async def test_peer_that_sends_too_slowly_is_dropped(world, autojump_clock, sent, piece):
    """A trickle of bytes is no sign of life until it completes a message."""
    began = trio.current_time()
    peer = await world.peer()
    peer.answers_pings = False
    async with trio.open_nursery() as dribbling:
        dribbling.start_soon(partial(send_slowly, peer, sent, piece=piece, seconds=1))
        assert (await peer.hear())["reason"] == "connection_lost"
        assert (await peer.next()).code == CloseCode.TIMED_OUT
        dribbling.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(40.0, abs=1)


async def test_is_alive_of_a_peer_in_the_middle_of_a_chunk_is_true(world, autojump_clock):
    """The peer cannot answer a ping before the end of the chunk; its bytes count as an answer."""
    peer = await world.peer()
    peer.answers_pings = False
    await peer.stream.send_all(frame(LARGE, opcode=2)[:1000])
    async with trio.open_nursery() as sending:
        sending.start_soon(partial(send_slowly, peer, LARGE, piece=512, seconds=0.1))
        assert await world.connections[0].is_alive()
        sending.cancel_scope.cancel()
    assert not await world.connections[0].is_alive()


async def test_message_in_many_fragments_uses_no_extra_memory(world):
    """Empty fragments are not kept, and one-byte fragments are joined as they arrive."""
    peer = await world.peer()
    socket = world.connections[0]._transport
    fast = isinstance(socket, WebSocket)
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


async def test_closing_connection_still_reads_until_the_peers_close(world):
    """Data sent before the peer's close frame is read; pings are not answered."""
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
async def test_peer_lost_during_the_handshake_is_not_logged(world, path):
    """This is not an error of the server."""
    peer = await world.peer(shaken=False)
    await peer.stream.receive_stream.aclose()
    await peer.send(Request(host="test", target=path))
    await trio.testing.wait_all_tasks_blocked()
    assert not [call for call in world.logs.calls if call.method_name in {"exception", "error"}]


async def test_message_limit_does_not_depend_on_fragments_or_segments(make_world):
    """A message of exactly the limit is served, wherever a segment ends and with a ping between fragments."""
    message = json.dumps({"type": "ping", "id": "p", "pad": "x" * 161}).encode()
    world = make_world(limits=Limits(message_bytes=len(message)))
    peer = await world.peer()
    sent = frame(message[:150], final=False) + frame(b"", opcode=9) + frame(message[150:], opcode=0)
    assert len(message) - 150 < 126 < 150  # both header lengths occur
    for cut in range(1, len(sent)):
        for piece in (sent[:cut], sent[cut:]):
            await peer.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await peer.hear())["type"] == "pong", cut
    await peer.stream.send_all(frame(message[:150], final=False) + frame(message[150:] + b" ", opcode=0))
    assert (await peer.hear())["reason"] == "message_too_large"


async def test_heartbeat_uses_interval_and_timeout_of_the_settings(make_world, autojump_clock):
    """`timeouts.heartbeat_interval` and `timeouts.heartbeat_timeout`."""
    world = make_world(timeouts=Timeouts(heartbeat_interval=3.0, heartbeat_timeout=2.0))
    peer = await world.peer()
    peer.answers_pings = False
    assert (await peer.hear())["reason"] == "connection_lost"
    assert trio.current_time() == pytest.approx(5.0)


async def test_handshake_that_never_comes_closes_after_its_timeout(world, autojump_clock):
    """The socket is closed after `timeouts.handshake`."""
    peer = await world.peer(shaken=False)
    assert await peer.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(10.0)


async def test_peer_that_does_not_read_is_dropped_after_send_timeout(make_world, autojump_clock):
    """A piece not accepted within `timeouts.send` ends the connection."""
    world = make_world(timeouts=Timeouts(send=3.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.say({"type": "ping"})
    assert await world.processor.next() == commands.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(3.0)
    assert "the peer does not read what it is sent" in world.logged()


async def test_slow_reader_may_answer_the_ping_late(make_world, autojump_clock):
    """A ping behind a full buffer may be answered late, but at the end the pong must come."""
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
async def test_peer_that_does_not_read_pong_or_close_is_dropped(make_world, autojump_clock, asking, seconds):
    """Pongs have the same timeout, close frames a shorter one; the server logs no error."""
    world = make_world(timeouts=Timeouts(send=3.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.send(asking)
    assert await world.processor.next() == commands.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(seconds)
    assert world.logged() == ["closed"]


async def test_ping_behind_an_unread_message_does_not_extend_the_timeout(make_world, autojump_clock):
    """The ping waits no longer than the message."""
    world = make_world(timeouts=Timeouts(send=3.0, heartbeat_interval=1.0, heartbeat_timeout=9.0))
    peer = await world.peer(pair=lockstep_stream_pair)
    began = trio.current_time()
    await peer.say({"type": "ping"})
    assert await world.processor.next() == commands.Disconnect("c0")
    assert trio.current_time() - began == pytest.approx(3.0)
    assert "connection failed unexpectedly" not in world.logged()


async def test_peer_that_reads_slowly_stays_connected(make_world, autojump_clock):
    """`timeouts.send` applies to each piece, not to the message; a ping waits for its turn."""
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


async def test_outbox_over_its_limit_ends_the_connection_at_once(make_world, autojump_clock):
    """More than `limits.outbox_bytes` unsent."""
    world = make_world(limits=Limits(outbox_bytes=5000))
    connection = world.connect(StuckTransport(messages=100), "stuck")
    began = trio.current_time()
    await connection.run()
    assert trio.current_time() == began
    assert "the peer does not read what it is sent" in world.logged()


class StuckTransport:
    """A peer that sends requests and never reads."""

    def __init__(self, messages=1):
        self.messages = messages
        self.last_activity = trio.current_time()
        self.received = 0
        self.rtt = None
        self.unsent = b""

    def next(self):
        return None

    def take_texts(self):
        return []

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


async def test_unexpected_error_closes_only_its_connection(world, autojump_clock):
    """The connection closes with 1011, and the next one is served."""
    peer = await world.peer()

    def broken(now, texts):
        raise ZeroDivisionError

    world.connections[0]._protocol.pings = broken
    await peer.say({"type": "ping"})
    assert (await peer.next()).code == CloseCode.INTERNAL
    assert "connection failed unexpectedly" in world.logged()
    other = await world.peer()
    await other.say({"type": "ping"})
    assert (await other.hear())["type"] == "pong"


async def test_upload_is_stored_and_answered_with_columns(world):
    """The columns come from the processor."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.send(BytesMessage(b"a\n1\n2\n"))
    command = await world.processor.next()
    assert command == commands.Command(
        "c0", command.request, "ann", commands.ReadColumns("a.csv", of_upload=True)
    )
    assert world.files.find("a.csv").read_bytes() == b"a\n1\n2\n"
    world.processor.reply(command, commands.ColumnsRead(Described(columns=COLUMNS)))
    assert (await peer.hear())["type"] == "uploaded"


async def test_disk_error_in_a_transfer_is_answered_as_internal(world, monkeypatch):
    """For an upload and a download; the connection stays open."""
    peer = await world.peer()
    monkeypatch.setattr(
        FolderUploads,
        "begin",
        lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("internal", "u")
    await peer.say({"type": "download", "id": "d", "filename": "a.csv"})
    world.processor.reply(await world.processor.next(), commands.FileReady(world.files.root))
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("internal", "d")


async def test_connection_without_processor_still_ends(world, autojump_clock):
    """At shutdown the processor may end first."""
    peer = await world.peer()
    world.processor.inbox.close()
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert world.listener.connections == 0


async def test_draining_listener_refuses_work_and_closes_with_1001(world, autojump_clock):
    """New work is refused; then every peer gets close code 1001."""
    peers = [await world.peer() for _ in range(3)]
    world.listener.stop()
    await peers[0].say({"type": "upload", "id": "u", "filename": "a.csv", "size": 1})
    assert (await peers[0].hear())["reason"] == "shutting_down"
    world.listener.close(CloseCode.GOING_AWAY, "bye")
    for peer in peers:
        event = await peer.next()
        assert (event.code, event.reason) == (1001, "bye")


async def test_adjacent_answers_are_sent_in_one_batch(world, autojump_clock):
    """Only after the client has sent a batch."""
    peer = await world.peer()
    await peer.say({"type": "batch", "messages": [{"type": "ping", "id": str(n)} for n in range(3)]})
    answer = await peer.hear()
    assert [member["id"] for member in answer["messages"]] == ["0", "1", "2"]


async def test_batches_of_answers_are_not_nested(world, autojump_clock):
    """Pongs that are answered together stay a batch of their own, between the answers to the other members."""
    peer = await world.peer()
    pings = [{"type": "ping", "id": str(n)} for n in range(3)]
    await peer.say({"type": "batch", "messages": [5, *pings, 6, 7]})
    frames = [await peer.hear() for _ in range(3)]
    assert [[member["type"] for member in frame.get("messages", [frame])] for frame in frames] == [
        ["error"], ["pong"] * 3, ["error"] * 2,
    ]  # fmt: skip


def transfers_of(rng, prefix):
    """Some messages about transfers, some of them on each other."""
    ids = "abc"
    for _ in range(rng.randrange(2, 9)):
        name = f"{prefix}-{rng.choice(ids)}.csv"
        yield rng.choice(
            [
                {
                    "type": "upload",
                    "id": rng.choice(ids),
                    "filename": name,
                    "size": rng.choice([0, 0, 5]),
                    "overwrite": rng.random() < 0.5,
                },
                {"type": "cancel", "id": "k", "request": rng.choice(ids)},
                {"type": "delete", "id": "d", "filename": name},
                {"type": "ping"},
                {"type": "nonsense"},
            ]
        )


async def test_batch_of_transfers_is_answered_as_if_sent_alone(world, monkeypatch):
    """Whatever its members do to each other: one is not handled before the effects of the earlier ones."""
    monkeypatch.setattr("creemson.server.connection.connection.SIGN_OF_LIFE", 0.01)
    for seed in range(25):
        answers = []
        for prefix, together in (("x", True), ("y", False)):
            members = [*transfers_of(random.Random(seed), prefix), {"type": "ping", "id": "end"}]
            peer = await world.peer()
            for message in [{"type": "batch", "messages": members}] if together else members:
                await peer.say(message)
            heard = []
            with trio.fail_after(PATIENCE):
                while not heard or heard[-1].get("id") != "end":
                    message = await peer.hear()
                    heard += message.get("messages", [message])
            answers.append([(answer["type"], answer.get("id"), answer.get("reason")) for answer in heard])
            await peer.stream.aclose()
            while await world.processor.next() != commands.Disconnect(world.connections[-1].state.id):
                pass
        assert answers[0] == answers[1]
    assert "internal error" not in " ".join(world.logged())


async def test_connections_with_uploads_of_the_same_names_never_wait_for_each_other(world, monkeypatch):
    """Whatever they open, drop, delete and open again while others take it over, all of them are served."""
    monkeypatch.setattr("creemson.server.connection.connection.SIGN_OF_LIFE", 0.02)

    async def use(seed):
        peer = await world.peer()
        rounds = (transfers_of(random.Random(f"{seed} {number}"), "x") for number in range(12))
        for message in [*itertools.chain.from_iterable(rounds), {"type": "ping", "id": "end"}]:
            await peer.say(message)
        while (await peer.hear()).get("id") != "end":
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.processor.ignore)
        with trio.fail_after(2 * PATIENCE):
            async with trio.open_nursery() as users:
                for seed in range(5):
                    users.start_soon(use, seed)
        nursery.cancel_scope.cancel()


async def test_outbox_replaces_old_progress_and_reports_overflow(autojump_clock):
    """Newer progress replaces older; exceeding the limit is reported once."""
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
    assert overflows == [], "a single large answer is no overflow"
    outbox.put("y")
    outbox.put("z")
    assert overflows == [True], "reported once"
    outbox.close(1000, "")
    outbox.close(1001, "only the first counts")
    outbox.put("too late")
    assert outbox.take() == ["x" * 200, "y"]
    assert outbox.take() == []
    assert outbox.closing == (1000, "")


async def test_outbox_has_room_once_the_batch_is_sent(autojump_clock):
    """Not when an earlier one is; and what waits behind it does not matter."""
    outbox = Outbox(100, on_overflow=lambda: None)
    outbox.put("before")
    assert outbox.take() == ["before"]
    outbox.put("a piece")
    batch = outbox.next_batch
    outbox.sent()
    with trio.move_on_after(1) as scope:
        await outbox.room(batch)
    assert scope.cancelled_caught
    assert outbox.take() == ["a piece"]
    outbox.put("behind")
    outbox.sent()
    await outbox.room(batch)


async def test_outbox_takes_several_messages_as_if_one_by_one(autojump_clock):
    """Progress before them is replaced where it is; the limit applies to each, and nothing follows a close."""
    overflows = []
    outbox = Outbox(100, on_overflow=lambda: overflows.append(True))
    outbox.put("old", replaces=1)
    outbox.put_all(["a", b"b"])
    outbox.put("new", replaces=1)
    assert outbox.size == 5
    assert outbox.take() == ["new", "a", b"b"]
    outbox.sent()
    outbox.put_all(["x" * 60, "y" * 60, "z"])
    assert overflows == [True]
    outbox.put_all(["later"])
    assert outbox.take() == ["x" * 60, "y" * 60]
    closed = Outbox(100, on_overflow=lambda: None)
    closed.close(1000, "")
    closed.put_all(["too late"])
    assert closed.take() == []


async def test_outbox_keeps_progress_behind_earlier_logs(autojump_clock):
    """Progress replaces older progress of its job only if nothing of that job is in between."""
    outbox = Outbox(100, on_overflow=lambda: None)
    outbox.put("p1", replaces=1)
    outbox.put("q1", replaces=2)
    outbox.put("log", follows=1)
    outbox.put("p2", replaces=1)
    outbox.put("p3", replaces=1)
    outbox.put("q2", replaces=2)
    assert outbox.take() == ["p1", "q2", "log", "p3"]


async def test_file_reply_after_disconnect_is_ignored(world):
    """The processor may reply before it knows that the connection has ended."""
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.csv"})
    command = await world.processor.next()
    await peer.stream.aclose()
    assert await world.processor.next() == commands.Disconnect("c0")
    world.processor.reply(command, commands.FileReady(world.files.root / "a.csv"))


async def test_error_reply_for_a_cancelled_download_is_ignored(world):
    """The download has been answered already."""
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
async def test_cancelled_download_ends_and_the_next_one_works(world, when):
    """At any time: it ends with `cancelled`, no byte follows, and the connection stays open."""
    (world.files.uploads / "a.bin").write_bytes(bytes(50_000_000))
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
    command = await world.processor.next()
    if when == "before it is found":
        await peer.say({"type": "cancel", "id": "c", "request": "d"})
        assert (await peer.hear())["reason"] == "cancelled"
    world.processor.reply(command, commands.FileReady(world.files.uploads / "a.bin"))
    if when == "while it is sent":
        assert (await peer.hear())["type"] == "download"
    if when != "before it is found":
        await peer.say({"type": "cancel", "id": "c", "request": "d"})
        while isinstance(message := await peer.hear(), BytesMessage) or message["type"] == "download":
            pass
        assert message["reason"] == "cancelled"
    assert (await peer.hear()) == {"type": "cancelled", "id": "c"}
    assert (await world.processor.next()).ask == commands.StopLookUp(command.request)
    (world.files.uploads / "b.bin").write_bytes(b"b")
    await peer.say({"type": "download", "id": "e", "filename": "b.bin"})
    world.processor.reply(await world.processor.next(), commands.FileReady(world.files.uploads / "b.bin"))
    assert (await peer.hear())["type"] == "download"
    assert (await peer.hear()).data == b"b"
    assert (await peer.hear())["type"] == "downloaded"


async def test_bytes_of_a_download_do_not_change_while_the_peer_is_slow(make_world, autojump_clock):
    """The memory of a piece serves again only after it has been sent."""
    world = make_world()
    content = random.Random(3).randbytes(3 * 2**20 + 1)
    (world.files.uploads / "a.bin").write_bytes(content)
    peer = await world.peer(pair=lockstep_stream_pair)
    for known in (False, True):  # the digest; until it is, other code reads the file
        await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
        command = await world.processor.next()
        world.processor.reply(command, commands.FileReady(world.files.uploads / "a.bin"))
        assert ("sha256" in await peer.hear()) == known
        received = b""
        while isinstance(message := await peer.hear(), BytesMessage):
            received += message.data
            await trio.sleep(0.1)
        assert received == content
        assert message["type"] == "downloaded"


@pytest.mark.parametrize("limit", [1000, 64 * 1024])
async def test_peer_may_ask_for_more_during_a_download_whatever_the_outbox_holds(
    make_world, autojump_clock, limit
):
    """A download leaves room for answers, so that one does not disconnect a peer that reads."""
    world = make_world(limits=Limits(outbox_bytes=limit))
    content = random.Random(3).randbytes(2**18 + 1)
    (world.files.uploads / "a.bin").write_bytes(content)
    peer = await world.peer(pair=lockstep_stream_pair)
    await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
    command = await world.processor.next()
    world.processor.reply(command, commands.FileReady(world.files.uploads / "a.bin"))
    received, others = b"", []
    while "downloaded" not in others:
        message = await peer.hear()
        if isinstance(message, BytesMessage):
            received += message.data
            if len(received) % 3 == 0:
                await peer.say({"type": "ping"})
        else:
            others.append(message["type"])
    assert received == content
    assert set(others) <= {"download", "downloaded", "pong"}


async def test_download_that_was_cancelled_gets_no_room(autojump_clock):
    """Also if it was cancelled just after what it waited for had been sent, before its turn came."""
    outbox = Outbox(100, on_overflow=lambda: None)
    outbox.put(b"x" * 60)
    outbox.take()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_with_room, outbox)
            await wait_all_tasks_blocked()
            outbox.sent()
            scope.cancel()
    assert scope.cancelled_caught


async def _fail_with_room(outbox):
    await outbox.room()
    raise AssertionError("it would send a piece after the answer that it was cancelled")


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest unknown"])
@pytest.mark.parametrize("change", [-1, 1], ids=["shorter", "longer"])
async def test_download_of_a_file_that_is_changed_by_hand_keeps_to_its_size(
    world, monkeypatch, known, change
):
    """No byte follows those that were announced; `downloaded` only if all of them were sent."""
    path = world.files.uploads / "log.csv"
    path.write_bytes(b"a" * 10)
    if known:
        file = world.store.open(path)
        file.stream.close()
        world.store.record_digest(path, file.version, "0" * 64)
    started = Protocol.download_started

    def change_once_announced(self, request, **what):
        path.write_bytes(b"a" * (10 + change))
        return started(self, request, **what)

    monkeypatch.setattr(Protocol, "download_started", change_once_announced)
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "log.csv"})
    world.processor.reply(await world.processor.next(), commands.FileReady(path))
    assert (await peer.hear())["size"] == 10
    assert (await peer.hear()).data == b"a" * min(10, 10 + change)
    end = await peer.hear()
    assert end.get("reason", end["type"]) == ("file_changed" if change < 0 else "downloaded")


async def test_download_of_a_file_removed_meanwhile_is_file_not_found(world):
    """This is not an error of the server and is not logged."""
    peer = await world.peer()
    await peer.say({"type": "download", "id": "d", "filename": "a.bin"})
    world.processor.reply(await world.processor.next(), commands.FileReady(world.files.uploads / "a.bin"))
    assert (await peer.hear())["reason"] == "file_not_found"
    assert "download failed" not in world.logged()


async def test_is_alive_is_true_only_for_a_peer_that_answers(world, autojump_clock):
    """False for a silent, closing or disconnected peer; the check has no side effects."""
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


async def test_new_connection_without_processor_closes_as_going_away(world, autojump_clock):
    """The close code says that the server is going away."""
    world.processor.inbox.close()
    peer = await world.peer()
    assert (await peer.next()).code == CloseCode.GOING_AWAY


async def test_request_without_processor_closes_as_going_away(world, autojump_clock):
    """So is a peer that sends a request."""
    peer = await world.peer()
    world.processor.inbox.close()
    await peer.say({"type": "process", "id": "p", "filename": "a.csv"})
    assert (await peer.next()).code == CloseCode.GOING_AWAY


async def test_handshake_while_draining_is_refused_with_503(world, autojump_clock):
    """Nobody would be there to serve it."""
    world.listener.stop()
    peer = await world.peer(shaken=False)
    await peer.send(Request(host="test", target="/ws"))
    assert (await peer.next()).status_code == 503


async def test_handshake_of_a_page_of_another_origin_leaves_one_line_in_the_log(world, autojump_clock):
    """It names the setting to change."""
    for _ in range(3):
        peer = await world.peer(shaken=False)
        await peer.send(
            Request(host="test", target="/ws", extra_headers=[(b"Origin", b"https://app.example")])
        )
        assert (await peer.next()).status_code == 403
    [logged] = [call.kwargs for call in world.logs.calls if call.kwargs["event"] == "refused"]
    assert "https://app.example" in logged["why"]
    assert "server.allowed_origins" in logged["why"]


async def test_upload_with_more_bytes_than_announced_is_removed(world):
    """Also if they come after the file is complete; the processor's late reply is ignored."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 6})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.send(BytesMessage(b"a\n1\n2\n"))
    command = await world.processor.next()
    await peer.send(BytesMessage(b"3\n"))
    error = await peer.hear()
    assert (error["reason"], error["id"]) == ("size_mismatch", "u")
    assert list(world.files.uploads.iterdir()) == []
    world.processor.reply(command, commands.ColumnsRead(Described(columns=COLUMNS)))
    await peer.say({"type": "ping", "id": "p"})
    assert (await peer.hear())["type"] == "pong"


async def settle():
    """Let tasks and threads do what they can do without time passing."""
    threads = trio.to_thread.current_default_thread_limiter()
    await trio.testing.wait_all_tasks_blocked()
    while threads.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_silent_upload_reports_its_bytes_within_half_a_second(world, mock_clock, monkeypatch):
    """Once for each silence; also for the next upload of the connection. Nothing is synced while nothing arrives."""
    synced = []
    sync = FolderUploads.sync
    monkeypatch.setattr(FolderUploads, "sync", lambda *arguments: synced.append(1) or sync(*arguments))
    peer = await world.peer()
    for name in ("u", "v"):
        await peer.say({"type": "upload", "id": name, "filename": f"{name}.csv", "size": 100})
        assert (await peer.hear())["type"] == "upload_ready"
        for offset in (60, 90):
            await peer.send(BytesMessage(bytes(30)))
            if offset == 60:
                await settle()
                mock_clock.jump(0.2)  # the silence begins with the last chunk
                await peer.send(BytesMessage(bytes(30)))
            await settle()
            mock_clock.jump(0.5)
            assert await peer.hear() == {"type": "upload_progress", "id": name, "offset": offset}
        for _ in range(3):
            mock_clock.jump(0.5)
            await settle()
        await peer.say({"type": "cancel", "id": "c", "request": name})
        assert {(await peer.hear())["type"] for _ in range(2)} == {"error", "cancelled"}
    assert len(synced) == 4
    assert len(world.connections[0]._nursery.child_tasks) == 0


async def test_upload_that_cannot_be_synced_fails_and_the_next_one_works(world, mock_clock, monkeypatch):
    """The bytes may be lost: they are never reported, and the upload does not end well."""

    def broken(store, part):
        raise OSError(5, "Input/output error")

    peer = await world.peer()
    with monkeypatch.context() as patched:
        patched.setattr(FolderUploads, "sync", broken)
        await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
        assert (await peer.hear())["type"] == "upload_ready"
        await peer.send(BytesMessage(bytes(30)))
        await settle()
        mock_clock.jump(0.5)
        error = await peer.hear()
    assert (error["reason"], error["id"]) == ("internal", "u")
    await peer.say({"type": "upload", "id": "v", "filename": "a.csv", "size": 100})
    assert await peer.hear() == {"type": "upload_ready", "id": "v", "offset": 0}


async def test_delete_during_an_upload_tells_the_uploader_that_it_was_deleted(world):
    """Another connection of the same caller deletes the unfinished file."""
    uploader, deleter = await world.peer(), await world.peer()
    await uploader.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await uploader.hear())["type"] == "upload_ready"
    await uploader.send(BytesMessage(bytes(30)))
    await deleter.say({"type": "delete", "id": "d", "filename": "a.csv"})
    while (error := await uploader.hear())["type"] == "upload_progress":
        pass
    assert (error["reason"], error["id"]) == ("cancelled", "u")
    assert "'a.csv' was deleted during its upload" in error["message"]
    assert (await deleter.hear())["type"] == "deleted"
    assert list((world.files.root / "parts").iterdir()) == []


async def test_delete_of_an_own_upload_does_not_wait(world, monkeypatch):
    """The connection need not give itself time to handle what has arrived."""
    monkeypatch.setattr("creemson.server.connection.connection.SIGN_OF_LIFE", 10 * PATIENCE)
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.say({"type": "delete", "id": "d", "filename": "a.csv"})
    with trio.fail_after(PATIENCE):
        error = await peer.hear()
        assert (error["reason"], error["id"]) == ("cancelled", "u")
        assert (await peer.hear())["type"] == "deleted"
    assert list((world.files.root / "parts").iterdir()) == []


def unfinished_bytes(world):
    """The number of bytes of the unfinished upload."""
    [part] = (world.files.root / "parts").iterdir()
    return part.stat().st_size


async def test_upload_taken_over_keeps_all_received_bytes(world, monkeypatch):
    """Bytes already sent by the old peer are stored first, if the disk takes them in time."""
    monkeypatch.setattr("creemson.server.connection.connection.SIGN_OF_LIFE", PATIENCE)
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.stream.send_all(b"".join(peer.wsproto.send(BytesMessage(b"12345")) for _ in range(12)))
    await world.connections[0].let_go("a.csv", deleted=False)
    assert unfinished_bytes(world) == 60
    while (message := await peer.hear())["type"] == "upload_progress":
        pass
    assert (message["reason"], message["id"]) == ("cancelled", "u")


async def test_upload_of_a_broken_connection_keeps_received_bytes(world):
    """Also if the break is noticed because an answer cannot be sent."""
    peer = await world.peer()
    await peer.say({"type": "upload", "id": "u", "filename": "a.csv", "size": 100})
    assert (await peer.hear())["type"] == "upload_ready"
    await peer.stream.receive_stream.aclose()
    await peer.send(TextMessage('{"type": "ping"}'))
    for _ in range(12):
        await peer.send(BytesMessage(b"12345"))
        await trio.testing.wait_all_tasks_blocked(0.001)
    await peer.stream.aclose()
    assert await world.processor.next() == commands.Disconnect("c0")
    assert unfinished_bytes(world) == 60
