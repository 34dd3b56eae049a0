"""What can be given to Python's `process`: paths, names, bytes, open files and tables."""

import io
import threading
import time
from functools import partial

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import trio

import creemson
from creemson.client import connect, transfers
from creemson.errors import InvalidFormat, ProcessingError
from tests.servers import SAMPLE, wait_until

FRAME = pl.DataFrame({"a": [1, None, 3], "b": ["x", "ü", None]})
CSV = "a,b\n1,x\n,ü\n3,\n"


@pytest.fixture(scope="module")
def client(server):
    with creemson.Client(server.url) as client:
        yield client


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CSV.encode(), id="bytes"),
        pytest.param(bytearray(CSV.encode()), id="bytearray"),
        pytest.param(memoryview(CSV.encode()), id="memoryview"),
        pytest.param(FRAME, id="polars"),
        pytest.param(FRAME.lazy(), id="lazy"),
        pytest.param(FRAME.to_arrow(), id="pyarrow"),
        pytest.param(FRAME.to_pandas().convert_dtypes(), id="pandas"),
        pytest.param(pa.RecordBatchReader.from_stream(FRAME), id="stream"),
    ],
)
def test_content_is_uploaded_and_processed(client, content):
    """All give the same table, and nothing stays on the server."""
    frame = client.process(content, progress=False).frame()
    assert frame.cast({"b": pl.String}).equals(FRAME)
    wait_until(lambda: not [info for info in client.files() if info.filename.startswith("input-")])


def test_name_that_is_neither_here_nor_on_the_server_is_explained(client):
    """Whoever has mistyped a path learns from the traceback that it was taken for a name on the server."""
    with pytest.raises(ProcessingError) as caught:
        client.process("nowhere.csv", progress=False)
    assert caught.value.reason == "file_not_found"
    assert caught.value.__notes__ == ["There is no local file with this path, either."]


def test_open_file_is_read_to_its_end(client, tmp_path):
    """Of bytes or of text; a name is used, and the file is then kept."""
    path = tmp_path / "opened.csv"
    path.write_text(CSV)
    with path.open("rb") as file:
        assert client.process(file, progress=False).rows == 3
    with path.open(encoding="utf-8") as text:
        assert client.process(text, overwrite=True, progress=False).rows == 3
    assert "opened.csv" in [info.filename for info in client.files()]
    assert client.process(io.StringIO(CSV), progress=False).frame().equals(FRAME)
    assert client.process(io.BytesIO(CSV.encode()), name="named.csv", progress=False).rows == 3
    assert client.process("named.csv", columns=["a"], progress=False).columns == ("a",)


def test_result_is_processed_again(client):
    """A result is a table, too."""
    first = client.process(SAMPLE, name="again.csv", progress=False)
    again = client.process(
        first, group_by=["island"], aggregate=[("*", "count", "n")], sort="island", progress=False
    )
    assert again.frame().to_dict(as_series=False) == {
        "island": ["Biscoe", "Dream", "Torgersen"],
        "n": [168, 124, 52],
    }


async def test_trio_client_takes_content(server):
    """The same, without a thread of its own."""
    async with connect(server.url) as client:
        assert (await client.process(FRAME, limit=1)).rows == 1
        await client.upload(io.BytesIO(CSV.encode()), name="uploaded.csv", overwrite=True)
        assert [column.name for column in await client.columns("uploaded.csv")] == ["a", "b"]


@pytest.mark.parametrize("source", [None, 5, ["a.csv"], {"a": [1]}])
def test_source_of_another_type_is_refused_in_words(client, source):
    """The message names the argument, the value and what is possible."""
    with pytest.raises(InvalidFormat, match=r"source is .*it must be a path"):
        client.process(source, progress=False)


def test_content_without_a_name_cannot_be_uploaded(client):
    """The name is the only way to find it again."""
    with pytest.raises(InvalidFormat, match="pass name="):
        client.upload(b"a\n1\n")
    with pytest.raises(ProcessingError, match="cannot be written as Parquet"):
        client.process(pl.DataFrame({"a": [object()]}), progress=False)


