"""The fast frame parser delivers what wsproto delivers, for any bytes and any segmentation."""

import json
import struct
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from creemson.server.transport.frames import Frames, make_frames
from creemson.server.transport.size_limit import SizeLimit
from tests.servers import frame

TEXT_LIMIT, BINARY_LIMIT = 300, 70_000


class PlainFrames:
    """The same interface as :class:`Frames`, implemented with wsproto only."""

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


class Grouped:
    """The same interface; messages that were parsed together are taken, and every second time put back."""

    def __init__(self, limit):
        self.frames = Frames(limit)
        self.wsproto = self.frames.wsproto
        self.taken = []
        self.groups = 0

    def receive(self, data):
        self.frames.receive(data)

    def next(self):
        if self.taken:
            return self.taken.pop(0)
        found = self.frames.next()
        if isinstance(found, str) and (texts := self.frames.take_texts()):
            self.groups += 1
            if self.groups % 2:
                self.taken = texts
            else:
                self.frames.put_back(texts)
                assert not self.frames.take_texts(), "they are not offered again"
        return found


def delivered(reader, limit, segments):
    """What is delivered after each segment, up to a close frame or a violation."""
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
            # wsproto reports the position of the wrong byte within a decoded piece, which depends on the segments.
            return item.code, None if item.code == 1007 else item.reason
        case _:
            return item


def both_ways(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    segments = [data[start:end] for start, end in pairwise(edges)]
    limits = [SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT) for _ in range(3)]
    ours, grouped, theirs = [
        delivered(make(limit), limit, segments)
        for make, limit in zip((Frames, Grouped, PlainFrames), limits, strict=True)
    ]
    assert grouped == ours
    return ours, theirs


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
    """A frame whose header may be wrong in any way."""
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


@settings(max_examples=200)
@given(streams, cuts)
@example(frame(b"a") + frame(b"\xff", 2) + frame(b"b", final=False) + frame(b"c", 0) + frame(b"d"), [1])
@example(frame(b"\xc3\xa9") + frame(b"\xed\xa0\x80"), [])
@example(frame(bytes(BINARY_LIMIT), 2) + frame(b"after"), [3, 9, 100, 50_000])
@example(frame(b"x" * (TEXT_LIMIT + 1)), [2])
@example(frame(b"") + frame(b"", 2) + frame(b"", 9), [])
@example(frame(b"a") * 3 + frame(b"", 2) + frame(b"b") * 3 + frame(b"?", 9) + frame(b"c") * 250, [])
@example(frame(b"a") * 2 + frame(b"\xff") + frame(b"b"), [])
@example(frame(b"a") * 2 + frame(b"b" * 125) + frame(b"c" * 126) + frame(b"d") * 2, [30, 160])
@example(frame(b"\xff, and so on"), [2, 7])
@example(b"\x81\xfe\x00\x05\0\0\0\0hello", [])
def test_frames_of_any_bytes_in_any_segments_match_wsproto(data, cuts):
    """The same messages, control frames and violations after each segment."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


@pytest.mark.slow
@settings(max_examples=5000)
@given(streams, cuts)
def test_frames_of_any_bytes_match_wsproto_in_a_long_run(data, cuts):
    """The same with more examples."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


@settings(max_examples=200)
@given(st.binary(max_size=200), cuts)
def test_frames_of_noise_match_wsproto(data, cuts):
    """The same for bytes that are no frames."""
    ours, theirs = both_ways(data, cuts)
    assert ours == theirs


def test_frames_received_byte_by_byte_match_wsproto():
    """Each kind of header, cut at every position."""
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


def test_plain_frames_bypass_wsproto():
    """This makes them fast; after another kind of frame, plain frames bypass it again."""
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


def test_short_texts_that_arrived_together_are_taken_together():
    """The first one comes alone; a hundred at most wait as objects, and none after they were put back."""
    reader = Frames(SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT))
    reader.receive(b"".join(frame(str(number).encode()) for number in range(150)) + frame(b"x" * 126))
    numbers = list(map(str, range(150)))
    assert reader.next() == "0"
    assert reader.take_texts() == numbers[1:100]
    assert reader.next() == "100"
    rest = reader.take_texts()
    assert rest == numbers[101:]
    reader.put_back(rest)
    assert [reader.next() for _ in rest] == rest
    assert reader.take_texts() == []
    assert (reader.next(), reader.take_texts(), reader.next()) == ("x" * 126, [], None)
    reader.receive(frame(b"a") + frame(b"b"))
    assert (reader.next(), reader.take_texts()) == ("a", ["b"])


def test_short_texts_above_the_limit_of_texts_are_refused():
    """The limit may be lower than what fits a short frame."""
    limit = SizeLimit(text=10, binary=BINARY_LIMIT)
    reader = Frames(limit)
    reader.receive(frame(b"x" * 10) * 2 + frame(b"x" * 11))
    assert (reader.next(), reader.next()) == ("x" * 10, "x" * 10)
    assert isinstance(reader.next(), CloseConnection)
    assert limit.exceeded.limit == 10


def test_delivered_bytes_are_released():
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
def test_made_frames_are_read_by_a_wsproto_client(messages):
    """A wsproto client receives the messages unchanged."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(b"".join(make_frames(messages)))
    received, parts = [], []
    for event in client.events():
        parts.append(event.data)
        if event.message_finished:
            received.append(type(event.data)().join(parts))
            parts = []
    assert received == messages
    assert client.state is ConnectionState.OPEN


def test_make_frames_joins_small_messages_and_does_not_copy_large():
    """Small messages form one piece; a large message stays the same object."""
    large = bytes(100_000)
    pieces = make_frames(["a", "b", large, json.dumps({"c": 1})])
    assert [len(piece) for piece in pieces] == [2 * 3 + 10, 100_000, 2 + 8]
    assert pieces[1] is large


def test_large_frames_share_memory_and_leave_earlier_messages_alone():
    """The memory of a frame serves the next one of its size; a message that was delivered does not change."""
    reader = Frames(SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT))
    sent = [
        bytes([number]) * size
        for number, size in enumerate([BINARY_LIMIT, BINARY_LIMIT, 20_000, BINARY_LIMIT])
    ]
    got, buffers = [], []
    for payload in sent:
        data = frame(payload, 2)
        reader.receive(data[:16_384])
        assert reader.next() is None
        buffers.append(reader._data)
        with reader.room() as room:
            room[:] = data[16_384:]
        reader.filled(len(data) - 16_384)
        got.append(reader.next())
        assert reader.next() is None
    assert got == sent
    assert buffers[1] is buffers[0]
    assert buffers[2] is not buffers[0]


@pytest.mark.parametrize(
    "next_", [frame(b"text"), frame(b"", 10), frame(bytes(20_000), 2)], ids=["text", "pong", "smaller"]
)
def test_memory_of_a_large_frame_is_released_by_another_kind(next_):
    """An idle connection gets at least pongs, and holds no memory of its last upload."""
    reader = Frames(SizeLimit(text=TEXT_LIMIT, binary=BINARY_LIMIT))
    data = frame(bytes(BINARY_LIMIT), 2)
    reader.receive(data[:16_384])
    assert reader.next() is None
    held = reader._data
    reader.receive(data[16_384:])
    assert len(reader.next()) == BINARY_LIMIT
    assert reader.next() is None
    reader.receive(next_[:10])
    reader.next()
    reader.receive(next_[10:])
    reader.next()
    assert held is not reader._data
    assert sys.getrefcount(held) == 2, "only the test has it"
