"""Carries messages between this server and the others."""

from collections.abc import Callable

import trio
from structlog.typing import FilteringBoundLogger

from creemson.catalog.shared.hints import ALL, Hints
from creemson.jobs.journal import InThread
from creemson.jobs.servers.following.messages import Message, decode, encode

__all__ = ["AGAIN", "Mail"]

AGAIN = 0.5
"""Seconds after which a database that failed is tried again."""


class Mail:
    """Sends and receives messages.

    Args:
        hints: carries them as texts.
        in_thread: runs what blocks.
        logger: Logger.
    """

    def __init__(self, hints: Hints, *, in_thread: InThread, logger: FilteringBoundLogger) -> None:
        self._hints = hints
        self._in_thread = in_thread
        self._log = logger
        self._outgoing: list[tuple[str, Message]] = []
        self._sends = trio.Event()

    def tell_all(self, message: Message) -> None:
        """Tell all servers something, this one included."""
        self.tell(ALL, message)

    def tell(self, server: str, message: Message) -> None:
        """Tell a server something. It may be lost."""
        if (server, message) not in self._outgoing[-1:]:
            self._outgoing.append((server, message))
            self._sends.set()

    async def send(self) -> None:
        """Send what is to be told, until cancelled."""
        while True:
            while not self._outgoing:
                self._sends = trio.Event()
                await self._sends.wait()
            batch, self._outgoing = self._outgoing, []
            texts = [(server, text) for server, message in batch if (text := encode(message))]
            try:
                await self._in_thread(self._hints.send, texts)
            except OSError as error:
                self._log.warning("hints not sent", hints=len(texts), error=str(error))
                await trio.sleep(AGAIN)

    async def listen(self, heard: Callable[[Message], None], connected: Callable[[], None]) -> None:
        """Receive what others tell, until cancelled.

        Args:
            heard: called with each message.
            connected: called whenever messages may have been lost before.
        """
        while True:
            try:
                readable = await self._in_thread(self._hints.connect)
                connected()
                while True:
                    await trio.lowlevel.wait_readable(readable)
                    for text in self._hints.received():
                        message = decode(text)
                        if message is not None:
                            heard(message)
            except OSError as error:
                self._log.warning("hints not received", error=str(error))
                await trio.sleep(AGAIN)

    async def tell_at_once(self, message: Message) -> None:
        """Tell all servers something now, because this one ends.

        Raises:
            OSError: the database failed.
        """
        await self._in_thread(self._hints.send, [(ALL, encode(message) or "")])
