"""Object stores for the tests of this folder."""

import pytest

from creemson.catalog.sqlite import SqliteCatalog
from creemson.storage.objects import stores
from creemson.storage.objects.bucket import ObjectBucket
from creemson.storage.objects.stores import ObjectStores
from creemson.storage.stores import Stores


@pytest.fixture
def endpoint(object_store):
    """An object store."""
    return object_store


@pytest.fixture
def url(endpoint, monkeypatch):
    """The URL of a new bucket, with the environment that leads to it."""
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    return endpoint.bucket()


PIECE = 64 * 1024


class World:
    """The stores in an object store, and a clock."""

    def __init__(self, folder, url, *, quota=0):
        self.folder, self.url, self.quota = folder, url, quota
        self.now = 1e9
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self, *, holding=()):
        """Begin, as a server does; ``holding`` are names and versions that unfinished jobs need."""
        self.catalog = self.make_catalog()
        self.catalog.open()
        self.backend = self.make_backend()
        self.stores = Stores(
            self.folder, self.catalog, quota=self.quota, clock=lambda: self.now, backend=self.backend
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                stores, "probe", lambda *_, **__: None
            )  # it has tests of its own, and takes ten requests
            self.stores.prepare()
        self.store = self.stores.of("ann")
        for name, version in holding:
            assert self.store.versions.hold(name, version)
        self.stores.drop_unheld()
        self.bucket = ObjectBucket(self.url)

    def make_catalog(self):
        return SqliteCatalog(self.folder / "catalog.db")

    def make_backend(self):
        return ObjectStores(self.url, self.catalog, clock=lambda: self.now, piece=PIECE)

    def restart(self, **options):
        """Begin again, as after a crash: nothing was closed."""
        self.catalog.close()
        self.start(**options)

    def upload(self, name, data, **options):
        part = self.store.uploads.begin(
            name, size=len(data), sha256=None, **{"overwrite": True, "resume": False, **options}
        )
        for start in range(0, len(data), 10_000):
            self.store.uploads.write(part, data[start : start + 10_000])
        self.store.uploads.finish(part, None)
        return part

    def output(self, name, data=b"output", **companions):
        """Write an output, as a worker does."""
        target = self.store.outputs.begin(name)
        self.write_output(target, data, **companions)
        self.store.outputs.publish(name, target)
        return target

    def write_output(self, target, data, **companions):
        from creemson.storage.objects.address import Address

        key = Address.parse(target).path.removeprefix(self.bucket.prefix)
        self.bucket.put(key, data)
        for suffix, content in companions.items():
            self.bucket.put(f"{key.rpartition('/')[0]}/output.{suffix.replace('_', '.')}", content)

    def content(self, name):
        return read(self.store.open(self.store.find(name)))

    def sweep(self, **keep):
        keep = {"keep_uploads": 1e6, "keep_outputs": 1e6, "keep_parts": 1e6, **keep}
        return self.stores.sweep(now=self.now, **keep)

    def objects(self):
        """All objects but that with the owner."""
        return {name: size for name, size in self.bucket.sizes() if name != "creemson-owner"}


def read(file):
    with file.stream as stream:
        data = b""
        while piece := stream.read_at(len(data), 2**20):
            data += piece
        return data


@pytest.fixture
def world(tmp_path, url):
    world = World(tmp_path / "data", url)
    yield world
    world.catalog.close()
