"""The messages that wait to be sent to one peer."""

from collections.abc import Callable, Sequence

import trio

from creemson.server.transport.frames import Outgoing

__all__ = ["Outbox"]

AHEAD = 2 * 1024 * 1024
"""Maximum bytes waiting while a download adds more, however many may wait."""


class Outbox:
    """A queue of messages, bounded in bytes and filled without waiting.

    A message may replace an older one that is not sent yet (progress). When the queue is full, no message is dropped;
    the peer is disconnected instead.

    Args:
        limit: maximum bytes waiting.
        on_overflow: called when the limit is exceeded.

    Attributes:
        size: bytes that wait, or that have been taken but not sent.
        ahead: maximum bytes waiting while a download adds more, and maximum bytes of what it adds: it fills half of
            the outbox at most, and the other half is for answers.
        next_batch: number of the batch that :meth:`take` will return next, with all messages that wait until then.
        closing: code and reason of the close frame that is sent last; None while the connection stays open.
    """

    def __init__(self, limit: int, *, on_overflow: Callable[[], object]) -> None:
        self._limit = limit
        self.ahead = max(1, min(AHEAD, limit // 4))
        self._on_overflow = on_overflow
        self._items: list[Outgoing] = []
        self._replaceable: dict[int, int] = {}  # positions of items, by the key `replaces`
        self.size = 0
        self._taken = 0  # bytes taken but not sent
        self.next_batch = 1
        self._sent_batch = 0  # the last one that was sent
        # Set when the taken messages have been sent; a download waits for it.
        self._emptied: trio.Event | None = None
        self._overflowed = False
        self.closing: tuple[int, str] | None = None

    def __bool__(self) -> bool:
        """Whether there is a message or a close frame to send."""
        return bool(self._items) or self.closing is not None

    def put(self, message: Outgoing, *, replaces: int | None = None, follows: int | None = None) -> None:
        """Append a message, or replace the unsent one with the same ``replaces``.

        Args:
            message: the encoded message.
            replaces: key of the unsent message to replace.
            follows: key of later messages that must not replace an unsent one from before this message.
        """
        if self.closing is not None or self._overflowed:
            return
        if follows is not None:
            self._replaceable.pop(follows, None)
        alone = self.size == 0  # a single large message to a peer that reads is no overflow
        old = self._replaceable.get(replaces) if replaces is not None else None
        self.size += len(message)
        if old is not None:
            self.size -= len(self._items[old])
            self._items[old] = message
        else:
            if replaces is not None:
                self._replaceable[replaces] = len(self._items)
            self._items.append(message)
        if self.size > self._limit and not alone:
            self._overflowed = True
            self._on_overflow()

    def put_all(self, messages: Sequence[Outgoing]) -> None:
        """Append several messages, in half the time of a :meth:`put` for each."""
        size = sum(map(len, messages))
        if self.closing is not None or self._overflowed or self.size + size > self._limit:
            for message in messages:
                self.put(message)
        else:
            self.size += size
            self._items += messages

    def close(self, code: int, reason: str) -> None:
        """Stop accepting messages; the close frame follows those that wait. Idempotent."""
        if self.closing is None:
            self.closing = (code, reason)

    async def room(self, batch: int = 0) -> None:
        """Wait until a download may add more, and the batch of this number has been sent."""
        while self.size > self.ahead or self._sent_batch < batch:
            self._emptied = trio.Event()
            await self._emptied.wait()
        await trio.lowlevel.checkpoint_if_cancelled()  # also if it was cancelled between `sent` and its turn

    def take(self) -> list[Outgoing]:
        """Remove and return all messages in order; they count in the size until :meth:`sent`."""
        taken, self._items = self._items, []
        self._replaceable.clear()
        self._taken = self.size
        self.next_batch += 1
        return taken

    def sent(self) -> None:
        """Mark all taken messages as sent."""
        self.size -= self._taken
        self._taken = 0
        self._sent_batch = self.next_batch - 1
        if self._emptied is not None:
            self._emptied.set()
            self._emptied = None
