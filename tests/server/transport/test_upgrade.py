"""Upgrade requests: the short path reads and answers them exactly as wsproto does."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.utilities import RemoteProtocolError

from creemson.server.transport.upgrade import acceptance, read_upgrade
from tests.examples import examples_of
from tests.servers import upgrade, upgrade_request

TYPICAL = [
    (b"Host", b"test"), (b"Upgrade", b"websocket"), (b"Connection", b"keep-alive, Upgrade"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13"),
]  # fmt: skip
OTHERS = st.tuples(
    st.sampled_from(
        [b"Host", b"upgrade", b"CONNECTION", b"Sec-WebSocket-Key", b"sec-websocket-version", b"Origin",
         b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Authorization"]
    ),
    st.sampled_from(
        [b"", b"13", b"8", b"WebSocket", b"h2c", b"upgrade", b"close", b"a, b", b"creemson.v1,,b ", b"\xff", b"xn--", b"xn--bcher-kva"]
    ),
)  # fmt: skip


def by_wsproto(received):
    """What wsproto reads in a request, and its connection; None if it refuses it or raises."""
    connection = WSConnection(ConnectionType.SERVER)
    try:
        connection.receive_data(received.head)
    except (RemoteProtocolError, UnicodeError):
        return None, connection
    return next(connection.events()), connection


@settings(max_examples=examples_of(300))
@given(
    dropped=st.sets(st.integers(0, len(TYPICAL) - 1), max_size=1),
    added=st.lists(OTHERS, max_size=3),
    first=st.booleans(),
    target=st.sampled_from([b"/ws", b"/", b"/a?b=%ff", b"/\xff"]),
    subprotocol=st.sampled_from([None, "a", "b", "creemson.v1"]),
)
def test_short_path_reads_and_accepts_as_wsproto_does(dropped, added, first, target, subprotocol):
    """The same event, the same response; and it leaves to wsproto exactly what wsproto refuses."""
    typical = [header for index, header in enumerate(TYPICAL) if index not in dropped]
    headers = [*added, *typical] if first else [*typical, *added]
    lines = [b"GET %b HTTP/1.1" % target, *(b"%b: %b" % header for header in headers), b"", b""]
    try:
        received = upgrade(b"\r\n".join(lines))
    except h11.RemoteProtocolError:  # http1 refuses it
        return
    expected, connection = by_wsproto(received)
    event = read_upgrade(received.request)
    assert event == expected
    if event is not None:
        chosen = subprotocol if subprotocol in event.subprotocols else None
        extra = [(b"X-Extra", b"1")] if first else []
        accepted = connection.send(AcceptConnection(chosen, extra_headers=extra))
        assert acceptance(event, chosen, extra) == accepted


def test_key_of_the_rfc_is_answered_with_its_accept_token():
    """RFC 6455 section 1.3."""
    request = upgrade(
        b"\r\n".join([b"GET / HTTP/1.1", *(b"%b: %b" % header for header in TYPICAL), b"", b""])
    )
    event = read_upgrade(request.request)
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in acceptance(event, None, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Version: 13", b"Version: 12"),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Kez"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Connection: Upgrade", b"Connection: close"),
        (b"Host: test", b"Host: \xff"),
    ],
)
def test_invalid_upgrade_is_left_to_wsproto(old, new):
    """One case each of what may be wrong."""
    head = upgrade_request()
    assert read_upgrade(upgrade(head).request) is not None
    assert old in head
    assert read_upgrade(upgrade(head.replace(old, new)).request) is None
