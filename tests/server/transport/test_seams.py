"""The private parts of trio-websocket and wsproto: where they are, and that only one module uses them.

If a test fails after an upgrade of one of these libraries, a part has moved: adapt `seams.py`, and its docstring.
"""

import ast
import inspect
from pathlib import Path

import pytest
import trio
import trio_websocket
import wsproto
from trio.testing import memory_stream_pair
from trio_websocket import WebSocketConnection, WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import Request

import creemson
from creemson.server.transport.plain import ServerSocket
from creemson.server.transport.seams import HookedConnection, is_between_messages, upgrade_request
from tests import servers
from tests.servers import frame

PACKAGE = Path(creemson.__file__).parent
SEAMS = PACKAGE / "server/transport/seams.py"
LIBRARIES = {"trio_websocket", "wsproto"}
CALLED = {"_reader_task", "_close_stream", "_close_web_socket"}
OVERRIDDEN = {
    "_send": ["self", "event"],
    "_accept": ["self", "request", "subprotocol", "extra_headers"],
    "_reject": ["self", "status_code", "headers", "body"],
    "_handle_request_event": ["self", "event"],
    "_handle_message_event": ["self", "event"],
    "_handle_ping_event": ["self", "event"],
    "_handle_pong_event": ["self", "event"],
    "_handle_close_connection_event": ["self", "event"],
}
USED = {
    "_wsproto": WSConnection, "_stream_lock": trio.StrictFIFOLock, "_close_handshake": trio.Event, "_open_handshake": trio.Event,
    "_send_channel": trio.MemorySendChannel, "_message_parts": list, "_reader_running": bool, "_subprotocol": type(None),
    "_path": type(None),
}  # fmt: skip


def original():
    """A server connection of trio-websocket itself."""
    return WebSocketConnection(memory_stream_pair()[0], WSConnection(ConnectionType.SERVER))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def private_attributes(tree):
    return {
        (node.value.id if isinstance(node.value, ast.Name) else "…", node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }


async def test_private_attributes_of_trio_websocket_are_where_they_were():
    """Each attribute that `seams.py` uses exists and has its type."""
    connection = original()
    for name, kind in USED.items():
        assert hasattr(connection, name), f"trio-websocket {trio_websocket.__version__} has no {name}"
        assert isinstance(getattr(connection, name), kind), f"{name} is {getattr(connection, name)!r}"


@pytest.mark.parametrize("name", sorted(CALLED | set(OVERRIDDEN)))
def test_private_method_of_trio_websocket_has_its_parameters(name):
    """A method that `seams.py` overrides is called with these, and one that it calls takes them."""
    method = getattr(WebSocketConnection, name, None)
    assert inspect.iscoroutinefunction(method), f"trio-websocket {trio_websocket.__version__} has no {name}"
    expected = OVERRIDDEN.get(name) or list(inspect.signature(method).parameters)
    assert list(inspect.signature(method).parameters) == expected
    if name in OVERRIDDEN:
        assert list(inspect.signature(getattr(HookedConnection, name)).parameters) == expected


def test_seams_use_no_other_private_parts():
    """The lists of these tests are complete."""
    wsproto_parts = {"_proto", "_frame_decoder", "_message_decoder"}
    tree = ast.parse(SEAMS.read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    found = {name for _, name in private_attributes(tree)} | {
        name for name in defined if name.startswith("_")
    }
    assert found == set(USED) | CALLED | set(OVERRIDDEN) | wsproto_parts


async def test_names_of_the_server_socket_are_not_used_by_trio_websocket():
    """It is a subclass, so that its attributes must have other names."""
    socket = ServerSocket(
        memory_stream_pair()[0],
        servers.upgrade(servers.upgrade_request()),
        message_bytes=1,
        chunk_bytes=1,
        send_timeout=1,
    )
    assert set(vars(socket)) > set(vars(original()))
    tree = ast.parse(inspect.getsource(ServerSocket))
    own = {name for owner, name in private_attributes(tree) if owner == "self"}
    assert not own & (set(vars(original())) | set(dir(WebSocketConnection)))


def test_wsproto_between_messages_is_recognized():
    """Between two messages it has no frame, no fragment and no byte left."""
    connection = Connection(ConnectionType.SERVER)

    def state_after(data):
        try:
            connection.receive_data(data)
            list(connection.events())
            return is_between_messages(connection)
        except AttributeError as error:
            pytest.fail(f"wsproto {wsproto.__version__}: {error}")

    text = frame(b"hello")
    assert state_after(b"")
    assert state_after(text)
    for piece in (text[:1], text[1:4], text[4:-1]):
        assert not state_after(piece)
    assert state_after(text[-1:])
    assert not state_after(frame(b"part", final=False))
    assert not state_after(frame(b"?", 9))
    assert state_after(frame(b"part", 0))
    assert not state_after(frame(b"\x03\xe8", 8))


async def test_upgrade_request_calls_the_given_functions():
    """With what the caller of `accept` and `reject` gives."""
    calls = []

    async def accept(*arguments):
        calls.append(arguments)

    event = Request(host="test", target="/ws", subprotocols=["a"])
    request = upgrade_request(event, accept=accept, reject=accept)
    assert isinstance(request, WebSocketRequest)
    assert (request.path, request.proposed_subprotocols) == ("/ws", ("a",))
    await request.accept(subprotocol="a")
    await request.reject(404, extra_headers=[(b"a", b"b")], body=b"no")
    assert calls == [(event, "a", []), (404, [(b"a", b"b")], b"no")]


def test_private_parts_are_used_in_one_module_only():
    """Other modules that import one of the libraries use private attributes of `self` only."""
    users = 0
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        if path == SEAMS or not LIBRARIES & set(imported(tree)):
            continue
        users += 1
        assert {owner for owner, _ in private_attributes(tree)} <= {"self"}, path
        bases = {
            ast.unparse(base)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        }
        assert not bases & {"WebSocketConnection", "WebSocketRequest", "WSConnection", "Connection"}, path
    assert users
