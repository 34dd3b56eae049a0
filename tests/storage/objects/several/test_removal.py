"""What one server uses, no other server removes; what nobody uses goes."""

import pytest

from creemson.errors import ProcessingError
from tests.storage.objects.conftest import read
from tests.storage.objects.several.conftest import end, submit
from tests.storage.objects.test_store import LARGE


def clean(*servers):
    """Let time pass, and sweep."""
    servers[0].wait()
    for server in servers:
        server.sweep()


def test_what_one_server_does_is_seen_by_the_other_at_once(one, two):
    """Files, outputs, replaced and removed ones."""
    one.upload("a.csv", b"one")
    assert two.content("a.csv") == b"one"
    two.upload("a.csv", b"two")
    assert one.content("a.csv") == b"two"
    assert [info.size for info in one.store.listing()] == [3]
    one.output("o-1.parquet", b"out")
    assert two.store.outputs.has("o-1.parquet")
    two.store.delete("a.csv")
    with pytest.raises(ProcessingError):
        one.store.find("a.csv")
    one.backend._threads.shutdown()  # remove_output() does not wait
    two.store.outputs.remove("o-1.parquet")
    two.backend._threads.shutdown()
    assert not one.store.outputs.has("o-1.parquet")
    one.sweep()
    clean(one, two)
    assert one.objects() == {}


def test_open_download_survives_the_removal_of_its_file_at_another_server(one, two):
    """For as long as it is open, and its server lives."""
    one.upload("a.csv", LARGE)
    file = one.store.open(one.store.find("a.csv"))
    two.store.delete("a.csv")
    for _ in range(2):
        one.stores.renew()
        clean(two)
    assert read(file) == LARGE  # closes it
    one.stores.renew()
    clean(two)
    assert one.objects() == {}


def test_download_that_nobody_has_noted_yet_has_time(one, two):
    """What is removed stays for a while, so that servers can tell that they use it."""
    one.upload("a.csv", LARGE)
    file = one.store.open(one.store.find("a.csv"))
    two.store.delete("a.csv")
    two.sweep()
    assert read(file) == LARGE


def test_version_that_a_job_of_another_server_needs_stays(one, two):
    """Replaced, removed and swept by the other one, until the job ends."""
    one.upload("a.csv", b"old")
    version = one.store.look_up("a.csv").version
    assert one.store.versions.hold("a.csv", version)
    claim = submit(one, version)
    two.upload("a.csv", b"new")
    two.store.delete("a.csv")
    clean(two, one)
    two.stores.drop_unheld()
    assert one.store.versions.find("a.csv", version).identity.size == 3
    assert list(one.objects().values()) == [3]
    end(one, claim)
    assert one.store.versions.release(version)
    one.store.versions.drop(version)
    assert not two.store.versions.hold("a.csv", version)
    clean(two)
    assert one.objects() == {}


def test_job_is_submitted_or_its_version_dropped(one, two):
    """A submission locks a row of the version; whoever drops it waits for that."""
    import threading

    import psycopg

    one.upload("a.csv", b"old")
    version = one.store.look_up("a.csv").version
    two.upload("b.csv", b"x")
    with psycopg.connect(one.database) as connection:
        connection.execute("SET search_path = creemson")
        rows = connection.execute(
            "SELECT key FROM objects WHERE version = %s FOR KEY SHARE", (version,)
        ).fetchall()
        assert rows
        deleting = threading.Thread(target=lambda: two.store.delete("a.csv"))
        deleting.start()
        connection.execute(
            "INSERT INTO jobs (id, key, caller, query, timeout, kept, state, created, restarts, seq, version) "
            "VALUES ('j', 'k', 'ann', '{}', 1, false, 'queued', 1, 0, 0, %s)",
            (version,),
        )
        connection.commit()
    deleting.join()
    assert one.store.versions.find("a.csv", version).version == version


def test_output_of_a_living_server_stays_while_it_is_written(one, two):
    """Though no row names it; others find it in their listing."""
    target = one.store.outputs.begin("o-1.parquet")
    one.write_output(target, b"out")
    two.list_again()
    two.sweep()
    one.stores.renew()
    clean(two)
    one.store.outputs.publish("o-1.parquet", target)
    clean(two)
    assert two.content("o-1.parquet") == b"out"


def test_server_that_was_away_for_too_long_publishes_no_output(one, two):
    """Others may have removed what it had written; what it begins later is published."""
    target = one.store.outputs.begin("o-1.parquet")
    one.write_output(target, b"out")
    part = one.store.uploads.begin_unannounced("a.csv", least=0)
    one.store.uploads.write(part, b"abc")
    two.list_again()
    two.sweep()
    one.vanish()
    clean(two)
    assert one.objects() == {}
    one.write_output(target, b"out")  # the worker wakes up, too
    one.stores.renew()
    for attempt in (
        lambda: one.store.outputs.publish("o-1.parquet", target),
        lambda: one.store.uploads.finish(part, None),
    ):
        with pytest.raises(ProcessingError) as caught:
            attempt()
        assert caught.value.reason == "worker_died"
    one.store.outputs.discard(target)
    one.sweep()
    assert one.objects() == {}
    one.output("o-1.parquet", b"again")
    assert two.content("o-1.parquet") == b"again"


