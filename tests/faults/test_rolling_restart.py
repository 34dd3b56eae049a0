"""All servers restart, one after the other, while clients work: the client library hides it from its users."""

import random
import signal
import sys
import time
from contextlib import AsyncExitStack

import attrs
import polars as pl
import pytest
import trio

from creemson.client import connect
from tests.faults.fleet import fleet, quantile
from tests.servers import PATIENCE

CLIENTS = 200
ROWS = 1000
CALM = 3.0
"""Seconds before each restart."""
UNLIMITED = (
    "limits.connections_per_address=1000",
    "limits.messages_per_s=1e6",
    "limits.messages_burst=1000000",
)
"""All clients have the same address."""


@attrs.define
class Tally:
    """What the clients have met.

    Attributes:
        seconds: of each request.
        interrupted: of those during which the client had to connect again.
        pauses: seconds of each client without a connection.
    """

    seconds: list[float] = attrs.field(factory=list)
    interrupted: list[float] = attrs.field(factory=list)
    pauses: list[float] = attrs.field(factory=list)


async def watch(clients, tally):
    """Measure the pauses; one task for all clients costs less than one of each."""
    lost = {}
    while True:
        now = trio.current_time()
        for number, client in enumerate(clients):
            if client.state.phase == "waiting":
                lost.setdefault(number, now)
            elif number in lost:
                tally.pauses.append(now - lost.pop(number))
        await trio.sleep(0.005)


async def request(client, number, turn, rng):
    """A job that nobody has asked for, one that somebody may have asked for, or a file there and back."""
    match rng.randrange(3):
        case 0:
            result = await client.process("table.csv", where=[("n", ">=", 1)], limit=1 + number * 1000 + turn)
            assert result.rows == min(ROWS - 1, 1 + number * 1000 + turn)
        case 1:
            limit = rng.randrange(1, 50)
            result = await client.process("table.csv", limit=limit, preview=limit)
            assert [row[0] for row in result.preview] == list(range(limit))
        case _:
            data = rng.randbytes(rng.randrange(1, 200_000))
            name = f"{number}-{turn}.bin"
            done = await client.upload(data, name=name)
            assert done.size == len(data)


@pytest.mark.slow
async def test_rolling_restart_shows_no_failed_request_to_users(tmp_path):
    """SIGTERM, and a start on the same port, of three servers in turn, under 200 clients with jobs and uploads."""
    tally, clients, ended = Tally(), [], trio.Event()
    numbers = pl.int_range(ROWS, eager=True)
    table = pl.DataFrame({"n": numbers, "text": "x" + numbers.cast(pl.String)}).write_csv().encode()

    async def use(client, number):
        rng = random.Random(f"user-{number}")
        turn = 0
        with trio.move_on_after(rng.uniform(0, 6)):
            await ended.wait()
        while not ended.is_set():
            before, began = client.state.connections, trio.current_time()
            await request(client, number, turn, rng)
            seconds = trio.current_time() - began
            tally.seconds.append(seconds)
            if client.state.connections > before:
                tally.interrupted.append(seconds)
            turn += 1
            with trio.move_on_after(rng.uniform(3, 9)):
                await ended.wait()

    def restart(servers):
        for member in servers.members:
            time.sleep(CALM)
            member.end(signal.SIGTERM)
            assert member.server.process.returncode == 0
            member.revive()
        time.sleep(CALM)

    with (
        fleet(tmp_path / "servers", *UNLIMITED, "storage.tables=never") as servers,
        trio.fail_after(10 * PATIENCE),
    ):
        async with AsyncExitStack() as stack:
            for number in range(CLIENTS):
                rng = random.Random(number)
                urls = rng.sample(servers.urls, len(servers.urls))
                # Without a heartbeat that a busy machine may miss.
                options = {"rng": rng, "heartbeat_timeout": float(PATIENCE)}
                clients.append(await stack.enter_async_context(connect(urls, **options)))
            await clients[0].upload(table, name="table.csv")
            async with trio.open_nursery() as watching:
                watching.start_soon(watch, clients, tally)
                async with trio.open_nursery() as using:
                    for number, client in enumerate(clients):
                        using.start_soon(use, client, number)
                    await trio.to_thread.run_sync(restart, servers)
                    ended.set()
                watching.cancel_scope.cancel()
        states = dict(servers.sql("SELECT state, count(*) FROM jobs GROUP BY state"))
        servers.check_logs()
    assert set(states) == {"done"}
    assert len(tally.pauses) >= CLIENTS  # each server had a third of them, and later those of the other two
    for what in ("seconds", "interrupted", "pauses"):
        values = getattr(tally, what)
        median, p99, longest = (quantile(values, part) for part in (0.5, 0.99, 1))
        sys.stdout.write(f" {len(values)} {what}: {median=:.3f} {p99=:.3f} {longest=:.3f}")
    assert quantile(tally.pauses, 0.5) < PATIENCE
