"""Who may resume an upload: claims, takeovers and evictions, without any connection."""

import pytest
import trio

from creemson.server.connection.upload_registry import UploadRegistry

KEY = ("ann", "a.csv")


class Holder:
    """A connection that is alive or not, and answers after a second."""

    def __init__(self, *, alive, registry=None):
        self.alive = alive
        self.asked = 0
        self.let_go_at = self.deleted = None
        self.registry = registry  # if set, it releases its upload while it is asked

    async def is_alive(self):
        self.asked += 1
        await trio.sleep(1)
        if self.registry is not None:
            self.registry.release(KEY, self)
        return self.alive

    async def let_go(self, filename, *, deleted):
        assert filename == KEY[1]
        await trio.sleep(1)
        assert self.let_go_at is None
        self.let_go_at, self.deleted = trio.current_time(), deleted


async def claim(registry, key, holder, **proof):
    """Take an upload, and return whether it may be resumed."""
    async with registry.claim(key, holder, **proof) as resumable:
        return resumable


async def test_first_claim_may_resume():
    """The first claim may resume whatever is on disk; callers are independent."""
    registry = UploadRegistry()
    assert await claim(registry, KEY, Holder(alive=True))
    assert await claim(registry, ("bob", "a.csv"), Holder(alive=True))


@pytest.mark.parametrize(
    ("proofs", "alive", "resumable", "asked"),
    [
        ((None, None), True, False, 1),
        ((None, None), False, True, 1),
        (("x", "x"), True, True, 0),
        (("x", "y"), True, False, 1),
        (("x", None), False, True, 1),
    ],
)
async def test_second_claim_takes_over(autojump_clock, proofs, alive, resumable, asked):
    """It may resume if the proofs match or the first connection is gone."""
    registry, old, new = UploadRegistry(), Holder(alive=alive), Holder(alive=True)
    await claim(registry, KEY, old, proof=proofs[0])
    assert await claim(registry, KEY, new, proof=proofs[1]) == resumable
    assert (old.asked, old.let_go_at, old.deleted) == (asked, trio.current_time(), False)
    assert new.let_go_at is None


async def test_holder_that_ends_while_asked_is_not_evicted(autojump_clock):
    """It has released the upload itself, so `let_go` is not called."""
    registry = UploadRegistry()
    old = Holder(alive=False, registry=registry)
    await claim(registry, KEY, old)
    assert await claim(registry, KEY, Holder(alive=True))
    assert old.let_go_at is None


async def test_concurrent_claims_leave_one_holder(autojump_clock):
    """Each claim takes over from the one before; one holds the upload in the end."""
    registry = UploadRegistry()
    holders = [Holder(alive=True) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for holder in holders:
            nursery.start_soon(claim, registry, KEY, holder)
    assert sorted(holder.let_go_at is None for holder in holders) == [False] * 4 + [True]


async def test_released_upload_can_be_claimed_without_waiting(autojump_clock):
    """Releasing an upload that another connection holds by now has no effect."""
    registry, old, new = UploadRegistry(), Holder(alive=True), Holder(alive=True)
    await claim(registry, KEY, old)
    await claim(registry, KEY, new)
    registry.release(KEY, old)
    registry.release(("ann", "other"), old)
    async with registry.without(KEY):
        assert new.let_go_at is not None
    registry.release(KEY, new)
    before = trio.current_time()
    assert await claim(registry, KEY, old)
    assert trio.current_time() == before


async def test_claim_whose_block_raises_is_released(autojump_clock):
    """Nobody is asked to let go of an upload that was not opened; another claim waits for the end of the block."""
    registry, old = UploadRegistry(), Holder(alive=True)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="full"):
            async with registry.claim(KEY, old):
                nursery.start_soon(claim, registry, KEY, Holder(alive=True))
                await trio.testing.wait_all_tasks_blocked()
                assert nursery.child_tasks != set()
                raise ValueError("full")
    assert (old.asked, old.let_go_at) == (0, None)


async def test_claim_during_deletion_waits(autojump_clock):
    """A new claim waits until the file has been deleted."""
    registry = UploadRegistry()
    async with trio.open_nursery() as nursery:
        async with registry.without(KEY):
            nursery.start_soon(claim, registry, KEY, Holder(alive=True))
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks != set()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks == set()
