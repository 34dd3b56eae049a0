"""Columnar copies: each server has its own, and all know what they have shown."""

from creemson.storage.tables.tables import TableKey


def make(server, key):
    tables = server.stores.tables
    with tables.making(key) as path:
        (server.folder / path).mkdir(parents=True)
        assert tables.add(key, rows=7, size=4)


def test_copies_of_one_server_are_left_alone_by_the_other(one, two):
    """Same file, same names; both start, sweep and remove their own. The number of rows is known to both."""
    one.upload("a.csv", b"a\n")
    key = TableKey("ann", one.store.look_up("a.csv").version, "")
    one.stores.tables.open("reader", None)
    make(one, key)
    two.stores.tables.open("reader", None)
    two.sweep()
    assert two.stores.tables.find(key) is None
    assert one.stores.tables.find(key) is not None
    for server in (one, two):
        assert [(info.imported, info.rows) for info in server.store.listing()] == [(True, 7)]
    make(two, key)
    two.stores.tables.forget("ann", {key.version})
    one.sweep()
    assert one.stores.tables.find(key) is not None
    assert one.store.listing()[0].rows == 7
    two.store.delete("a.csv")
    one.sweep()
    assert one.stores.tables.find(key) is None
    one.list_again()
    one.sweep()
    assert one.catalog.tables() == []


def test_copies_do_not_survive_their_server(one):
    """Its data folder is scratch."""
    one.upload("a.csv", b"a\n")
    key = TableKey("ann", one.store.look_up("a.csv").version, "")
    one.stores.tables.open("reader", None)
    make(one, key)
    one.restart()
    one.stores.tables.open("reader", None)
    assert one.stores.tables.find(key) is None
    assert list((one.folder / "tables").iterdir()) == []
    make(one, key)
    assert one.stores.tables.find(key) is not None
