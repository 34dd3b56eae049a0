"""The tokens of several servers; see :class:`creemson.server.auth.tokens.TokenSource`."""

import threading
from collections.abc import Mapping

from creemson.catalog.shared.tokens import Entry, SharedTokens

__all__ = ["TokenTable"]


class TokenTable:
    """The tokens in the catalog, as they were at the last :meth:`refresh`. May be used by any thread.

    A server calls :meth:`refresh` in a thread, before it listens and then again and again. So the event loop only looks
    into memory: neither a database that is away nor strangers who try tokens can make it wait.

    Args:
        tokens: those of the catalog.
    """

    def __init__(self, tokens: SharedTokens) -> None:
        self._tokens = tokens
        self._refreshing = threading.Lock()
        self._changes = -1  # at the last read
        self._entries: Mapping[str, Entry] = {}  # replaced, never changed

    def current(self) -> Mapping[str, Entry]:
        """Return the entries by id, as they were read last; none before the first read. Never blocks or raises."""
        return self._entries

    def latest(self) -> Mapping[str, Entry]:
        """Return the entries by id, as they are now. Blocks.

        Raises:
            OSError: the database fails.
        """
        self.refresh()
        return self._entries

    def refresh(self) -> None:
        """Read the tokens if they have changed. Blocks.

        Raises:
            OSError: the database fails; :meth:`current` returns what was read before.
        """
        with self._refreshing:
            changes = self._tokens.changes()
            if changes != self._changes:
                self._entries = {entry.id: entry for entry in self._tokens.entries()}
                self._changes = changes

    def add(self, entry: Entry) -> bool:
        """Add a token; return whether its name was free."""
        return self._tokens.add(entry)

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one of this name."""
        return self._tokens.remove(name)
