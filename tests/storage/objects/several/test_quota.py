"""The quota of a caller is exact over all servers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from creemson.catalog.shared.usage import lock, used_bytes
from creemson.errors import ProcessingError
from tests.servers import PATIENCE, wait_until
from tests.storage.objects.several.conftest import end, submit
from tests.storage.objects.test_store import refused

QUOTA = 100


@pytest.fixture
def pair(make):
    return make(quota=QUOTA), make(quota=QUOTA)


def test_files_uploads_and_outputs_count_at_all_servers(pair):
    """And give the room back."""
    one, two = pair
    one.upload("a.csv", bytes(60))
    assert two.store.quota.left == 40
    assert refused(lambda: two.upload("b.csv", bytes(41)))
    two.output("o-1.parquet", bytes(30))
    assert one.store.quota.left == 10
    part = one.store.uploads.begin("c.csv", size=10, sha256=None, overwrite=True, resume=False)
    assert two.store.quota.left == 0
    assert refused(two.store.quota.check)
    one.store.uploads.discard(part)
    two.upload("a.csv", bytes(70))  # replaces one of 60
    assert one.store.quota.left == 0
    one.store.delete("a.csv")
    assert two.store.quota.left == 70
    assert refused(lambda: two.output("o-2.parquet", bytes(71)))
    assert two.store.quota.left == 70
    two.output("o-1.parquet", bytes(100))  # replaces one of 30
    assert one.store.quota.left == 0


def test_upload_of_unknown_size_counts_as_it_comes(pair):
    """What a server had that vanished counts no more."""
    one, two = pair
    part = one.store.uploads.begin_unannounced("a.csv", least=10)
    one.store.uploads.write(part, bytes(60))
    assert two.store.quota.left == 40
    assert refused(lambda: two.upload("b.csv", bytes(41)))
    assert refused(lambda: one.store.uploads.write(part, bytes(41)))
    one.vanish()
    two.sweep()
    assert two.store.quota.left == 100
    with pytest.raises(ProcessingError):
        one.store.uploads.write(part, bytes(30))
    one.stores.renew()
    one.store.uploads.discard(part)
    part = one.store.uploads.begin_unannounced("a.csv", least=100)
    one.store.uploads.write(part, bytes(30))
    one.store.uploads.settle(part)
    assert two.store.quota.left == 70
    one.store.uploads.finish(part, None)
    assert two.store.quota.left == 70


def test_upload_replaces_a_file_of_the_same_size_under_a_full_quota(pair):
    """One of the two counts; nobody else gets the room."""
    one, two = pair
    one.upload("a.csv", bytes(100))
    part = two.store.uploads.begin("a.csv", size=100, sha256=None, overwrite=True, resume=False)
    assert one.store.quota.left == 0
    assert refused(lambda: one.upload("b.csv", bytes(1)))
    two.store.uploads.write(part, b"1" * 100)
    two.store.uploads.finish(part, None)
    assert one.store.quota.left == 0
    assert one.content("a.csv") == b"1" * 100


def test_upload_in_place_of_an_unfinished_one_fits(pair):
    """Also one at another server."""
    one, two = pair
    part = one.store.uploads.begin("a.csv", size=80, sha256=None, overwrite=True, resume=False)
    one.store.uploads.save(part)
    two.upload("a.csv", bytes(90))
    assert one.store.quota.left == 10


def test_kept_bytes_count_until_they_go(pair):
    """A job cannot be used to store more than is allowed."""
    one, two = pair
    one.upload("a.csv", bytes(40))
    version = one.store.look_up("a.csv").version
    claim = submit(one, version)
    assert refused(lambda: two.upload("a.csv", bytes(61)))
    assert two.content("a.csv") == bytes(40)
    two.upload("a.csv", b"1" * 50)
    assert one.store.quota.left == 10
    end(one, claim)
    two.store.versions.drop(version)
    assert one.store.quota.left == 50


def test_quota_is_never_exceeded_by_uploads_and_outputs_at_once(make):
    """And all of it can be used: as many get room as fit."""
    servers = [make(quota=QUOTA) for _ in range(3)]

    def store(number):
        server = servers[number % 3]
        try:
            if number % 2:
                server.upload(f"{number}.csv", bytes(30))
            else:
                server.output(f"o-{number}.parquet", bytes(30))
        except ProcessingError as error:
            assert error.reason == "storage_full"
            return 0
        return 1

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(store, range(12))) == 3
    assert [server.store.quota.left for server in servers] == [10] * 3
    assert servers[0].sql("SELECT count(*) FROM reservations") == [(0,)]


def test_without_a_quota_nothing_is_counted(one):
    """No statement more."""
    part = one.store.uploads.begin_unannounced("a.csv", least=10)
    one.store.uploads.write(part, bytes(60))
    assert one.sql("SELECT count(*) FROM reservations") == [(0,)]
    assert one.store.quota.left is None
    one.store.uploads.finish(part, None)


@pytest.mark.slow
def test_server_that_is_stopped_in_a_transaction_keeps_nobody_waiting_for_long(pair):
    """The database ends its session after five seconds; when it wakes up, it begins anew."""
    one, two = pair
    attempts, woken = [], threading.Event()

    def work(transaction):
        lock(transaction, "ann")
        attempts.append(transaction)
        woken.wait(PATIENCE)  # a stopped process
        return used_bytes(transaction, "ann")

    with ThreadPoolExecutor(1) as threads:
        stopped = threads.submit(one.catalog.database.change, work)
        wait_until(lambda: attempts)
        two.upload("a.csv", bytes(60))
        woken.set()
        assert stopped.result(PATIENCE) == 60
    assert len(attempts) == 2