def test_file_that_cannot_be_read_fails_its_call_only(client):
    """What an open file raises is raised to the caller."""

    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def read(self, size=-1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.process(Broken(), progress=False)
    assert client.process(CSV.encode(), progress=False).rows == 3


async def test_cancelled_task_does_not_wait_for_a_pipe(server):
    """Reading goes on in its thread until the pipe ends."""
    ready, go_on = trio.Event(), threading.Event()

    class Slow:
        def read(self, size):
            trio.from_thread.run_sync(ready.set)
            go_on.wait()
            return b""

    async with connect(server.url) as client:
        job = client.process(Slow())
        await ready.wait()
        await job.cancel()
        with pytest.raises(ProcessingError, match="cancelled"):
            await job
        go_on.set()


async def test_cancelled_upload_closes_a_stream_that_was_opened_at_the_same_time(monkeypatch):
    """The thread has ended before the task hears that it was cancelled; nobody else would close the stream."""
    started, go_on, stream = trio.Event(), threading.Event(), io.BytesIO()

    def open_source(source):
        trio.from_thread.run_sync(started.set)
        go_on.wait()
        return stream, 0

    monkeypatch.setattr(transfers, "open_source", open_source)
    async with trio.open_nursery() as nursery:
        client = transfers.Transfers(None)
        nursery.start_soon(partial(client.upload, b"", "a.csv", overwrite=False, report=transfers.ignore))
        await started.wait()
        nursery.cancel_scope.cancel()
        go_on.set()
        time.sleep(0.05)  # noqa: ASYNC251 - the loop is busy, so the thread ends first
    wait_until(lambda: stream.closed)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.process("a.csv", columnz=["a"]),
        lambda client: client.rows("a.csv", offsetx=1),
        lambda client: client.upload("a.csv", overwritex=True),
        lambda client: client.download("a.csv", "b.csv", on_bytes=print),
        lambda client: client.attach("job", on_bytes=print),
        lambda client: client.describe("a.csv", option={}),
        lambda client: creemson.Client(client, tokn="x"),
        lambda client: creemson.process("a.csv", columnz=["a"]),
        lambda client: creemson.client.ConnectionPool("ws://127.0.0.1:9/ws", tokn="x"),
    ],
)
def test_misspelt_keyword_is_an_error_at_once(client, call):
    """Before anything is sent; by Python's own rules."""
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call(client)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"columns": [-1]},
            r"The arguments are not valid: columns\[0\]: expected an index or a name, got -1",
        ),
        ({"columns": ["a", "a"]}, "columns: expected each column once"),
        (
            {"options": {"delimeter": ";"}},
            r"options: there is no option .* Did you mean 'delimiter'",
        ),
        ({"where": [("a", "=", 1)]}, r"where\[0\]: expected an operator"),
        ({"limit": -1}, "limit: expected at least 0"),
    ],
)
def test_message_is_in_the_words_of_the_arguments(client, arguments, words):
    """No `selectedColumns`, and no `$`."""
    with pytest.raises(InvalidFormat, match=words) as caught:
        client.process("a.csv", **arguments)
    assert "$" not in caught.value.message
    assert not any("$" in detail for detail in caught.value.details)


def test_message_of_the_server_is_in_the_words_of_the_arguments(client, server):
    """The same for what only the server finds."""
    server.put("words.csv")
    for arguments in ({"columns": ["specis"]}, {"columns": ["year", 7]}, {"where": [("year", "==", "x")]}):
        with pytest.raises(creemson.CreemsonError) as caught:
            client.process("words.csv", progress=False, **arguments)
        told = [caught.value.message, *caught.value.details]
        assert not [text for text in told if "$" in text or "selectedColumns" in text]


def test_sort_takes_a_column_alone(client, server):
    """In ascending order."""
    server.put("sorted.csv")
    for sort in ("year", 7, ["year"], [("year",)], [("year", "asc")]):
        assert (
            client.process("sorted.csv", sort=sort, columns=["year"], progress=False)
            .frame()["year"]
            .is_sorted()
        )
    assert client.rows("sorted.csv", sort="year", limit=1).rows[0][-1] == 2007


def test_pandas_index_of_numbers_is_no_column(client):
    """Only the columns are uploaded."""
    frame = pd.DataFrame({"a": [1, 2]})
    assert client.process(frame, progress=False).columns == ("a",)
