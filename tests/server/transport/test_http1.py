"""HTTP/1.1 connections over memory streams with a mock clock, and a few over real sockets."""

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
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from creemson.server.transport import asgi, http1
from creemson.server.transport.closing import Draining
from creemson.server.transport.request_head import MAX_HEAD_BYTES
from creemson.settings.sections import Timeouts
from tests.examples import examples_of
from tests.servers import PATIENCE

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
        """All bytes until the end."""
        while await self._more():
            pass
        return self._take(len(self.received))


class Served:
    """A connection that is being served."""

    def __init__(self, nursery, app, *, timeouts=TIMEOUTS, draining=None, streams=None, closes=True, bugs=0):
        client, self.stream = streams or memory_stream_pair()
        self.peer = Peer(client)
        self.log = structlog.testing.CapturingLogger()
        self.draining = draining or Draining()
        self.done = trio.Event()
        self.upgrade = None
        self.refusals = []
        self.describe = http1.describe_plainly
        self.bugs = bugs
        nursery.start_soon(self._run, app, timeouts, closes)

    async def _run(self, app, timeouts, closes):
        upgrade = await http1.serve(
            self.stream,
            app,
            timeouts=timeouts,
            draining=self.draining,
            on_refusal=self.refusals.append,
            describe=self.describe,
            logger=self.log,
        )
        bugs = [call for call in self.failures if call.args == ("HTTP connection failed unexpectedly",)]
        assert len(bugs) == self.bugs, "a bug of the server, and not of the app"
        self.ended = trio.current_time()
        self.upgrade = upgrade and upgrade.head + upgrade.rest
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
    """An app that responds with what was requested; /slow takes 100 s."""
    body = await body_of(receive)
    if scope["path"] == "/slow":
        await trio.sleep(100)
    if body is not None:
        await answer(send, f"{scope['method']} {scope['path']} ".encode() + body)


@pytest.fixture
def real(nursery):
    """A function that makes pairs of connected TCP streams."""
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


async def test_request_is_answered(nursery):
    """The response has a date and does not name the server."""
    served = Served(nursery, echo)
    await served.peer.send(get("/a%20b?q=1"))
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET /a b ")
    assert "date" in response.headers
    assert "server" not in response.headers
    assert "connection" not in response.headers


async def test_scope_on_a_socket_has_both_addresses(nursery, real):
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


async def test_connection_after_a_response_is_kept_alive(nursery):
    """A second request is answered on the same connection, until the peer closes it."""
    served = Served(nursery, echo)
    for path in ("/1", "/2"):
        await served.peer.send(get(path))
        assert (await served.peer.response()).body == f"GET {path} ".encode()
    await served.peer.stream.aclose()
    await served.done.wait()
    assert served.upgrade is None
    assert not served.log.calls


async def test_pipelined_requests_are_answered_in_order(nursery, autojump_clock):
    """Even if the first one takes longer (RFC 9112 section 9.3.2)."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + post(b"body") + get("/3"))
    bodies = [(await served.peer.response()).body for _ in range(3)]
    assert bodies == [b"GET /slow ", b"POST / body", b"GET /3 "]


async def test_head_response_has_no_body(nursery):
    """The next response begins right after its head."""
    served = Served(nursery, echo)
    await served.peer.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n" + get("/2"))
    response = await served.peer.response(to="HEAD")
    assert response.headers["content-length"] == "7"
    assert (await served.peer.response()).body == b"GET /2 "


async def test_body_without_length_is_chunked_both_ways(nursery):
    """A request body without a length is received; a response without one is chunked."""

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


async def test_expect_continue_gets_100(nursery):
    """A peer that asks whether to send the body gets 100 Continue (RFC 9110 section 10.1.1)."""
    served = Served(nursery, echo)
    await served.peer.send(post(b"", "Expect: 100-continue", length=4))
    assert (await served.peer.response()).status == 100
    await served.peer.send(b"body")
    assert (await served.peer.response()).body == b"POST / body"


async def test_peer_that_half_closes_gets_its_response(nursery, real):
    """It may close its sending side after the request."""

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


async def test_peer_that_half_closes_gets_its_file(nursery, real, tmp_path):
    """Starlette sends files to the end although the app receives a disconnect."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3_000_000))
    served = Served(nursery, FileResponse(path), streams=real())
    await served.peer.send(get())
    await served.peer.stream.send_eof()
    assert len((await served.peer.response()).body) == 3_000_000
    await served.done.wait()
    assert not served.log.calls


