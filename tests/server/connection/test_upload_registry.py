"""Who may go on with an upload: claims, takeovers and evictions, without any connection."""

import pytest
import trio

from creemson.server.uploads import Uploads

KEY = ("ann", "a.csv")


class Holder:
    """A connection that lives or not, and takes its time."""

    def __init__(self, *, alive, uploads=None):
        self.alive = alive
        self.asked = 0
        self.let_go_at = None
        self.uploads = uploads  # where it ends its upload while it is asked

    async def is_alive(self):
        self.asked += 1
        await trio.sleep(1)
        if self.uploads is not None:
            self.uploads.release(KEY, self)
        return self.alive

    async def let_go(self):
        await trio.sleep(1)
        assert self.let_go_at is None
        self.let_go_at = trio.current_time()


async def test_the_first_one_goes_on():
    """With whatever is on the disk."""
    uploads = Uploads()
    assert await uploads.claim(KEY, Holder(alive=True))
    assert await uploads.claim(("bob", "a.csv"), Holder(alive=True))


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
async def test_a_newcomer_takes_over(autojump_clock, proofs, alive, resumable, asked):
    """It goes on with the bytes if they are proved to be the same, or if the other is gone."""
    uploads, old, new = Uploads(), Holder(alive=alive), Holder(alive=True)
    await uploads.claim(KEY, old, proof=proofs[0])
    assert await uploads.claim(KEY, new, proof=proofs[1]) == resumable
    assert (old.asked, old.let_go_at) == (asked, trio.current_time())
    assert new.let_go_at is None


async def test_one_that_ends_while_it_is_asked(autojump_clock):
    """It need not let go."""
    uploads = Uploads()
    old = Holder(alive=False, uploads=uploads)
    await uploads.claim(KEY, old)
    assert await uploads.claim(KEY, Holder(alive=True))
    assert old.let_go_at is None


async def test_many_newcomers_at_once(autojump_clock):
    """Each takes over from the one before; one holds it in the end."""
    uploads = Uploads()
    holders = [Holder(alive=True) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for holder in holders:
            nursery.start_soon(uploads.claim, KEY, holder)
    assert sorted(holder.let_go_at is None for holder in holders) == [False] * 4 + [True]


async def test_released_and_claimed_again(autojump_clock):
    """Releasing what somebody else has by now does nothing."""
    uploads, old, new = Uploads(), Holder(alive=True), Holder(alive=True)
    await uploads.claim(KEY, old)
    await uploads.claim(KEY, new)
    uploads.release(KEY, old)
    uploads.release(("ann", "other"), old)
    async with uploads.without(KEY):
        assert new.let_go_at is not None
    uploads.release(KEY, new)
    before = trio.current_time()
    assert await uploads.claim(KEY, old)
    assert trio.current_time() == before


async def test_nobody_begins_while_a_file_is_deleted(autojump_clock):
    """A newcomer waits until it is done."""
    uploads = Uploads()
    async with trio.open_nursery() as nursery:
        async with uploads.without(KEY):
            nursery.start_soon(uploads.claim, KEY, Holder(alive=True))
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks != set()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks == set()
