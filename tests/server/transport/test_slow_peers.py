"""Peers that take little of what they are sent, over real sockets with a mock clock.

They take it in real time; only the time that the server gives them is mocked.
"""

import socket
import sys
import time
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from creemson.server.transport.closing import LINGER, Closed
from creemson.server.transport.pipe import HIGH_MARK, LOOKS, LOW_MARK, PIECE_BYTES, SocketPipe, pipe_over
from creemson.server.transport.websocket import WebSocket
from tests.fuzz.targets import upgrade
from tests.servers import upgrade_request

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, the kernel does not tell what a peer takes"
)

PATIENCE = 8.0
LOOK = PATIENCE / LOOKS
MIB = 2**20
QUIET = 0.3
"""Real seconds in which the kernels would move bytes, if they could: an empty window is looked at again after 0.2."""
DATA = bytes(range(256)) * 4096 * 12


def mark(stream):
    return stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


@asynccontextmanager
async def connected():
    """Both ends of a connection whose peer gets small segments, and has little room."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    remote = trio.socket.socket()
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    await remote.connect(listener.socket.getsockname())
    local = await listener.accept()
    async with listener, local, trio.SocketStream(remote) as stream:
        yield local, stream


class LargeWrite:
    """A pipe through which :data:`DATA` is sent, and its peer.

    Attributes:
        failed_at: when it was given up, on trio's clock.
        waited: what `write` returned.
    """

    def __init__(self, pipe, remote, clock):
        self.pipe = pipe
        self.remote = remote
        self.clock = clock
        self.failed_at = self.waited = None
        self.received = bytearray()

    @property
    def taken(self):
        return self.pipe._written - self.pipe._queued()

    async def write(self):
        try:
            self.waited = await self.pipe.write(DATA, PATIENCE)
        except trio.TooSlowError:
            self.failed_at = trio.current_time()

    async def take(self, size):
        """Read until the sender's kernel knows that the peer has taken so many bytes more."""
        enough = self.taken + size
        while self.taken < enough:
            self.received += await self.remote.receive_some(4096)
        await wait_all_tasks_blocked()

    async def settle(self):
        """Wait in real time until the kernels have moved all bytes that the peer has room for."""
        before, since = None, time.monotonic()
        while time.monotonic() < since + QUIET:
            await wait_all_tasks_blocked()
            if (now := (self.pipe._written, self.taken)) != before:
                before, since = now, time.monotonic()
            time.sleep(QUIET / 20)  # noqa: ASYNC251 - nothing else happens here than in the kernels

    async def pass_time(self, seconds):
        self.clock.jump(seconds)
        await wait_all_tasks_blocked()

    async def read_rest(self):
        while len(self.received) < len(DATA):
            self.received += await self.remote.receive_some(MIB)
        await wait_all_tasks_blocked()


@pytest.fixture
async def sending(mock_clock, nursery):
    """A write of :data:`DATA` that waits for its peer; the kernel has taken up to the high mark."""
    async with connected() as (local, remote):
        sending = LargeWrite(pipe_over(local, bulk=True), remote, mock_clock)
        nursery.start_soon(sending.write)
        await sending.settle()
        assert mark(local) == HIGH_MARK
        yield sending
        nursery.cancel_scope.cancel()


async def become_slow(sending):
    """Let a link be fast first, so that its window and buffers grow."""
    await sending.take(5 * MIB)
    await sending.settle()
    assert sending.pipe._queued() > HIGH_MARK // 2


@pytest.mark.parametrize("fast_first", [False, True])
async def test_slow_peer_is_kept(mock_clock, sending, fast_first):
    """It takes 64 KiB just in time, again and again: long before the kernel accepts anything more."""
    if fast_first:
        await become_slow(sending)
    for _ in range(20):
        await sending.take(PIECE_BYTES)
        await sending.pass_time(PATIENCE - 0.01)
        assert sending.failed_at is None
    await sending.read_rest()
    assert sending.received == DATA
    assert sending.waited == pytest.approx(20 * (PATIENCE - 0.01))


@pytest.mark.parametrize("fast_first", [False, True])
async def test_peer_that_stops_is_cut(mock_clock, sending, fast_first):
    """After the same time as with a low mark, up to the precision of the looks."""
    if fast_first:
        await become_slow(sending)
    stopped = trio.current_time()
    while sending.failed_at is None and trio.current_time() < 3 * PATIENCE:
        await sending.pass_time(LOOK / 2)
    assert PATIENCE <= sending.failed_at - stopped <= PATIENCE + LOOK


async def test_peer_that_took_a_piece_late_has_the_time_from_then_on(mock_clock, sending):
    """Counted from the look that noticed it."""
    for _ in range(LOOKS):
        await sending.pass_time(LOOK - 0.01)
    await sending.take(PIECE_BYTES)
    taken = trio.current_time()
    while sending.failed_at is None and trio.current_time() < 3 * PATIENCE:
        await sending.pass_time(LOOK / 2)
    assert PATIENCE <= sending.failed_at - taken <= PATIENCE + LOOK


