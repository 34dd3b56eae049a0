"""Writes text that nobody may have to wait for: what cannot be written is dropped and counted."""

import io
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

__all__ = ["BackgroundWriter", "to_descriptor", "to_stream"]

MAX_WAITING = 1 << 20
"""Number of characters that may wait to be written; more are dropped."""
NOTICE_INTERVAL = 10.0
"""Minimum seconds between two notices about dropped text."""


class BackgroundWriter(io.TextIOBase):
    """A text stream whose :meth:`write` never blocks and never fails.

    A thread does the writing: a pipe that nobody reads blocks it, and a closed pipe or a full disk makes it fail, but
    the rest of the process goes on. (O_NONBLOCK instead of a thread would apply to all processes that share the
    terminal or pipe, and a regular file or a network disk ignores it.)

    Args:
        sink: writes a text; it may block, and may raise OSError or ValueError.
        terminal: whether it writes to a terminal.

    Attributes:
        dropped: number of texts that were dropped. A log line is one text.
    """

    def __init__(self, sink: Callable[[str], None], *, terminal: bool = False) -> None:
        super().__init__()
        self.dropped = 0
        self._sink = sink
        self._terminal = terminal
        self._on_recovery: Callable[[int], object] = lambda _: None
        self._changed = threading.Condition()  # for the following
        self._texts: deque[str] = deque()
        self._waiting = 0  # characters in them, and of the text that is being written
        self._ending = False
        self._thread: threading.Thread | None = None  # started with the first text

    def notify(self, on_recovery: Callable[[int], object]) -> None:
        """Call ``on_recovery`` with the number of dropped texts so far when writing works again."""
        self._on_recovery = on_recovery

    def write(self, text: str, /) -> int:
        """Add a text to those that wait to be written, or drop it if there are too many."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream does not take {type(text).__name__}")
        with self._changed:
            if self._ending or self._waiting + len(text) > MAX_WAITING:
                self.dropped += 1
            else:
                self._texts.append(text)
                self._waiting += len(text)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                    self._thread.start()
                self._changed.notify()
        return len(text)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return "utf-8"

    def isatty(self) -> bool:
        """Whether it writes to a terminal."""
        return self._terminal

    def end(self, seconds: float) -> None:
        """Write what waits, for at most so many seconds; everything after that is dropped."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        told, next_notice = 0, -math.inf
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._texts or self._ending)
                if not self._texts:
                    return
                text = self._texts.popleft()
            try:
                self._sink(text)
            except (OSError, ValueError):  # ValueError: a stream that has been closed
                self.dropped += 1
            else:
                now = time.monotonic()
                if self.dropped > told and now >= next_notice:
                    told, next_notice = self.dropped, now + NOTICE_INTERVAL
                    self._on_recovery(told)
            with self._changed:
                self._waiting -= len(text)


def to_descriptor(descriptor: int) -> Callable[[str], None]:
    """Make a sink that writes UTF-8 to a file descriptor, whatever the locale.

    After a text that was cut short, for example by a full disk, the next one begins on a new line.
    """
    cut = False

    def write(text: str) -> None:
        nonlocal cut
        data = memoryview((f"\n{text}" if cut else text).encode(errors="backslashreplace"))
        while data:
            try:
                written = os.write(descriptor, data)
            except BlockingIOError:  # another process has set O_NONBLOCK for all that share the pipe
                select.select([], [descriptor], [])
                continue
            data = data[written:]
            cut = bool(data)

    return write


def to_stream(stream: TextIO) -> Callable[[str], None]:
    """Make a sink that writes to a text stream."""

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write
