"""HTTP/1.1 connections over memory streams and a mock clock, and a few over real sockets."""

import contextlib
import itertools
import socket
import struct

import attrs
import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from creemson.server import http1
from creemson.settings import Timeouts

TIMEOUTS = Timeouts()
UPGRADE = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME = b"\x81\x85\x00\x00\x00\x00hello\x81\xff\r\n\r\n\x00GET"


def get(path="/", *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def post(body, *headers, length=None):
    head = ["POST / HTTP/1.1", "Host: test", f"Content-Length: {length or len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


@attrs.define
class Response:
    status: int
    headers: dict
    body: bytes


class Peer:
    """The client's end: sends bytes, reads responses."""

    def __init__(self, stream):
        self.stream = stream
        self.received = b""

    async def send(self, data):
        await self.stream.send_all(data)

    async def _more(self):
        data = await self.stream.receive_some(65536)
        self.received += data
        return bool(data)

    def _take(self, size):
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    async def _line(self):
        while b"\r\n" not in self.received:
            assert await self._more(), self.received
        return self._take(self.received.index(b"\r\n") + 2)[:-2]

    async def _exactly(self, size):
        while len(self.received) < size:
            assert await self._more(), self.received
        return self._take(size)

    async def response(self, *, to="GET"):
        version, status, *_ = (await self._line()).split(b" ")
        assert version == b"HTTP/1.1"
        headers = {}
        while line := await self._line():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = b""
        if to == "HEAD" or status == b"100":
            pass
        elif "content-length" in headers:
            body = await self._exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self._line(), 16):
                body += (await self._exactly(size + 2))[:-2]
            assert await self._line() == b""
        else:
            body = await self.rest()
        return Response(int(status), headers, body)

    async def rest(self):
        """Whatever comes until the end."""
        while await self._more():
            pass
        return self._take(len(self.received))


class Served:
    """A connection that is being served."""

    def __init__(self, nursery, app, *, timeouts=TIMEOUTS, draining=None, streams=None, closes=True):
        client, self.stream = streams or memory_stream_pair()
        self.peer = Peer(client)
        self.log = structlog.testing.CapturingLogger()
        self.draining = draining or trio.Event()
        self.done = trio.Event()
        self.upgrade = None
        nursery.start_soon(self._run, app, timeouts, closes)

    async def _run(self, app, timeouts, closes):
        self.upgrade = await http1.serve(
            self.stream, app, timeouts=timeouts, draining=self.draining, logger=self.log
        )
        self.ended = trio.current_time()
        if self.upgrade is None and closes:
            await self.stream.aclose()
        self.done.set()

    @property
    def failures(self):
        return [call for call in self.log.calls if call.method_name == "exception"]


async def body_of(receive):
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        body += event["body"]
        if not event["more_body"]:
            return body


async def answer(send, body=b"", *headers, status=200):
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    """Says what it was asked; a request for /slow takes 100 s."""
    body = await body_of(receive)
    if scope["path"] == "/slow":
        await trio.sleep(100)
    if body is not None:
        await answer(send, f"{scope['method']} {scope['path']} ".encode() + body)


@pytest.fixture
def real(nursery):
    """Makes pairs of connected TCP streams."""
    with contextlib.ExitStack() as stack:

        def connect():
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = stack.enter_context(socket.create_connection(listener.getsockname()))
                server = stack.enter_context(listener.accept()[0])
            for end in (client, server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (client, server))

        yield connect


# --- requests ------------------------------------------------------------------------------------------


async def test_a_request_is_answered(nursery):
    """The response has a date and does not say what serves it."""
    served = Served(nursery, echo)
    await served.peer.send(get("/a%20b?q=1"))
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET /a b ")
    assert "date" in response.headers
    assert "server" not in response.headers
    assert "connection" not in response.headers


async def test_the_app_learns_the_addresses(nursery, real):
    """The scope names both ends of the socket."""
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await answer(send)

    streams = real()
    served = Served(nursery, app, streams=streams)
    await served.peer.send(get())
    await served.peer.response()
    assert scopes[0]["client"] == streams[0].socket.getsockname()
    assert scopes[0]["server"] == streams[0].socket.getpeername()


async def test_a_connection_is_kept_alive(nursery):
    """A second request is answered on the same connection; its end is the peer's."""
    served = Served(nursery, echo)
    for path in ("/1", "/2"):
        await served.peer.send(get(path))
        assert (await served.peer.response()).body == f"GET {path} ".encode()
    await served.peer.stream.aclose()
    await served.done.wait()
    assert served.upgrade is None
    assert not served.log.calls


async def test_pipelined_requests_are_answered_in_order(nursery, autojump_clock):
    """Also if the first takes longer (RFC 9112 section 9.3.2)."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + post(b"body") + get("/3"))
    bodies = [(await served.peer.response()).body for _ in range(3)]
    assert bodies == [b"GET /slow ", b"POST / body", b"GET /3 "]


async def test_head_has_no_body(nursery):
    """The next response is found where it begins."""
    served = Served(nursery, echo)
    await served.peer.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n" + get("/2"))
    response = await served.peer.response(to="HEAD")
    assert response.headers["content-length"] == "7"
    assert (await served.peer.response()).body == b"GET /2 "


async def test_chunked_bodies_both_ways(nursery):
    """A body without a length arrives; a response without one is chunked."""

    async def app(scope, receive, send):
        body = await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for byte in body:
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body"})

    served = Served(nursery, app)
    await served.peer.send(b"PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for chunk in (b"3\r\nabc\r\n", b"4\r\nde", b"fg\r\n0\r\n", b"\r\n"):
        await served.peer.send(chunk)
        await wait_all_tasks_blocked()
    assert (await served.peer.response()).body == b"abcdefg"


async def test_continue_is_said(nursery):
    """Who asks whether to send the body is told to (RFC 9110 section 10.1.1)."""
    served = Served(nursery, echo)
    await served.peer.send(post(b"", "Expect: 100-continue", length=4))
    assert (await served.peer.response()).status == 100
    await served.peer.send(b"body")
    assert (await served.peer.response()).body == b"POST / body"


async def test_a_peer_may_half_close(nursery, real):
    """Who has nothing more to say still gets its response."""

    async def app(scope, receive, send):
        assert await body_of(receive) == b""
        await trio.sleep(0.05)
        await answer(send, b"x" * 1_000_000)

    served = Served(nursery, app, streams=real())
    await served.peer.send(get())
    await served.peer.stream.send_eof()
    assert len((await served.peer.response()).body) == 1_000_000
    await served.done.wait()
    assert not served.log.calls


async def test_a_peer_that_half_closed_may_be_slow(nursery, autojump_clock):
    """As long as it takes what is sent."""

    async def app(scope, receive, send):
        await answer(send, bytes(1_000_000))

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    await served.peer.stream.send_eof()
    received = 0
    while received < 1_000_000:
        await trio.sleep(20)
        data = await served.peer.stream.receive_some(http1.PIECE)
        assert data
        received += len(data)


@pytest.mark.parametrize(
    "request_", [get("/", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n"], ids=["close", "1.0"]
)
async def test_the_last_request_ends_the_connection(nursery, autojump_clock, request_):
    """What comes behind it is ignored (RFC 9112 section 9.6)."""
    served = Served(nursery, echo)
    await served.peer.send(request_ + b"\r\n" + get("/2"))
    await served.peer.send(get("/3"))
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET / ")
    assert response.headers["connection"] == "close"
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() <= http1.LINGER + 0.01


async def test_starlette_runs(nursery):
    """A response that streams, and one that does not."""

    async def plain(request):
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def stream(request):
        async def parts():
            for part in ("a", "b", "c"):
                yield part

        return StreamingResponse(parts())

    routes = [Route("/plain", plain), Route("/stream", stream)]
    served = Served(nursery, Starlette(routes=routes))
    for path, status, body in [
        ("/plain", 200, b"0 bytes"),
        ("/stream", 200, b"abc"),
        ("/", 404, b"Not Found"),
    ]:
        await served.peer.send(get(path))
        response = await served.peer.response()
        assert (response.status, response.body) == (status, body)
    assert not served.log.calls


# --- upgrades ------------------------------------------------------------------------------------------


async def test_an_upgrade_is_handed_out(nursery):
    """With its head as it was; the stream is open and belongs to the caller."""
    served = Served(nursery, echo)
    await served.peer.send(UPGRADE)
    await served.done.wait()
    assert served.upgrade == UPGRADE
    assert not nursery.child_tasks
    await served.peer.send(b"ping")
    assert await served.stream.receive_some() == b"ping"
    await served.stream.send_all(b"pong")
    assert await served.peer.stream.receive_some() == b"pong"


@pytest.mark.parametrize("glued", [FRAME, FRAME * 2000], ids=["short", "long"])
async def test_frames_glued_to_an_upgrade(nursery, glued):
    """They are not lost, whether they come with it or later."""
    served = Served(nursery, echo)
    await served.peer.send(UPGRADE + glued)
    await served.done.wait()
    received = served.upgrade
    while len(received) < len(UPGRADE + glued):
        received += await served.stream.receive_some()
    assert received == UPGRADE + glued


async def test_an_upgrade_byte_by_byte(nursery):
    """How it is cut does not matter."""
    served = Served(nursery, echo)
    for byte in UPGRADE:
        assert not served.done.is_set()
        await served.peer.send(bytes([byte]))
        await wait_all_tasks_blocked()
    assert served.upgrade == UPGRADE


async def test_an_upgrade_on_a_connection_that_was_kept_alive(nursery):
    """After earlier responses, with frames glued to it."""
    served = Served(nursery, echo)
    await served.peer.send(get())
    assert (await served.peer.response()).status == 200
    await served.peer.send(UPGRADE + FRAME)
    await served.done.wait()
    assert served.upgrade == UPGRADE + FRAME
    assert not nursery.child_tasks


async def test_an_upgrade_behind_a_slow_response(nursery, autojump_clock):
    """It is handed out only after the response has been sent."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + UPGRADE + FRAME)
    with trio.move_on_after(99):
        await served.done.wait()
    assert not served.done.is_set()
    assert (await served.peer.response()).body == b"GET /slow "
    await served.done.wait()
    assert served.upgrade == UPGRADE + FRAME
    assert served.ended == 100


async def test_an_upgrade_does_not_wait_long_for_an_earlier_app(nursery, autojump_clock):
    """An app that goes on after its response is cancelled before the stream changes hands."""
    ended = trio.Event()

    async def app(scope, receive, send):
        await answer(send)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    served = Served(nursery, app)
    await served.peer.send(get())
    await served.peer.response()
    await served.peer.send(UPGRADE)
    await served.done.wait()
    assert served.upgrade == UPGRADE
    assert ended.is_set()
    assert trio.current_time() <= http1.LINGER + 0.01
    assert not served.log.calls


@pytest.mark.parametrize(
    "request_",
    [
        get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        get("/", "Connection: Upgrade", "Upgrade: something"),
        get("/", "Upgrade: websocket"),
        b"get / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["h2c", "unknown", "no Connection", "get", "1.0"],
)  # fmt: skip
async def test_no_other_upgrade_is_done(nursery, autojump_clock, request_):
    """The request is answered in HTTP/1.1, as RFC 9110 section 7.8 allows."""
    served = Served(nursery, echo)
    await served.peer.send(request_)
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET / ")


# --- what is refused -----------------------------------------------------------------------------------


async def test_connect_is_refused(nursery, autojump_clock):
    """This is no proxy, and h11 would let the app take the connection over."""
    served = Served(nursery, echo)
    await served.peer.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert (await served.peer.response()).status == 501
    assert await served.peer.rest() == b""


async def test_http2_with_prior_knowledge_is_refused(nursery, autojump_clock):
    """The preface is answered in HTTP/1.1, then the connection ends."""
    served = Served(nursery, echo)
    await served.peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (505, "close")
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert served.upgrade is None


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"],
    ids=["TLS", "no target", "no Host"],
)  # fmt: skip
async def test_garbage_is_a_bad_request(nursery, autojump_clock, garbage):
    """It is answered 400, then the connection ends."""
    served = Served(nursery, echo)
    await served.peer.send(garbage)
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert not served.log.calls


async def test_a_bad_chunk_is_a_bad_request(nursery, autojump_clock):
    """The app that waits for it is told that the peer has gone."""
    seen = []

    async def app(scope, receive, send):
        seen.append(await body_of(receive))
        with pytest.raises(OSError, match="the connection has ended"):
            await answer(send)

    served = Served(nursery, app)
    await served.peer.send(b"PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde")
    assert (await served.peer.response()).status == 400
    await served.done.wait()
    assert seen == [None]
    assert not served.log.calls


async def test_a_large_head_is_refused(nursery, real):
    """The peer can read 431, though it was still sending."""
    served = Served(nursery, echo, streams=real())
    await served.peer.send(get("/", *(f"X-{number}: {'x' * 1000}" for number in range(40))))
    with contextlib.suppress(trio.BrokenResourceError):
        await served.peer.send(b"x" * 100_000)
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (431, "close")
    assert await served.peer.rest() == b""
    await served.peer.stream.aclose()
    await served.done.wait()


async def test_the_limit_of_the_head_does_not_depend_on_segments(nursery, autojump_clock):
    """A head over the limit is refused even if all of it comes at once; up to it, it is taken."""
    for size, status in [(http1.MAX_HEAD_BYTES, 200), (http1.MAX_HEAD_BYTES + 1, 431)]:
        served = Served(nursery, echo)
        empty = len(get("/", "X: "))
        await served.peer.send(get("/", f"X: {'x' * (size - empty)}"))
        assert (await served.peer.response()).status == status


# --- time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_slow_head_is_cut(nursery, autojump_clock, earlier):
    """However often a byte comes, all of it has to be there in time."""
    served = Served(nursery, echo)
    for _ in range(earlier):
        await served.peer.send(get())
        await served.peer.response()
        await trio.sleep(5)
    begin = trio.current_time()

    async def dribble():
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for byte in itertools.cycle(b"GET"):
                await served.peer.send(bytes([byte]))
                await trio.sleep(1)

    nursery.start_soon(dribble)
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (408, "close")
    assert trio.current_time() == begin + TIMEOUTS.handshake
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() == begin + TIMEOUTS.handshake + http1.LINGER


@pytest.mark.parametrize("earlier", [0, 1])
async def test_an_idle_connection_ends(nursery, autojump_clock, earlier):
    """Without a word, since none was said."""
    served = Served(nursery, echo)
    for _ in range(earlier):
        await served.peer.send(get())
        await served.peer.response()
    assert await served.peer.rest() == b""
    assert trio.current_time() == (http1.KEEP_ALIVE if earlier else TIMEOUTS.handshake)
    await served.done.wait()


async def test_a_stalled_body_is_cut(nursery, autojump_clock):
    """The peer gets 408; the app is told that it has gone, and can send nothing more."""
    seen = []

    async def app(scope, receive, send):
        for _ in range(3):
            seen.append(await receive())
        with pytest.raises(OSError, match="the connection has ended"):
            await answer(send)

    served = Served(nursery, app)
    await served.peer.send(post(b"abc", length=10))
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (408, "close")
    assert trio.current_time() == TIMEOUTS.send
    await served.done.wait()
    assert [event["type"] for event in seen] == ["http.request", "http.disconnect", "http.disconnect"]
    assert not nursery.child_tasks
    assert not served.failures


async def test_a_stalled_body_is_no_fault_of_the_app(nursery, autojump_clock):
    """Starlette raises then; the log has a line without a traceback."""

    async def handle(request):
        return PlainTextResponse(str(len(await request.body())))

    served = Served(nursery, Starlette(routes=[Route("/", handle, methods=["POST"])]))
    await served.peer.send(post(b"abc", length=10))
    assert (await served.peer.response()).status == 408
    await served.done.wait()
    assert not served.failures
    assert "ClientDisconnect" in served.log.calls[-1].kwargs["error"]


async def test_a_slow_body_is_no_stalled_one(nursery, autojump_clock):
    """As long as enough of it comes, it may take any time."""
    served = Served(nursery, echo)
    piece = b"x" * int(http1.MIN_RATE * (TIMEOUTS.send - 1))
    await served.peer.send(post(b"", length=10 * len(piece)))
    for _ in range(10):
        await trio.sleep(TIMEOUTS.send - 1)
        await served.peer.send(piece)
    assert len((await served.peer.response()).body) == len(b"POST / ") + 10 * len(piece)


async def test_a_body_that_dribbles_is_a_stalled_one(nursery, autojump_clock):
    """A byte now and then keeps a connection no longer than silence does."""
    served = Served(nursery, echo)
    await served.peer.send(post(b"", length=1000))

    async def dribble():
        for _ in range(1000):
            await served.peer.send(b"x")
            await trio.sleep(TIMEOUTS.send / 10)

    nursery.start_soon(dribble)
    assert (await served.peer.response()).status == 408
    assert trio.current_time() < TIMEOUTS.send * 1.2
    nursery.cancel_scope.cancel()


async def test_a_busy_app_makes_the_peer_wait(nursery, autojump_clock):
    """Only so many bytes are taken from the stream as fit into the queue; no time runs out."""
    piece = bytes(http1.RECEIVE_BYTES)
    read = trio.Event()

    async def app(scope, receive, send):
        await read.wait()
        await answer(send, str(len(await body_of(receive))).encode())

    served = Served(nursery, app, streams=lockstep_stream_pair())
    sent = 0

    async def upload():
        nonlocal sent
        await served.peer.send(post(b"", length=100 * len(piece)))
        for _ in range(100):
            await served.peer.send(piece)
            sent += len(piece)

    nursery.start_soon(upload)
    await trio.sleep(1000)
    assert 0 < sent <= (http1.QUEUE + 2) * http1.RECEIVE_BYTES
    read.set()
    assert (await served.peer.response()).body == str(100 * len(piece)).encode()


async def test_an_answer_without_reading_a_large_body(nursery, autojump_clock):
    """The peer can read it while it is still sending; Hypercorn alone would wait for ever."""

    async def app(scope, receive, send):
        await trio.sleep(1)
        await answer(send, b"no", status=413)

    served = Served(nursery, app)
    await served.peer.send(post(bytes(2_000_000), length=3_000_000))
    response = await served.peer.response()
    assert (response.status, response.body) == (413, b"no")
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() == 1 + http1.LINGER
    assert not served.log.calls


async def test_a_slow_reader_is_cut(nursery, autojump_clock):
    """The app's send() fails after the timeout, and so does every later one."""
    faults = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):
            try:
                await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
            except OSError as error:
                faults.append((trio.current_time(), str(error)))
        raise RuntimeError("whatever")

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    await served.peer.stream.receive_some(1000)  # of the head
    await served.done.wait()
    assert faults == [(TIMEOUTS.send, "the connection has ended")] * 2
    assert trio.current_time() == TIMEOUTS.send
    assert not served.failures


