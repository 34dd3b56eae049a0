"""Listening sockets: what waits for them when they are closed."""

import errno
import socket

import pytest
import trio
import trio.testing

from creemson.server.port import Port
from tests.objectstores import free_port
from tests.servers import PATIENCE

HOST = "127.0.0.1"
UNSUPPORTED = 250
"""Address family that no kernel has."""


class Names(trio.abc.HostnameResolver):
    """Resolves every name to an address in each of some families."""

    def __init__(self, *families):
        self._families = families

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        return [(family, type, proto, "", (HOST, port)) for family in self._families]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


def connected(port, count):
    """Return connections that wait to be accepted."""
    return [socket.create_connection((HOST, port), timeout=PATIENCE) for _ in range(count)]


def answering(name):
    """Return a handler that says which port has accepted a connection."""

    async def answer(stream):
        async with stream:
            await stream.send_all(name)

    return answer


async def answers(connections):
    """Return what each connection gets until its end."""
    found = []
    for connection in connections:
        with connection:
            found.append(await trio.to_thread.run_sync(connection.recv, 10))
    return found


async def test_connections_that_wait_are_accepted_before_the_socket_is_closed(nursery):
    """They connected before the end, so they get an answer; later ones are refused."""
    port = Port(HOST, 0, is_shared=False)
    number = await port.open()
    waiting = connected(number, 20)
    port.close()
    await port.accept(answering(b"answer"), nursery)
    assert await answers(waiting) == [b"answer"] * 20
    with pytest.raises(ConnectionRefusedError):
        connected(number, 1)


async def test_port_is_shared_only_by_those_that_want_it():
    """Without it, a second server is refused in words."""
    number = free_port()
    first, second, third = (Port(HOST, number, is_shared=is_shared) for is_shared in (True, True, False))
    assert await first.open() == await second.open() == number
    with pytest.raises(OSError, match=rf"Cannot listen on {HOST}, port {number}: .* with --port ") as caught:
        await third.open()
    assert caught.value.errno == errno.EADDRINUSE
    for port in (first, second):
        port.unbind()


@pytest.mark.parametrize(
    "families", [(UNSUPPORTED, socket.AF_INET), (socket.AF_INET, UNSUPPORTED)], ids=["first", "last"]
)
async def test_addresses_of_a_family_that_the_kernel_lacks_are_left_out(families, nursery):
    """As those of "localhost" where there is no IPv6."""
    trio.socket.set_custom_hostname_resolver(Names(*families))
    port = Port("localhost", 0, is_shared=False)
    waiting = connected(await port.open(), 1)
    port.close()
    await port.accept(answering(b"answer"), nursery)
    assert await answers(waiting) == [b"answer"]


async def test_name_without_any_address_that_the_kernel_supports_is_refused():
    """In words, as any other reason."""
    trio.socket.set_custom_hostname_resolver(Names(UNSUPPORTED))
    with pytest.raises(OSError, match="Cannot listen on localhost, port 0: Address family not") as caught:
        await Port("localhost", 0, is_shared=False).open()
    assert caught.value.errno == errno.EAFNOSUPPORT


async def test_closing_a_shared_port_loses_no_connection(nursery):
    """What waits at the port that closes is accepted there; what begins to connect then reaches the other one."""
    number = free_port()
    leaving, staying = (Port(HOST, number, is_shared=True) for _ in range(2))
    for port in (leaving, staying):
        await port.open()
    before = connected(number, 20)
    nursery.start_soon(staying.accept, answering(b"staying"), nursery)
    leaving.close()
    nursery.start_soon(leaving.accept, answering(b"leaving"), nursery)
    await trio.testing.wait_all_tasks_blocked()  # the leaving port waits for handshakes that have begun
    during = [trio.socket.socket() for _ in range(20)]
    async with trio.open_nursery() as connecting:
        for one in during:
            connecting.start_soon(one.connect, (HOST, number))
    assert set(await answers(before)) == {b"leaving", b"staying"}
    for one in during:
        with one:
            assert await one.recv(10) == b"staying"
    assert await answers(connected(number, 5)) == [b"staying"] * 5
    for port in (leaving, staying):
        port.close()
        port.unbind()
