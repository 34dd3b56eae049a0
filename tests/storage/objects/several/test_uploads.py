"""Uploads that go on at another server: one server writes, and a file has the bytes of one upload."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from creemson.errors import ProcessingError
from tests.storage.objects.conftest import PIECE
from tests.storage.objects.several.conftest import Server
from tests.storage.objects.test_store import LARGE, digest

OTHER = LARGE[::-1]


def begin(server, data=LARGE, **options):
    options = {"sha256": digest(data), "overwrite": True, "resume": True, **options}
    return server.store.uploads.begin("a.csv", size=len(data), **options)


def send(server, part, data=LARGE, upto=None):
    for start in range(part.size, upto or len(data), 8192):
        server.store.uploads.write(part, data[start : min(start + 8192, upto or len(data))])


def is_refused(attempt, reason="cancelled"):
    with pytest.raises(ProcessingError) as caught:
        attempt()
    assert caught.value.reason == reason
    return caught.value.message


def test_upload_goes_on_at_the_other_server(one, two):
    """With at most one piece sent again; the digest covers what the first server has got."""
    part = begin(one)
    send(one, part, upto=PIECE + 20_000)
    again = begin(two)
    assert again.size == PIECE
    send(two, again)
    assert two.store.uploads.finish(again, digest(LARGE)) == digest(LARGE)
    assert one.content("a.csv") == two.content("a.csv") == LARGE


@pytest.mark.parametrize("how", ["write", "sync", "save", "discard"])
def test_server_that_lost_an_upload_writes_nothing(one, two, how):
    """It is told so at its next step, and leaves the other one alone."""
    part = begin(one)
    send(one, part, upto=PIECE + 20_000)
    again = begin(two)
    send(two, again, upto=PIECE + 30_000)
    if how == "write":
        message = is_refused(lambda: send(one, part, upto=2 * PIECE + 1))
        assert message == "Another connection has taken over the upload of 'a.csv'."
        one.store.uploads.discard(part)
    elif how == "sync":
        is_refused(lambda: one.store.uploads.sync(part))
        one.store.uploads.discard(part)
    else:
        getattr(one.store.uploads, how)(part)
    one.sweep()
    assert one.store.listing() == ()
    send(two, again)
    two.store.uploads.finish(again, digest(LARGE))
    one.sweep()
    one.list_again()
    two.sweep()
    one.wait()
    two.sweep()
    assert one.content("a.csv") == LARGE
    assert sum(one.objects().values()) == len(LARGE)


def test_upload_comes_back_to_the_first_server(one, two):
    """It must not go on with the digest of what it has written itself."""
    part = begin(one)
    send(one, part, upto=PIECE + 5)
    one.store.uploads.save(part)
    again = begin(two)
    assert again.size == PIECE + 5
    send(two, again, upto=2 * PIECE + 7)
    two.store.uploads.save(again)
    last = begin(one)
    assert last.size == 2 * PIECE + 7
    send(one, last)
    one.store.uploads.finish(last, digest(LARGE))
    assert two.content("a.csv") == LARGE


@pytest.mark.parametrize("late", ["before", "after"])
def test_bytes_of_two_uploads_never_mix(one, two, late):
    """Whatever they announce: a piece that the first server writes late is never taken for one of the second."""
    lie = {"sha256": None, "fingerprint": "the same"}
    part = begin(one, LARGE, **lie)
    send(one, part, LARGE, upto=PIECE)
    again = begin(two, OTHER, **lie)
    assert again.size == PIECE
    data = LARGE[:PIECE] + OTHER[PIECE:]
    if late == "before":
        is_refused(lambda: send(one, part, LARGE))
        is_refused(lambda: send(two, again, data), "checksum_mismatch")
        two.store.uploads.discard(again)
        again = begin(two, OTHER, **lie)
        assert again.size == 0
        data = OTHER
        send(two, again, data)
    else:
        send(two, again, data)
        with pytest.raises(ProcessingError):
            send(one, part, LARGE)
    one.store.uploads.discard(part)
    two.store.uploads.finish(again, digest(data))
    one.sweep()
    assert one.content("a.csv") == data


def test_other_content_of_the_same_name_begins_anew(one, two):
    """The first server learns that its upload is gone."""
    part = begin(one)
    send(one, part, upto=PIECE + 5)
    again = begin(two, OTHER)
    assert again.size == 0
    is_refused(lambda: send(one, part))
    one.store.uploads.discard(part)
    send(two, again, OTHER)
    two.store.uploads.finish(again, None)
    assert one.content("a.csv") == OTHER


def test_upload_whose_file_is_deleted_at_the_other_server_ends(one, two):
    """Its client is told why."""
    part = begin(one)
    send(one, part, upto=PIECE + 5)
    two.store.delete("a.csv")
    assert "was deleted during its upload" in is_refused(lambda: send(one, part))
    one.store.uploads.discard(part)
    assert one.catalog.objects.rows() == []


def test_upload_that_was_finished_elsewhere_is_not_finished_again(one, two):
    """Nor is the file taken back by a connection that did not upload it."""
    part = begin(one)
    send(one, part)
    again = begin(two)
    send(two, again)
    two.store.uploads.finish(again, None)
    is_refused(lambda: one.store.uploads.finish(part, None))
    one.store.uploads.take_back(part)
    one.sweep()
    assert one.content("a.csv") == LARGE


def test_open_upload_of_another_server_is_not_swept(one, two):
    """Even if its client has been silent for long; after its server has vanished, it is."""
    part = begin(one)
    send(one, part, upto=PIECE + 5)
    one.stores.renew()
    two.now += 10_000
    two.sweep(keep_parts=10)
    send(one, part)
    assert len(one.catalog.objects.rows()) == 1
    one.vanish()
    for _ in range(2):  # the first one notices at its end that the server has vanished
        two.sweep(keep_parts=10)
    assert one.catalog.objects.rows() == []
    is_refused(lambda: one.store.uploads.finish(part, None))


def test_same_name_at_two_servers_is_taken_once(make):
    """Of several different files, one wins, whole; the others are refused if they may not replace it."""
    servers = [make() for _ in range(3)]
    for _ in range(5):
        parts = []
        for number, server in enumerate(servers):
            part = server.store.uploads.begin_unannounced("a.csv", least=0)
            part.overwrite = False
            server.store.uploads.write(part, bytes([number]) * 100)
            parts.append((server, part))
        with ThreadPoolExecutor(3) as threads:
            ended = list(threads.map(_finish, *zip(*parts, strict=True)))
        assert sorted(ended) == ["done", "file_exists", "file_exists"]
        content = servers[0].content("a.csv")
        assert content == bytes([ended.index("done")]) * 100
        assert [server.content("a.csv") for server in servers] == [content] * 3
        servers[1].store.delete("a.csv")


def _finish(server: Server, part):
    try:
        server.store.uploads.finish(part, None)
    except ProcessingError as error:
        return error.reason
    return "done"


def test_many_takeovers_at_once_leave_one_writer(make):
    """Whoever has begun last; the file is right."""
    servers = [make() for _ in range(3)]
    part = begin(servers[0])
    send(servers[0], part, upto=PIECE)
    with ThreadPoolExecutor(3) as threads:
        parts = list(threads.map(begin, servers))

        def run(server, part):
            try:
                send(server, part)
                server.store.uploads.finish(part, digest(LARGE))
            except ProcessingError as error:
                return error.reason
            return "done"

        ended = list(threads.map(run, servers, parts))
    assert sorted(ended) == ["cancelled", "cancelled", "done"]
    assert hashlib.sha256(servers[0].content("a.csv")).hexdigest() == digest(LARGE)