async def test_a_slow_reader_is_cut_on_a_socket(nursery, real):
    """When the kernel's buffers are full."""
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse(bytes(100_000_000)))])
    served = Served(nursery, app, timeouts=attrs.evolve(TIMEOUTS, send=0.2), streams=real())
    await served.peer.send(get())
    with trio.fail_after(10):
        await served.done.wait()
    assert not served.failures


async def test_a_patient_reader_is_not_cut(nursery, autojump_clock):
    """What counts is that something is taken, not how long all of it takes."""

    async def app(scope, receive, send):
        await answer(send, bytes(1_000_000))

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    received = 0
    while received < 1_000_000:
        await trio.sleep(20)
        data = await served.peer.stream.receive_some(http1.PIECE)
        assert data
        received += len(data)
    assert trio.current_time() > 10 * TIMEOUTS.send


# --- apps that fail, peers that leave ------------------------------------------------------------------


async def fails(scope, receive, send):
    raise ValueError("a bug")


async def fails_in_a_nursery(scope, receive, send):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")


@pytest.mark.parametrize("app", [fails, fails_in_a_nursery])
async def test_an_app_that_fails_first(nursery, autojump_clock, app):
    """Its fault is logged with a traceback and answered 500; the connection ends."""
    served = Served(nursery, app)
    await served.peer.send(get())
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (500, "close")
    assert await served.peer.rest() == b""
    await served.done.wait()
    [call] = served.failures
    assert call.args == ("the HTTP app failed",)
    assert repr(call.kwargs["exc_info"]) == "ValueError('a bug')"


