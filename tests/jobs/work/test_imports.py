"""When copies of files are made: the decider, then the actor with a scripted worker."""

import math

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError
from creemson.executors.executor import TransientFault
from creemson.jobs.work.imports import (
    IDLE_AGAIN,
    IDLE_ONCE,
    MAX_CANDIDATES,
    MIN_BYTES,
    PATIENCE,
    REST,
    REST_AFTER_FAILURE,
    Candidates,
    Imports,
)
from creemson.metrics import Metrics
from creemson.model.query import Options
from creemson.storage.stores import Stores
from creemson.storage.tables.tables import TableKey


def key(number):
    """The key of a file."""
    return TableKey("ann", str(number), "")


def use(candidates, number, now=0.0, times=1):
    """Use a file some times."""
    for _ in range(times):
        candidates.used(now, key(number), f"{number}.csv", None)


def taken(candidates, now):
    """The number of the file whose copy is made now."""
    found = candidates.next(now)
    return None if found is None else int(found.key.version)


# --- the decider -----------------------------------------------------------------------------------------


def test_file_that_was_used_again_is_copied_first():
    """One that was used once waits until the workers have had nothing to do for longer."""
    candidates = Candidates()
    candidates.jobs_changed(0.0, running=True, has_room=True)
    use(candidates, 1)
    use(candidates, 2, times=2)
    assert taken(candidates, 100.0) is None
    candidates.jobs_changed(100.0, running=False, has_room=True)
    assert taken(candidates, 100.0 + IDLE_AGAIN / 2) is None
    assert taken(candidates, 100.0 + IDLE_AGAIN) == 2
    candidates.ended(101.0, candidates.next(101.0), "done")
    assert taken(candidates, 100.0 + IDLE_ONCE - 0.1) is None
    assert taken(candidates, 100.0 + IDLE_ONCE) == 1


def test_import_stops_for_a_job_until_it_has_lost_patience():
    """Then it runs beside jobs, but not if these need all workers."""
    candidates = Candidates()
    use(candidates, 1, times=2)
    now = 10.0
    for _ in range(PATIENCE):
        candidates.jobs_changed(now, running=False, has_room=True)
        now += 1000.0
        found = candidates.next(now)
        candidates.jobs_changed(now, running=True, has_room=True)
        assert not candidates.may_run(found)
        candidates.ended(now, found, "stopped")
        assert taken(candidates, now) is None
    now += 1000.0
    found = candidates.next(now)
    assert found is not None
    assert candidates.may_run(found)
    candidates.jobs_changed(now, running=True, has_room=False)
    assert not candidates.may_run(found)
    assert taken(candidates, now + 1000.0) is None


@pytest.mark.parametrize(
    ("how", "rest"), [("done", REST), ("refused", math.inf), ("failed", REST_AFTER_FAILURE)]
)
def test_ended_import_is_not_tried_again_for_a_while(how, rest):
    """A copy that was made may have been removed to make room, and one that failed may succeed now."""
    candidates = Candidates()
    use(candidates, 1, times=2)
    candidates.ended(5.0, candidates.next(5.0), how)
    use(candidates, 1, now=6.0, times=5)
    assert not candidates
    use(candidates, 1, now=5.0 + min(rest, 1e9) - 1.0)
    assert not candidates
    use(candidates, 1, now=min(6.0 + rest, 1e9), times=2)
    assert bool(candidates) == (rest < math.inf)


def test_many_files_are_bounded():
    """The oldest candidate is forgotten."""
    candidates = Candidates()
    for number in range(MAX_CANDIDATES + 1):
        use(candidates, number)
    found = set()
    while (candidate := candidates.next(1e9)) is not None:
        found.add(int(candidate.key.version))
        candidates.ended(1e9, candidate, "done")
    assert found == set(range(1, MAX_CANDIDATES + 1))


EVENTS = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 3)),
    st.tuples(st.just("jobs"), st.sampled_from([(False, True), (True, True), (True, False)])),
    st.tuples(st.just("end"), st.sampled_from(["done", "refused", "failed", "stopped"])),
)


@given(st.lists(st.tuples(st.floats(0.0, 50.0), EVENTS), max_size=40))
def test_next_begins_at_the_time_of_next_wake(events):
    """Neither before nor never; and nothing begins that may not run."""
    candidates, now = Candidates(), 0.0
    for wait, (what, value) in events:
        now += wait
        match what:
            case "use":
                use(candidates, value, now)
            case "jobs":
                candidates.jobs_changed(now, running=value[0], has_room=value[1])
            case "end" if (found := candidates.next(now)) is not None:
                candidates.ended(now, found, value)
        found = candidates.next(now)
        if found is None:
            assert candidates.next_wake() > now
            if candidates.next_wake() < math.inf:
                assert candidates.next(candidates.next_wake()) is not None
        else:
            assert candidates.may_run(found)
            assert candidates.next_wake() <= now


# --- the actor -------------------------------------------------------------------------------------------


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


async def test_file_that_is_gone_is_not_imported(autojump_clock, world):
    """It was deleted between its use and its turn."""
    world.use()
    world.stores.of("ann").delete("a.csv")
    await trio.sleep(1000)
    assert world.commands == []
    assert world.metrics.imports == {"failed": 1}
