"""A flood of mutations over the network against a server that lives."""

import itertools
import json
import random
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from functools import partial

import attrs
import httpx
import psutil
import trio

from creemson.wire.codec import Rejected
from tests.fuzz import corpus
from tests.fuzz.mutations import PING, Mutator
from tests.fuzz.verdict import Frames, Wrong, responses
from tests.servers import SAMPLE, upgrade_request

AT_ONCE = 12
"""Connections."""
PER_CONNECTION = 200
"""Messages, at the most, before the violation."""
HANDSHAKES = 6
"""Requests, each on a connection of its own, for each such connection: four of a hundred mutations."""
PATIENCE = 60
"""Seconds for any answer."""
QUIET = 0.03
"""Seconds in which an answer comes to who waits for one; after that we say that nothing more follows."""
HEALTH_EVERY = 0.25
MOST_FILES = 100
"""Uploads, after which they are removed: their list is asked for again and again."""


@attrs.define
class Tally:
    """What was sent, and how the server bore it.

    Attributes:
        messages: mutated messages which the server has shown to have read; ``frames`` that they came in.
        violations: connections ended by one, by its kind.
        handshakes: requests, or several in one.
        statuses: what requests were answered with.
        closes: close codes.
        texts: JSON messages of the server's, checked.
        healthy: answers of ``/healthz``; the slowest took ``slowest`` seconds.
        wrong: what the server should not have done, with what it had been sent.
    """

    messages: int = 0
    frames: int = 0
    violations: Counter = attrs.field(factory=Counter)
    handshakes: int = 0
    statuses: Counter = attrs.field(factory=Counter)
    closes: Counter = attrs.field(factory=Counter)
    texts: int = 0
    healthy: int = 0
    slowest: float = 0.0
    wrong: list = attrs.field(factory=list)

    @property
    def mutations(self):
        return self.messages + self.violations.total() + self.handshakes


async def flood(server, count, seed):
    """Send ``count`` mutations, and look at all that comes back."""
    tally = Tally()
    messages = corpus.messages(seed)
    numbers = itertools.count()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_health, server, tally)
        async with trio.open_nursery() as attackers:
            for _ in range(AT_ONCE):
                attackers.start_soon(_attack, server, tally, count, seed, messages, numbers)
        nursery.cancel_scope.cancel()
    return tally


async def _attack(server, tally, count, seed, messages, numbers):
    for number in numbers:
        if tally.mutations >= count or len(tally.wrong) >= 10:
            return
        dice = random.Random(f"{seed}-{number}")  # so that one connection can be repeated alone
        mutator = Mutator(dice, messages)
        attempt = _requests if dice.random() < 0.5 else _messages
        sent = []
        try:
            with trio.fail_after(PATIENCE):
                await attempt(server, tally, mutator, dice, sent)
        except* (Wrong, Rejected, trio.TooSlowError, ValueError, KeyError) as faults:
            tally.wrong.append((f"{seed}-{number}", attempt.__name__, repr(faults), b"".join(sent)[-2000:]))


async def _watch_health(server, tally):
    """`/healthz` is answered all the time; and of files there are neither none nor too many."""
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while True:
            began = time.monotonic()
            answer = await client.get(
                f"http://127.0.0.1:{server.port}/healthz", headers={"connection": "close"}
            )
            assert answer.status_code == 200
            tally.healthy += 1
            tally.slowest = max(tally.slowest, time.monotonic() - began)
            uploads = server.data_dir / "uploads"
            if not (uploads / corpus.REAL).exists():
                with suppress(OSError):
                    server.put(corpus.REAL, SAMPLE)
            passing = list(uploads.glob(f"{corpus.PASSING}*"))
            for path in passing if len(passing) > MOST_FILES else ():
                path.unlink(missing_ok=True)
            await trio.sleep(HEALTH_EVERY)


async def _connect(server):
    return await trio.open_tcp_stream("127.0.0.1", server.port)


# --- requests ----------------------------------------------------------------------------------------


