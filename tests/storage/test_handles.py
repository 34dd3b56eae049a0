"""File handles are shared out between connections, downloads and uploads, and between callers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.model.callers import ANYONE
from creemson.storage.handles import Handles, Share, connection_share, needed_for, open_local
from creemson.storage.stores import Stores


@given(st.integers(100, 2**20))
def test_shares_leave_the_reserve(limit):
    """Connections, downloads and uploads together never take what jobs, workers and the catalog need."""
    transfers = Handles.within(limit)
    total = connection_share(limit) + transfers.downloads._size + transfers.uploads._size
    assert 0 < total <= limit - 64 + 2
    assert connection_share(needed_for(limit)) >= limit


def test_bytes_in_memory_are_ready(tmp_path):
    """All of them or none: a file that has become shorter is read by a thread, which finds its end."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    with open_local(path).stream as stream:
        room = bytearray(4)
        assert stream.ready(3, memoryview(room)) in (0, 4)  # 0 on a file system that cannot tell
        assert room in (b"3456", bytes(4))
        assert stream.ready(8, memoryview(room)) == 0
        assert stream.ready(10, memoryview(room)) == 0


def takes(share, caller, most=1000):
    """Take handles until it is refused; return how many."""
    for number in range(most):
        try:
            share.take(caller)
        except ProcessingError as error:
            assert error.reason == "busy"
            assert f"{share._held[caller]} open downloads" in error.message
            return number
    return most


def test_greedy_caller_leaves_as_much_as_it_has():
    """The next one gets half of the rest, and so on; what is given back can be taken again."""
    share = Share(100, "downloads")
    assert [takes(share, caller) for caller in ("ann", "bob", "eve")] == [50, 25, 13]
    share.give_back("ann")
    assert takes(share, "ann") == 0
    assert takes(share, "new") == 7


def test_all_callers_without_authentication_share_everything():
    """There is nobody else."""
    assert takes(Share(100, "downloads"), ANYONE) == 100
    assert takes(Share(math.inf, "downloads"), "ann", 200) == 200


def test_store_counts_open_files_and_uploads(tmp_path):
    """Until each is closed, finished, saved or discarded; a failed opening does not count."""
    catalog = SqliteCatalog(tmp_path / "catalog.db")
    catalog.open()
    handles = Handles(Share(2, "downloads"), Share(2, "uploads"))
    store = Stores(tmp_path, catalog, quota=0, clock=lambda: 0.0, handles=handles).of(ANYONE)
    for _ in range(3):
        parts = [store.uploads.begin_unannounced(name, least=0) for name in ("a", "b")]
        with pytest.raises(ProcessingError, match="uploads"):
            store.uploads.begin_unannounced("c", least=0)
        store.uploads.finish(parts[0], None)
        store.uploads.discard(parts[1])
        part = store.uploads.begin("c", size=1, sha256=None, overwrite=True, resume=True)
        store.uploads.save(part)
        path = store.find("a")
        files = [store.open(path) for _ in range(2)]
        with pytest.raises(ProcessingError, match="downloads"):
            store.open(path)
        for file in files:
            file.stream.close()
            file.stream.close()
        for _ in range(3):
            with pytest.raises(ProcessingError, match="removed"):
                store.open(path.with_name("none"))
    catalog.close()
