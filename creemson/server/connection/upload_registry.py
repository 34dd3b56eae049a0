"""Which connection has which upload open: at most one per file name, and a newcomer takes the upload over.

A client whose connection broke may reconnect before the server notices that. So the new connection gets the upload, and
the connection that had it saves its bytes and releases it. Whether the new connection continues from these bytes is
decided separately. If a digest proves that both send the same content, it continues. Otherwise it continues only if the
other peer shows no sign of life: two living clients may upload different files, and a file must never contain bytes of
both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import trio

__all__ = ["Holder", "UploadRegistry"]


class Holder(Protocol):
    """A connection that has an upload open."""

    async def is_alive(self) -> bool:
        """Probe the peer; return whether it shows a sign of life."""

    async def let_go(self, filename: str, *, deleted: bool) -> None:
        """Save and close the upload, if it is still open, and report that to the peer.

        Args:
            filename: its file.
            deleted: whether the file is about to be deleted; otherwise, another connection takes the upload over.
        """


@attrs.define(eq=False)
class _Claim:
    """An upload that is open or about to be.

    Attributes:
        turn: held while a connection takes the upload over.
        holder: the connection that has it open.
        proof: identifies its content; see :meth:`UploadRegistry.claim`.
        waiting: number of tasks that wait for ``turn``, or hold it.
    """

    turn: trio.Lock
    holder: Holder | None = None
    proof: object = None
    waiting: int = 0


class UploadRegistry:
    """The open uploads of all connections, by caller and file name."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], _Claim] = {}

    @asynccontextmanager
    async def claim(
        self, key: tuple[str, str], holder: Holder, *, proof: object = None
    ) -> AsyncIterator[bool]:
        """Take an upload over from the connection that has it open, if there is one, and open it in the ``with`` block.

        Nobody else takes it over within the block. When a connection enters, it must not hold anything that its own
        :meth:`Holder.let_go` waits for: two connections would wait for each other.

        Args:
            key: caller and file name.
            holder: the new connection; it must call :meth:`release` at the end, but not if the block raises.
            proof: equal for two uploads of the same content; None if that is unknown.

        Returns:
            For the block: whether the new connection may continue from the bytes that are stored.
        """
        async with self._turn(key) as claim:
            resumable = True
            if claim.holder is not None:
                same = proof is not None and proof == claim.proof
                resumable = same or not await claim.holder.is_alive()
            await self._evict(claim, key[1], deleted=False)
            claim.holder, claim.proof = holder, proof
            try:
                yield resumable
            except BaseException:
                self.release(key, holder)
                raise

    @asynccontextmanager
    async def without(self, key: tuple[str, str]) -> AsyncIterator[None]:
        """Close the upload of a file to be deleted, and keep others from opening one within the ``with`` block."""
        async with self._turn(key) as claim:
            await self._evict(claim, key[1], deleted=True)
            yield

    def release(self, key: tuple[str, str], holder: Holder) -> None:
        """Mark an upload as closed, unless another connection has taken it over."""
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

    async def _evict(self, claim: _Claim, filename: str, *, deleted: bool) -> None:
        if claim.holder is not None:
            await claim.holder.let_go(filename, deleted=deleted)
            claim.holder = claim.proof = None

    def _tidy(self, key: tuple[str, str], claim: _Claim) -> None:
        if claim.holder is None and not claim.waiting:
            self._claims.pop(key, None)