async def test_peer_that_half_closes_and_reads_slowly_gets_its_response(nursery, autojump_clock):
    """It may take any time in total, as long as it keeps reading."""

    async def app(scope, receive, send):
        await answer(send, bytes(1_000_000))

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    await served.peer.stream.send_eof()
    received = 0
    while received < 1_000_000:
        await trio.sleep(20)
        data = await served.peer.stream.receive_some(http1.PIECE_BYTES)
        assert data
        received += len(data)


@pytest.mark.parametrize(
    "request_", [get("/", "Connection: close"), b"GET / HTTP/1.0\r\n\r\n"], ids=["close", "1.0"]
)
async def test_last_request_ends_the_connection(nursery, autojump_clock, request_):
    """What follows it is ignored (RFC 9112 section 9.6)."""
    served = Served(nursery, echo)
    await served.peer.send(request_ + b"\r\n" + get("/2"))
    await served.peer.send(get("/3"))
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET / ")
    assert response.headers["connection"] == "close"
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() <= http1.LINGER + 0.01


async def test_starlette_app_is_served(nursery):
    """With a plain response, a streaming one, and an error."""

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


async def test_upgrade_is_returned(nursery):
    """With its head unchanged; the stream is open and belongs to the caller."""
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
async def test_upgrade_with_frames_after_it_returns_them(nursery, glued):
    """No frame is lost, whether it arrives with the upgrade or later."""
    served = Served(nursery, echo)
    await served.peer.send(UPGRADE + glued)
    await served.done.wait()
    received = served.upgrade
    while len(received) < len(UPGRADE + glued):
        received += await served.stream.receive_some()
    assert received == UPGRADE + glued


async def test_upgrade_byte_by_byte_is_returned(nursery):
    """The segments it arrives in make no difference."""
    served = Served(nursery, echo)
    for byte in UPGRADE:
        assert not served.done.is_set()
        await served.peer.send(bytes([byte]))
        await wait_all_tasks_blocked()
    assert served.upgrade == UPGRADE


async def test_upgrade_after_a_response_is_returned(nursery):
    """On a connection that was kept alive, with frames after the upgrade."""
    served = Served(nursery, echo)
    await served.peer.send(get())
    assert (await served.peer.response()).status == 200
    await served.peer.send(UPGRADE + FRAME)
    await served.done.wait()
    assert served.upgrade == UPGRADE + FRAME
    assert not nursery.child_tasks


