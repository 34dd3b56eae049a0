"""Hints by NOTIFY and LISTEN of PostgreSQL."""

import contextlib
import threading
from collections.abc import Callable, Iterable

import psycopg

from creemson.catalog.shared.hints import ALL

__all__ = ["PostgresHints"]

_PREFIX = "creemson"
"""Name of the channel of all servers, and beginning of the names of those of each."""
_NOTIFY = "SELECT pg_notify(channel, hint) FROM unnest(%s::text[], %s::text[]) AS hints (channel, hint)"


class PostgresHints:
    """Implements :class:`creemson.catalog.shared.hints.Hints` with two connections of its own.

    Args:
        connect: opens a connection that commits each statement by itself.
        owner: id of this server.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection], owner: str) -> None:
        self._connect = connect
        self._owner = owner
        self._listening: psycopg.Connection | None = None
        self._sending: psycopg.Connection | None = None
        self._lock = threading.Lock()  # for `_sending`

    def connect(self) -> int:
        """See :meth:`creemson.catalog.shared.hints.Hints.connect`."""
        try:
            if self._listening is not None:
                self._listening.close()
            self._listening = self._connect()
            for channel in (_channel(ALL), _channel(self._owner)):
                self._listening.execute(f'LISTEN "{channel}"')
            return self._listening.fileno()
        except psycopg.Error as error:
            raise OSError(f"no hints of other servers: {error}") from error

    def received(self) -> list[str]:
        """See :meth:`creemson.catalog.shared.hints.Hints.received`."""
        assert self._listening is not None
        connection = self._listening.pgconn
        found = []
        try:
            connection.consume_input()
            while (notice := connection.notifies()) is not None:
                found.append(notice.extra.decode())
        except psycopg.Error as error:
            raise OSError(f"no hints of other servers: {error}") from error
        return found

    def send(self, hints: Iterable[tuple[str, str]]) -> None:
        """See :meth:`creemson.catalog.shared.hints.Hints.send`."""
        given = list(hints)
        parameters = [_channel(server) for server, _ in given], [hint for _, hint in given]
        try:
            with self._lock:
                if self._sending is None or self._sending.closed:
                    self._sending = self._connect()
                    self._sending.execute("SET synchronous_commit = off")  # nothing is written but hints
                self._sending.execute(_NOTIFY, parameters)
        except psycopg.Error as error:
            raise OSError(f"no hints to other servers: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        for connection in (self._listening, self._sending):
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    connection.close()


def _channel(server: str) -> str:
    return f"{_PREFIX}_{server}" if server else _PREFIX
