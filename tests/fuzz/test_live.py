"""A live server under a flood of mutated messages, broken frames and invalid handshakes.

The seed decides what each connection sends (not the timing). It is always the same, unless ``FUZZ_SEED`` sets another.
``FUZZ_MUTATIONS`` sets how many mutations the long run sends, if a million take too long.
"""

import itertools
import os
import sys
import time

import pytest
import trio

from tests.fuzz.live import flood, is_quiet, resources_of, summary
from tests.servers import NO_PACE, serving, wait_until

SHORT = 3_000
SEED = 2958710816
"""Regression: with this seed, options that are not ASCII ended in ``internal``. `nox -s explore` draws others."""
LONG = int(os.environ.get("FUZZ_MUTATIONS", "1000000"))
WARM_UP = 0.1
"""Fraction of the mutations that run before the measurement, to fill caches."""
ALL_WORKERS = 4
"""One for jobs and one for look-ups, and a spare one for each, which starts when it is first needed."""
HISTORY = 1000
"""Ended jobs that a server remembers; mutations alone need half a million to fill that."""
TOLERANCE = 24 * 2**20
"""Bytes of resident memory that may remain: the history of 1000 ended jobs, caches, and what malloc does not return.
The same for 20,000 mutations and for a million: a leak of 25 bytes each would exceed it."""
SETTLE = 180
"""Seconds within which the requested jobs must end."""


def fill_history(server):
    """Run so many jobs that each further job removes the oldest one."""
    limits = iter(range(HISTORY + 50))
    with server.connect() as client:
        while batch := list(itertools.islice(limits, 50)):
            jobs = [
                {
                    "type": "process",
                    "id": f"{limit}",
                    "filename": "example.csv",
                    "limit": limit,
                    "preview": 1000,
                }
                for limit in batch
            ]
            client.send({"type": "batch", "messages": jobs})
            ends = 0
            while ends < len(batch):
                received = client.receive()
                received = received["messages"] if received["type"] == "batch" else [received]
                ends += sum(message["type"] in {"result", "error"} for message in received)


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
async def test_server_survives_a_flood_of_mutations(tmp_path, count):
    """Healthy throughout, every answer well-formed, no traceback; nothing is left at the end."""
    seed = int(os.environ.get("FUZZ_SEED", SEED))
    sys.stdout.write(f"{seed=} ")
    with serving(tmp_path / "data", *NO_PACE) as server:
        server.put("example.csv")
        if count > SHORT:
            await trio.to_thread.run_sync(fill_history, server)
        await flood(server, int(WARM_UP * count), seed + 1)
        for more in range(2, 10):
            if len(server.workers()) == ALL_WORKERS:
                break
            await flood(server, SHORT // 2, seed + more)
        wait_until(lambda: is_quiet(server), SETTLE)
        before = resources_of(server)
        began = time.monotonic()
        tally = await flood(server, count, seed)
        seconds = time.monotonic() - began
        wait_until(lambda: is_quiet(server), SETTLE)
        wait_until(lambda: resources_of(server).fds <= before.fds)
        wait_until(lambda: resources_of(server).workers == before.workers)
        after = resources_of(server)
        sys.stdout.write(summary(tally, seconds, before, after))
        assert tally.wrong == []
        log = server.log.read_text()
        assert "Traceback (most recent call last)" not in log
        assert all(line.startswith("{") for line in log.splitlines()), "a library has written to stderr"
        assert tally.mutations >= count
        assert tally.healthy > 0  # each within live.PATIENCE
        assert after.rss - before.rss < TOLERANCE
