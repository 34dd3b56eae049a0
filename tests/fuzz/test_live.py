"""A live server under a flood of mutated messages, broken frames and handshakes that are none.

The seed is printed; ``FUZZ_SEED`` repeats what each connection sends (not the timing). ``FUZZ_MUTATIONS`` are as
many as the long run has, if a million take too long.
"""

import itertools
import os
import random
import sys
import time

import pytest
import trio

from tests.fuzz.live import flood, held, quiet, summary
from tests.servers import NO_PACE, serving, wait_until

SHORT = 10_000
LONG = int(os.environ.get("FUZZ_MUTATIONS", "1000000"))
WARM_UP = 0.1
"""Of the mutations, those before the measurement: they fill caches."""
HISTORY = 1000
"""Ended jobs that a server remembers; mutations alone take half a million to fill that."""
TOLERANCE = 24 * 2**20
"""Bytes of resident memory that may stay: the history of 1000 ended jobs, caches, and what malloc does not give back.
It is the same for 20,000 mutations and for a million: a leak of 25 bytes each would be over it."""
SETTLE = 180
"""Seconds in which the jobs that were asked for come to their end."""


def fill_history(server):
    """So many jobs that from here on the oldest are forgotten."""
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
                told = client.receive()
                told = told["messages"] if told["type"] == "batch" else [told]
                ends += sum(message["type"] in {"result", "error"} for message in told)


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
async def test_a_server_outlives_whatever_it_is_sent(tmp_path, count):
    """Healthy throughout, every answer well-formed, no traceback; in the end nothing is left of it."""
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(2**32)))
    sys.stdout.write(f"{seed=} ")
    with serving(tmp_path / "data", *NO_PACE) as server:
        server.put("example.csv")
        if count > SHORT:
            await trio.to_thread.run_sync(fill_history, server)
        await flood(server, int(WARM_UP * count), seed + 1)
        wait_until(lambda: quiet(server), SETTLE)
        before = held(server)
        began = time.monotonic()
        tally = await flood(server, count, seed)
        seconds = time.monotonic() - began
        wait_until(lambda: quiet(server), SETTLE)
        wait_until(lambda: held(server).fds <= before.fds)
        after = held(server)
        sys.stdout.write(summary(tally, seconds, before, after))
        assert tally.wrong == []
        log = server.log.read_text()
        assert "Traceback (most recent call last)" not in log
        assert all(line.startswith("{") for line in log.splitlines()), "a library has written to stderr"
        assert tally.mutations >= count
        assert tally.healthy > seconds / 2
        assert after.workers == before.workers
        assert after.rss - before.rss < TOLERANCE
