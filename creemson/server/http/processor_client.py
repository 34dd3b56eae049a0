"""Asking the processor without a WebSocket: one request, one answer."""

import contextlib
import itertools
from collections.abc import Callable

import trio

from creemson.errors import ConnectionLost
from creemson.processing import mailbox
from creemson.processing.jobs import Accepted, Ended, Logged, Progressed

__all__ = ["Asker"]


class _Port:
    """Takes the last reply to its request; what comes before is news of the way there."""

    def __init__(self) -> None:
        self.reply: mailbox.Reply | None = None
        self.replied = trio.Event()

    def deliver(self, request: int, reply: mailbox.Reply) -> None:  # noqa: ARG002 - there is one only
        if not isinstance(reply, Accepted | Progressed | Logged):
            self.reply = reply
            self.replied.set()


class Asker:
    """Puts requests to the processor.

    Args:
        processor: its inbox.
    """

    def __init__(self, processor: trio.MemorySendChannel[mailbox.Command]) -> None:
        self._processor = processor
        self._numbers = itertools.count(1)

    async def ask(self, command: Callable[[str, int], mailbox.Command]) -> mailbox.Reply:
        """Put a request, and wait for its end. When cancelled, it is as if a connection went.

        Args:
            command: makes it, given the name of a connection and the number of the request.

        Returns:
            The last reply.

        Raises:
            CreemsonError: the request ended in an error.
        """
        connection, port = f"http-{next(self._numbers)}", _Port()
        try:
            await self._processor.send(mailbox.Connect(connection, port))
            try:
                await self._processor.send(command(connection, 1))
                await port.replied.wait()
            finally:
                with trio.CancelScope(shield=True), contextlib.suppress(trio.BrokenResourceError):
                    await self._processor.send(mailbox.Disconnect(connection))
        except trio.BrokenResourceError:  # the processor has ended
            raise ConnectionLost(
                "shutting_down", "The server is shutting down. Try again when it is back."
            ) from None
        assert port.reply is not None
        if isinstance(port.reply, Ended) and port.reply.error is not None:
            raise port.reply.error
        return port.reply
