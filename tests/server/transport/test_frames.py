"""Frames the short way deliver what wsproto does, whatever the bytes and wherever they are cut."""

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from creemson.server.frames import Frames, framed
from creemson.server.sizes import SizeLimit
from tests.servers import frame

TEXT_LIMIT, BINARY_LIMIT = 300, 70_000


class Plain:
    """The same as :class:`Frames`, by wsproto alone."""

    def __init__(self, limit):
        self.wsproto = Connection(ConnectionType.SERVER, [limit])
        self.parts = []

    def receive(self, data):
        self.wsproto.receive_data(data)

    def next(self):
        for event in self.wsproto.events():
            if not isinstance(event, TextMessage | BytesMessage):
                return event
            self.parts.append(event.data)
            if event.message_finished:
                empty = "" if isinstance(event, TextMessage) else b""
                message, self.parts = empty.join(self.parts), []
                return message
        return None


def delivered(reader, limit, segments):
    """What comes out after each segment, up to a close frame or a violation."""
    steps = []
    for segment in segments:
        reader.receive(segment)
        found = []
        while (item := reader.next()) is not None:
            found.append((type(item), comparable(item)))
            if isinstance(item, CloseConnection):
                return [*steps, found, str(limit.exceeded), reader.wsproto.state]
        steps.append(found)
    return steps


def comparable(item):
    match item:
        case Ping() | Pong():
            return bytes(item.payload)
        case CloseConnection():
            # wsproto tells where in what it has decoded at once a byte is wrong, which a segment's end changes.
            return item.code, None if item.code == 1007 else item.reason
        case _:
            return item


def both_ways(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    segments = [data[start:end] for start, end in pairwise(edges)]
    limits = [SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT) for _ in range(2)]
    return [
        delivered(make(limit), limit, segments) for make, limit in zip((Frames, Plain), limits, strict=True)
    ]


payloads = st.one_of(
    st.binary(max_size=140),
    st.text(max_size=100).map(str.encode),
    st.sampled_from([0, 1, 125, 126, 127, TEXT_LIMIT, TEXT_LIMIT + 1]).map(lambda size: b"x" * size),
    st.sampled_from([65_535, 65_536, BINARY_LIMIT, BINARY_LIMIT + 1]).map(bytes),
    st.sampled_from(
        [b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x03\xe8bye", b"\x03\xed"]
    ),
)


@st.composite
def odd_frames(draw):
    """A frame with anything wrong that a header can have."""
    payload = draw(payloads)
    size = len(payload) if draw(st.booleans()) else draw(st.integers(0, 2**63))
    first = draw(st.integers(0, 255))
    masked = 0x80 * draw(st.sampled_from([1, 1, 1, 0]))
    width = draw(st.sampled_from([0, 2, 8]))
    if width == 2:
        head = struct.pack("!BBH", first, masked | 126, size & 0xFFFF)
    elif width == 8:
        head = struct.pack("!BBQ", first, masked | 127, size)
    else:
        head = bytes((first, masked | (size & 0x7F)))
    return head + draw(st.binary(min_size=4, max_size=4)) + payload


plain_frames = st.builds(frame, payloads, opcode=st.sampled_from([1, 1, 2, 2]))
good_frames = st.builds(
    lambda payload, opcode, final: frame(payload, opcode, final=final),
    payloads,
    st.sampled_from([0, 1, 2, 8, 9, 10]),
    st.booleans(),
)
streams = st.lists(st.one_of(plain_frames, plain_frames, good_frames, odd_frames()), max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 2**20), max_size=12)


@settings(max_examples=500)
@given(streams, cuts)
@example(frame(b"a") + frame(b"\xff", 2) + frame(b"b", final=False) + frame(b"c", 0) + frame(b"d"), [1])
@example(frame(b"\xc3\xa9") + frame(b"\xed\xa0\x80"), [])
@example(frame(bytes(BINARY_LIMIT), 2) + frame(b"after"), [3, 9, 100, 50_000])
@example(frame(b"x" * (TEXT_LIMIT + 1)), [2])
@example(frame(b"") + frame(b"", 2) + frame(b"", 9), [])
@example(frame(b"\xff, and so on"), [2, 7])
@example(b"\x81\xfe\x00\x05\0\0\0\0hello", [])
def test_any_bytes_in_any_segments(data, cuts):
    """The same messages, control frames and violations, after each segment."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


@pytest.mark.slow
@settings(max_examples=5000)
@given(streams, cuts)
def test_more_bytes_in_more_segments(data, cuts):
    """The same, for longer."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


@settings(max_examples=200)
@given(st.binary(max_size=200), cuts)
def test_noise(data, cuts):
    """The same, for bytes that are no frames."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


def test_byte_by_byte():
    """Each kind of header, cut everywhere."""
    data = b"".join(
        [
            frame(b"short"),
            frame(b"x" * 200),
            frame(bytes(300), 2),
            frame(bytes(66_000), 2),
            frame(b"part", final=False),
            frame(b"?", 9),
            frame(b"part", 0),
            frame(b"last"),
        ]
    )
    ours, theirs = both_ways(data, range(len(data)))
    assert ours == theirs


def test_plain_frames_do_not_touch_wsproto():
    """That is what makes them fast; after something else, they are fast again."""
    reader = Frames(SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT))
    seen = []
    reader.wsproto.receive_data = lambda data, receive=reader.wsproto.receive_data: (
        seen.append(data),
        receive(data),
    )
    reader.receive(frame(b"one") + frame(b"two", 2))
    assert [reader.next(), reader.next(), reader.next()] == ["one", b"two", None]
    assert seen == []
    reader.receive(frame(b"ping", 9))
    assert isinstance(reader.next(), Ping)
    assert reader.next() is None
    assert len(seen) == 1
    reader.receive(frame(b"three"))
    assert reader.next() == "three"
    assert len(seen) == 1


def test_nothing_is_kept_of_what_was_delivered():
    """An idle connection holds no old bytes."""
    reader = Frames(SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT))
    reader.receive(frame(bytes(BINARY_LIMIT), 2)[:-1])
    assert reader.next() is None
    reader.receive(frame(bytes(BINARY_LIMIT), 2)[-1:])
    assert len(reader.next()) == BINARY_LIMIT
    assert reader.next() is None
    assert len(reader._data) == 0


@given(
    st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.just(bytes(70_000))), max_size=9)
)
def test_what_is_sent(messages):
    """A client of wsproto's reads what was put into frames."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(b"".join(framed(messages)))
    received, parts = [], []
    for event in client.events():
        parts.append(event.data)
        if event.message_finished:
            received.append(type(event.data)().join(parts))
            parts = []
    assert received == messages
    assert client.state is ConnectionState.OPEN


def test_small_messages_are_sent_as_one_piece():
    """Large ones are not copied."""
    large = bytes(100_000)
    pieces = framed(["a", "b", large, json.dumps({"c": 1})])
    assert [len(piece) for piece in pieces] == [2 * 3 + 10, 100_000, 2 + 8]
    assert pieces[1] is large
