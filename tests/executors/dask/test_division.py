"""Commands that several workers do together."""

import pytest
import trio

from creemson.errors import ProcessingError
from creemson.executors import commands
from creemson.executors.dask.division import PartsProgress, call_divided, part_count
from creemson.executors.executor import TransientFault
from tests.executors.conftest import write_large
from tests.executors.dask.conftest import make_executor, names
from tests.executors.dask.test_executor import idle
from tests.executors.test_local import PATIENCE, Call, run

REMOTE = "s3://bucket/outputs/1/output.parquet?name=out.parquet"
GROUPS = {
    "group_by": ["t"],
    "aggregate": [["n", "sum"], ["h", "max"], ["n", "mean"], ["h", "first"], ["*", "count"]],
    "where": [["n", ">", 1000]],
    "sort": [["n_sum", "desc"]],
    "limit": 1000,
}


def command(tmp_path, *, size=1000, target=None, copy="copy", divided=True):
    source = tmp_path / "t.csv"
    source.write_bytes(b"x" * size)
    return commands.run(
        {"filename": "t.csv"},
        source=str(source),
        target=target or str(tmp_path / "out.parquet"),
        copy=copy,
        may_be_divided=divided,
    )


@pytest.mark.parametrize(
    ("fields", "free", "part_bytes", "expected"),
    [
        ({}, 8, 250, 4),
        ({}, 3, 250, 3),
        ({}, 8, 600, 1),
        ({}, 0, 250, 1),
        ({}, 8, 0, 1),
        ({"divided": False}, 8, 250, 1),
        ({"copy": None}, 8, 250, 1),
        ({"target": REMOTE}, 8, 250, 1),
        ({"target": REMOTE, "copy": "s3://bucket/tables/1"}, 8, 250, 4),
    ],
)
def test_size_and_free_workers_decide_on_parts(tmp_path, fields, free, part_bytes, expected):
    """As many as have nothing to do, if each gets enough; workers must see the copy."""
    assert part_count(command(tmp_path, **fields), free=free, part_bytes=part_bytes) == expected


def figures(fraction, rows):
    return {
        "phase": "writing", "bytes_read": int(1000 * fraction), "bytes_total": 1000, "rows": rows, "fraction": fraction
    }  # fmt: skip


def test_progress_of_parts_is_added_up():
    """It grows up to 1, and says 1 only at the end."""
    progress = PartsProgress(2)
    told = [
        progress.of_part(0, figures(0.5, 10)),
        progress.of_part(1, figures(1.0, 30)),
        progress.of_part(0, figures(1.0, 30)),
        progress.of_merge(figures(0.5, 60)),
        progress.of_merge(figures(1.0, 60)),
    ]
    assert [one["fraction"] for one in told] == [0.225, 0.675, 0.9, 0.95, 1.0]
    assert [one["rows"] for one in told] == [10, 40, 60, 60, 60]
    assert [one["bytes_read"] for one in told] == [250, 750, 1000, 500, 1000]


class Workers:
    """Stand for the cluster: each part does what the test says."""

    def __init__(self, *ends):
        self.ends = ends
        self.stopped, self.merged = 0, None

    async def __call__(self, command, on_progress):
        if command["op"] == "run":
            self.merged = command
            return "value"
        end = self.ends[command["number"]]
        if end is None:
            try:
                await trio.sleep_forever()
            finally:
                self.stopped += 1
        if isinstance(end, Exception):
            raise end
        return end


async def test_parts_are_put_together_in_their_order(tmp_path):
    """Their folder is removed then."""
    workers = Workers(True, True)
    assert await call_divided(workers, command(tmp_path), 2, None) == "value"
    first, second = (path.rpartition("/") for path in workers.merged["parts"])
    assert (first[2], second[2]) == ("0.arrow", "1.arrow")
    assert first[0] == second[0]
    assert names(tmp_path) == ["t.csv"]


async def test_parts_in_an_object_store_are_beside_the_target(tmp_path):
    """They are removed with what else an attempt has left there."""
    workers = Workers(True, True)
    await call_divided(workers, command(tmp_path, target=REMOTE), 2, None)
    assert workers.merged["parts"] == [
        f"s3://bucket/outputs/1/output.parquet.part{number}?name=out.parquet" for number in (0, 1)
    ]