async def test_an_app_that_fails_in_its_response(nursery, autojump_clock):
    """The response is not ended properly, so that the peer can tell."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("a bug")

    served = Served(nursery, app)
    await served.peer.send(get())
    received = await served.peer.rest()
    assert received.endswith(b"\r\n\r\n4\r\npart\r\n")
    await served.done.wait()
    assert len(served.failures) == 1


@pytest.mark.parametrize(
    ("headers", "status", "begin"),
    [
        ([(b"bad name", b"")], 200, b"HTTP/1.1 500 "),
        ([(b"content-length", b"1")], 200, b"HTTP/1.1 200 "),
        ([(b"transfer-encoding", b"gzip")], 200, b"HTTP/1.1 500 "),
        ([], 101, b""),
    ],
    ids=["name", "length", "framing", "status"],
)
async def test_an_app_that_sends_the_impossible(nursery, autojump_clock, headers, status, begin):
    """Whatever h11 refuses is the app's fault; it ends the connection, and nothing else."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"body"})

    served = Served(nursery, app)
    await served.peer.send(get())
    received = await served.peer.rest()
    assert received[:13] == begin
    await served.done.wait()
    assert len(served.failures) == 1


async def test_an_app_without_an_answer(nursery, autojump_clock):
    """It is answered for."""

    async def app(scope, receive, send):
        await body_of(receive)

    served = Served(nursery, app)
    await served.peer.send(get())
    assert (await served.peer.response()).status == 500
    await served.done.wait()