async def test_peer_that_takes_too_little_is_cut(mock_clock, sending):
    """Less than 64 KiB in the time is as good as nothing."""
    began = trio.current_time()
    for _ in range(2 * LOOKS):
        if sending.failed_at is None:
            sending.received += await sending.remote.receive_some(PIECE_BYTES // LOOKS - 2000)
            await sending.pass_time(LOOK)
    assert PATIENCE <= sending.failed_at - began <= PATIENCE + LOOK


async def test_mark_stays_low_where_the_kernel_does_not_tell_the_queue(mock_clock, nursery, monkeypatch):
    """Then what the kernel accepts counts, as on other systems."""

    def unknown(_):
        raise OSError

    monkeypatch.setattr(SocketPipe, "_queued", unknown)
    async with connected() as (local, remote):
        sending = LargeWrite(pipe_over(local, bulk=True), remote, mock_clock)
        nursery.start_soon(sending.write)
        await wait_all_tasks_blocked()
        assert mark(local) == LOW_MARK
        assert await sending.pipe.drain(PATIENCE) == 0
        await sending.pass_time(PATIENCE / 2)
        await sending.read_rest()
        assert sending.received == DATA
        assert sending.waited == PATIENCE / 2


async def test_mark_stays_low_for_requests_over_http(mock_clock, nursery):
    """Their app has a time limit of its own while the peer reads, which counts what the kernel accepts."""
    async with connected() as (local, _):
        nursery.start_soon(pipe_over(local).write, DATA, PATIENCE)
        await wait_all_tasks_blocked()
        assert mark(local) == LOW_MARK
        nursery.cancel_scope.cancel()


# --- heartbeats ----------------------------------------------------------------------------------------


class Probed:
    """A WebSocket whose peer is slow; the kernel has a part of a large message in its queue.

    Attributes:
        answer: `sent` once the probe has nearly reached the peer; `closed` if it never will.
    """

    def __init__(self, socket, sending):
        self.socket = socket
        self.sending = sending
        self.answer = None

    async def probe(self):
        try:
            await self.socket.probe()
        except Closed:
            self.answer = "closed"
        else:
            self.answer = "sent"


@pytest.fixture
async def queued(mock_clock):
    """A WebSocket, and a message in the queue of its kernel that the peer has not taken."""
    async with connected() as (local, remote):
        web = WebSocket(
            local, upgrade(upgrade_request()), message_bytes=MIB, chunk_bytes=MIB, send_timeout=PATIENCE
        )
        await (await web.request()).accept()
        sending = LargeWrite(web._pipe, remote, mock_clock)
        async with trio.open_nursery() as inner:
            inner.start_soon(web.send, [DATA[: 3 * MIB]])
            await wait_all_tasks_blocked()
            while web._sending.locked():
                await sending.take(PIECE_BYTES)
        assert sending.pipe._queued() > HIGH_MARK // 4
        yield web, sending


@pytest.fixture
async def probed(nursery, queued):
    """The message is written, and the probe behind it."""
    web, sending = queued
    probed = Probed(web, sending)
    nursery.start_soon(probed.probe)
    await sending.settle()
    yield probed
    nursery.cancel_scope.cancel()


async def test_time_to_answer_a_ping_begins_when_it_has_reached_the_peer(mock_clock, probed):
    """Not when the kernel has accepted it behind a megabyte; and what the peer takes meanwhile is a sign of life."""
    asked = trio.current_time()
    steps = 0
    while probed.answer is None:
        assert probed.sending.pipe._queued() > LOW_MARK, "it was told too late"
        await probed.sending.pass_time(PATIENCE - 0.01)
        steps += 1
        if probed.answer is None:
            await probed.sending.take(min(PIECE_BYTES, probed.sending.pipe._queued() - LOW_MARK // 2))
            if probed.sending.pipe._queued() <= LOW_MARK:
                await probed.sending.pass_time(LOOK)
    assert probed.answer == "sent"
    assert steps >= HIGH_MARK // 4 // PIECE_BYTES
    assert probed.socket.last_activity == trio.current_time() > asked


async def test_peer_that_takes_nothing_before_a_ping_is_cut(mock_clock, probed):
    """After `timeouts.send`, and the stream is closed."""
    for _ in range(LOOKS):
        assert probed.answer is None
        await probed.sending.pass_time(LOOK)
    assert probed.answer == "closed"
    with pytest.raises(trio.ClosedResourceError):
        probed.sending.pipe.post(b"x")


async def test_ping_on_an_idle_connection_does_not_wait(mock_clock, nursery):
    """Nothing is queued before it."""
    async with connected() as (local, remote):
        web = WebSocket(
            local, upgrade(upgrade_request()), message_bytes=1, chunk_bytes=1, send_timeout=PATIENCE
        )
        await (await web.request()).accept()
        nursery.start_soon(web.send, [DATA])
        received = 0
        while received < len(DATA):
            received += len(await remote.receive_some(MIB))
        await wait_all_tasks_blocked()
        assert mark(local) == HIGH_MARK
        before = web.last_activity
        await web.probe()
        assert web.last_activity == before


async def test_time_to_answer_a_close_frame_begins_when_it_has_reached_the_peer(mock_clock, nursery, queued):
    """Until then, the stream stays open: what the peer sends to a closed one would discard all that it has not read."""
    web, sending = queued
    nursery.start_soon(web.close, 1000)
    await sending.settle()
    while (left := sending.pipe._queued()) > LOW_MARK:
        await sending.pass_time(PATIENCE - 0.01)
        await sending.take(min(PIECE_BYTES, left - LOW_MARK // 2))
    await sending.pass_time(LOOK)
    await sending.pass_time(LINGER - 0.01)
    assert len(nursery.child_tasks) == 1
    await sending.pass_time(0.02)
    assert not nursery.child_tasks
