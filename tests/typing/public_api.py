"""Uses everything that ``creemson`` and ``creemson.client`` offer; type checkers verify the types, nothing runs it.

``tests/test_public_types.py`` runs mypy and basedpyright on this file.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import polars as pl
import trio

import creemson
from creemson import ConnectionLost, CreemsonError, InvalidFormat, ProcessingError
from creemson.client import (
    Client,
    ConnectionPool,
    ConnectionState,
    Job,
    PoolStatistics,
    Progress,
    Result,
    connect,
)
from creemson.client.arguments import Source
from creemson.model.query import Query
from creemson.model.results import (
    Column,
    ColumnProfile,
    FileInfo,
    Issues,
    JobInfo,
    OutputData,
    Reading,
    ResultData,
)
from creemson.wire import messages

URL = "ws://127.0.0.1:8000/ws"


def show(progress: Progress) -> None:
    """A callback for progress."""
    assert_type(progress.phase, str)
    assert_type(progress.bytes_read, int)
    assert_type(progress.bytes_total, int)
    assert_type(progress.fraction, float)
    assert_type(progress.rows, int)
    assert_type(progress.rows_per_s, float)
    assert_type(progress.eta_s, float | None)


def show_bytes(done: int, size: int) -> None:
    """A callback for uploads and downloads."""
    assert_type((done, size), tuple[int, int])


# --- scripts and threads -----------------------------------------------------------------------------


def script() -> pl.DataFrame:
    """One call, without a server."""
    assert_type(creemson.__version__, str)
    result = creemson.process("flights.csv", columns=["carrier", 5], where=[("dep_delay", ">", 60)], limit=10)
    assert_type(result, creemson.Result)
    creemson.process(Path("flights.csv"), url=URL, token="secret", progress=show)
    creemson.process("flights.csv", progress=False)
    inputs: tuple[Source, ...] = (
        b"a\n1\n",
        io.BytesIO(b"a\n1\n"),
        io.StringIO("a\n1\n"),
        pl.DataFrame({"a": [1]}),
        pl.LazyFrame({"a": [1]}),
        result,
    )
    for source in inputs:
        creemson.process(
            source, name="a.csv", sort="a", distinct=["a"], where=[("a", "in", [1, 2]), ("a", "not_null")]
        )
    creemson.process(
        result, group_by=["carrier"], aggregate=[("*", "count", "n")], sort=["carrier", ("n", "desc")]
    )
    return assert_type(result.frame(), pl.DataFrame)


def sync_result(result: creemson.Result) -> None:
    """The members of a synchronous result."""
    assert_type(result.data, ResultData)
    assert_type(result.output, OutputData)
    assert_type(result.rows, int)
    assert_type(result.columns, tuple[str, ...])
    assert_type(result.filename, str)
    assert_type(result.reading, Reading | None)
    assert_type(result.issues, Issues | None)
    assert_type(result.preview, tuple[tuple[object, ...], ...] | None)
    assert_type(result.profile, tuple[ColumnProfile, ...] | None)
    assert_type(result.frame(), pl.DataFrame)
    assert_type(result.lazy(), pl.LazyFrame)
    result.save("out.parquet")
    result.save(Path("out.csv"), normalized=True, on_progress=show_bytes)
    result.save(io.BytesIO(), format="tsv")
    assert_type(result.save_rejects("out.rejects.csv"), bool)
    assert_type(len(result), int)
    for row in result:
        assert_type(row, tuple[Any, ...])
    assert_type(pl.DataFrame(result), pl.DataFrame)


def sync_client() -> None:
    """The members of the synchronous client."""
    with creemson.Client(URL, token="secret", give_up_after=10.0) as client:
        assert_type(client, creemson.Client)
        sync_result(client.process("flights.csv", progress=show, preview=3, profile=True))
        sync_result(client.attach("job", after=3, progress=show))
        assert_type(client.jobs(), tuple[JobInfo, ...])
        client.cancel("job")
        assert_type(client.columns("flights.csv"), tuple[Column, ...])
        assert_type(client.describe("flights.csv", options={"delimiter": ";"}), messages.Columns)
        assert_type(client.files(), tuple[FileInfo, ...])
        client.delete("flights.csv")
        assert_type(client.rows("flights.csv", offset=10, limit=5), messages.Rows)
        rows = client.rows("flights.csv", where=[("hour", ">", 5)], sort=["hour"], find="ua", texts=True)
        assert_type((rows.total, rows.complete), tuple[int | None, bool])
        assert_type(client.upload("flights.csv", name="a.csv", overwrite=True), messages.Uploaded)
        assert_type(client.download("flights.csv", Path("copy.csv")), messages.Downloaded)
        assert_type(client.read("flights.csv"), bytes)
        assert_type(client.closed, bool)
    client.close()
    creemson.Client().close()


def errors() -> tuple[str, str, Sequence[str], float | None, bool]:
    """The exceptions."""
    try:
        creemson.process("flights.csv")
    except (ConnectionLost, InvalidFormat, ProcessingError) as error:
        return error.reason, error.message, error.details, error.retry_after, error.retryable
    except CreemsonError as error:
        assert_type(error.reason, str)
    raise ProcessingError("busy", "The queue is full.", details=["try later"], retry_after=1.0)


# --- trio --------------------------------------------------------------------------------------------


async def token() -> str | None:
    """A token that is fetched before each connection attempt."""
    await trio.lowlevel.checkpoint()
    return None


async def trio_client() -> None:
    """The members of the trio client."""
    async with connect(URL, token=token, give_up_after=10.0, wait_for_server=True) as client:
        assert_type(client, Client)
        assert_type(client.url, str)
        assert_type(client.welcome, messages.Welcome)
        assert_type(client.state, ConnectionState)
        assert_type(client.state.retry_count, int)
        assert_type(client.latency, float | None)
        async with client.batch():
            jobs = [client.process("flights.csv", limit=limit) for limit in (1, 2)]
        assert_type(jobs, list[Job])
        await trio_job(
            client.process(Path("flights.csv"), sort=[("dep_delay", "desc")], on_disconnect="cancel")
        )
        await trio_job(client.submit(Query(filename="flights.csv"), timeout=60.0))
        await trio_job(client.attach("job", after=3))
        assert_type(await client.jobs(), tuple[JobInfo, ...])
        await client.cancel("job")
        assert_type(await client.columns("flights.csv"), tuple[Column, ...])
        assert_type(await client.describe("flights.csv"), messages.Columns)
        assert_type(await client.files(), tuple[FileInfo, ...])
        await client.delete("flights.csv")
        assert_type(await client.rows("flights.csv", limit=5), messages.Rows)
        assert_type(await client.rows("flights.csv", sort=[("hour", "desc")], find="ua"), messages.Rows)
        assert_type(await client.upload(Path("a.csv"), on_progress=show_bytes), messages.Uploaded)
        assert_type(
            await client.download("a.csv", Path("b.csv"), on_progress=show_bytes), messages.Downloaded
        )
        assert_type(await client.read("a.csv"), bytes)


async def trio_job(job: Job) -> None:
    """The members of a job and its result."""
    assert_type(await job.accepted(), str)
    async for progress in job:
        show(progress)
    assert_type(job.id, str | None)
    assert_type(job.position, int | None)
    assert_type(job.progress, Progress | None)
    assert_type(job.logs, list[messages.Log])
    assert_type(job.done, bool)
    await job.cancel()
    assert_type(await job.result(), Result)
    result = await job
    assert_type(result, Result)
    assert_type(result.data, ResultData)
    assert_type(result.rows, int)
    assert_type(result.columns, tuple[str, ...])
    assert_type(result.profile, tuple[ColumnProfile, ...] | None)
    assert_type(await result.frame(), pl.DataFrame)
    assert_type(await result.lazy(), pl.LazyFrame)
    await result.save("out.xlsx", on_progress=show_bytes)


async def pool() -> None:
    """The members of the pool of connections."""
    async with ConnectionPool(URL, max_size=4, idle_timeout=None, token="secret") as connections:
        assert_type(connections, ConnectionPool)
        async with connections.acquire() as client:
            assert_type(client, Client)
        statistics = connections.statistics()
        assert_type(statistics, PoolStatistics)
        assert_type(statistics.in_use + statistics.idle, int)
