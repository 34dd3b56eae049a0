"""Which database has the catalog."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from creemson.catalog.catalog import Catalog
from creemson.catalog.database import Database, Tables
from creemson.catalog.shared.sharing import Sharing
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError

if TYPE_CHECKING:
    from creemson.catalog.postgres import PostgresCatalog

__all__ = ["CATALOG_FILE", "OpenableCatalog", "choose_catalog", "rehearse"]

CATALOG_FILE = "catalog.db"
"""The name of the catalog in the data folder."""


class OpenableCatalog(Catalog, Protocol):
    """A catalog that is opened before its first use, and closed after its last."""

    @property
    def database(self) -> Database:
        """The database that has the rows."""

    def open(self) -> Path | None:
        """Open the database, and create or upgrade its tables.

        Returns:
            The path to which a damaged database was moved, which was replaced by a new one; else None.

        Raises:
            OSError: it cannot be used, or a newer version of the server has changed the tables.
        """

    def close(self) -> None:
        """Close the database; it can be opened again."""

    def sharing(self) -> Sharing | None:
        """Return what this server shares with other servers; None if no other one may use the catalog."""


def choose_catalog(
    settings: Settings, *, on_damage: Callable[[Path], None] = lambda _: None, durable: bool = True
) -> OpenableCatalog:
    """Return the catalog that the settings name, which is not open yet.

    Args:
        settings: ``catalog.url``, or else the data folder.
        on_damage: called if the database turns out to be damaged during use, with the path to which it was moved.
        durable: whether a catalog in the data folder survives a loss of power.

    Raises:
        SettingsError: the library for PostgreSQL is not installed.
    """
    url = settings.catalog.url
    if url is None:
        from creemson.catalog.sqlite import SqliteCatalog  # noqa: PLC0415 - only one of them is needed

        path = settings.storage.data_dir.absolute() / CATALOG_FILE
        return SqliteCatalog(path, on_damage=on_damage, durable=durable)
    return _postgres(settings)


def rehearse(settings: Settings) -> Tables:
    """Do what a server with ``catalog.url`` does to its database at its start, and undo it.

    Args:
        settings: ``catalog.url`` is not None.

    Returns:
        What tables the database has.

    Raises:
        SettingsError: the library for PostgreSQL is not installed.
        OSError: the server would not start.
    """
    with contextlib.closing(_postgres(settings)) as catalog:
        return catalog.rehearse()


def _postgres(settings: Settings) -> "PostgresCatalog":
    try:
        from creemson.catalog.postgres import PostgresCatalog  # noqa: PLC0415 - it needs the extra `postgres`
    except ImportError as error:  # also raised by psycopg if it finds no libpq
        raise SettingsError(
            f"catalog.url needs psycopg ({error}): pip install 'creemson[postgres]'"
        ) from None
    assert settings.catalog.url is not None
    return PostgresCatalog(settings.catalog.url, shared=settings.is_shared)
