"""What a connection has to send."""

from collections import deque
from collections.abc import Callable

import trio

__all__ = ["Outbox"]

AHEAD = 2 * 1024 * 1024
"""Bytes that may wait before a download waits for the peer."""


class Outbox:
    """What is to be sent: bounded in bytes, and filled without waiting.

    A message may replace an unsent older one (progress). What does not fit is not dropped: the peer is.

    Args:
        limit: bytes that may wait.
        on_overflow: is called when there are more.

    Attributes:
        size: bytes that wait, or have been taken and are on their way.
        closing: the close code and reason that come last; None until that is decided.
    """

    def __init__(self, limit: int, *, on_overflow: Callable[[], object]) -> None:
        self._limit = limit
        self._on_overflow = on_overflow
        self._items: deque[list[str | bytes]] = deque()
        self._replaceable: dict[int, list[str | bytes]] = {}
        self.size = 0
        self._taken = 0
        self._emptied: trio.Event | None = None  # somebody waits for that
        self._overflowed = False
        self.closing: tuple[int, str] | None = None

    def __bool__(self) -> bool:
        """Whether something is to be sent, be it that nothing more comes."""
        return bool(self._items) or self.closing is not None

    def put(self, message: str | bytes, *, replaces: int | None = None, follows: int | None = None) -> None:
        """Append a message, or put it in the place of the unsent one with the same ``replaces``.

        Args:
            message: to be sent.
            replaces: names what makes an older message superfluous.
            follows: what comes later with this ``replaces`` is to stay behind this message.
        """
        if self.closing is not None or self._overflowed:
            return
        if follows is not None:
            self._replaceable.pop(follows, None)
        alone = self.size == 0  # one large answer to a peer that reads is no overflow
        old = self._replaceable.get(replaces) if replaces is not None else None
        self.size += len(message)
        if old is not None:
            self.size -= len(old[0])
            old[0] = message
        else:
            item = [message]
            self._items.append(item)
            if replaces is not None:
                self._replaceable[replaces] = item
        if self.size > self._limit and not alone:
            self._overflowed = True
            self._on_overflow()

    def close(self, code: int, reason: str) -> None:
        """Nothing more is taken; after what waits comes the close frame."""
        if self.closing is None:
            self.closing = (code, reason)

    async def room(self) -> None:
        """Wait until so little waits that a download may go on."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.size > min(AHEAD, self._limit // 2):
            self._emptied = trio.Event()
            await self._emptied.wait()

    def take(self) -> list[str | bytes]:
        """All that waits, in order; empty if there is nothing. It is counted in the size until :meth:`sent`."""
        taken = [item[0] for item in self._items]
        self._items.clear()
        self._replaceable.clear()
        self._taken = self.size
        return taken

    def sent(self) -> None:
        """All that was taken is on its way."""
        self.size -= self._taken
        self._taken = 0
        if self._emptied is not None:
            self._emptied.set()
            self._emptied = None