async def test_upgrade_behind_a_slow_response_waits_for_it(nursery, autojump_clock):
    """It is returned only after the response has been sent."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + UPGRADE + FRAME)
    with trio.move_on_after(99):
        await served.done.wait()
    assert not served.done.is_set()
    assert (await served.peer.response()).body == b"GET /slow "
    await served.done.wait()
    assert served.upgrade == UPGRADE + FRAME
    assert served.ended == 100


async def test_upgrade_with_an_earlier_app_running_cancels_it(nursery, autojump_clock):
    """An app that continues after its response is cancelled before the stream changes hands."""
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
async def test_upgrade_to_anything_else_is_ignored(nursery, autojump_clock, request_):
    """The request is answered in HTTP/1.1, as RFC 9110 section 7.8 allows."""
    served = Served(nursery, echo)
    await served.peer.send(request_)
    response = await served.peer.response()
    assert (response.status, response.body) == (200, b"GET / ")


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://me@a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (UPGRADE.replace(b"Host", b"Content-Length: 3\r\nHost") + b"abc", 400),
        (UPGRADE.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"0\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=["length, chunked", "chunked, length", "1.0 chunked", "no host", "user", "upgrade with length",
         "upgrade with chunks", "HEAD"],
)  # fmt: skip
async def test_ambiguous_request_is_refused(nursery, autojump_clock, request_, status):
    """Nothing after it is read: what one server takes for a body is a second request for another."""
    served = Served(nursery, echo)
    await served.peer.send(request_ + get("/smuggled"))
    response = await served.peer.response(to=request_[:4].decode())
    assert (response.status, response.headers["connection"]) == (status, "close")
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert served.upgrade is None


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nORIGIN: http://b\r\nX: " + b"x" * MAX_HEAD_BYTES,
        get("/", "Origin: http://b", "X: " + "x" * MAX_HEAD_BYTES),
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nslow",
        b"POST / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nContent-Length: 3\r\n\r\nab",
    ],
    ids=["431 in parts", "431", "400", "408", "chunk", "408 body"],
)
async def test_refusal_is_described_with_the_origin_of_the_page(nursery, autojump_clock, sent):
    """Otherwise a page could not read why."""
    served = Served(nursery, echo)
    described = []

    def describe(status, why, origin):
        described.append((status, why, origin))
        return [(b"x-why", b"1")], b"why"

    served.describe = describe
    await served.peer.send(sent)
    response = await served.peer.response()
    [(status, why, origin)] = described
    assert (response.status, response.headers["x-why"], response.body) == (status, "1", b"why")
    assert (bool(why), origin) == (True, "http://b")


async def test_target_in_absolute_form_is_served(nursery):
    """Its host replaces the Host header (RFC 9112 section 3.2.2)."""
    hosts = []

    async def app(scope, receive, send):
        hosts.extend(value for name, value in scope["headers"] if name == b"host")
        await answer(send, f"{scope['path']}?{scope['query_string'].decode()}".encode())

    served = Served(nursery, app)
    for target, body in [
        ("http://a:1/x?y=http://b/", b"/x?y=http://b/"),
        ("HTTPS://a:1?y", b"/?y"),
        ("http://a:1", b"/?"),
    ]:
        await served.peer.send(get(target))
        assert (await served.peer.response()).body == body
    assert hosts == [b"a:1"] * 3


async def test_upgrade_in_absolute_form_is_returned_in_origin_form(nursery):
    """The WebSocket server knows no other."""
    served = Served(nursery, echo)
    await served.peer.send(UPGRADE.replace(b"GET /ws?x=1", b"GET http://other/ws?x=1") + FRAME)
    await served.done.wait()
    assert served.upgrade.startswith(b"GET /ws?x=1 HTTP/1.1\r\nHost: other\r\n")
    assert b"Host: test" not in served.upgrade
    assert served.upgrade.endswith(FRAME)


@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
async def test_empty_lines_before_a_request_are_ignored(nursery, cut):
    """Also between two requests, in whatever segments (RFC 9112 section 2.2)."""
    served = Served(nursery, echo)
    sent = b"\r\n\r\n" + get("/1") + b"\r\n" + post(b"body") + b"\r\n\n" + get("/2")
    for start in range(0, len(sent), cut):
        await served.peer.send(sent[start : start + cut])
        await wait_all_tasks_blocked()
    bodies = [(await served.peer.response()).body for _ in range(3)]
    assert bodies == [b"GET /1 ", b"POST / body", b"GET /2 "]


async def test_empty_lines_do_not_keep_a_connection_open(nursery, autojump_clock):
    """They are no request."""
    served = Served(nursery, echo)

    async def send_slowly():
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await served.peer.send(b"\r\n")
                await trio.sleep(1)

    nursery.start_soon(send_slowly)
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert served.ended == TIMEOUTS.handshake


async def test_app_that_refuses_by_the_head_sends_no_continue(nursery, autojump_clock):
    """The peer asked before it sends the body, and gets the final answer only (RFC 9110 section 10.1.1)."""

    async def app(scope, receive, send):
        await trio.sleep(1)
        await answer(send, b"too large", status=413)

    served = Served(nursery, app)
    await served.peer.send(post(b"", "Expect: 100-continue", length=99 * 10**9))
    response = await served.peer.response()
    assert (response.status, response.body) == (413, b"too large")
    assert await served.peer.rest() == b""


async def test_connect_is_refused(nursery, autojump_clock):
    """This is not a proxy, and h11 would let the app take over the connection."""
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


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "Missing mandatory Host: header."),
        (get("/", "Transfer-Encoding: br"), "Only Transfer-Encoding: chunked is supported."),
        (get("/", "no colon 'x'"), "illegal header line."),
        (get("/", "Transfer-Encoding: chunked") + b"z\r\n", "illegal chunk header."),
    ],
    ids=["no Host", "coding", "header", "chunk"],
)
async def test_bad_request_is_told_the_whole_reason_without_its_bytes(nursery, autojump_clock, sent, why):
    """Some of h11's sentences contain colons."""
    served = Served(nursery, echo)
    await served.peer.send(sent)
    response = await served.peer.response()
    assert response.body.decode() == f"The request is not valid HTTP: {why}\n"


