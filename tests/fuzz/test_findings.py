"""What fuzzing and the soak have found, each in its shortest form."""

import logging
import socket
import struct

import pytest
import trio

from creemson.errors import InvalidFormat
from creemson.server import multipart
from creemson.server.fast import FastSocket
from creemson.server.http import _Download
from creemson.server.transport import Closed, ServerSocket
from tests.servers import read_all, serving, upgrade_request


class Gone(trio.abc.Stream):
    """A peer that has left: nothing comes, and nothing can be sent."""

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


@pytest.mark.parametrize("kind", [FastSocket, ServerSocket])
@pytest.mark.parametrize("decide", ["accept", "reject"])
async def test_a_peer_that_goes_before_the_answer_to_its_handshake(decide, kind):
    """It was a traceback in the log, where a reset met the answer."""
    socket = kind(Gone(), upgrade_request(), message_bytes=100, chunk_bytes=100, send_timeout=1)

    async def work():
        request = await socket.request()
        with pytest.raises(Closed):
            await (request.accept() if decide == "accept" else request.reject(404, body=b"no\n"))

    await socket.serve(work)


@pytest.mark.parametrize("kind", [FastSocket, ServerSocket])
async def test_a_peer_that_goes_before_it_is_told_that_its_handshake_is_none(kind):
    """The same, for a handshake that wsproto refuses by itself."""
    bad = upgrade_request().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12")
    socket = kind(Gone(), bad, message_bytes=100, chunk_bytes=100, send_timeout=1)

    async def work():
        with pytest.raises(Closed):
            await socket.request()

    with trio.fail_after(60):
        await socket.serve(work)


def test_resets_in_the_handshake_leave_no_traceback(tmp_path):
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
async def test_a_file_that_changes_while_it_is_downloaded_over_http(tmp_path, change):
    """What was open when the response began is sent whole; it was a 500, or a response that broke off."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"abc" * 1000)
    response = _Download(path.open("rb"), "a.csv")
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
def test_a_boundary_that_is_too_long(length):
    """It is the client's fault, and was answered with 500."""
    with pytest.raises(InvalidFormat):
        multipart.FileField(f"multipart/form-data; boundary={'b' * length}", "file").feed(b"")


@pytest.mark.parametrize("method", [b"head", b"HEAd"])
def test_a_head_in_small_letters_is_none(server, method):
    """It is refused; the response broke off, and the log had a traceback."""
    with server.raw() as connection:
        connection.sendall(method + b" /status HTTP/1.1\r\nHost: test\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 501 ")
    assert "Traceback" not in server.log.read_text()


def test_a_bad_form_is_no_line_on_stderr():
    """python-multipart warns of what it raises; without a handler, Python would print it."""
    assert multipart.FileField
    assert logging.getLogger("python_multipart").handlers
