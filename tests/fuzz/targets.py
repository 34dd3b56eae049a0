"""The targets of coverage-guided fuzzing: each takes any bytes, and raises only if the code under test is wrong.

They need no fuzzer: :mod:`tests.fuzz.test_targets` calls them with mutations.
"""

import contextlib
import unicodedata
from functools import partial

import trio
from trio.testing import MockClock, memory_stream_pair

from creemson.errors import REASONS, CreemsonError, InvalidFormat, ProcessingError
from creemson.jobs import commands
from creemson.jobs.events import Accepted, Ended
from creemson.metrics import Metrics
from creemson.model.filenames import check_name
from creemson.model.results import Described
from creemson.server.connection import effects
from creemson.server.connection.protocol import Protocol
from creemson.server.connection.state import ConnectionState
from creemson.server.http.multipart import Begun, FormFiles
from creemson.server.transport import http1
from creemson.server.transport.closing import Closed, Draining
from creemson.server.transport.plain import ServerSocket
from creemson.server.transport.size_limit import TooLarge
from creemson.server.transport.websocket import WebSocket
from creemson.settings.sections import Limits, Settings, Timeouts
from creemson.wire import codec
from tests.fuzz.verdict import Frames, responses
from tests.server.connection.test_protocol import COLUMNS, DATA
from tests.servers import upgrade, upgrade_request

LIMITS = Limits(batch_messages=5, upload_bytes=1000, chunk_bytes=100, message_bytes=1000)


def fuzz_codec(data):
    """Any text is a message or rejected; a message is unchanged after a round trip."""
    try:
        message = codec.decode_request(data)
    except codec.Rejected as rejected:
        codec.encode(codec.error_message(rejected.error, id=rejected.id))
        assert rejected.error.reason != "internal"
        return
    assert codec.decode_request(codec.encode(message)) == message


def fuzz_protocol(data):
    """Each line is a message, a binary one if it begins with NUL; its effects are carried out, or fail."""
    protocol = Protocol(
        ConnectionState(id="c", caller="x"),
        settings=Settings(limits=LIMITS),
        callers=None,
        metrics=Metrics(),
        wall_clock=lambda: 1.0,
    )
    for now, line in enumerate(data.split(b"\n")[:50]):
        if line.startswith(b"\0"):
            todo = protocol.binary(float(now), line)
        else:
            todo = protocol.text(float(now), line.decode(errors="replace"))
        _carry_out_all(protocol, todo, fails=len(line) % 3 == 0)
    assert protocol.state.processing >= 0


def _carry_out_all(protocol, todo, *, fails):
    """Carry out effects in order, each with those that follow from it."""
    for effect in todo:
        _carry_out_all(protocol, _carry_out(protocol, effect, fails=fails), fails=fails)


def _carry_out(protocol, effect, *, fails):
    """Return the effects that follow when an effect is carried out."""
    match effect:
        case effects.Send(message):
            codec.structure_answer(codec.parse(codec.encode(message)))
            assert getattr(message, "reason", "busy") in REASONS
        case effects.OpenUpload(request) if not fails:
            return protocol.upload_opened(0)
        case effects.WriteChunk(request) if not fails:
            return protocol.chunk_written(request, 1)
        case effects.FinishUpload(request) if not fails:
            protocol.upload_finished()
            return protocol.uploaded(request, "0" * 64, COLUMNS)
        case effects.AskProcessor(request, commands.Submit()):
            return [*protocol.reply(request, Accepted("j", 0)), *protocol.reply(request, Ended("j", 1, DATA))]
        case effects.ListFiles(request):
            return protocol.files(request, ())
        case effects.AskProcessor(request, commands.ListJobs()):
            return protocol.reply(request, commands.JobsListed(()))
        case effects.AskProcessor(request, commands.ReadColumns()):
            return protocol.reply(request, commands.ColumnsRead(Described(columns=COLUMNS)))
        case effects.DeleteFile(request) if not fails:
            return protocol.deleted(request)
        case effects.AskProcessor(request, commands.FindFile()) if not fails:
            try:
                return [
                    *protocol.download_started(request, size=10, sha256=None),
                    *protocol.downloaded(request, size=10, sha256="0" * 64),
                ]
            except CreemsonError as error:
                return protocol.fail(request, error)
        case effects.AskProcessor(request, commands.CancelRequest()):
            return protocol.reply(request, commands.Cancelled("j"))
        case effects.DropUpload() | effects.StopDownload() | effects.RemoveUpload() | effects.Close():
            return []
        case _:
            return protocol.fail(effect.request, ProcessingError("busy", "It fails."))
    return []


def fuzz_multipart(data):
    """The first line is the content type. The outcome does not depend on how the rest is cut into pieces."""
    kind, _, body = data.partition(b"\n")
    outcomes = []
    for size in (len(body) or 1, 7, 1):
        try:
            files = FormFiles(kind.decode("latin-1"), "file")
            found = [piece for at in range(0, len(body), size) for piece in files.feed(body[at : at + size])]
            files.feed(b"")
            content = [f"<{one.filename}>".encode() if isinstance(one, Begun) else one for one in found]
            outcomes.append(b"".join(content))
        except InvalidFormat as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1] == outcomes[2], outcomes


def fuzz_names(data):
    """A name that passes is one plain path component."""
    name = data.decode(errors="surrogateescape")
    try:
        checked = check_name(name)
    except InvalidFormat:
        return
    assert checked == unicodedata.normalize("NFC", name)
    name = checked
    assert "/" not in name
    assert "\\" not in name
    assert name not in {"", ".", ".."}
    assert 1 <= len(name.encode()) <= 255


def fuzz_http(data):
    """Any requests get valid responses, and the connection ends."""
    received = _over_memory(_serve_http, data)
    for status in responses(data, received):
        assert status < 500 or status in {501, 505}, status


async def _serve_http(stream):
    await http1.serve(stream, _echo, timeouts=Timeouts(), draining=Draining(), logger=_NO_LOG)


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
    """Any frames after a valid handshake; the answer consists of frames, with the close frame last."""
    received_by = {WebSocket: [], ServerSocket: []}
    for kind, messages in received_by.items():
        received = _over_memory(partial(_serve_socket, kind, data, messages), data)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        frames = Frames()
        frames.feed(rest)
        frames.end()
    assert received_by[WebSocket] == received_by[ServerSocket]


async def _serve_socket(kind, data, messages, stream):
    socket = kind(
        stream,
        upgrade(upgrade_request(), data),
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
    """Return the answer of a server that gets these bytes, and then the end of the stream."""

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
    """A logger that raises for a logged exception."""

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
