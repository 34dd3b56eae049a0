"""The client against listeners that are not Creemson servers, and against broken servers.

Whatever they do, the caller gets a documented exception in bounded time, and no task or socket is left.
"""

import random
from functools import partial

import psutil
import pytest
import trio
from trio_websocket import ConnectionClosed, serve_websocket

from creemson.client import connect
from creemson.errors import ConnectionLost, CreemsonError
from tests.peers import WELCOME, Peer
from tests.servers import SAMPLE

QUICK = {"give_up_after": 0.4, "handshake_timeout": 0.3, "answer_timeout": 0.4, "heartbeat_interval": 0.3,
         "heartbeat_timeout": 0.3}  # fmt: skip
BOUND = 60.0
"""Seconds within which everything must end, on a busy machine."""


async def hangs(stream):
    await trio.sleep_forever()


async def closes(stream):
    pass


async def resets(stream):
    stream.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: a reset instead of a FIN


async def babbles(stream):
    while True:
        await stream.send_all(random.Random(1).randbytes(1000))


async def speaks_http(stream):
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


async def is_busy(stream):
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")


async def speaks_mail(stream):
    await stream.send_all(b"220 mail.example ESMTP\r\n")
    await trio.sleep_forever()


@pytest.fixture
def leaves_nothing():
    """Assert that no file descriptor is left."""
    process = psutil.Process()
    before = process.num_fds()
    yield
    assert process.num_fds() <= before


async def listening(nursery, handle):
    async def serve(stream):
        try:
            async with stream:
                await handle(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    return f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"


@pytest.mark.slow
@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("handle", [hangs, closes, resets, babbles, speaks_http, is_busy, speaks_mail])
async def test_listener_that_is_not_a_server_is_connection_lost(leaves_nothing, handle, patient):
    """The error names the address."""
    async with trio.open_nursery() as nursery:
        url = await listening(nursery, handle)
        with trio.fail_after(BOUND), pytest.raises(ConnectionLost, match=r"127\.0\.0\.1"):
            async with connect(url, wait_for_server=patient, **QUICK):
                raise AssertionError
        nursery.cancel_scope.cancel()


async def test_port_without_listener_is_connection_lost(leaves_nothing):
    """Refused immediately; a patient client retries for a while."""
    for patient in (False, True):
        with trio.fail_after(BOUND), pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9/ws"):
            async with connect("ws://127.0.0.1:9/ws", wait_for_server=patient, **QUICK):
                raise AssertionError


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "ws://:8000/ws", "nonsense", "ws://127.0.0.1:x/ws",
                                 "ws://127.0.0.1:99999/ws", "ws://exa mple/ws"])  # fmt: skip
async def test_invalid_address_is_connection_lost(url):
    """The error names an expected scheme."""
    with trio.fail_after(BOUND), pytest.raises(ConnectionLost, match=r"(ws|http):\/\/"):
        async with connect(url, **QUICK):
            raise AssertionError


async def never_answers(peer, request):
    pass


async def closes_politely(peer, request):
    await peer.socket.aclose()


async def resets_in_mid_frame(peer, request):
    await peer.socket._stream.send_all(b"\x81\x7e\x10\x00half a frame")
    await peer.socket._stream.aclose()


async def breaks_the_protocol(peer, request):
    await peer.socket._stream.send_all(b"\xff\xff\xff\xff")


async def sends_nonsense(peer, request):
    await peer.say("nonsense")


async def sends_what_is_not_utf8(peer, request):
    await peer.socket._stream.send_all(b"\x81\x02\xff\xff")


async def sends_bytes_nobody_asked_for(peer, request):
    for _ in range(100):
        await peer.say(b"bytes")


async def answers_something_else(peer, request):
    await peer.answer(request, type="pong", time=1)


async def answers_a_strange_error(peer, request):
    await peer.answer(request, type="error", message="Strange.", code=4711, reason="strange", retryable=True)


CALLS = {
    "job": lambda client, folder: client.process("a.csv").result(),
    "attach": lambda client, folder: client.attach("j1").result(),
    "columns": lambda client, folder: client.columns("a.csv"),
    "upload": lambda client, folder: client.upload(SAMPLE),
    "download": lambda client, folder: client.download("a.csv", folder / "a.csv"),
    "jobs": lambda client, folder: client.jobs(),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "handle",
    [never_answers, closes_politely, resets_in_mid_frame, breaks_the_protocol, sends_nonsense, sends_what_is_not_utf8,
     sends_bytes_nobody_asked_for, answers_something_else, answers_a_strange_error],
)  # fmt: skip
async def test_broken_server_fails_every_request_in_time(leaves_nothing, tmp_path, handle):
    """It welcomes and then misbehaves on every request: every call ends with an error."""

    async def serve(request):
        peer = Peer(await request.accept(), None)
        try:
            hello = await peer.hear()
            await peer.answer(hello, **WELCOME)
            while True:
                message = await peer.hear()
                if isinstance(message, dict):
                    await handle(peer, message)
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    ends = {}
    # A job may wait as long as the server lives, because it may be queued.
    endless = handle in (never_answers, sends_bytes_nobody_asked_for, answers_something_else)

    async def errand(client, name):
        try:
            with trio.fail_after(1 if endless and name in ("job", "attach") else BOUND):
                await CALLS[name](client, tmp_path)
        except (CreemsonError, trio.TooSlowError) as error:
            ends[name] = type(error)

    async with trio.open_nursery() as nursery:
        listener = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        with trio.fail_after(2 * BOUND):
            async with (
                connect(
                    f"ws://127.0.0.1:{listener.port}/ws", **{**QUICK, "handshake_timeout": BOUND}
                ) as client,
                trio.open_nursery() as errands,
            ):
                for name in CALLS:
                    errands.start_soon(errand, client, name)
        nursery.cancel_scope.cancel()
    assert set(ends) == set(CALLS)
    for name, end in ends.items():
        assert issubclass(end, CreemsonError) or (endless and name in ("job", "attach")), name
    assert list(tmp_path.iterdir()) == []