async def test_the_app_may_give_up_a_send(nursery, autojump_clock):
    """Half a message may have been sent then, so that nothing can follow it."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(1):
            await send({"type": "http.response.body", "body": bytes(1000)})
        with pytest.raises(OSError, match="the connection has ended"):
            await send({"type": "http.response.body", "body": b"more"})

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    assert b"\r\n\r\n" in await served.peer.stream.receive_some()
    await served.done.wait()
    assert trio.current_time() == 1
    assert not served.failures


async def test_a_peer_that_leaves_in_a_body(nursery, autojump_clock):
    """The app is told; nothing is left."""
    seen = []

    async def app(scope, receive, send):
        seen.append(await body_of(receive))

    served = Served(nursery, app)
    await served.peer.send(post(b"abc", length=10))
    await served.peer.stream.aclose()
    await served.done.wait()
    assert seen == [None]
    assert not served.log.calls
    assert not nursery.child_tasks


async def test_a_peer_that_resets(nursery, real):
    """A reset in the middle of a download ends it."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})

    served = Served(nursery, app, streams=real())
    await served.peer.send(get())
    await served.peer.stream.receive_some(1000)
    served.peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await served.peer.stream.aclose()
    with trio.fail_after(10):
        await served.done.wait()
    assert [call.method_name for call in served.log.calls] == ["info"]


