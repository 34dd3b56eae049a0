"""A flood of mutations over the network against a live server."""

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
from tests.fuzz.verdict import Frames, InvalidAnswer, responses
from tests.servers import SAMPLE, upgrade_request

CONCURRENT_ATTACKS = 12
"""Number of connections that are attacked at the same time."""
PER_CONNECTION = 200
"""Maximum number of messages before the violation."""
HANDSHAKES = 6
"""Number of requests of one attack, each on a separate connection: four of a hundred mutations."""
PATIENCE = 60
"""Timeout of any answer, in seconds."""
QUIET = 0.03
"""Seconds to wait for an answer before the client closes its sending side."""
HEALTH_EVERY = 0.25
MAX_FILES = 100
"""Number of uploads above which they are removed, because many messages request their list."""


@attrs.define
class Tally:
    """What was sent, and how the server reacted.

    Attributes:
        messages: number of mutated messages that the server has certainly read.
        frames: number of frames that contained them.
        violations: number of connections that ended with a violation, by its kind.
        handshakes: number of mutated HTTP requests.
        statuses: HTTP statuses of the responses.
        closes: close codes.
        texts: number of JSON messages of the server that were checked.
        healthy: number of answers of ``/healthz``.
        slowest: seconds of the slowest of them.
        wrong: faults of the server, with the input that caused them.
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
    """Send ``count`` mutations, and check all answers."""
    tally = Tally()
    messages = corpus.messages(seed)
    numbers = itertools.count()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_health, server, tally)
        async with trio.open_nursery() as attackers:
            for _ in range(CONCURRENT_ATTACKS):
                attackers.start_soon(_attack, server, tally, count, seed, messages, numbers)
        nursery.cancel_scope.cancel()
    return tally


async def _attack(server, tally, count, seed, messages, numbers):
    for number in numbers:
        if tally.mutations >= count or len(tally.wrong) >= 10:
            return
        rng = random.Random(f"{seed}-{number}")  # so that one connection can be repeated alone
        mutator = Mutator(rng, messages)
        attempt = _requests if rng.random() < 0.5 else _messages
        sent = []
        try:
            with trio.fail_after(PATIENCE):
                await attempt(server, tally, mutator, rng, sent)
        except* (InvalidAnswer, Rejected, trio.TooSlowError, ValueError, KeyError) as faults:
            tally.wrong.append((f"{seed}-{number}", attempt.__name__, repr(faults), b"".join(sent)[-2000:]))


async def _watch_health(server, tally):
    """Request ``/healthz`` at intervals; keep the example file in place and the number of uploads small."""
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
            passing = list(uploads.glob(f"{corpus.UPLOAD_PREFIX}*"))
            for path in passing if len(passing) > MAX_FILES else ():
                path.unlink(missing_ok=True)
            await trio.sleep(HEALTH_EVERY)


async def _connect(server):
    return await trio.open_tcp_stream("127.0.0.1", server.port)


# --- requests ----------------------------------------------------------------------------------------


async def _requests(server, tally, mutator, rng, sent):
    """Send some mutated requests, one connection after another."""
    for _ in range(HANDSHAKES):
        sent[:] = [mutator.handshake()]
        async with await _connect(server) as stream:
            request, reset = sent[0], rng.random() < 0.05
            received = await _exchange(stream, request, reset=reset, done=partial(responses, request))
        tally.handshakes += 1
        if received is not None:
            tally.statuses.update(responses(request, received) or ["half" if received else "closed"])


async def _exchange(stream, data, *, reset=False, done=lambda received: True):
    """Send the data, wait until ``done`` or a short timeout, close the sending side, and read to the end.

    Returns:
        The received bytes; None after a reset.
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


async def _messages(server, tally, mutator, rng, sent):
    """Send many mutated messages, wait until the server has read all of them, then send a violation."""
    frames, total = [], 0
    for _ in range(rng.randrange(PER_CONNECTION // 2, PER_CONNECTION)):
        data, number = mutator.message()
        frames.append(data)
        total += number
    sent[:] = frames
    token = struct.pack("!Q", rng.getrandbits(64)) + b"the end"
    async with await _connect(server) as stream:
        received_frames = Frames()
        await _until_pong(
            stream, received_frames, upgrade_request() + b"".join(frames) + mutator.frame(token, PING), token
        )
        tally.messages += len(frames)
        tally.frames += total
        tail, kind = mutator.violation()
        sent.append(tail)
        reset = rng.random() < 0.1
        rest = await _exchange(stream, tail, reset=reset, done=lambda received: False)
        tally.violations[kind] += 1
        if not reset:
            received_frames.feed(rest)
            received_frames.end()
            tally.closes[received_frames.closed] += 1
        tally.texts += received_frames.texts


async def _until_pong(stream, received_frames, data, token):
    """Send the data, and read until the pong that proves that the server has read everything."""
    async with trio.open_nursery() as nursery:

        async def send():
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_all(data)

        nursery.start_soon(send)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some()
            if not piece:
                raise InvalidAnswer(f"no handshake: {head!r}")
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise InvalidAnswer(f"no handshake: {head!r}")
        received_frames.feed(rest)
        while token not in received_frames.pongs:
            try:
                piece = await stream.receive_some()
            except trio.BrokenResourceError:
                piece = b""
            if not piece or received_frames.closed is not None:
                raise InvalidAnswer(f"closed with {received_frames.closed} without a violation")
            received_frames.feed(piece)


# --- before and after --------------------------------------------------------------------------------


@attrs.frozen
class Resources:
    """Resources of the server's process."""

    rss: int
    fds: int
    threads: int
    workers: int


def resources_of(server):
    process = psutil.Process(server.process.pid)
    with process.oneshot():
        return Resources(
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            len(process.children(recursive=True)),
        )


def status(server):
    return httpx.get(f"http://127.0.0.1:{server.port}/status", timeout=PATIENCE).json()


def is_quiet(server):
    """Return whether there are no connections and no unfinished jobs."""
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
