"""Any sequence of what two servers do with the files of one caller: all see the same, and it is right."""

import contextlib
import hashlib
import itertools
import shutil
import tempfile
from pathlib import Path

import attrs
import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from creemson.errors import ProcessingError
from tests.examples import examples_of
from tests.storage.objects.conftest import read
from tests.storage.objects.several.conftest import TABLES, Server, end, submit

QUOTA = 400
PIECE = 40
NAMES = st.sampled_from(["a.csv", "b.csv"])
SERVERS = st.integers(0, 1)
CONTENTS = st.sampled_from([b"", b"a" * 30, bytes(range(100)), bytes(range(100, 250))])


def sha(data):
    return hashlib.sha256(data).hexdigest()


@attrs.define
class Upload:
    """An unfinished upload, as the last one who has begun it sees it."""

    content: bytes
    server: int
    part: object  # None: saved
    key: str
    durable: int = 0


class Servers(RuleBasedStateMachine):
    """What should be there."""

    url: str
    database: str
    numbers = itertools.count()

    def __init__(self):
        super().__init__()
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("SET search_path = creemson")
            connection.execute(f"TRUNCATE {TABLES}")
        self.folder = Path(tempfile.mkdtemp())
        url = f"{self.url}-{next(self.numbers)}"
        self.servers = [Server(self.folder / str(n), url, self.database, quota=QUOTA) for n in range(2)]
        for server in self.servers:
            server.backend._piece = PIECE
            server.stores._stores.clear()
            server.store = server.stores.of("ann")
        self.files = {}  # by name: content
        self.uploads = {}  # by name
        self.lost = []  # uploads that another one has taken over: server, part and announced size
        self.poisoned = set()  # keys of uploads to which a server has written that had lost them
        self.jobs = []  # name, version, content, claim
        self.downloads = []  # server, file, content
        self.outputs = {}
        self.attempts = []  # server, target, name, content, whether its server has vanished since

    def teardown(self):
        try:
            self.clean()
        finally:
            for server in self.servers:
                server.close()
            shutil.rmtree(self.folder)

    def clean(self):
        """In the end, nothing is left of what nobody needs."""
        one, two = self.servers
        for _, file, content in self.downloads:
            assert read(file) == content
        for server, target, *_ in self.attempts:
            self.servers[server].store.outputs.discard(target)
        for *_, claim in self.jobs:
            end(one, claim)
        for name in self.files.keys() | self.uploads.keys():
            two.store.delete(name)
        for name in self.outputs:
            one.store.delete(name)
        for server, part, _ in self.lost:
            self.servers[server].store.uploads.discard(part)
        for upload in self.uploads.values():
            if upload.part is not None:
                self.servers[upload.server].store.uploads.discard(upload.part)
        one.list_again()
        for _ in range(3):
            for server in self.servers:
                server.sweep()
            one.wait()
        assert one.catalog.objects.rows() == []
        assert one.objects() == {}
        assert one.store.quota.left == QUOTA
        assert one.sql("SELECT count(*) FROM reservations") == [(0,)]

    # --- uploads ---

    @rule(name=NAMES, content=CONTENTS, where=SERVERS)
    def begin(self, name, content, where):
        self._begin(name, content, where)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), where=SERVERS, how=st.sampled_from(["write", "finish", "save", "discard"]))
    def take_over(self, data, where, how):
        """Whoever has written it before may still try to."""
        name = data.draw(st.sampled_from(sorted(self.uploads)))
        lost = len(self.lost)
        self._begin(name, self.uploads[name].content, where)
        if len(self.lost) > lost:
            self._use_lost(lost, how)

    def _begin(self, name, content, where):
        server = self.servers[where]
        old = self.uploads.get(name)
        try:
            part = server.store.uploads.begin(
                name, size=len(content), sha256=sha(content), overwrite=True, resume=True
            )
        except ProcessingError as error:
            assert error.reason == "storage_full"
            assert self.used() + len(content) > QUOTA
            return
        same = old is not None and old.content == content
        assert part.size == (old.durable if same else 0)
        if old is not None and old.part is not None:
            self.lost.append((old.server, old.part, len(old.content)))
        self.uploads[name] = Upload(content, where, part, part.key, part.size)

    @precondition(lambda self: any(upload.part is not None for upload in self.uploads.values()))
    @rule(data=st.data(), size=st.integers(1, 100), sync=st.booleans())
    def write(self, data, size, sync):
        name, upload = data.draw(
            st.sampled_from([(name, one) for name, one in self.uploads.items() if one.part is not None])
        )
        store, part = self.servers[upload.server].store, upload.part
        with self.began_anew_if_poisoned(name):
            upload.durable = store.uploads.write(part, upload.content[part.size : part.size + size])
            if sync:
                upload.durable = store.uploads.sync(part)
                assert upload.durable == part.size

    @contextlib.contextmanager
    def began_anew_if_poisoned(self, name):
        """An upload ends if its bytes differ from what somebody has written late."""
        upload = self.uploads[name]
        try:
            yield
        except ProcessingError as error:
            if error.reason != "checksum_mismatch":
                raise
            assert upload.key in self.poisoned
            self.servers[upload.server].store.uploads.discard(upload.part)
            del self.uploads[name]

    @precondition(lambda self: any(upload.part is not None for upload in self.uploads.values()))
    @rule(data=st.data(), how=st.sampled_from(["finish", "save", "discard"]))
    def close(self, data, how):
        names = [name for name, one in self.uploads.items() if one.part is not None]
        name = data.draw(st.sampled_from(names))
        upload = self.uploads[name]
        store, part = self.servers[upload.server].store, upload.part
        with self.began_anew_if_poisoned(name):
            if how == "save":
                store.uploads.save(part)
                upload.part, upload.durable = None, part.size
            elif how == "discard":
                store.uploads.discard(part)
                del self.uploads[name]
            else:
                self.finish(name, upload)

    def finish(self, name, upload):
        store, part = self.servers[upload.server].store, upload.part
        if part.size < len(upload.content):
            store.uploads.write(part, upload.content[part.size :])
        try:
            store.uploads.finish(part, sha(upload.content))
        except ProcessingError as error:
            if error.reason == "checksum_mismatch":
                raise
            assert error.reason == "storage_full"  # the old version is kept
            assert any(self.files.get(name) == content for _, _, content, _ in self.jobs)
        else:
            self.files[name] = upload.content
        del self.uploads[name]

    @precondition(lambda self: self.lost)
    @rule(data=st.data(), how=st.sampled_from(["write", "finish", "save", "discard"]))
    def use_lost(self, data, how):
        self._use_lost(data.draw(st.integers(0, len(self.lost) - 1)), how)

    def _use_lost(self, index, how):
        server, part, announced = self.lost[index]
        store = self.servers[server].store
        if how in ("write", "finish"):
            self.poisoned.add(part.key)
        if how in ("save", "discard"):
            del self.lost[index]
            getattr(store.uploads, how)(part)
        elif how == "write":
            with contextlib.suppress(ProcessingError):  # it notices when it has something to record
                store.uploads.write(part, b"x" * min(PIECE, announced - part.size))
        else:
            del self.lost[index]
            with pytest.raises(ProcessingError):
                store.uploads.finish(part, None)

    @precondition(lambda self: self.files or self.uploads)
    @rule(data=st.data(), where=SERVERS)
    def delete(self, data, where):
        name = data.draw(st.sampled_from(sorted(self.files.keys() | self.uploads.keys())))
        self.servers[where].store.delete(name)
        self.files.pop(name, None)
        upload = self.uploads.pop(name, None)
        if upload is not None and upload.part is not None:
            self.lost.append((upload.server, upload.part, len(upload.content)))

    # --- what uses files ---

    @precondition(lambda self: self.files)
    @rule(data=st.data(), where=SERVERS)
    def submit(self, data, where):
        name = data.draw(st.sampled_from(sorted(self.files)))
        server = self.servers[where]
        version = server.store.look_up(name).version
        assert server.store.versions.hold(name, version)
        self.jobs.append((name, version, self.files[name], submit(server, version)))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), where=SERVERS)
    def end(self, data, where):
        _, version, _, claim = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        server = self.servers[where]
        end(server, claim)
        if server.store.versions.release(version):
            server.store.versions.drop(version)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), where=SERVERS)
    def open(self, data, where):
        name = data.draw(st.sampled_from(sorted(self.files)))
        store = self.servers[where].store
        self.downloads.append((where, store.open(store.find(name)), self.files[name]))

    @precondition(lambda self: self.downloads)
    @rule(data=st.data())
    def read(self, data):
        _, file, content = self.downloads.pop(data.draw(st.integers(0, len(self.downloads) - 1)))
        assert read(file) == content

    # --- outputs ---

    @rule(where=SERVERS, name=st.sampled_from(["o-1.parquet", "o-2.parquet"]), content=CONTENTS)
    def attempt(self, where, name, content):
        server = self.servers[where]
        target = server.store.outputs.begin(name)
        server.write_output(target, content)
        self.attempts.append([where, target, name, content, False])

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def publish(self, data):
        where, target, name, content, vanished = self.attempts.pop(
            data.draw(st.integers(0, len(self.attempts) - 1))
        )
        store = self.servers[where].store
        try:
            store.outputs.publish(name, target)
        except ProcessingError as error:
            store.outputs.discard(target)
            if error.reason == "storage_full":
                assert self.used() + len(content) > QUOTA
            else:
                assert vanished
        else:
            self.outputs[name] = content

    # --- time ---

    @rule(where=SERVERS, listing=st.booleans())
    def sweep(self, where, listing):
        if listing:
            self.servers[where].list_again()
        self.servers[where].sweep()

    @rule(renewing=st.sampled_from([(0, 1), (0,), (1,)]))
    def wait(self, renewing):
        """A minute passes, in which all servers renew their stores, or one is stopped."""
        for where in renewing:
            self.servers[where].stores.renew()
        for where in {0, 1} - set(renewing):
            self.servers[where].vanish()
            for attempt in self.attempts:
                attempt[4] = attempt[4] or attempt[0] == where
            for download in [one for one in self.downloads if one[0] == where]:
                self.downloads.remove(download)  # it may break
                download[1].stream.close()
        self.servers[0].wait()
        for where in renewing:
            self.servers[where].sweep()
        for server in self.servers:
            server.stores.renew()

    # --- what holds ---

    def used(self):
        """All that has a row, also bytes that are kept for several jobs."""
        (stored,) = self.servers[0].sql("SELECT coalesce(sum(size), 0) FROM objects")[0]
        credit = sum(
            min(len(upload.content), len(self.files.get(name, b""))) for name, upload in self.uploads.items()
        )
        return stored - credit

    @invariant()
    def all_servers_see_what_is_there(self):
        for server in self.servers:
            assert {info.filename: info.sha256 for info in server.store.listing()} == {
                name: sha(content) for name, content in self.files.items()
            }
            for name, content in (self.files | self.outputs).items():
                assert server.content(name) == content
            for name, version, content, _ in self.jobs:
                assert server.store.versions.find(name, version).identity.size == len(content)

    @invariant()
    def quota_is_kept(self):
        assert {server.store.quota.left for server in self.servers} == {QUOTA - self.used()}


@pytest.mark.slow
def test_servers_agree_after_any_sequence(url, database):
    """Uploads that are taken over, files that are replaced while jobs and downloads need them, servers that stop."""
    machine = type("Machine", (Servers,), {"url": url, "database": database})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples_of(40), stateful_step_count=40)
    )