async def test_bad_request_behind_a_head_request_is_told_why(nursery, autojump_clock):
    """Only the answer to HEAD has no body."""
    served = Served(nursery, echo)
    await served.peer.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await served.peer.response(to="HEAD")).status == 200
    await served.peer.send(b"GET / HtTT/1.1\r\n\r\n")
    response = await served.peer.response()
    assert (response.status, response.body[:12]) == (400, b"The request ")
    assert not served.log.calls


async def test_bad_chunk_is_a_bad_request(nursery, autojump_clock):
    """The app that waits for it receives a disconnect."""
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


async def test_large_head_is_refused(nursery, real, monkeypatch):
    """The peer can read the 431 response even if it was still sending."""
    monkeypatch.setattr(http1, "LINGER", PATIENCE)
    served = Served(nursery, echo, streams=real())
    await served.peer.send(get("/", *(f"X-{number}: {'x' * 1000}" for number in range(40))))
    with contextlib.suppress(trio.BrokenResourceError):
        await served.peer.send(b"x" * 100_000)
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (431, "close")
    assert await served.peer.rest() == b""
    await served.peer.stream.aclose()
    await served.done.wait()


async def test_head_in_one_segment_has_the_same_limit(nursery, autojump_clock):
    """A head over the limit is refused even if it arrives all at once; a head at the limit is accepted."""
    for size, status in [(MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 1, 431)]:
        served = Served(nursery, echo)
        empty = len(get("/", "X: "))
        await served.peer.send(get("/", f"X: {'x' * (size - empty)}"))
        assert (await served.peer.response()).status == status


@pytest.mark.parametrize(
    ("sent", "status", "refusals"),
    [
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, [501]),
        (get("/", "X: " + "x" * MAX_HEAD_BYTES), 431, [431]),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431, [431]),
        (b"GET\r\n\r\n", 400, []),
    ],
    ids=["CONNECT", "large head", "large incomplete head", "bad request"],
)
async def test_refusal_except_bad_request_is_reported(nursery, autojump_clock, sent, status, refusals):
    """400 is left out: it is also the response to a peer that disconnects within a request."""
    served = Served(nursery, echo)
    await served.peer.send(sent)
    assert (await served.peer.response()).status == status
    assert served.refusals == refusals


# --- timeouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", [0, 1])
async def test_slow_head_is_refused(nursery, autojump_clock, earlier):
    """All of it must arrive in time, however often a byte comes."""
    served = Served(nursery, echo)
    for _ in range(earlier):
        await served.peer.send(get())
        await served.peer.response()
        await trio.sleep(5)
    begin = trio.current_time()

    async def send_slowly():
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for byte in itertools.cycle(b"GET"):
                await served.peer.send(bytes([byte]))
                await trio.sleep(1)

    nursery.start_soon(send_slowly)
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (408, "close")
    assert trio.current_time() == begin + TIMEOUTS.handshake
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() == begin + TIMEOUTS.handshake + http1.LINGER


@pytest.mark.parametrize("earlier", [0, 1])
async def test_idle_connection_ends_without_a_response(nursery, autojump_clock, earlier):
    """There was no request to respond to."""
    served = Served(nursery, echo)
    for _ in range(earlier):
        await served.peer.send(get())
        await served.peer.response()
    assert await served.peer.rest() == b""
    assert trio.current_time() == (http1.KEEP_ALIVE if earlier else TIMEOUTS.handshake)
    await served.done.wait()


async def test_stalled_body_is_refused(nursery, autojump_clock):
    """The peer gets 408; the app receives a disconnect and can send nothing more."""
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


