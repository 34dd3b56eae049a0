"""Input that no client library would send: on raw sockets, with the close frames that follow."""

import json
import socket
import struct
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pytest

from tests.servers import frame, read_all, serving, upgrade_request, wait_until

PING = b'{"type": "ping", "id": "g"}'


def frames(data):
    """Return opcodes and payloads of server frames."""
    found = []
    while data:
        opcode, size = data[0] & 0x0F, data[1]
        start = 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        found.append((opcode, data[start : start + size]))
        data = data[start + size :]
    return found


def after_upgrade(connection):
    """Return all frames until the server closes."""
    head, _, rest = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return frames(rest)


def close_code(payload):
    return struct.unpack("!H", payload[:2])[0]


def assert_alive(server):
    with server.connect() as client:
        assert client.ask({"type": "ping", "id": "alive"})["id"] == "alive"


@pytest.mark.parametrize(
    ("last", "code"), [(frame(b"x", 3), 1002), (frame(b"\x0f\xa0bye", 8), 4000), (frame(b"\xff"), 1007)]
)
def test_answer_being_sent_is_completed_before_close(server, last, code):
    """A close or violation during a large answer: complete frames arrive, then the close frame."""
    with asked_for_much(server) as connection:
        connection.sendall(last)
        time.sleep(0.3)
        (kind, answer), (opcode, payload) = frames(read_all(connection))
    assert (kind, len(json.loads(answer)["columns"])) == (1, 1000)
    assert (opcode, close_code(payload)) == (8, code)


def test_half_closed_connection_still_gets_its_answer(server):
    """The large answer arrives complete."""
    with asked_for_much(server) as connection:
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        ((kind, answer),) = frames(read_all(connection))
    assert (kind, len(json.loads(answer)["columns"])) == (1, 1000)


@contextmanager
def asked_for_much(server):
    """A connection in the middle of an answer that fills the buffers."""
    columns = {"type": "columns", "id": "c", "filename": "frames-long.parquet"}
    path = server.data_dir / "uploads" / columns["filename"]
    if not path.exists():
        pl.DataFrame({f"{number:05000}": [0] for number in range(1000)}).write_parquet(path)
    with server.connect() as client:  # on a busy machine, the first look at the file may take too long
        wait_until(lambda: client.ask(columns)["type"] == "columns")
    with server.upgraded() as connection:
        connection.recv(65536)
        connection.sendall(frame(json.dumps(columns).encode()))
        connection.recv(1, socket.MSG_PEEK)  # the answer starts
        time.sleep(0.3)  # and fills the buffers
        yield connection


def test_frame_in_the_upgrade_segment_is_answered(server):
    """The first message may arrive in the same segment as the handshake."""
    with server.upgraded(glued=frame(PING)) as connection:
        received = b""
        while b"pong" not in received:
            received += connection.recv(65536)
        connection.sendall(frame(b"\x03\xe8", opcode=8))
        received += read_all(connection)
    (_, pong), (opcode, payload) = frames(received.partition(b"\r\n\r\n")[2])
    assert json.loads(pong)["id"] == "g"
    assert (opcode, close_code(payload)) == (8, 1000)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"\xff\xfe"), 1007),
        (frame(b"x", opcode=3), 1002),
        (frame(b"x", opcode=0), 1002),
        (frame(PING) + frame(b"x", opcode=0), 1002),
        (frame(b"{", final=False) + frame(PING), 1002),
        (b"\xf1" + frame(b"x")[1:], 1002),
        (b"\xc2" + frame(b"x")[1:], 1002),
        (b"\x81\x01x", 1002),
        (b"\x89\x00", 1002),
        (frame(b"x", opcode=11), 1002),
        (frame(b"x" * 126, opcode=9), 1002),
        (frame(b"x", opcode=9, final=False), 1002),
        (b"\x88\xfe\x00\x7e", 1002),
        (b"\x81\xfe\x00\x05" + bytes(9), 1002),
        (b"\x82\xff" + b"\xff" * 8, 1002),
        (frame(b"\x03", opcode=8), 1002),
        (frame(struct.pack("!H", 999), opcode=8), 1002),
        (frame(struct.pack("!H", 1006), opcode=8), 1002),
        (frame(struct.pack("!H", 1000) + b"\xc3", opcode=8), 1007),
    ],
    ids=[
        "text",
        "opcode",
        "continuation",
        "continuation of nothing",
        "text within a message",
        "reserved bits",
        "compression, not agreed on",
        "mask",
        "ping without a mask",
        "control opcode",
        "long ping",
        "ping in fragments",
        "long close",
        "length in too many bytes",
        "length of 64 bits",
        "short close",
        "close code",
        "close code for nobody",
        "reason of a close",
    ],
)
def test_violation_is_answered_by_a_close_frame(server, sent, code):
    """RFC 6455 section 7.1.7: the peer gets 1002 or 1007, and the server lives on."""
    with server.upgraded(glued=frame(PING)) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        *_, (opcode, payload) = after_upgrade(connection)
    assert (opcode, close_code(payload)) == (8, code)
    assert_alive(server)


