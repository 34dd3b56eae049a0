"""The opaque tokens of callers, in one PostgreSQL database for all servers."""

from collections.abc import Iterable

import attrs

from creemson.catalog.database import Database, Transaction

__all__ = ["Entry", "SharedTokens"]


@attrs.frozen
class Entry:
    """What is stored about a token.

    Attributes:
        id: the part of the token that is not secret.
        name: name of the caller.
        salt, digest: hexadecimal.
        created: seconds since 1970.
    """

    id: str
    name: str
    salt: str
    digest: str
    created: float


_COLUMNS = ", ".join(field.name for field in attrs.fields(Entry))
_INSERT = f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id"  # noqa: S608
_CHANGED = "UPDATE token_changes SET number = number + 1"


class SharedTokens:
    """The tokens. All methods block, and raise OSError if the database fails.

    Args:
        database: a PostgreSQL that has the catalog.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def changes(self) -> int:
        """Return how often the tokens were changed: cheaper than all of them."""
        rows = self._database.read("SELECT number FROM token_changes")
        return int(rows[0][0])

    def entries(self) -> list[Entry]:
        """Return all tokens, the oldest first."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM tokens ORDER BY created, id")  # noqa: S608 - of constants
        return [Entry(*row) for row in rows]

    def add(self, entry: Entry) -> bool:
        """Add a token; return whether its name was free."""

        def add(transaction: Transaction) -> bool:
            added = transaction.execute(_INSERT, attrs.astuple(entry)).fetchall()
            transaction.execute(_CHANGED)
            # After a lost connection, it may be there already.
            return bool(
                added or transaction.execute("SELECT 1 FROM tokens WHERE id = ?", (entry.id,)).fetchall()
            )

        return self._database.change(add)

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one of this name."""

        def remove(transaction: Transaction) -> bool:
            removed = transaction.execute(
                "DELETE FROM tokens WHERE name = ? RETURNING id", (name,)
            ).fetchall()
            transaction.execute(_CHANGED)
            return bool(removed)

        return self._database.change(remove)

    def import_once(self, entries: Iterable[Entry]) -> int:
        """Add tokens if there never were any; return their number, or 0."""
        given = list(entries)

        def import_all(transaction: Transaction) -> int:
            first = transaction.execute(f"{_CHANGED} WHERE number = 0 RETURNING number").fetchall()
            if first:
                transaction.executemany(_INSERT.removesuffix(" RETURNING id"), map(attrs.astuple, given))
            return len(given) if first else 0

        return self._database.change(import_all) if given else 0
