"""The actor that makes copies of files, with a scripted worker."""

import pytest
import structlog
import trio

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.executors.executor import TransientFault
from creemson.jobs.work.imports import MIN_BYTES, Imports
from creemson.metrics import Metrics
from creemson.model.query import Options
from creemson.storage.stores import Stores


class World:
    """Imports with a large file of `ann`, and a worker that follows a script."""

    def __init__(self, folder):
        self.catalog = SqliteCatalog(folder / "catalog.db")
        self.catalog.open()
        self.stores = Stores(folder, self.catalog, quota=0, clock=lambda: 0.0)
        self.folder = folder / "tables"
        self.logs = structlog.testing.CapturingLogger()
        self.metrics = Metrics()
        self.todo, self.commands = [], []
        self.upload()
        self.imports = Imports(
            stores=self.stores, workers=self, timeout=60.0, metrics=self.metrics, in_thread=self.at_once,
            logger=structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]),
        )  # fmt: skip

    def upload(self, name="a.csv", size=MIN_BYTES):
        (self.stores.of("ann")._files.uploads / name).write_bytes(b"1" * size)

    async def at_once(self, function, *args):
        await trio.lowlevel.checkpoint()
        return function(*args)

    async def call(self, command):
        self.commands.append(command)
        what = self.todo.pop(0)
        if isinstance(what, Exception):
            raise what
        if what is None:
            return None
        path = self.folder / command["target"].rpartition("/")[2]
        path.mkdir()
        if what == "hang":
            await trio.sleep_forever()
        return {"rows": 3, "bytes": 10}

    def use(self, name="a.csv", options=None):
        found = self.stores.of("ann").look_up(name)
        return self.imports.copy_of("ann", name, found, options)

    def names(self):
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
async def world(tmp_path, nursery):
    found = World(tmp_path)
    await found.imports.open("1", None)
    nursery.start_soon(found.imports.run)
    yield found
    found.catalog.close()


async def test_copy_is_made_and_found(autojump_clock, world):
    """The first uses read the file."""
    world.todo = ["copy"]
    assert world.use() is None
    await trio.sleep(10)
    assert world.use() == world.commands[0]["target"]
    assert world.metrics.imports == {"done": 1}


@pytest.mark.parametrize(
    ("what", "how"),
    [
        (None, "refused"),
        (ProcessingError("unreadable_file", "bad"), "failed"),
        (ProcessingError("worker_died", "dead"), "failed"),
        (TransientFault(ProcessingError("storage_full", "full")), "failed"),
        (OSError(28, "full"), "failed"),
        (ZeroDivisionError(), "failed"),
    ],
)
async def test_import_that_fails_is_not_tried_again(autojump_clock, world, what, how):
    """Nobody notices it."""
    world.todo = [what]
    for _ in range(3):
        assert world.use() is None
        await trio.sleep(10)
    assert world.metrics.imports == {how: 1}
    assert world.names() == []


async def test_import_is_stopped_by_a_job_and_tried_again(autojump_clock, world):
    """What the worker has left is removed before."""
    world.todo = ["hang", "copy"]
    world.use()
    await trio.sleep(10)
    world.imports.jobs_changed(running=True, has_room=True)
    await trio.sleep(10)
    assert world.metrics.imports == {"stopped": 1}
    world.imports.jobs_changed(running=False, has_room=True)
    await trio.sleep(10)
    assert world.metrics.imports == {"stopped": 1, "done": 1}
    assert world.use() == world.commands[1]["target"]


async def test_import_that_takes_too_long_is_given_up(autojump_clock, world):
    """It would keep a worker for ever."""
    world.todo = ["hang"]
    world.use()
    await trio.sleep(1000)
    assert world.metrics.imports == {"failed": 1}


async def test_no_import_begins_during_a_drain(autojump_clock, world):
    """And one that runs is stopped."""
    world.todo = ["hang"]
    world.use()
    await trio.sleep(10)
    world.imports.stop()
    world.upload("b.csv")
    world.use("b.csv")
    await trio.sleep(1000)
    assert world.metrics.imports == {"stopped": 1}
    assert len(world.commands) == 1


async def test_files_that_need_no_copy_are_left_alone(autojump_clock, world):
    """Small ones, columnar ones, outputs, and options for single columns; the worker would refuse them."""
    world.upload("small.csv", MIN_BYTES - 1)
    world.upload("c.parquet")
    (world.stores.of("ann")._files.outputs / "o.csv").write_bytes(b"1" * MIN_BYTES)
    for name in ("small.csv", "c.parquet", "o.csv"):
        assert world.use(name) is None
    world.use(options=Options(types={"a": "string"}))
    await trio.sleep(1000)
    assert world.commands == []


@pytest.mark.parametrize("change", ["deleted", "replaced"])
async def test_file_that_is_gone_is_not_imported(autojump_clock, world, change):
    """It was deleted or replaced between its use and its turn: no failure, which an operator would watch."""
    world.use()
    if change == "deleted":
        world.stores.of("ann").delete("a.csv")
    else:
        world.upload(size=MIN_BYTES + 1)
    await trio.sleep(1000)
    assert world.commands == []
    assert world.metrics.imports == {"refused": 1}
    assert {call.method_name for call in world.logs.calls} == {"debug"}
