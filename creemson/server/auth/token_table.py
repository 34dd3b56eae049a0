"""The tokens of several servers; see :class:`creemson.server.auth.tokens.TokenSource`."""

import threading
import time
from collections.abc import Callable, Mapping

from creemson.catalog.shared.tokens import Entry, SharedTokens

__all__ = ["TokenTable"]

READ_INTERVAL = 0.4
"""Seconds between two looks at whether tokens have changed. Connections are checked each 0.5 s, so a revocation holds
on all servers within a second."""


class TokenTable:
    """The tokens in the catalog, as they were a moment ago. May be used by any thread.

    Args:
        tokens: those of the catalog.
        clock: returns seconds.
    """

    def __init__(self, tokens: SharedTokens, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._changes = -1  # at the last read
        self._read_at: float | None = None
        self._entries: Mapping[str, Entry] = {}

    def current(self) -> Mapping[str, Entry]:
        """Return the entries by id, of :data:`READ_INTERVAL` ago at most."""
        with self._lock:
            if self._read_at is None or self._clock() - self._read_at >= READ_INTERVAL:
                self._refresh()
            return self._entries

    def latest(self) -> Mapping[str, Entry]:
        """Return the entries by id, as they are now."""
        with self._lock:
            self._refresh()
            return self._entries

    def _refresh(self) -> None:
        changes = self._tokens.changes()
        if changes != self._changes:
            self._entries = {entry.id: entry for entry in self._tokens.entries()}
            self._changes = changes
        self._read_at = self._clock()

    def add(self, entry: Entry) -> bool:
        """Add a token; return whether its name was free."""
        return self._tokens.add(entry)

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one of this name."""
        return self._tokens.remove(name)
