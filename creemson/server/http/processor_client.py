"""Sends one command to the processor and waits for its last reply, without a WebSocket."""

import contextlib
import itertools

import trio

from creemson.errors import shutting_down
from creemson.jobs import commands
from creemson.jobs.events import Accepted, Ended, Logged, Progressed

__all__ = ["ProcessorClient"]


class _Port:
    """Keeps the last reply; earlier replies only report progress."""

    def __init__(self) -> None:
        self.reply: commands.Reply | None = None
        self.replied = trio.Event()

    def deliver(self, request: int, reply: commands.Reply) -> None:  # noqa: ARG002 - there is only one request
        if not isinstance(reply, Accepted | Progressed | Logged):
            self.reply = reply
            self.replied.set()


class ProcessorClient:
    """Sends commands to the processor.

    Args:
        processor: the processor's inbox.
    """

    def __init__(self, processor: trio.MemorySendChannel[commands.InboxMessage]) -> None:
        self._processor = processor
        self._numbers = itertools.count(1)

    async def ask(self, caller: str, ask: commands.Ask) -> commands.Reply:
        """Send a command and wait for its last reply. Cancelling has the same effect as closing a connection.

        Args:
            caller: name of the caller.
            ask: the command.

        Returns:
            The last reply.

        Raises:
            CreemsonError: the request ended in an error.
        """
        connection, port = f"{commands.HTTP}{next(self._numbers)}", _Port()
        try:
            await self._processor.send(commands.Connect(connection, port))
            try:
                await self._processor.send(commands.Command(connection, 1, caller, ask))
                await port.replied.wait()
            finally:
                with trio.CancelScope(shield=True), contextlib.suppress(trio.BrokenResourceError):
                    await self._processor.send(commands.Disconnect(connection))
        except trio.BrokenResourceError:  # the processor has stopped
            raise shutting_down() from None
        assert port.reply is not None
        if isinstance(port.reply, Ended) and port.reply.error is not None:
            raise port.reply.error
        return port.reply
