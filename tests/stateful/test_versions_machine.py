"""Held versions under any sequence of changes: their bytes stay readable, and nothing else stays."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.model.identity import identity_of
from creemson.storage.folder.files import Files
from creemson.storage.folder.store import FolderStore
from creemson.storage.versions import digest_version
from tests.examples import examples_of
from tests.stored import usage

NAMES = st.sampled_from(["a.csv", "b.csv"])
CONTENTS = st.sampled_from([b"1\n", b"2\n", b"3\n", b"longer\n"])
QUOTA = 10**6


@attrs.define
class Held:
    """What a job holds."""

    name: str
    version: str
    content: bytes
    by_hand: bool = False  # somebody has replaced or removed the file without the server


class VersionsMachine(RuleBasedStateMachine):
    """Drives one store as uploads, jobs, an operator and restarts do."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.files = Files(self.root / "data")
        self.now = 2e9
        self.held: list[Held] = []
        self.backups = self.asides = 0
        self.parts = []
        self.catalog = None
        self.start()

    def start(self):
        self.files.prepare()
        if self.catalog is not None:
            self.catalog.close()
        self.catalog = SqliteCatalog(self.files.root / "catalog.db")
        self.catalog.open()
        self.store = FolderStore(self.files, self.catalog, caller="ann", quota=QUOTA, clock=lambda: self.now)

    def teardown(self):
        self.catalog.close()
        self.folder.cleanup()

    def path(self, name):
        return self.files.uploads / name

    # --- the server's changes ----------------------------------------------------------------------

    @rule(name=NAMES, content=CONTENTS)
    def upload(self, name, content):
        part = self.store.uploads.begin_unannounced(name, least=1)
        self.store.uploads.write(part, content)
        self.store.uploads.finish(part, None)
        self.parts.append(part)

    @rule(name=NAMES)
    def delete(self, name):
        if self.path(name).exists():
            self.store.delete(name)

    @precondition(lambda self: self.parts)
    @rule(data=st.data())
    def take_back(self, data):
        part = self.parts.pop(data.draw(st.integers(0, len(self.parts) - 1)))
        # Not by the inode alone: that of a deleted file may be used again.
        present = part.target.exists() and identity_of(part.target.stat()) == identity_of(part.published)
        before = part.target.read_bytes() if part.target.exists() else None
        self.store.uploads.take_back(part)
        assert part.target.exists() == (before is not None and not present)

    @rule()
    def sweep(self):
        self.store.sweep(keep_uploads=1, keep_outputs=1, keep_parts=1, now=9e9)
        assert list(self.files.uploads.iterdir()) == []

    # --- jobs --------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def accept(self, name):
        if self.path(name).exists():
            version = self.store.look_up(name).version
            assert self.store.versions.hold(name, version)
            self.held.append(Held(name, version, self.path(name).read_bytes()))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data):
        ended = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if self.store.versions.release(ended.version):
            self.store.versions.drop(ended.version)

    @rule(name=NAMES, content=CONTENTS)
    def accept_what_is_gone(self, name, content):
        """Nothing is held then."""
        if self.path(name).exists() and not self.held:
            version = self.store.look_up(name).version
            self.store.delete(name)
            assert not self.store.versions.hold(name, version)

    # --- what happens outside ----------------------------------------------------------------------

    @rule(name=NAMES, content=CONTENTS)
    def replace_by_hand(self, name, content):
        self.asides += 1
        aside = self.root / f"aside-{self.asides}"
        aside.write_bytes(content)
        os.utime(aside, ns=(self.asides, self.asides))
        aside.replace(self.path(name))
        self.lose(name)

    @rule(name=NAMES)
    def remove_by_hand(self, name):
        self.path(name).unlink(missing_ok=True)
        self.lose(name)

    def lose(self, name):
        for held in self.held:
            held.by_hand |= held.name == name

    @rule()
    def back_up(self):
        """By hard links, as with ``cp -al``."""
        self.backups += 1
        shutil.copytree(self.files.root, self.root / f"backup-{self.backups}", copy_function=os.link)

    @rule(copied=st.booleans())
    def restart(self, copied):
        """The jobs come from the catalog; perhaps the data folder was copied by ``cp -a``."""
        if copied and not any(held.version.startswith("stat:") for held in self.held):
            shutil.copytree(self.files.root, self.root / "copy")
            shutil.rmtree(self.files.root)
            (self.root / "copy").rename(self.files.root)
        self.start()
        self.parts.clear()
        for held in list(self.held):
            if not self.store.versions.hold(held.name, held.version):
                assert held.by_hand
                self.held.remove(held)
        self.store.versions.drop_unheld()

    # --- what must hold ----------------------------------------------------------------------------

    @invariant()
    def held_bytes_are_readable(self):
        for held in self.held:
            try:
                found = self.store.versions.find(held.name, held.version)
            except ProcessingError as error:
                assert error.reason == "file_changed"
                assert held.by_hand
            else:
                assert Path(found.path).read_bytes() == held.content
                assert found.version == held.version

    @invariant()
    def nothing_else_is_kept(self):
        kept = {path.name.replace("-", ":", 1) for path in self.files.kept.iterdir()}
        assert kept <= {held.version for held in self.held}

    @invariant()
    def usage_is_right(self):
        self.store._recount()  # counts what was changed by hand
        folders = (self.files.uploads, self.files.kept)
        assert usage(self.store) == sum(
            path.stat().st_size for folder in folders for path in folder.iterdir()
        )
        counted = dict(self.store.quota._sizes)
        assert all((self.files.root / key).exists() for key in counted)