@pytest.mark.parametrize(
    "sent",
    [
        frame(b"\xce\xba\xed\xa0\x80", size=100),
        frame(b"{\xf4", final=False) + frame(b"\x90", opcode=0, final=False),
        frame(b"\xc3", final=False) + frame(b"x", opcode=9) + frame(b"\xc3", opcode=0, size=2),
    ],
    ids=["within a frame", "within a character", "after a ping"],
)
def test_invalid_utf8_is_refused_before_the_end(server, sent):
    """1007 as soon as the text cannot become valid, while the rest of the frame or message is pending."""
    with server.upgraded() as connection:
        connection.sendall(sent)
        *_, (opcode, payload) = after_upgrade(connection)
    assert (opcode, close_code(payload)) == (8, 1007)
    assert_alive(server)


LIMIT = 2**20


@pytest.mark.parametrize(
    "sent",
    [
        frame(b"", size=LIMIT + 1),
        frame(b"", size=2**40),
        frame(b"", opcode=2, size=LIMIT + 1),
        frame(b"x" * LIMIT, final=False) + frame(b"", opcode=0, size=1),
        frame(b"x" * (LIMIT + 1)),
    ],
    ids=["announced", "announced huge", "binary", "fragmented", "whole"],
)
def test_message_over_limit_gets_error_and_1009(server, sent):
    """The error comes first, then 1009; the header is enough, without waiting for the payload."""
    with server.upgraded() as connection:
        connection.sendall(sent)
        (first, error), (second, payload) = after_upgrade(connection)
    assert first == 1
    assert json.loads(error)["reason"] == "message_too_large"
    assert (second, close_code(payload)) == (8, 1009)
    assert_alive(server)


def test_peer_that_keeps_sending_can_still_read_the_error(server):
    """Bytes after the error are discarded for a while; a reset would destroy the error."""
    with server.upgraded() as connection:
        connection.sendall(frame(b"", size=8 * LIMIT))
        for _ in range(8):
            connection.sendall(bytes(LIMIT))
        connection.shutdown(socket.SHUT_WR)
        (_, error), (_, payload) = after_upgrade(connection)
    assert json.loads(error)["reason"] == "message_too_large"
    assert close_code(payload) == 1009


def test_violator_that_keeps_sending_can_still_read_the_close(server):
    """The same holds for a violation, where only the close frame gives the reason."""
    with server.upgraded() as connection:
        connection.sendall(frame(b"x", opcode=3))
        for _ in range(8):
            connection.sendall(bytes(LIMIT))
            time.sleep(0.01)
        connection.shutdown(socket.SHUT_WR)
        [(opcode, payload)] = after_upgrade(connection)
    assert (opcode, close_code(payload)) == (8, 1002)


