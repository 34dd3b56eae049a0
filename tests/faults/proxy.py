"""A TCP proxy that does to a connection what networks do: drops, silence, delays, odd segments."""

import random
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

PIECE = 64 * 1024


@attrs.define
class Plan:
    """What becomes of one connection.

    Attributes:
        cut_after: bytes from the client after which it is cut; None lets it live.
        cut_at: seconds after its beginning at which it is cut.
        half_open: whether the server is not told of the cut.
        deaf: whether nobody is told of it.
        wait: seconds before it is passed on, so that a later one may come first.
        delay: seconds before each piece.
        split: most bytes of a piece that is passed on.
        merge: bytes that are held back until there are as many.
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
    def random(cls, dice: random.Random, size: int) -> "Plan":
        """A plan for a connection over which about ``size`` bytes are to go."""
        return cls(
            cut_after=dice.randrange(1, size) if dice.random() < 0.7 else None,
            half_open=dice.random() < 0.3,
            delay=dice.choice([0, 0, 0, 0.001, 0.003]),
            split=dice.choice([PIECE, PIECE, 10_000, 997]),
            merge=dice.choice([0, 0, 5_000, 100_000]),
        )

    @classmethod
    def restless(cls, dice: "random.Random") -> "Plan":
        """A plan for a connection that does not live long, whatever goes over it."""
        return cls(
            cut_at=dice.choice([float("inf"), 0.5, 0.1, 0.1]) * dice.random(),
            half_open=dice.random() < 0.2,
            deaf=dice.random() < 0.2,
            wait=dice.choice([0, 0, 0, 0.2]) * dice.random(),
            delay=dice.choice([0, 0, 0, 0.002]),
            split=dice.choice([PIECE, PIECE, 10_000, 997]),
        )


@attrs.define
class Passage:
    """One connection through the proxy: its plan, and the bytes that have come through to the server."""

    plan: Plan
    passed: int = 0


class Proxy:
    """Passes connections on to a port of this machine.

    Args:
        target: the port; it may be changed, for connections to come.
        plans: for the connections, in their order.
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
                await trio.sleep_forever()  # the client has gone, and the server does not know

    async def _pass_on(self, client, server, passage):
        plan, held = passage.plan, b""
        try:
            while data := await client.receive_some(PIECE):
                held += data
                if len(held) < plan.merge:
                    with trio.move_on_after(0.005):  # nothing else comes: no reason to wait any longer
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
    """A proxy; in the end, all its connections are cut."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target, plans)
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()
