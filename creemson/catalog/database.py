"""What the catalog needs of a database; :mod:`creemson.catalog.sqlite` and :mod:`creemson.catalog.postgres` provide it.

Statements are those that SQLite and PostgreSQL both understand, with ``?`` for parameters.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

__all__ = ["Cursor", "Database", "Tables", "Transaction", "check_version"]

T = TypeVar("T")
Tables: TypeAlias = Literal["none", "earlier", "current"]
"""What tables a database has: none, those of an earlier version, or those of this version."""


class Cursor(Protocol):
    """The rows that a statement has found."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""


class Transaction(Protocol):
    """Statements that take effect together, or not at all."""

    def execute(self, statement: str, parameters: Sequence[object] = (), /) -> Cursor:
        """Run a statement."""

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]], /) -> object:
        """Run a statement for each row of parameters."""


class Database(Protocol):
    """Both methods may be called from any thread, block, and raise OSError if the database fails."""

    def read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query; return its rows."""

    def change(self, work: Callable[[Transaction], T]) -> T:
        """Call ``work`` with a transaction; return what it returns when the changes survive a loss of power.

        If the transaction fails for a reason that may be over, ``work`` is called again with a new one.
        """


def check_version(found: int, known: int) -> None:
    """Check the version of a catalog's tables.

    Raises:
        OSError: it is newer than what this server knows. To start with a new catalog instead would lose all jobs.
    """
    if found > known:
        raise OSError(
            errno.EINVAL,
            f"the catalog was changed by a newer version of Creemson (version {found} of its tables; this one knows up "
            f"to {known}). Start the newer version, or restore a backup that was made before the upgrade",
        )
