"""Uploads through a network that drops, stalls, splits and merges: no byte is lost, few are sent twice."""

import contextlib
import itertools
import random
from pathlib import Path

import httpx
import pytest
import trio

from creemson.client import connect
from creemson.errors import ConnectionLost, CreemsonError
from tests.faults.proxy import Plan, proxied
from tests.servers import wait_until

AT_ONCE = 8
CHUNK = 64 * 1024
OVERHEAD = 4096
"""Bytes of handshake, messages and frame headers, which the proxy counts too."""


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("networks") / "data"
    with start(data_dir, "--set", f"limits.chunk_bytes={CHUNK}") as server:
        yield server


def open_handles(server):
    """Number of the open files and sockets; not of pipes, which belong to workers that start when needed."""
    found = []
    for one in server.servers:
        for path in Path(f"/proc/{one.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                found.append(str(path.readlink()))
    return sum(name.startswith(("/", "socket:")) for name in found)


def content(server, name):
    with server.connect() as client:
        return client.download(name)[1]


async def upload(server, path, rng):
    """Upload over one bad connection after another; return the answer and the bytes lost per drop."""
    size = path.stat().st_size
    plans = (Plan.random(rng, size) for _ in itertools.count())
    losses = []
    reached = 0  # bytes of the file that the server may have received
    async with proxied(server.port, plans) as proxy:
        for _ in range(100):
            proxy.target = server.port  # of any, if there are several
            offsets = []
            try:
                async with connect(proxy.url, give_up_after=0) as client:
                    done = await client.upload(
                        path,
                        overwrite=True,
                        on_progress=lambda sent, _, offsets=offsets: offsets.append(sent),
                    )
                    return done, losses
            except ConnectionLost:
                pass
            except CreemsonError as error:  # an unresponsive predecessor is detected only when it is gone
                assert error.retryable, error
            if offsets:
                losses.append(reached - offsets[0])
                reached = offsets[0] + proxy.passages[-1].passed
    raise AssertionError("100 connections were not enough")


@pytest.mark.parametrize("runs", [8, pytest.param(200, marks=pytest.mark.slow)])
async def test_upload_over_bad_network_arrives_unchanged(server, tmp_path, runs):
    """In random runs, each drop costs at most one chunk sent twice."""
    seed = 1
    before = open_handles(server)
    numbers = iter(range(runs))
    drops = []

    async def work():
        for number in numbers:
            rng = random.Random(f"{seed}-{number}")
            data = rng.randbytes(rng.randrange(1, 12 * CHUNK))
            path = tmp_path / f"{number}.bin"
            path.write_bytes(data)
            done, losses = await upload(server, path, rng)
            assert await trio.to_thread.run_sync(content, server, path.name) == data, (seed, number)
            assert done.size == len(data)
            # Another server goes on where the last one has stored the bytes: at times, and at the end of a connection
            # of which it knows.
            if len(server.servers) == 1:
                assert max(losses, default=0) <= CHUNK + OVERHEAD, (seed, number, losses)
            drops.extend(losses)

    with trio.fail_after(600 + 5 * runs):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work)
    assert len(drops) > runs / 2, "the network was too kind"
    wait_until(
        lambda: all(httpx.get(f"{one.base}/status").json()["connections"] == 0 for one in server.servers)
    )
    assert [name for name in server.stored() if name.startswith("parts/")] == []
    if not server.remote:  # connections to an object store and a database are kept
        wait_until(lambda: open_handles(server) <= before + 1)  # SQLite keeps its files open
    assert "Traceback" not in server.log.read_text()
