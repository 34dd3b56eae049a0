"""Workers read the columnar copy of a file from an object store: what they need of it, and nothing of the file."""

import polars as pl
import pytest
import trio

from creemson.executors import commands
from creemson.executors.local import LocalExecutor
from creemson.executors.spawn import ScratchFolder
from creemson.logs import errors_only
from creemson.storage.objects.bucket import ObjectBucket
from tests.executors.conftest import write_large
from tests.executors.test_local import PATIENCE

ROWS = 250_000
QUERY = {
    "filename": "large.csv",
    "group_by": ["t"],
    "aggregate": [["n", "sum"], ["h", "max"], ["n", "mean"], ["*", "count"]],
    "where": [["n", ">", 1000]],
    "sort": [["n_sum", "desc"]],
    "limit": 1000,
}


@pytest.fixture
def url(object_store, monkeypatch):
    """The URL of a new bucket, with the environment that leads to it."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.bucket()


@pytest.fixture
async def workers(nursery, tmp_path, url):
    """An executor of one worker, with a scratch folder."""
    del url
    scratch = ScratchFolder(tmp_path / "scratch", None)
    scratch.folder.mkdir()
    found = LocalExecutor(size=1, memory_bytes=0, nice=0, logger=errors_only(), scratch=scratch)
    await nursery.start(found.run)
    return found


@pytest.fixture
async def copied(workers, url, tmp_path):
    """The command for a file whose copy is in a folder and in the object store; the file itself is gone."""
    source, folder, objects = write_large(tmp_path, ROWS), tmp_path / "copy", f"{url}/tables/1"
    await workers.call(
        commands.import_(source=str(source), name=source.name, target=str(folder), objects=objects)
    )
    absent = f"{url}/files/1?name=large.csv&size={source.stat().st_size}&piece=0"

    def make(number, copy=objects):
        target = f"{url}/outputs/{number}/output.parquet?name=out.parquet"
        return commands.run(QUERY, source=absent, target=target, copy=str(copy), may_be_divided=True)

    return make, folder


def output(url, number):
    """Read an output."""
    return bytes(ObjectBucket(url).get(f"outputs/{number}/output.parquet"))


def bytes_in(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


async def test_job_on_objects_of_a_copy_is_that_on_its_folder(workers, copied, url, tmp_path):
    """Only the description of the copy gets into the scratch folder."""
    make, folder = copied
    with trio.fail_after(PATIENCE):
        expected = await workers.call(make(1, folder))
        assert await workers.call(make(2)) == expected
    assert output(url, 2) == output(url, 1)
    assert bytes_in(tmp_path / "scratch") < bytes_in(folder) / 10


async def test_parts_in_an_object_store_make_the_output_of_one_step(workers, copied, url, tmp_path):
    """They are objects beside the output."""
    make, _ = copied
    parts = [make(2)["target"].replace("?", f".part{number}?") for number in range(3)]
    with trio.fail_after(PATIENCE):
        expected = await workers.call(make(1))
        for number, target in enumerate(parts):
            assert await workers.call(commands.part(make(2), number=number, count=3, target=target))
        assert await workers.call(commands.merge(make(2), parts)) == expected
    assert output(url, 2) == output(url, 1)
    assert pl.read_parquet(output(url, 2)).height == 1000


async def test_part_of_a_copy_that_is_gone_is_not_possible(workers, copied, url):
    """Then one worker reads the file."""
    make, _ = copied
    ObjectBucket(url).remove(["tables/1/table.json", "tables/1/rows.parquet"])
    with trio.fail_after(PATIENCE):
        assert not await workers.call(commands.part(make(1), number=0, count=3, target=make(1)["target"]))