async def test_a_peer_that_has_gone_before(nursery, real):
    """There is nobody to serve, and nothing to log."""
    streams = real()
    streams[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await streams[0].aclose()
    served = Served(nursery, echo, streams=streams)
    await served.done.wait()
    assert not served.log.calls


async def test_an_app_that_ignores_that_the_peer_has_gone(nursery, autojump_clock):
    """It is cancelled in the end."""

    async def app(scope, receive, send):
        await trio.sleep_forever()

    served = Served(nursery, app)
    await served.peer.send(get())
    await served.peer.stream.aclose()
    await served.done.wait()
    assert trio.current_time() == TIMEOUTS.send
    assert not served.log.calls


async def test_a_cancel_from_outside(nursery, autojump_clock):
    """It goes through at once, also while the peer does not take what is sent."""

    async def app(scope, receive, send):
        await answer(send, bytes(1_000_000))

    client, server = lockstep_stream_pair()
    await_sent = Peer(client)
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(await_sent.send, get())
            await http1.serve(
                server,
                app,
                timeouts=TIMEOUTS,
                draining=trio.Event(),
                logger=structlog.testing.CapturingLogger(),
            )
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_a_fault_of_our_own_does_not_get_out(nursery, monkeypatch):
    """It is logged, and the connection ends."""

    def broken(request):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(http1, "_wants_websocket", broken)
    served = Served(nursery, echo)
    await served.peer.send(get())
    assert await served.peer.rest() == b""
    assert len(served.failures) == 1


# --- shutting down -------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 1])
async def test_draining_ends_idle_connections(nursery, autojump_clock, earlier):
    """At once."""
    served = Served(nursery, echo)
    for _ in range(earlier):
        await served.peer.send(get())
        await served.peer.response()
    await wait_all_tasks_blocked()
    served.draining.set()
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() == 0


async def test_draining_waits_for_a_request_that_has_begun(nursery, autojump_clock):
    """It is answered, and told that it is the last."""
    served = Served(nursery, echo)
    await served.peer.send(get()[:10])
    await wait_all_tasks_blocked()
    served.draining.set()
    await wait_all_tasks_blocked()
    await served.peer.send(get()[10:])
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await served.peer.rest() == b""


async def test_draining_waits_for_a_response(nursery, autojump_clock):
    """It says that it is the last, and a request behind it is not served any more."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + get("/2"))
    await trio.sleep(50)
    served.draining.set()
    response = await served.peer.response()
    assert (response.body, response.headers["connection"]) == (b"GET /slow ", "close")
    assert await served.peer.rest() == b""
    await served.done.wait()


async def test_draining_waits_for_a_response_that_has_begun(nursery, autojump_clock):
    """Even if its headers promised more."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await trio.sleep(10)
        await send({"type": "http.response.body", "body": b"all"})

    served = Served(nursery, app)
    await served.peer.send(get())
    await trio.sleep(5)
    served.draining.set()
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"all")
    assert await served.peer.rest() == b""


