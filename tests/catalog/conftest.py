"""An open catalog in each kind of database."""

import contextlib

import pytest

from creemson.catalog.postgres import PostgresCatalog
from creemson.catalog.sqlite import SqliteCatalog
from tests.databases import PATIENCE


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a busy machine, the database may take long to notice that a catalog was closed."""
    monkeypatch.setattr("creemson.catalog.postgres.OWNER_TIMEOUT", PATIENCE)


@pytest.fixture(params=["sqlite", "postgres"])
def make(request, tmp_path):
    """A function that returns a new catalog, which is not open, on the same database each time."""
    if request.param == "sqlite":
        return lambda: SqliteCatalog(tmp_path / "catalog.db")
    url = request.getfixturevalue("postgres_server").url()
    return lambda: PostgresCatalog(url)


@pytest.fixture
def catalog(make):
    """A catalog that is open."""
    with contextlib.closing(make()) as catalog:
        assert catalog.open() is None
        yield catalog
