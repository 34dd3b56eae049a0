"""What fuzzing and the soak test have found, each in its shortest form."""

import socket
import struct

import pytest
import trio

from creemson.errors import InvalidFormat
from creemson.server.http import multipart
from creemson.server.http.downloads import FileDownload
from creemson.server.transport.closing import Closed
from creemson.server.transport.plain import ServerSocket
from creemson.server.transport.websocket import WebSocket
from creemson.storage.handles import open_local
from tests.servers import read_all, serving, upgrade, upgrade_request


class DisconnectedStream(trio.abc.Stream):
    """A disconnected peer: nothing is received, and nothing can be sent."""

    async def send_all(self, data):
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes=None):
        await trio.lowlevel.checkpoint()
        return b""

    async def aclose(self):
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", [WebSocket, ServerSocket])
@pytest.mark.parametrize("decide", ["accept", "reject"])
async def test_peer_gone_before_handshake_answer_raises_closed(decide, kind):
    """Regression: a reset that met the answer left a traceback in the log."""
    socket = kind(
        DisconnectedStream(), upgrade(upgrade_request()), message_bytes=100, chunk_bytes=100, send_timeout=1
    )

    async def work():
        request = await socket.request()
        with pytest.raises(Closed):
            await (request.accept() if decide == "accept" else request.reject(404, body=b"no\n"))

    await socket.serve(work)


@pytest.mark.parametrize("kind", [WebSocket, ServerSocket])
async def test_peer_gone_before_handshake_refusal_raises_closed(kind):
    """The same for a handshake that wsproto refuses by itself."""
    bad = upgrade_request().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12")
    socket = kind(DisconnectedStream(), upgrade(bad), message_bytes=100, chunk_bytes=100, send_timeout=1)

    async def work():
        with pytest.raises(Closed):
            await socket.request()

    with trio.fail_after(60):
        await socket.serve(work)


@pytest.mark.slow
def test_resets_during_handshake_leave_no_traceback(tmp_path):
    """Over a network, in all orders."""
    with serving(tmp_path / "data") as server:
        for number in range(300):
            connection = server.raw()
            bad = number % 2 == 0
            connection.sendall(upgrade_request().replace(b": 13", b": 12") if bad else upgrade_request())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        server.stop()
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("change", ["removed", "replaced"])
async def test_file_changed_during_http_download_is_sent_whole(tmp_path, change):
    """The file opened at the start is sent whole; regression: a 500 or a broken response."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"abc" * 1000)
    response = FileDownload(open_local(path), "a.csv", cache_control="no-cache", attachment=True)
    path.unlink()
    if change == "replaced":
        path.write_bytes(b"something else")
    sent = []

    async def send(event):
        sent.append(event)

    async def receive():
        await trio.sleep_forever()

    await response(
        {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.3"}}, receive, send
    )
    assert b"".join(event.get("body", b"") for event in sent) == b"abc" * 1000
    assert dict(sent[0]["headers"])[b"content-length"] == b"3000"


@pytest.mark.parametrize("length", [256, 257, 300, 20_000])
def test_overlong_boundary_is_refused(length):
    """Regression: the client's error was answered with 500."""
    with pytest.raises(InvalidFormat):
        multipart.FormFiles(f"multipart/form-data; boundary={'b' * length}", "file").feed(b"")


@pytest.mark.parametrize("method", [b"head", b"HEAd"])
def test_lower_case_head_is_501(server, method):
    """Regression: the response broke off, and the log had a traceback."""
    with server.raw() as connection:
        connection.sendall(method + b" /status HTTP/1.1\r\nHost: test\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 501 ")
    assert "Traceback" not in server.log.read_text()