def test_objects_that_nobody_knows_are_removed(one, two):
    """What a server left that was killed: by any other, after a listing and some time."""
    one.upload("a.csv", b"a")
    for name in ("files/0123/000000", "outputs/0123/output.parquet", "probe/0123/object"):
        one.bucket.put(name, b"left")
    two.list_again()
    two.sweep()
    assert len(one.objects()) == 4
    clean(two, one)
    assert list(one.objects().values()) == [1]
    assert one.catalog.objects.leases.removable() == []


def test_all_objects_are_listed_by_one_server_an_hour(one, two, monkeypatch):
    """Each listing is paid for."""
    listings = []
    for server in (one, two):
        sizes = server.backend._bucket.sizes
        monkeypatch.setattr(
            server.backend._bucket,
            "sizes",
            lambda beginning="", sizes=sizes: listings.append(beginning) or sizes(beginning),
        )
    one.list_again()
    for server in (one, two, one):
        server.sweep()
    assert listings == [""]


def test_store_that_was_renewed_too_late_is_replaced(one, two):
    """What its server reads is listed again."""
    one.upload("a.csv", LARGE)
    file = one.store.open(one.store.find("a.csv"))
    one.stores.renew()
    one.vanish()
    two.sweep()
    assert two.garbage.written() == set()
    one.stores.renew()
    assert two.garbage.written() == {str(file.path)}
    two.store.delete("a.csv")
    clean(two)
    assert read(file) == LARGE


def test_use_at_another_server_counts(one, two):
    """A file does not expire there, though the use was not yet recorded."""
    one.upload("a.csv", b"a")
    one.now = two.now = one.now + 100
    one.store.find("a.csv")
    one.stores.renew()
    two.sweep(keep_uploads=50)
    assert [info.filename for info in two.store.listing()] == ["a.csv"]
    two.now += 60
    two.sweep(keep_uploads=50)
    assert [info.filename for info in two.store.listing()] == [
        "a.csv"
    ]  # some seconds more than with one server
    two.now += 60
    two.sweep(keep_uploads=50)
    assert two.store.listing() == ()


def test_files_of_a_caller_whom_only_the_other_server_knows_are_swept(one, two):
    """The other server may have ended."""
    part = one.stores.of("bob").uploads.begin_unannounced("b.csv", least=0)
    one.stores.of("bob").uploads.write(part, b"b")
    one.stores.of("bob").uploads.finish(part, None)
    two.now += 1000
    two.sweep(keep_uploads=50)
    assert one.stores.of("bob").listing() == ()


def test_database_that_has_just_started_lets_no_store_expire(one, two, monkeypatch):
    """While it was away, nobody could renew one."""
    target = one.store.outputs.begin("o-1.parquet")
    one.write_output(target, b"out")
    two.list_again()
    two.sweep()
    one.vanish()
    monkeypatch.setattr("creemson.catalog.shared.leases.RESTART_TIME", 1e6)
    clean(two)
    one.stores.renew()
    one.store.outputs.publish("o-1.parquet", target)
    monkeypatch.setattr("creemson.catalog.shared.leases.RESTART_TIME", 0.0)
    clean(two)
    assert two.content("o-1.parquet") == b"out"


def test_jobs_that_are_submitted_while_files_are_replaced_have_their_versions(one, two):
    """Each job that was accepted finds its bytes, in whatever order the servers do that."""
    import threading

    import psycopg

    ended = threading.Event()

    def replace():
        number = 0
        while not ended.is_set():
            two.upload("a.csv", b"%d" % (number % 3))
            number += 1

    one.upload("a.csv", b"0")
    replacing = threading.Thread(target=replace)
    replacing.start()
    accepted = []
    try:
        with psycopg.connect(one.database, autocommit=True) as connection:
            connection.execute("SET search_path = creemson")
            for number in range(60):
                version = one.store.look_up("a.csv").version
                with connection.transaction():
                    locked = connection.execute(
                        "SELECT key FROM objects WHERE caller = 'ann' AND version = %s LIMIT 1 FOR KEY SHARE",
                        (version,),
                    ).fetchall()
                    if locked:
                        connection.execute(
                            "INSERT INTO jobs (id, key, caller, query, timeout, kept, state, created, restarts, seq, "
                            "version) VALUES (%s, 'k', 'ann', '{}', 1, false, 'queued', 1, 0, 0, %s)",
                            (str(number), version),
                        )
                if locked:
                    accepted.append((str(number), version))
                for _, earlier in accepted[-5:]:
                    assert one.store.versions.find("a.csv", earlier).version == earlier
                for job, earlier in accepted[:-5]:
                    connection.execute("DELETE FROM jobs WHERE id = %s", (job,))
                    two.store.versions.drop(earlier)
                del accepted[:-5]
    finally:
        ended.set()
        replacing.join()


def test_sweeps_of_several_servers_at_once_do_no_harm(make):
    """All remove the same."""
    from concurrent.futures import ThreadPoolExecutor

    servers = [make() for _ in range(3)]
    for number in range(10):
        servers[0].upload(f"{number}.csv", b"x" * (number + 1))
        servers[0].bucket.put(f"files/left{number}/000000", b"left")
    for number in range(5):
        servers[1].store.delete(f"{number}.csv")
    servers[0].list_again()
    for _ in range(2):
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda server: server.sweep(), servers))
        servers[0].wait()
    assert sorted(servers[0].objects().values()) == [6, 7, 8, 9, 10]