async def test_stalled_body_is_not_logged_as_an_app_failure(nursery, autojump_clock):
    """Starlette raises an exception then; the log has one line without a traceback."""

    async def handle(request):
        return PlainTextResponse(str(len(await request.body())))

    served = Served(nursery, Starlette(routes=[Route("/", handle, methods=["POST"])]))
    await served.peer.send(post(b"abc", length=10))
    assert (await served.peer.response()).status == 408
    await served.done.wait()
    assert not served.failures
    assert "ClientDisconnect" in served.log.calls[-1].kwargs["error"]


async def test_slow_body_with_enough_bytes_is_accepted(nursery, autojump_clock):
    """It may take any time in total, as long as its rate is high enough."""
    served = Served(nursery, echo)
    piece = b"x" * int(asgi.MIN_RATE * (TIMEOUTS.send - 1))
    await served.peer.send(post(b"", length=10 * len(piece)))
    for _ in range(10):
        await trio.sleep(TIMEOUTS.send - 1)
        await served.peer.send(piece)
    assert len((await served.peer.response()).body) == len(b"POST / ") + 10 * len(piece)


async def test_body_below_the_minimum_rate_is_refused(nursery, autojump_clock):
    """A byte now and then keeps a connection open no longer than silence does."""
    served = Served(nursery, echo)
    await served.peer.send(post(b"", length=1000))

    async def send_slowly():
        for _ in range(1000):
            await served.peer.send(b"x")
            await trio.sleep(TIMEOUTS.send / 10)

    nursery.start_soon(send_slowly)
    assert (await served.peer.response()).status == 408
    assert trio.current_time() < TIMEOUTS.send * 1.2
    nursery.cancel_scope.cancel()


async def test_body_for_a_busy_app_waits_in_the_peer(nursery, autojump_clock):
    """No more is read from the stream than fits into the queue; no timeout expires."""
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
    assert 0 < sent <= (asgi.QUEUE + 2) * http1.RECEIVE_BYTES
    read.set()
    assert (await served.peer.response()).body == str(100 * len(piece)).encode()


async def test_response_before_a_large_body_is_read_reaches_the_peer(nursery, autojump_clock):
    """The peer can read the response while it is still sending."""

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


async def test_reader_that_stalls_is_dropped(nursery, autojump_clock):
    """The app's send() fails after the timeout, and so does every later one."""
    errors = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):
            try:
                await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
            except OSError as error:
                errors.append((trio.current_time(), str(error)))
        raise RuntimeError("whatever")

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    await served.peer.stream.receive_some(1000)  # of the head
    await served.done.wait()
    assert errors == [(TIMEOUTS.send, "the connection has ended")] * 2
    assert trio.current_time() == TIMEOUTS.send
    assert not served.failures


async def test_reader_on_a_socket_that_stalls_is_dropped(nursery, real):
    """When the kernel's buffers are full."""
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse(bytes(100_000_000)))])
    served = Served(nursery, app, timeouts=attrs.evolve(TIMEOUTS, send=0.2), streams=real())
    await served.peer.send(get())
    with trio.fail_after(PATIENCE):
        await served.done.wait()
    assert not served.failures


async def test_reader_that_is_slow_gets_all(nursery, autojump_clock):
    """Each piece has a timeout, the whole response has none."""

    async def app(scope, receive, send):
        await answer(send, bytes(1_000_000))

    served = Served(nursery, app, streams=lockstep_stream_pair())
    await served.peer.send(get())
    received = 0
    while received < 1_000_000:
        await trio.sleep(20)
        data = await served.peer.stream.receive_some(http1.PIECE_BYTES)
        assert data
        received += len(data)
    assert trio.current_time() > 10 * TIMEOUTS.send


# --- app failures and disconnects ----------------------------------------------------------------------


async def fails(scope, receive, send):
    raise ValueError("a bug")


async def fails_in_a_nursery(scope, receive, send):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")


@pytest.mark.parametrize("app", [fails, fails_in_a_nursery])
async def test_app_that_fails_before_its_response_gets_500(nursery, autojump_clock, app):
    """The exception is logged with a traceback and answered 500; the connection ends."""
    served = Served(nursery, app)
    await served.peer.send(get())
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (500, "close")
    assert await served.peer.rest() == b""
    await served.done.wait()
    [call] = served.failures
    assert call.args == ("the HTTP app failed",)
    assert repr(call.kwargs["exc_info"]) == "ValueError('a bug')"