async def _requests(server, tally, mutator, dice, sent):
    """Some mutated requests, one connection after the other."""
    for _ in range(HANDSHAKES):
        sent[:] = [mutator.handshake()]
        async with await _connect(server) as stream:
            request, reset = sent[0], dice.random() < 0.05
            received = await _exchange(stream, request, reset=reset, done=partial(responses, request))
        tally.handshakes += 1
        if received is not None:
            tally.statuses.update(responses(request, received) or ["half" if received else "closed"])


async def _exchange(stream, data, *, reset=False, done=lambda received: True):
    """Send, wait until it is ``done``, say that this was all, and read up to the end.

    Returns:
        What came; None if nothing is left to be read.
    """
    received = bytearray()
    sent, cut = trio.Event(), trio.Event()

    async def send():
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(data)
            sent.set()
            if reset:
                _reset(stream)
                return
            with trio.move_on_after(QUIET):
                await cut.wait()
            await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for piece in stream:
                received += piece
                if sent.is_set() and done(received):
                    cut.set()
        nursery.cancel_scope.cancel()
    return None if reset else bytes(received)


def _reset(stream):
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# --- messages ----------------------------------------------------------------------------------------


async def _messages(server, tally, mutator, dice, sent):
    """Many mutated messages, all of which are shown to have been read; then a violation."""
    frames, total = [], 0
    for _ in range(dice.randrange(PER_CONNECTION // 2, PER_CONNECTION)):
        data, number = mutator.message()
        frames.append(data)
        total += number
    sent[:] = frames
    token = struct.pack("!Q", dice.getrandbits(64)) + b"the end"
    async with await _connect(server) as stream:
        said = Frames()
        await _until_pong(
            stream, said, upgrade_request() + b"".join(frames) + mutator.frame(token, PING), token
        )
        tally.messages += len(frames)
        tally.frames += total
        tail, kind = mutator.violation()
        sent.append(tail)
        reset = dice.random() < 0.1
        rest = await _exchange(stream, tail, reset=reset, done=lambda received: False)
        tally.violations[kind] += 1
        if not reset:
            said.feed(rest)
            said.end()
            tally.closes[said.closed] += 1
        tally.texts += said.texts


async def _until_pong(stream, said, data, token):
    """Send, and read until the pong that shows that all was read."""
    async with trio.open_nursery() as nursery:

        async def send():
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_all(data)

        nursery.start_soon(send)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some()
            if not piece:
                raise Wrong(f"no handshake: {head!r}")
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Wrong(f"no handshake: {head!r}")
        said.feed(rest)
        while token not in said.pongs:
            try:
                piece = await stream.receive_some()
            except trio.BrokenResourceError:
                piece = b""
            if not piece or said.closed is not None:
                raise Wrong(f"closed with {said.closed} without a violation")
            said.feed(piece)


# --- before and after --------------------------------------------------------------------------------


@attrs.frozen
class Held:
    """What the server's process has."""

    rss: int
    fds: int
    threads: int
    workers: int


def held(server):
    process = psutil.Process(server.process.pid)
    with process.oneshot():
        return Held(
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            len(process.children(recursive=True)),
        )


def status(server):
    return httpx.get(f"http://127.0.0.1:{server.port}/status", timeout=PATIENCE).json()


def quiet(server):
    """Whether nobody is connected and no job is under way."""
    now = status(server)
    return now["connections"] == 0 and now["jobs"]["queued"] == now["jobs"]["running"] == 0


def summary(tally, seconds, before, after):
    return json.dumps(
        {
            "seconds": round(seconds, 1),
            "mutations": tally.mutations,
            "messages": tally.messages,
            "frames": tally.frames,
            "violations": tally.violations,
            "handshakes": tally.handshakes,
            "statuses": tally.statuses,
            "close codes": tally.closes,
            "answers checked": tally.texts,
            "healthz": [tally.healthy, round(tally.slowest, 3)],
            "before": attrs.asdict(before),
            "after": attrs.asdict(after),
        },
        default=str,
    )
