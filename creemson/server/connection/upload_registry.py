"""Who has which upload open: one at a time, and a newcomer takes over.

A client whose connection broke comes back before the server knows that it broke. So a newcomer gets the
upload, and the connection that had it saves what it has and lets go. Whether the newcomer goes on with
these bytes is another question: where no digest proves that both send the same content, it does so only
if the other peer shows no sign of life any more. For two that live are two uploaders, and a file never
holds bytes of both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import trio

__all__ = ["Holder", "Uploads"]


class Holder(Protocol):
    """A connection that has an upload open."""

    async def is_alive(self) -> bool:
        """Ask its peer for a sign of life."""

    async def let_go(self) -> None:
        """Save what there is of the upload, close it, and say so to the peer."""


@attrs.define(eq=False)
class _Claim:
    """An upload that is open, or about to be."""

    turn: trio.Lock
    holder: Holder | None = None
    proof: object = None
    waiting: int = 0


class Uploads:
    """The open uploads of all connections, by caller and name."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], _Claim] = {}

    async def claim(self, key: tuple[str, str], holder: Holder, *, proof: object = None) -> bool:
        """Take an upload over from whoever has it.

        Args:
            key: caller and name.
            holder: the newcomer; it calls :meth:`release` in the end.
            proof: what two uploads of the same content have in common; None if there is no telling.

        Returns:
            Whether what there is of it may be gone on with.
        """
        async with self._turn(key) as claim:
            resumable = True
            if claim.holder is not None:
                same = proof is not None and proof == claim.proof
                resumable = same or not await claim.holder.is_alive()
            await self._evict(claim)
            claim.holder, claim.proof = holder, proof
            return resumable

    @asynccontextmanager
    async def without(self, key: tuple[str, str]) -> AsyncIterator[None]:
        """Let whoever has the upload let go of it, and keep others from it meanwhile."""
        async with self._turn(key) as claim:
            await self._evict(claim)
            yield

    def release(self, key: tuple[str, str], holder: Holder) -> None:
        """An upload is no longer open; nothing happens if somebody else has it by now."""
        claim = self._claims.get(key)
        if claim is not None and claim.holder is holder:
            claim.holder = claim.proof = None
            self._tidy(key, claim)

    @asynccontextmanager
    async def _turn(self, key: tuple[str, str]) -> AsyncIterator[_Claim]:
        claim = self._claims.setdefault(key, _Claim(trio.Lock()))
        claim.waiting += 1
        try:
            async with claim.turn:
                yield claim
        finally:
            claim.waiting -= 1
            self._tidy(key, claim)

    async def _evict(self, claim: _Claim) -> None:
        if claim.holder is not None:
            await claim.holder.let_go()
            claim.holder = claim.proof = None

    def _tidy(self, key: tuple[str, str], claim: _Claim) -> None:
        if claim.holder is None and not claim.waiting:
            self._claims.pop(key, None)