# --- anything ------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.binary(max_size=100),
    st.sampled_from(
        [
            get(), get("/x", "Connection: close"), post(b"body"), post(b"body", "Expect: 100-continue"), UPGRADE, FRAME,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
            b"GET /%ff?%00 HTTP/1.1\r\nHost: \xff\r\n\r\n", get("/", "Upgrade: h2c", "Connection: upgrade"), b" " * 40_000,
        ]
    ),
)  # fmt: skip


@settings(max_examples=150)
@given(
    pieces=st.lists(st.tuples(PIECES, st.sampled_from([0, 0, 1, 40])), max_size=8), cut=st.integers(1, 100_000), eof=st.booleans()
)  # fmt: skip
def test_anything(pieces, cut, eof):
    """Whatever comes, in whatever segments and with whatever pauses, nothing is raised, and serve() returns."""

    async def main():
        client, server = memory_stream_pair()
        log = structlog.testing.CapturingLogger()

        async def talk():
            with contextlib.suppress(trio.BrokenResourceError):
                for piece, pause in pieces:
                    for start in range(0, len(piece), max(cut, len(piece) // 50)):
                        await client.send_all(piece[start : start + max(cut, len(piece) // 50)])
                        await wait_all_tasks_blocked()
                    await trio.sleep(pause)
                if eof:
                    await client.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with trio.fail_after(1000):
                upgrade = await http1.serve(
                    server, echo, timeouts=TIMEOUTS, draining=trio.Event(), logger=log
                )
            assert upgrade is None or UPGRADE[:4] in upgrade
            await server.aclose()
        assert not [call for call in log.calls if call.method_name == "exception"], log.calls

    trio.run(main, clock=MockClock(autojump_threshold=0))