@pytest.mark.parametrize("end", [False, ProcessingError("unreadable_file", "damaged")])
async def test_part_that_is_not_possible_leaves_the_work_to_one_worker(tmp_path, end):
    """The other parts are stopped; one worker tells the error, if there is one."""
    workers = Workers(None, end, None)
    assert await call_divided(workers, command(tmp_path), 3, None) is None
    assert (workers.stopped, workers.merged) == (2, None)
    assert names(tmp_path) == ["t.csv"]


@pytest.mark.parametrize(
    "end",
    [
        ProcessingError("worker_died", "gone"),
        ProcessingError("out_of_memory", "too large"),
        TransientFault(ProcessingError("internal", "disk")),
        OSError("disk"),
    ],
)
async def test_part_whose_worker_fails_fails_the_attempt(tmp_path, end):
    """The job queue decides whether there is another one."""
    workers = Workers(None, end)
    with pytest.raises(type(end)) as raised:
        await call_divided(workers, command(tmp_path), 2, None)
    assert raised.value is end
    assert workers.stopped == 1
    assert names(tmp_path) == ["t.csv"]


# --- with a real cluster --------------------------------------------------------------------------------


async def copied_of(executor, source, tmp_path):
    """Copy a file; return a function that makes commands for it."""
    copy, out = tmp_path / "copy", tmp_path / "out"
    out.mkdir()
    await executor._local.call(commands.import_(source=str(source), name=source.name, target=str(copy)))

    def make(query, name="out.parquet"):
        return run(source, out, query, name, copy=str(copy), may_be_divided=True)

    return make


@pytest.fixture
async def copied(executor, tmp_path):
    """A CSV of five row groups, and the command for its copy."""
    return await copied_of(executor, write_large(tmp_path, 450_000), tmp_path)


async def test_groups_of_four_tasks_are_those_of_one(executor, copied, tmp_path):
    """The same bytes; nothing else is left."""
    progress = []
    with trio.fail_after(PATIENCE):
        value = await call_divided(executor._call_cluster, copied(GROUPS, "4.parquet"), 4, progress.append)
        expected = await executor.call(copied(GROUPS, "1.parquet"))
    assert value == expected
    out = tmp_path / "out"
    assert names(out) == ["1.parquet", "4.parquet"]
    assert (out / "1.parquet").read_bytes() == (out / "4.parquet").read_bytes()
    fractions = [one["fraction"] for one in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert progress[-1]["rows"] == 450_000


class Divided:
    """Run each command in four parts."""

    def __init__(self, executor):
        self._executor = executor

    async def call(self, command, *, on_progress):
        return await call_divided(self._executor._call_cluster, command, 4, on_progress)


async def test_cancelled_parts_leave_nothing(executor, copied, cluster, nursery, tmp_path):
    """They are stopped as one task is."""
    (process,) = cluster.engine_processes()

    call = Call(Divided(executor), copied(GROUPS))
    await nursery.start(call.run)
    await call.cancel()
    await idle(process.pid)
    assert names(tmp_path / "out") == []


@pytest.mark.slow
async def test_killed_worker_ends_the_attempt_and_leaves_nothing(executor, cluster, nursery, large, tmp_path):
    """The job queue tries again. A process that is killed between two parts costs nothing."""
    make = await copied_of(executor, large, tmp_path)
    published = []
    with trio.fail_after(5 * PATIENCE):
        for number in range(20):
            call = Call(Divided(executor), make(GROUPS, f"{number}.parquet"))
            await nursery.start(call.run)
            for process in cluster.engine_processes():
                process.kill()
            await call.ended.wait()
            if call.error is not None:
                break
            published.append(f"{number}.parquet")
    assert call.error.reason == "worker_died"
    assert names(tmp_path / "out") == sorted(published)


async def test_executor_divides_what_is_large_among_free_workers(
    cluster, nursery, logged, tmp_path, monkeypatch
):
    """Here there is one worker only, so the number of free ones is not the true one."""
    counts = []

    async def note(call, command, count, on_progress):
        counts.append(count)
        return "value"

    monkeypatch.setattr("creemson.executors.dask.executor.call_divided", note)
    executor = make_executor(cluster, logged, part_bytes=250)
    with trio.fail_after(PATIENCE):
        await nursery.start(executor.run)
        await executor.cluster.ready()
        executor._limiter.total_tokens = 4
        assert await executor.call(command(tmp_path)) == "value"
    assert counts == [4]
