"""The byte level over real sockets and memory streams."""

import socket

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from creemson.server.pipe import PIECE, pipe_over

LARGE = bytes(range(256)) * 40_000


@pytest.fixture
async def ends():
    """A pipe over one end of a TCP connection with small buffers, and the other end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listener.socket.setsockopt(socket.SOL_SOCKET, option, 20_000)
    theirs = await trio.testing.open_stream_to_socket_listener(listener)
    ours = await listener.accept()
    async with listener, theirs, ours:
        yield pipe_over(ours), ours, theirs


async def received(stream, size):
    data = bytearray()
    while len(data) < size and (piece := await stream.receive_some()):
        data += piece
    return bytes(data)


async def test_what_fits_is_posted_at_once(ends):
    """Without waiting, and as much as the system takes."""
    pipe, _, theirs = ends
    assert pipe.immediate
    assert pipe.post(b"hello") == 5
    assert await theirs.receive_some() == b"hello"
    taken = 0
    while count := pipe.post(LARGE[taken:]):
        taken += count
    assert 0 < taken < len(LARGE)
    assert await received(theirs, taken) == LARGE[:taken]


async def test_what_does_not_fit_is_written_as_there_is_room(ends):
    """Whole and in order; how long that took is told."""
    pipe, ours, theirs = ends

    async def write():
        assert await pipe.write(LARGE, 60) > 0
        assert await pipe.write(b"short", 60) == 0
        await ours.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert await received(theirs, len(LARGE) + 100) == LARGE + b"short"


async def test_reading(ends):
    """What there is; into memory, too; nothing at the end."""
    pipe, _, theirs = ends
    await theirs.send_all(b"abcdef")
    assert await pipe.read(4) == b"abcd"
    room = memoryview(bytearray(5))
    assert await pipe.read_into(room) == 2
    assert bytes(room) == b"ef\0\0\0"
    await theirs.send_eof()
    assert await pipe.read(4) == b""


async def test_a_peer_that_takes_nothing(ends):
    """Its patience is for each piece, so it has ended."""
    pipe, _, _ = ends
    with pytest.raises(trio.TooSlowError):
        await pipe.write(LARGE, 0.05)


async def test_a_peer_that_is_gone(ends):
    """A reset is told as trio tells it."""
    pipe, _, theirs = ends
    await theirs.send_all(b"unread")
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await pipe.read(100)
    with pytest.raises(trio.BrokenResourceError):
        while True:
            pipe.post(b"x")


async def test_a_closed_socket_is_not_anothers(ends):
    """Its descriptor may have been given away by now."""
    pipe, ours, _ = ends
    await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        pipe.post(b"x")
    for waiting in (pipe.read(1), pipe.read_into(memoryview(bytearray(1))), pipe.write(b"x", 1)):
        with pytest.raises(trio.ClosedResourceError):
            await waiting


async def test_closing_ends_the_wait(ends):
    """Of a reader and of a writer."""
    pipe, ours, _ = ends

    async def ends_with_it(work):
        with pytest.raises(trio.ClosedResourceError):
            await work

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends_with_it, pipe.read(1))
        nursery.start_soon(ends_with_it, pipe.write(LARGE, 60))
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()


async def test_any_other_stream():
    """Nothing at once, but all the same."""
    ours, theirs = memory_stream_pair()
    pipe = pipe_over(ours)
    assert not pipe.immediate
    assert pipe.post(b"x") == 0
    await pipe.write(LARGE, 1)
    assert await received(theirs, len(LARGE)) == LARGE
    await theirs.send_all(b"abc")
    room = memoryview(bytearray(2))
    assert await pipe.read_into(room) == 2
    assert await pipe.read(10) == b"c"


async def test_patience_with_any_other_stream(autojump_clock):
    """For each piece."""
    ours, theirs = lockstep_stream_pair()

    async def slowly():
        for _ in range(3):
            await trio.sleep(4)
            await received(theirs, PIECE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slowly)
        assert await pipe_over(ours).write(bytes(3 * PIECE), 5) == pytest.approx(12)
    with pytest.raises(trio.TooSlowError):
        await pipe_over(ours).write(b"x", 5)
