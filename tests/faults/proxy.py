"""A TCP proxy that does to connections what networks do: drops, silence, delays, unusual segments."""

import random
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

PIECE = 64 * 1024


@attrs.define
class Plan:
    """What happens to one connection.

    Attributes:
        cut_after: bytes from the client after which the connection is cut; None never cuts it.
        cut_at: seconds after the start at which it is cut.
        half_open: whether the server does not notice the cut.
        deaf: whether neither side notices the cut.
        wait: seconds before it is forwarded, so that a later connection may arrive first.
        delay: seconds before each piece.
        split: maximum bytes of a forwarded piece.
        merge: bytes to collect before they are forwarded together.
    """

    cut_after: int | None = None
    cut_at: float = float("inf")
    half_open: bool = False
    deaf: bool = False
    wait: float = 0.0
    delay: float = 0.0
    split: int = PIECE
    merge: int = 0

    @classmethod
    def random(cls, rng: random.Random, size: int) -> "Plan":
        """Return a plan for a connection that will carry about ``size`` bytes."""
        return cls(
            cut_after=rng.randrange(1, size) if rng.random() < 0.7 else None,
            half_open=rng.random() < 0.3,
            delay=rng.choice([0, 0, 0, 0.001, 0.003]),
            split=rng.choice([PIECE, PIECE, 10_000, 997]),
            merge=rng.choice([0, 0, 5_000, 100_000]),
        )

    @classmethod
    def restless(cls, rng: "random.Random") -> "Plan":
        """Return a plan for a short-lived connection, whatever it carries."""
        return cls(
            cut_at=rng.choice([float("inf"), 0.5, 0.1, 0.1]) * rng.random(),
            half_open=rng.random() < 0.2,
            deaf=rng.random() < 0.2,
            wait=rng.choice([0, 0, 0, 0.2]) * rng.random(),
            delay=rng.choice([0, 0, 0, 0.002]),
            split=rng.choice([PIECE, PIECE, 10_000, 997]),
        )


@attrs.define
class Passage:
    """One connection through the proxy: its plan, and the bytes forwarded to the server."""

    plan: Plan
    passed: int = 0


class Proxy:
    """Forwards connections to a port of this machine.

    Args:
        target: the port; it may be changed for later connections.
        plans: one per connection, in order.
    """

    def __init__(self, target, plans):
        self.target = target
        self._plans = plans
        self.passages = []
        self.url = ""

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
            task_status.started()

    async def _serve(self, client):
        passage = Passage(next(self._plans))
        self.passages.append(passage)
        plan = passage.plan
        await trio.sleep(plan.wait)
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:  # it is down
            await client.aclose()
            return
        async with server:
            async with client:
                async with trio.open_nursery() as nursery:
                    nursery.cancel_scope.deadline = trio.current_time() + plan.cut_at
                    nursery.start_soon(self._pass_back, server, client, nursery.cancel_scope)
                    await self._pass_on(client, server, passage)
                    nursery.cancel_scope.cancel()
                if plan.deaf and nursery.cancel_scope.deadline <= trio.current_time():
                    await trio.sleep_forever()
            if plan.half_open and (plan.cut_after is not None or plan.cut_at < float("inf")):
                await trio.sleep_forever()  # the client is gone, and the server does not notice

    async def _pass_on(self, client, server, passage):
        plan, held = passage.plan, b""
        try:
            while data := await client.receive_some(PIECE):
                held += data
                if len(held) < plan.merge:
                    with trio.move_on_after(0.005):  # if nothing else arrives, do not wait any longer
                        held += await client.receive_some(PIECE)
                while held:
                    piece, held = held[: plan.split], held[plan.split :]
                    if plan.cut_after is not None:
                        piece = piece[: plan.cut_after - passage.passed]
                    await trio.sleep(plan.delay)
                    await server.send_all(piece)
                    passage.passed += len(piece)
                    if passage.passed == plan.cut_after:
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _pass_back(self, server, client, scope):
        try:
            while data := await server.receive_some(PIECE):
                await client.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def proxied(target, plans):
    """Run a proxy; all its connections are cut at the end."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target, plans)
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