TestVersions = VersionsMachine.TestCase
TestVersions.settings = settings(max_examples=examples_of(60), stateful_step_count=40, deadline=None)


def test_held_file_without_hard_links_is_lost_without_harm(tmp_path, monkeypatch):
    """A file system may have none: the upload succeeds, the job ends in `file_changed`."""
    files = Files(tmp_path)
    files.prepare()
    catalog = SqliteCatalog(tmp_path / "catalog.db")
    catalog.open()
    store = FolderStore(files, catalog, caller="ann", quota=0, clock=lambda: 0.0)
    for content in (b"1\n", b"2\n"):
        part = store.uploads.begin_unannounced("a.csv", least=1)
        store.uploads.write(part, content)
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "no links")))
            store.uploads.finish(part, None)
        if content == b"1\n":
            version = store.look_up("a.csv").version
            assert store.versions.hold("a.csv", version)
    with pytest.raises(ProcessingError) as caught:
        store.versions.find("a.csv", version)
    assert caught.value.reason == "file_changed"
    assert not store.versions.release(version)
    catalog.close()


@pytest.mark.parametrize("change", ["upload", "delete", "sweep", "take_back"])
@pytest.mark.parametrize("restarted", [False, True])
def test_held_bytes_stay_until_the_last_holder_ends(change, restarted):
    """Whatever the server does to the file."""
    machine = VersionsMachine()
    machine.upload("a.csv", b"1\n")
    for _ in range(2):
        machine.accept("a.csv")
    if change == "take_back":
        machine.store.uploads.take_back(machine.parts[0])
    elif change == "sweep":
        machine.sweep()
    else:
        getattr(machine, change)("a.csv", *[b"2\n"][: change == "upload"])
    if restarted:
        machine.restart(copied=False)
    for holders in (2, 1, 0):
        machine.held_bytes_are_readable()
        machine.nothing_else_is_kept()
        machine.usage_is_right()
        assert len(list(machine.files.kept.iterdir())) == (holders > 0)
        if holders and machine.store.versions.release(machine.held.pop().version):
            machine.store.versions.drop(digest_version(hashlib.sha256(b"1\n").hexdigest()))
    machine.teardown()


def test_kept_bytes_of_ended_jobs_are_removed_at_the_next_start():
    """The server was killed before it removed them."""
    machine = VersionsMachine()
    machine.upload("a.csv", b"1\n")
    machine.accept("a.csv")
    machine.upload("a.csv", b"2\n")
    machine.held.clear()
    machine.restart(copied=True)
    assert list(machine.files.kept.iterdir()) == []
    machine.teardown()