async def test_app_that_fails_in_its_response_leaves_it_incomplete(nursery, autojump_clock):
    """The response has no proper end, so that the peer can tell."""

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
async def test_app_that_violates_http_ends_the_connection(nursery, autojump_clock, headers, status, begin):
    """Whatever h11 rejects is the app's failure; it ends the connection and affects nothing else."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"body"})

    served = Served(nursery, app)
    await served.peer.send(get())
    received = await served.peer.rest()
    assert received[:13] == begin
    await served.done.wait()
    assert len(served.failures) == 1


@pytest.mark.parametrize("after", ["http.response.start", "http.response.body", "http.something"])
async def test_app_that_sends_after_its_response_fails(nursery, after):
    """The peer is not affected: the next request is served."""

    async def app(scope, receive, send):
        await answer(send)
        await send({"type": after, "status": 200})

    served = Served(nursery, app)
    for number in range(1, 3):
        await served.peer.send(get())
        assert (await served.peer.response()).status == 200
        await wait_all_tasks_blocked()
        assert len(served.failures) == number


async def test_app_that_sends_an_informational_response_can_respond_after_it(nursery):
    """For example early hints (RFC 8297)."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 103, "headers": [(b"link", b"</style.css>")]})
        await answer(send, b"body")

    served = Served(nursery, app)
    await served.peer.send(get())
    received = await served.peer.stream.receive_some()
    assert received.startswith(b"HTTP/1.1 103 \r\nlink: </style.css>\r\n\r\n")
    served.peer.received = received.partition(b"\r\n\r\n")[2]
    assert (await served.peer.response()).body == b"body"


async def test_app_without_a_response_gets_500(nursery, autojump_clock):
    """The server responds for it."""

    async def app(scope, receive, send):
        await body_of(receive)

    served = Served(nursery, app)
    await served.peer.send(get())
    assert (await served.peer.response()).status == 500
    await served.done.wait()


async def test_app_that_cancels_a_send_ends_the_connection(nursery, autojump_clock):
    """Half a message may have been sent, so nothing can follow it."""

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


async def test_peer_that_disconnects_in_a_body_ends_the_request(nursery, autojump_clock):
    """The app receives a disconnect; no task is left."""
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


