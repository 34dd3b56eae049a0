"""The byte layer over real sockets and memory streams."""

import socket

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from creemson.server.transport.pipe import PIECE_BYTES, pipe_over

LARGE = bytes(range(256)) * 40_000


@pytest.fixture
async def ends():
    """A pipe over one end of a TCP connection with small buffers, and the other end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listener.socket.setsockopt(socket.SOL_SOCKET, option, 20_000)
    remote = await trio.testing.open_stream_to_socket_listener(listener)
    local = await listener.accept()
    async with listener, remote, local:
        yield pipe_over(local), local, remote


async def received(stream, size):
    data = bytearray()
    while len(data) < size and (piece := await stream.receive_some()):
        data += piece
    return bytes(data)


async def test_post_sends_what_fits_immediately(ends):
    """`post` never waits and sends as much as the system accepts."""
    pipe, _, remote = ends
    assert pipe.immediate
    assert pipe.post(b"hello") == 5
    assert await remote.receive_some() == b"hello"
    taken = 0
    while count := pipe.post(LARGE[taken:]):
        taken += count
    assert 0 < taken < len(LARGE)
    assert await received(remote, taken) == LARGE[:taken]


@pytest.mark.slow
async def test_write_waits_for_room_and_keeps_order(ends):
    """All bytes arrive in order, and `write` returns how long it waited."""
    pipe, local, remote = ends

    all_read = trio.Event()

    async def write():
        assert await pipe.write(LARGE, 60) > 0
        await all_read.wait()  # so that there is room
        assert await pipe.write(b"short", 60) == 0
        await local.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert await received(remote, len(LARGE)) == LARGE
        all_read.set()
        assert await received(remote, 100) == b"short"


async def test_read_returns_available_bytes(ends):
    """`read` and `read_into` return the available bytes, and nothing at the end of the stream."""
    pipe, _, remote = ends
    await remote.send_all(b"abcdef")
    assert await pipe.read(4) == b"abcd"
    room = memoryview(bytearray(5))
    assert await pipe.read_into(room) == 2
    assert bytes(room) == b"ef\0\0\0"
    await remote.send_eof()
    assert await pipe.read(4) == b""


async def test_read_into_with_bytes_that_have_arrived_does_not_wait(ends):
    """It is no checkpoint: not even a cancelled task loses them. Without bytes, it waits and is cancelled."""
    pipe, local, remote = ends
    await remote.send_all(b"abc")
    await trio.lowlevel.wait_readable(local.socket)
    room = memoryview(bytearray(5))
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await pipe.read_into(room) == 3
        await pipe.read_into(room)
    assert scope.cancelled_caught
    assert bytes(room[:3]) == b"abc"


async def test_write_to_peer_that_does_not_read_times_out(ends):
    """The timeout applies to each piece."""
    pipe, _, _ = ends
    with pytest.raises(trio.TooSlowError):
        await pipe.write(LARGE, 0.05)


async def test_pipe_to_reset_connection_raises_broken_resource(ends):
    """A reset raises the same exception as in trio."""
    pipe, _, remote = ends
    await remote.send_all(b"unread")
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await remote.aclose()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await pipe.read(100)
    with pytest.raises(trio.BrokenResourceError):
        while True:
            pipe.post(b"x")


async def test_pipe_on_closed_socket_is_refused(ends):
    """Its descriptor may already belong to another socket."""
    pipe, local, _ = ends
    await local.aclose()
    with pytest.raises(trio.ClosedResourceError):
        pipe.post(b"x")
    for waiting in (pipe.read(1), pipe.read_into(memoryview(bytearray(1))), pipe.write(b"x", 1)):
        with pytest.raises(trio.ClosedResourceError):
            await waiting


async def test_closing_wakes_reader_and_writer(ends):
    """Both a waiting reader and a waiting writer end with `ClosedResourceError`."""
    pipe, local, _ = ends

    async def ends_with_it(work):
        with pytest.raises(trio.ClosedResourceError):
            await work

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends_with_it, pipe.read(1))
        nursery.start_soon(ends_with_it, pipe.write(LARGE, 60))
        await trio.testing.wait_all_tasks_blocked()
        await local.aclose()


async def test_pipe_over_other_stream_is_not_immediate():
    """`post` accepts nothing, but `write` and `read` work."""
    local, remote = memory_stream_pair()
    pipe = pipe_over(local)
    assert not pipe.immediate
    assert pipe.post(b"x") == 0
    await pipe.write(LARGE, 1)
    assert await received(remote, len(LARGE)) == LARGE
    await remote.send_all(b"abc")
    room = memoryview(bytearray(2))
    assert await pipe.read_into(room) == 2
    assert await pipe.read(10) == b"c"


async def test_write_timeout_over_other_stream_is_per_piece(autojump_clock):
    """The timeout applies to each piece, not to the whole write."""
    local, remote = lockstep_stream_pair()

    async def slowly():
        for _ in range(3):
            await trio.sleep(4)
            await received(remote, PIECE_BYTES)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slowly)
        assert await pipe_over(local).write(bytes(3 * PIECE_BYTES), 5) == pytest.approx(12)
    with pytest.raises(trio.TooSlowError):
        await pipe_over(local).write(b"x", 5)
