"""Hypothesis against a live server: sequences of messages, fragments and violations, shrunk when they fail."""

import itertools
import json
import socket
import struct

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from creemson.wire import codec
from tests import strategies
from tests.fuzz import corpus
from tests.fuzz.verdict import Frames, responses
from tests.servers import NO_PACE, PATIENCE, frame, serving, upgrade_request

CONTROL = st.sampled_from([9, 10])


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A separate server: it gets files that other tests must not see."""
    with serving(tmp_path_factory.mktemp("victim") / "data", *NO_PACE) as server:
        server.put(corpus.REAL)
        yield server
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
        assert "Traceback (most recent" not in server.log.read_text()


class Visitor:
    """A connection that checks every answer."""

    def __init__(self, server):
        self.socket = server.raw()
        self.socket.sendall(upgrade_request())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 ")
        self.said = Frames()
        self.said.feed(head.partition(b"\r\n\r\n")[2])

    def send(self, data):
        self.socket.sendall(data)

    def prove_life(self, token):
        """Assert that the server has read everything and the connection is open."""
        self.send(frame(token, opcode=9))
        while token not in self.said.pongs:
            data = self.socket.recv(65536)
            assert data, "closed without a violation"
            self.said.feed(data)

    def end(self, *, closed):
        """Read to the end of the stream and return the close code; `closed` requires a close frame."""
        while closed and self.said.closed is None:
            data = self.socket.recv(65536)
            assert data, "closed without a close frame"
            self.said.feed(data)
        self.socket.shutdown(socket.SHUT_WR)
        while data := self.socket.recv(65536):
            self.said.feed(data)
        self.said.end()
        self.socket.close()
        return self.said.closed


messages = st.one_of(
    strategies.client_messages.map(codec.encode),
    strategies.odd_json.map(json.dumps),
    st.lists(strategies.client_messages.map(codec.encode), max_size=4).map(
        lambda texts: f'{{"type":"batch","messages":[{",".join(texts)}]}}'
    ),
    st.text(max_size=40),
).map(lambda text: text.encode(errors="replace"))
violations = st.one_of(
    st.tuples(st.sampled_from([3, 4, 7, 11, 15]), st.binary(max_size=10)).map(
        lambda it: (frame(it[1], it[0]), {1002})
    ),
    st.binary(max_size=20).map(lambda data: (frame(data + b"\xff"), {1007})),
    st.integers(126, 2000).map(lambda size: (frame(b"x" * size, 9), {1002})),
    st.sampled_from([0, 999, 1004, 1005, 1006, 1015, 5000, 65535]).map(
        lambda code: (frame(struct.pack("!H", code), 8), {1002})
    ),
    st.integers(2**20 + 1, 2**63 - 1).map(lambda size: (frame(b"", size=size), {1009})),
    st.sampled_from([1000, 1001, 1008, 3000, 4999]).map(
        lambda code: (frame(struct.pack("!H", code), 8), {code})
    ),
    st.just((frame(b"", 8), {1005})),
    st.just((b"\x81\x02no", {1002})),
    st.just((frame(b"x", opcode=0), {1002})),
    st.just((frame(b"x", opcode=9, final=False), {1002})),
)


def machine(server):
    class Visits(RuleBasedStateMachine):
        """Any order of messages and violations, over any number of connections, one at a time."""

        def __init__(self):
            super().__init__()
            self.visitor = None
            self.pings = 0

        def teardown(self):
            if self.visitor is not None:
                self.visitor.socket.close()

        @precondition(lambda self: self.visitor is None)
        @rule()
        def connect(self):
            self.visitor = Visitor(server)

        @precondition(lambda self: self.visitor is not None)
        @rule(payloads=st.lists(messages, min_size=1, max_size=5))
        def say(self, payloads):
            self.visitor.send(b"".join(map(frame, payloads)))
            self.prove_life()

        @precondition(lambda self: self.visitor is not None)
        @rule(payload=messages, cuts=st.lists(st.integers(0, 60), max_size=4), control=CONTROL)
        def say_in_fragments(self, payload, cuts, control):
            marks = [0, *sorted(cuts), len(payload)]
            pieces = [payload[start:end] for start, end in itertools.pairwise(marks)]
            for number, piece in enumerate(pieces):
                self.visitor.send(frame(piece, 0 if number else 1, final=number == len(pieces) - 1))
                if number < len(pieces) - 1:
                    self.visitor.send(frame(b"between", control))
            self.prove_life()

        @precondition(lambda self: self.visitor is not None)
        @rule(data=st.binary(max_size=200))
        def send_bytes(self, data):
            self.visitor.send(frame(data, 2))
            self.prove_life()

        @precondition(lambda self: self.visitor is not None)
        @rule(violation=violations)
        def violate(self, violation):
            data, codes = violation
            self.visitor.send(data)
            visitor, self.visitor = self.visitor, None
            assert visitor.end(closed=True) in codes

        @precondition(lambda self: self.visitor is not None)
        @rule(payload=messages, part=st.floats(0, 0.99))
        def go_in_the_middle(self, payload, part):
            data = frame(payload)
            self.visitor.send(data[: int(part * len(data))])
            visitor, self.visitor = self.visitor, None
            visitor.end(closed=False)

        def prove_life(self):
            self.pings += 1
            self.visitor.prove_life(b"%d" % self.pings)

    return Visits


@pytest.mark.parametrize("examples", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_any_sequence_of_messages_is_answered_correctly(victim, examples):
    """Valid input leaves the connection open; a violation gets its close code."""
    run_state_machine_as_test(
        machine(victim), settings=settings(settings.default, max_examples=examples, stateful_step_count=20)
    )


tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
header_lines = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "Host",
                "Upgrade",
                "Connection",
                "Sec-WebSocket-Key",
                "Sec-WebSocket-Version",
                "Content-Length",
                "Range",
                "Transfer-Encoding",
                "Origin",
                "Expect",
                "Sec-WebSocket-Extensions",
                "Sec-WebSocket-Protocol",
                "Content-Type",
            ]
        ),
        st.sampled_from(
            ["websocket", "Upgrade", "close", "13", "12", "5", "-1", "chunked", "100-continue", "bytes=0-1"]
        )
        | st.text(st.characters(max_codepoint=255), max_size=20),
    ).map(": ".join),
    st.text(st.characters(max_codepoint=255), max_size=30),
)
handshakes = st.builds(
    lambda method, target, version, lines, end, body: (
        end.join([f"{method} {target} {version}", *lines, "", ""]).encode("latin-1") + body
    ),
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PRI", "get"]) | tokens,
    st.sampled_from(
        ["/ws", "/", "/status", "/process", "/upload", "/columns/example.csv", "/download/example.csv", "*"]
    )
    | tokens.map(lambda token: f"/{token}"),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9"]) | tokens,
    st.lists(header_lines, max_size=8).map(lambda lines: ["Host: x", *lines]),
    st.sampled_from(["\r\n", "\n"]),
    st.binary(max_size=40),
)


def request(server, data):
    with server.raw() as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.settimeout(0.05)
            try:
                while not responses(data, received):
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    received += piece
            except TimeoutError:
                pass
            connection.settimeout(PATIENCE)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
        responses(data, received)


@settings(max_examples=40)
@given(handshakes)
def test_any_http_request_is_answered(victim, data):
    """The answer is valid HTTP, and it never blames the server."""
    request(victim, data)


@pytest.mark.slow
@settings(max_examples=5000)
@given(handshakes)
def test_many_http_requests_are_answered(victim, data):
    """The same, for longer."""
    request(victim, data)