def test_message_of_exactly_the_limit_is_served(server):
    """It comes in fragments, with a ping in between."""
    padded = PING[:-1] + b', "padding": "' + b"x" * (LIMIT - len(PING) - len(', "padding": ""')) + b'"}'
    assert len(padded) == LIMIT
    with server.upgraded() as connection:
        connection.sendall(frame(padded[:1000], final=False) + frame(b"!", opcode=9))
        connection.sendall(frame(padded[1000:], opcode=0))
        received = b""
        while b"pong" not in received:
            received += connection.recv(65536)
        connection.sendall(frame(b"", opcode=8))
        received += read_all(connection)
    answers = frames(received.partition(b"\r\n\r\n")[2])
    assert [opcode for opcode, _ in answers] == [10, 1, 8]
    assert json.loads(answers[1][1])["id"] == "g"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade_request("/elsewhere"), b"404"),
        (b"GET /ws HTTP/1.1\r\nHost: test\r\n\r\n", b"426"),
        (b"\x16\x03\x01\x02\x00nonsense\r\n\r\n", b"400"),
        (upgrade_request("/ws", "X-Large: " + "x" * 40_000), b"431"),
        (upgrade_request("/ws", "X-Large: " + "x" * 400_000)[:-4], b"431"),
        (upgrade_request("/ws", "Origin: http://evil.example"), b"403"),
        (upgrade_request("/ws", "Origin: null"), b"403"),
        (upgrade_request().replace(b"Host: test", b"Host: \xff\xfe"), b""),
        (upgrade_request("/ws?\u00e9"), b"400"),
        (b"", b""),
    ],
    ids=[
        "path",
        "no upgrade",
        "noise",
        "40 KB of headers",
        "endless headers",
        "origin",
        "null origin",
        "odd host",
        "odd path",
        "nothing",
    ],
)
def test_invalid_handshake_is_refused(server, request_bytes, status):
    """The status is the expected one, and the server lives on."""
    with server.raw() as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert answer.split(b" ")[1:2] == ([status] if status else [])
    assert_alive(server)


def test_endless_handshake_is_cut(tmp_path):
    """`timeouts.handshake` applies to an incomplete head."""
    # Not shorter: on a busy machine, a whole head may be late, too.
    with serving(tmp_path / "data", "--set", "timeouts.handshake=3") as server:
        with server.raw() as connection:
            connection.sendall(upgrade_request()[:-2])
            assert read_all(connection).startswith(b"HTTP/1.1 408")
        assert_alive(server)


def test_dropped_sockets_leave_nothing(tmp_path):
    """Reset before, during and after the handshake and inside a frame: no socket and no traceback is left."""
    with serving(tmp_path / "data") as server:  # a separate server, so that no other test's sockets count
        before = sockets(server)
        for sent in (b"", b"GET /ws", upgrade_request(), upgrade_request() + frame(PING)[:5]):
            for _ in range(25):
                connection = server.raw()
                connection.sendall(sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
        assert_alive(server)  # the last in the backlog: all others were accepted
        wait_until(lambda: sockets(server) == before)
        assert "Traceback" not in server.log.read_text()


def sockets(server):
    """Return the sockets that the server has open; one that it has opened twice, as the listening one, counts once."""
    found = set()
    for handle in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # just closed
            found.add(str(handle.readlink()))
    return {name for name in found if name.startswith("socket:")}


def test_connections_per_address_are_limited(tmp_path):
    """Beyond the limit: 429; after one is closed, there is room again."""
    with serving(tmp_path / "data", "--set", "limits.connections_per_address=2") as server:
        with server.connect() as client, server.connect():
            with server.upgraded() as third:
                third.shutdown(socket.SHUT_WR)
                assert read_all(third).startswith(b"HTTP/1.1 429 ")
            assert client.ask({"type": "ping", "id": "p"})["id"] == "p"

        def is_served():
            with server.upgraded() as fourth:
                return fourth.recv(12) == b"HTTP/1.1 101"

        wait_until(is_served)