async def test_peer_that_resets_ends_the_download(nursery, real):
    """The reset comes in the middle of a download."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})

    served = Served(nursery, app, streams=real())
    await served.peer.send(get())
    await served.peer.stream.receive_some(1000)
    served.peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await served.peer.stream.aclose()
    with trio.fail_after(PATIENCE):
        await served.done.wait()
    assert [call.method_name for call in served.log.calls] == ["info"]


async def test_peer_that_disconnected_before_is_not_logged(nursery, real):
    """There is nobody to serve."""
    streams = real()
    streams[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await streams[0].aclose()
    served = Served(nursery, echo, streams=streams)
    await served.done.wait()
    assert not served.log.calls


async def test_app_that_ignores_a_disconnect_is_cancelled(nursery, autojump_clock):
    """After a while: as soon as a probe has found out that the peer does not even read any more."""

    async def app(scope, receive, send):
        await trio.sleep_forever()

    served = Served(nursery, app)
    await served.peer.send(get())
    await served.peer.stream.aclose()
    await served.done.wait()
    assert trio.current_time() == http1.PROBE_AFTER + TIMEOUTS.send
    assert not served.log.calls


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_half_closed_peer_gets_a_late_response(nursery, autojump_clock, version):
    """It may take longer than any timeout of the connection; HTTP/1.0 knows no informational responses."""

    async def app(scope, receive, send):
        await body_of(receive)
        with trio.move_on_after(3 * TIMEOUTS.send) as waiting:
            await receive()
        await answer(send, b"late" if waiting.cancelled_caught else b"early")

    served = Served(nursery, app)
    await served.peer.send(b"GET / HTTP/%b\r\nHost: test\r\n\r\n" % version)
    await served.peer.stream.send_eof()
    response = await served.peer.response()
    informed = 0
    while response.status == 100:
        response = await served.peer.response()
        informed += 1
    assert (response.status, response.body) == (200, b"late")
    assert (informed > 1) == (version == b"1.1")
    await served.done.wait()


async def test_peer_that_disconnects_is_noticed_by_a_probe(nursery, real):
    """Its system answers the informational response with a reset; the app receives a disconnect."""
    noticed = trio.Event()

    async def app(scope, receive, send):
        assert await body_of(receive) == b""
        assert (await receive())["type"] == "http.disconnect"
        noticed.set()

    served = Served(nursery, app, streams=real())
    await served.peer.send(get())
    await wait_all_tasks_blocked()
    await served.peer.stream.aclose()
    with trio.fail_after(PATIENCE):
        await noticed.wait()
        await served.done.wait()


async def test_cancellation_while_sending_ends_at_once(nursery, autojump_clock):
    """Even while the peer does not read the response."""

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
                draining=Draining(),
                logger=structlog.testing.CapturingLogger(),
            )
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_internal_error_is_logged_and_not_raised(nursery, monkeypatch):
    """The connection ends."""

    def broken(request):
        raise RuntimeError("a bug")

    monkeypatch.setattr(http1, "wants_websocket", broken)
    served = Served(nursery, echo, bugs=1)
    await served.peer.send(get())
    assert await served.peer.rest() == b""
    await served.done.wait()


# --- shutting down -------------------------------------------------------------------------------------


async def test_draining_ends_idle_connections_at_once(nursery, autojump_clock):
    """Those that have had a response."""
    served = Served(nursery, echo)
    await served.peer.send(get())
    await served.peer.response()
    await wait_all_tasks_blocked()
    served.draining.set()
    assert await served.peer.rest() == b""
    await served.done.wait()
    assert trio.current_time() == 0


async def test_draining_waits_a_moment_for_a_first_request(nursery, autojump_clock):
    """A client that has just connected gets its response; a connection without a request ends soon."""
    silent, served = Served(nursery, echo), Served(nursery, echo)
    await wait_all_tasks_blocked()
    for one in (silent, served):
        one.draining.set()
    await wait_all_tasks_blocked()
    await served.peer.send(get()[:10])
    await trio.sleep(http1.FIRST_REQUEST + 0.1)
    await served.peer.send(get()[10:])
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await silent.peer.rest() == b""
    await silent.done.wait()
    assert trio.current_time() < 1


async def test_draining_within_a_head_waits_for_the_request(nursery, autojump_clock):
    """It is answered as the last one of the connection."""
    served = Served(nursery, echo)
    await served.peer.send(get()[:10])
    await wait_all_tasks_blocked()
    served.draining.set()
    await wait_all_tasks_blocked()
    await served.peer.send(get()[10:])
    response = await served.peer.response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert await served.peer.rest() == b""


async def test_draining_before_a_response_makes_it_the_last(nursery, autojump_clock):
    """Its headers say so, and the next pipelined request is not served."""
    served = Served(nursery, echo)
    await served.peer.send(get("/slow") + get("/2"))
    await trio.sleep(50)
    served.draining.set()
    response = await served.peer.response()
    assert (response.body, response.headers["connection"]) == (b"GET /slow ", "close")
    assert await served.peer.rest() == b""
    await served.done.wait()


async def test_draining_within_a_response_waits_for_its_end(nursery, autojump_clock):
    """Even if its headers promised a connection that is kept alive."""

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


# --- any input -----------------------------------------------------------------------------------------

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


@settings(max_examples=examples_of(150))
@given(
    pieces=st.lists(st.tuples(PIECES, st.sampled_from([0, 0, 1, 40])), max_size=8), cut=st.integers(1, 100_000), eof=st.booleans()
)  # fmt: skip
def test_any_bytes_raise_nothing(pieces, cut, eof):
    """Whatever arrives, in whatever segments and with whatever pauses, serve() returns."""

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
                upgrade = await http1.serve(server, echo, timeouts=TIMEOUTS, draining=Draining(), logger=log)
            assert upgrade is None or UPGRADE[:4] in upgrade.head
            await server.aclose()
        assert not [call for call in log.calls if call.method_name == "exception"], log.calls

    trio.run(main, clock=MockClock(autojump_threshold=0))
