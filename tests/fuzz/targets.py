"""What coverage-guided fuzzing calls: each takes any bytes at all, and raises only where the code under test is wrong.

They need no fuzzer: :mod:`tests.fuzz.test_targets` calls them with what was found earlier.
"""

import contextlib
from functools import partial

import trio
from trio.testing import MockClock, memory_stream_pair

from creemson.errors import REASONS, CreemsonError, InvalidFormat, ProcessingError
from creemson.server import effects as wanted
from creemson.server import http1
from creemson.server.fast import FastSocket
from creemson.server.multipart import FileField
from creemson.server.protocol import ConnectionState, Protocol
from creemson.server.transport import Closed, ServerSocket, TooLarge
from creemson.settings import Limits, Timeouts
from creemson.storage.files import check_name
from creemson.wire import codec
from creemson.wire.messages import Described
from tests.fuzz.verdict import Frames, responses
from tests.servers import upgrade_request
from tests.test_protocol import COLUMNS, DATA

LIMITS = Limits(batch_messages=5, upload_bytes=1000, chunk_bytes=100, message_bytes=1000)


def fuzz_codec(data):
    """Any text is a message or rejected; a message says the same after it was encoded."""
    try:
        message = codec.decode_request(data)
    except codec.Rejected as rejected:
        codec.encode(codec.error_message(rejected.error, id=rejected.id))
        assert rejected.error.reason != "internal"
        return
    assert codec.decode_request(codec.encode(message)) == message


def fuzz_protocol(data):
    """Lines are messages, and binary ones those that begin with a zero; what they ask for is done, or fails."""
    protocol = Protocol(
        ConnectionState(id="c", caller="x"),
        limits=LIMITS,
        timeouts=Timeouts(),
        server="s",
        wall_clock=lambda: 1.0,
    )
    for now, line in enumerate(data.split(b"\n")[:50]):
        if line.startswith(b"\0"):
            todo = protocol.binary(float(now), line)
        else:
            todo = protocol.text(float(now), line.decode(errors="replace"))
        while todo:
            todo = [*_done(protocol, todo[0], fails=len(line) % 3 == 0), *todo[1:]]
    assert protocol.state.processing >= 0


def _done(protocol, effect, *, fails):
    """What follows when an effect is carried out."""
    match effect:
        case wanted.Send(message):
            codec.structure_answer(codec.parse(codec.encode(message)))
            assert getattr(message, "reason", "busy") in REASONS
        case wanted.OpenUpload(request) if not fails:
            return protocol.upload_opened(0)
        case wanted.WriteChunk(request) if not fails:
            return protocol.chunk_written(request, 1)
        case wanted.FinishUpload(request) if not fails:
            protocol.upload_finished()
            return protocol.uploaded(request, "0" * 64, COLUMNS)
        case wanted.Submit(request):
            return [*protocol.accepted(request, "j", 0), *protocol.result(request, "j", 1, DATA)]
        case wanted.ListFiles(request):
            return protocol.files(request, ())
        case wanted.ListJobs(request):
            return protocol.jobs(request, ())
        case wanted.ReadColumns(request):
            return protocol.columns(request, Described(columns=COLUMNS))
        case wanted.DeleteFile(request) if not fails:
            return protocol.deleted(request)
        case wanted.OpenDownload(request) if not fails:
            try:
                return [
                    *protocol.download_started(request, size=10, sha256=None),
                    *protocol.downloaded(request, size=10, sha256="0" * 64),
                ]
            except CreemsonError as error:
                return protocol.fail(request, error)
        case wanted.CancelRequest(request):
            return protocol.cancelled(request, "j")
        case wanted.DropUpload() | wanted.StopDownload() | wanted.RemoveUpload() | wanted.Close():
            return []
        case _:
            return protocol.fail(effect.request, ProcessingError("busy", "It fails."))
    return []


def fuzz_multipart(data):
    """The first line is the content type. However the rest is cut into pieces, the outcome is the same."""
    kind, _, body = data.partition(b"\n")
    outcomes = []
    for size in (len(body) or 1, 7, 1):
        try:
            field = FileField(kind.decode("latin-1"), "file")
            found = [piece for at in range(0, len(body), size) for piece in field.feed(body[at : at + size])]
            field.feed(b"")
            outcomes.append((field.filename, b"".join(found)))
        except InvalidFormat as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1] == outcomes[2], outcomes


def fuzz_names(data):
    """A name that passes is one plain component."""
    name = data.decode(errors="surrogateescape")
    try:
        checked = check_name(name)
    except InvalidFormat:
        return
    assert checked == name
    assert "/" not in name
    assert "\\" not in name
    assert name not in {"", ".", ".."}
    assert 1 <= len(name.encode()) <= 255


def fuzz_http(data):
    """Requests of any kind get responses, and the connection comes to an end."""
    received = _over_memory(_serve_http, data)
    for status in responses(data, received):
        assert status < 500 or status in {501, 505}, status


async def _serve_http(stream):
    await http1.serve(stream, _echo, timeouts=Timeouts(), draining=trio.Event(), logger=_NO_LOG)


async def _echo(scope, receive, send):
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event["body"]
        if not event["more_body"]:
            break
    else:
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send(
        {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body, "more_body": False}
    )


def fuzz_websocket(data):
    """Frames of any kind behind a good handshake; the answer consists of frames, the close frame last."""
    heard = {FastSocket: [], ServerSocket: []}
    for kind, messages in heard.items():
        received = _over_memory(partial(_serve_socket, kind, data, messages), data)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        said = Frames()
        said.feed(rest)
        said.end()
    assert heard[FastSocket] == heard[ServerSocket]


async def _serve_socket(kind, data, messages, stream):
    socket = kind(
        stream,
        upgrade_request() + data,
        message_bytes=LIMITS.message_bytes,
        chunk_bytes=LIMITS.chunk_bytes,
        send_timeout=1.0,
    )

    async def work():
        request = await socket.request()
        await request.accept()
        with contextlib.suppress(Closed, TooLarge):
            while True:
                messages.append(await socket.receive())
        await socket.close(1000)

    await socket.serve(work)


def _over_memory(serve, data):
    """What a server answers that is sent some bytes, and then nothing more."""

    async def run():
        ours, theirs = memory_stream_pair()
        received = bytearray()

        async def hear():
            async for piece in ours:
                received.extend(piece)

        async def serve_and_close():
            await serve(theirs)
            await theirs.aclose()

        with trio.fail_after(1000):  # of mocked time
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_and_close)
                nursery.start_soon(hear)
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await ours.send_all(data)
                    await ours.send_eof()
        return bytes(received)

    return trio.run(run, clock=MockClock(autojump_threshold=0, rate=0.0))


class _Strict:
    """A logger for which what the operator would have to look at is a failure."""

    def bind(self, **_):
        return self

    def info(self, *_, **__):
        pass

    def exception(self, event, *, exc_info=None, **_):
        raise AssertionError(event) from (exc_info if isinstance(exc_info, BaseException) else None)


_NO_LOG = _Strict()
TARGETS = {
    "codec": fuzz_codec,
    "protocol": fuzz_protocol,
    "multipart": fuzz_multipart,
    "names": fuzz_names,
    "http": fuzz_http,
    "websocket": fuzz_websocket,
}
