"""Uploads through a network that drops, stalls, splits and merges: no byte is lost, few are sent twice."""

import itertools
import random
import sys

import httpx
import psutil
import pytest
import trio

from creemson.client import connect
from creemson.errors import ConnectionLost, CreemsonError
from tests.faults.proxy import Plan, proxied
from tests.servers import serving, wait_until

AT_ONCE = 8
CHUNK = 64 * 1024
OVERHEAD = 4096
"""Handshake, messages and frame headers, which the proxy counts too."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("networks") / "data"
    with serving(data_dir, "--set", f"limits.chunk_bytes={CHUNK}") as server:
        yield server


async def upload(server, path, dice):
    """Upload over one bad connection after another; returns what was told, and the bytes lost per drop."""
    size = path.stat().st_size
    plans = (Plan.random(dice, size) for _ in itertools.count())
    losses = []
    reached = 0  # bytes of the file that the server may have got
    async with proxied(server.port, plans) as proxy:
        for _ in range(100):
            told = []
            try:
                async with connect(proxy.url, give_up_after=0) as client:
                    done = await client.upload(
                        path, overwrite=True, on_progress=lambda sent, _, told=told: told.append(sent)
                    )
                    return done, losses
            except ConnectionLost:
                pass
            except CreemsonError as error:  # a half-dead predecessor is found out about when it has gone
                assert error.retryable, error
            if told:
                losses.append(reached - told[0])
                reached = told[0] + proxy.passages[-1].passed
    raise AssertionError("100 connections were not enough")


@pytest.mark.parametrize("runs", [40, pytest.param(200, marks=pytest.mark.slow)])
async def test_uploads_over_bad_networks(server, tmp_path, runs):
    """Random runs: every file arrives as it is, and of each drop at most one chunk is sent again."""
    seed = random.randrange(2**32)
    sys.stdout.write(f"{seed=}")
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    numbers = iter(range(runs))
    drops = []

    async def work():
        for number in numbers:
            dice = random.Random(f"{seed}-{number}")
            data = dice.randbytes(dice.randrange(1, 12 * CHUNK))
            path = tmp_path / f"{number}.bin"
            path.write_bytes(data)
            done, losses = await upload(server, path, dice)
            assert (server.data_dir / "uploads" / path.name).read_bytes() == data, (seed, number)
            assert done.size == len(data)
            assert max(losses, default=0) <= CHUNK + OVERHEAD, (seed, number, losses)
            drops.extend(losses)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work)
    assert len(drops) > runs / 2, "the network was too kind"
    wait_until(lambda: httpx.get(f"http://127.0.0.1:{server.port}/status").json()["connections"] == 0)
    assert list((server.data_dir / "parts").iterdir()) == []
    wait_until(lambda: process.num_fds() <= before + 1)  # SQLite keeps its files open
    assert "Traceback" not in server.log.read_text()
