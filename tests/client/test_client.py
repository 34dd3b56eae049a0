"""The client against a real server, and against addresses that are not a server."""

import hashlib

import pytest
import trio

from creemson.client import connect
from creemson.client import connection as connections
from creemson.client.session import Session
from creemson.errors import ConnectionLost, InvalidFormat, ProcessingError
from creemson.model.query import Query
from creemson.wire import messages
from tests.servers import PATIENCE, SAMPLE


async def test_upload_process_and_download_report_progress(server, tmp_path):
    """The whole workflow, with progress of both transfers."""
    sent, received = [], []
    async with connect(server.url) as client:
        assert client.welcome.version == 1
        uploaded = await client.upload(
            SAMPLE, name="client.csv", overwrite=True, on_progress=lambda *figures: sent.append(figures)
        )
        size = SAMPLE.stat().st_size
        assert (uploaded.size, sent) == (size, [(0, size), (size, size)])
        assert [column.name for column in await client.columns("client.csv")][:2] == ["species", "island"]
        job = client.process("client.csv", columns=["year"], preview=1)
        result = await job
        assert (result.rows, result.columns, result.preview, result.profile) == (
            344,
            ("year",),
            ((2007,),),
            None,
        )
        assert [info.state for info in await client.jobs() if info.job == job.id] == ["done"]
        target = tmp_path / "copy.csv"
        done = await client.download(
            result.output.final_filename_csv, target, on_progress=lambda *figures: received.append(figures)
        )
        assert hashlib.sha256(target.read_bytes()).hexdigest() == done.sha256
        assert received[-1] == (done.size, done.size)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.csv"]


async def test_files_rows_and_delete_work(server, tmp_path):
    """The file is listed, a window of it is read, and it is gone after the deletion."""
    (tmp_path / "of-client.csv").write_text("a,b\n1,2\n3,4\n")
    async with connect(server.url) as client:
        await client.upload(tmp_path / "of-client.csv")
        assert "of-client.csv" in [info.filename for info in await client.files()]
        window = await client.rows("of-client.csv", offset=1)
        assert (window.columns, window.rows) == (("a", "b"), ((3, 4),))
        view = await client.rows("of-client.csv", where=[("b", ">", 1)], sort=[("a", "desc")], limit=1)
        assert (view.rows, view.total, view.complete) == (((3, 4),), 2, True)
        assert (await client.rows("of-client.csv", find="4", texts=True)).rows == (("3", "4"),)
        assert (await client.rows("of-client.csv", find="")).total == 2
        with pytest.raises(InvalidFormat, match=r"find: expected at most") as refused:
            await client.rows("of-client.csv", find="x" * 1001)
        assert refused.value.reason == "invalid_message"
        await client.delete("of-client.csv")
        with pytest.raises(ProcessingError) as caught:
            await client.rows("of-client.csv")
        assert caught.value.reason == "file_not_found"


async def test_cancelled_look_up_is_stopped_on_the_server(monkeypatch, server, tmp_path):
    """Its caller may search while a person types."""
    sent = []
    post = Session.post
    monkeypatch.setattr(Session, "post", lambda self, message: sent.append(message) or post(self, message))
    (tmp_path / "typed.csv").write_text("a,b\n1,2\n3,4\n")
    async with connect(server.url) as client:
        await client.upload(tmp_path / "typed.csv")
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.rows("typed.csv", find="1")
        assert (await client.rows("typed.csv", find="3")).total == 1
    [cancel] = sent
    assert isinstance(cancel, messages.Cancel)
    assert cancel.request is not None


async def test_cancel_of_a_running_job_raises_for_its_waiter(server, slow_csv):
    """A running job can be cancelled; whoever awaits it gets the error."""
    server.put("client-slow.csv", slow_csv)
    async with connect(server.url) as client:
        with server.frozen():
            job = client.process("client-slow.csv", sort=[("text", "asc")])
            await job.accepted()
            while [info.state for info in await client.jobs() if info.job == job.id] != ["running"]:
                pass
            await job.cancel()
            assert [progress async for progress in job] == []
            with pytest.raises(ProcessingError) as caught:
                await job
        assert caught.value.reason == "cancelled"
        phases = {progress.phase async for progress in client.process("client-slow.csv", limit=1)}
        assert phases <= {"reading", "sorting", "writing"}


async def test_process_of_a_local_file_uploads_it_once(server, tmp_path):
    """Unchanged content is not sent again; changed content of that name needs `overwrite`."""
    path = tmp_path / "here.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    async with connect(server.url) as client:
        job = client.process(path, columns=["b"], where=[("a", ">", 1)])
        phases = [progress.phase async for progress in job]
        assert phases[:1] == ["uploading"]
        result = await job
        assert (await result.frame()).rows() == [("y",)]
        assert (await client.process(str(path), columns=["b"], where=[("a", ">", 1)])).output.cached
        path.write_text("a,b\n1,z\n")
        with pytest.raises(ProcessingError) as caught:
            await client.process(path)
        assert caught.value.reason == "file_exists"
        assert (await client.process(path, overwrite=True)).rows == 1
        with pytest.raises(FileNotFoundError):
            await client.process(tmp_path / "nowhere.csv")


async def test_csv_has_the_texts_of_the_file_or_their_values(server, tmp_path):
    """A file and windows of rows, in both ways."""
    path = tmp_path / "due.csv"
    path.write_text("due;amount;sure\n13/02/2024;10.50;TRUE\n14/02/2024;7.00;NA\n15/02/2024;0.10;False\n")
    async with connect(server.url) as client:
        result = await client.process(path)
        await result.save(tmp_path / "out.csv")
        await result.save(tmp_path / "values.csv", normalized=True)
        with pytest.raises(ProcessingError, match=r"'xlsx' is no CSV"):
            await result.save(tmp_path / "out.xlsx", normalized=True)
        for name in (path.name, result.filename):
            texts = await client.rows(name, limit=2, texts=True)
            values = await client.rows(name, limit=2)
            assert texts.rows == (("13/02/2024", "10.50", "TRUE"), ("14/02/2024", "7.00", "NA"))
            assert values.rows == (("2024-02-13", 10.5, True), ("2024-02-14", 7.0, None))
    written = (tmp_path / "out.csv").read_text()
    assert written == path.read_text().replace(";", ",")
    values = (tmp_path / "values.csv").read_text()
    assert values == "due,amount,sure\n2024-02-13,10.5,true\n2024-02-14,7.0,\n2024-02-15,0.1,false\n"


async def test_result_gives_frame_lazy_frame_and_files(server, tmp_path):
    """The lazy frame works after the client is closed; files are written in every format."""
    import polars as pl

    server.put("result.csv")
    async with connect(server.url) as client:
        result = await client.process("result.csv", columns=["island", "year"], limit=3, profile=True)
        assert repr(result).endswith("3 rows × 2 columns>")
        assert [column.column for column in result.profile] == ["island", "year"]
        frame = await result.frame()
        lazy = await result.lazy()
        for suffix in ("csv", "parquet", "xlsx", "ndjson", "arrow"):
            await result.save(tmp_path / f"out.{suffix}")
        with pytest.raises(ProcessingError) as caught:
            await result.save("out.pdf")
        assert caught.value.reason == "unsupported_format"
    assert lazy.select("year").collect().equals(frame.select("year"))
    assert pl.read_csv(tmp_path / "out.csv").equals(frame)
    assert pl.read_ipc(tmp_path / "out.arrow").equals(frame)


async def test_process_accepts_python_and_numpy_values(server):
    """Tuples, sets and numpy numbers are converted to JSON."""
    import numpy as np

    server.put("python.csv")
    async with connect(server.url) as client:
        result = await client.process(
            "python.csv",
            columns=(np.int64(0), "year"),
            where=[("year", "in", {2007, 2008})],
            limit=np.int64(5),
        )
        assert result.columns == ("species", "year")


async def test_server_error_is_raised_with_its_reason(server, tmp_path):
    """The connection stays usable, and a failed download leaves no file."""
    async with connect(server.url) as client:
        with pytest.raises(ProcessingError) as caught:
            await client.columns("nowhere.csv")
        assert caught.value.reason == "file_not_found"
        with pytest.raises(InvalidFormat) as refused:
            await client.upload(SAMPLE, name="../up.csv")
        assert refused.value.reason == "invalid_filename"
        with pytest.raises(ProcessingError):
            await client.download("nowhere.csv", tmp_path / "x")
        with pytest.raises(FileNotFoundError):
            await client.upload(tmp_path / "nothing")
        with pytest.raises(ProcessingError):
            await client.submit(Query(filename="nowhere.csv"))
        assert await client.columns("example.csv")
    assert list(tmp_path.iterdir()) == []


async def test_error_inside_the_connect_block_is_not_wrapped(server):
    """The caller's exception comes out unchanged, not in an exception group."""
    with pytest.raises(ZeroDivisionError):
        async with connect(server.url):
            raise ZeroDivisionError


async def test_connect_without_server_raises_connection_lost():
    """The error of a refused connection names the address."""
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9/ws"):
        async with connect("ws://127.0.0.1:9/ws"):
            raise AssertionError


async def test_connect_to_a_non_websocket_url_raises_connection_lost():
    """A URL that is not a WebSocket address raises the same error."""
    with pytest.raises(ConnectionLost):
        async with connect("http://127.0.0.1/"):
            raise AssertionError


async def test_connect_to_an_unknown_path_raises_with_the_status(server):
    """A refused handshake is `ConnectionLost` with the status, not an exception group."""
    with pytest.raises(ConnectionLost, match="404"):
        async with connect(server.url.replace("/ws", "/elsewhere")):
            raise AssertionError


async def test_download_to_a_full_disk_raises_and_keeps_the_connection(server, tmp_path, monkeypatch):
    """The local disk is full: the error is raised, no file is left, the connection stays usable."""
    server.write("large.bin", bytes(8 * 2**20))

    def full(received, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("creemson.client.transfers._Received.write", full)
    async with connect(server.url) as client:
        with trio.fail_after(PATIENCE), pytest.raises(OSError, match="No space"):
            await client.download("large.bin", tmp_path / "large.bin")
        with trio.fail_after(PATIENCE):
            assert await client.columns("example.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
async def test_concurrent_transfers_of_one_client_are_queued(server, tmp_path):
    """Concurrent transfers are no error; a cancelled one lets the next one proceed."""
    server.write("turn.bin", bytes(range(256)) * 2**15)
    async with connect(server.url) as client, trio.open_nursery() as nursery:
        with trio.move_on_after(0.02):
            await client.read("turn.bin")
        for number in range(3):
            path = tmp_path / f"turn-{number}"
            path.write_bytes(bytes([number]) * 100_000)
            nursery.start_soon(client.upload, path)
            nursery.start_soon(client.download, "turn.bin", tmp_path / f"back-{number}")
        with trio.move_on_after(0.01):
            await client.upload(SAMPLE, name="given-up.csv")
    for number in range(3):
        assert (tmp_path / f"back-{number}").read_bytes() == bytes(range(256)) * 2**15
        assert (server.data_dir / "uploads" / f"turn-{number}").stat().st_size == 100_000


async def test_upload_of_a_shrinking_file_is_cancelled(server, tmp_path, monkeypatch):
    """The upload is cancelled on both sides."""
    path = tmp_path / "shrinking.bin"
    path.write_bytes(bytes(3 * 2**20))
    async with connect(server.url) as client:
        with pytest.raises(ProcessingError, match="shrank"):
            await client.upload(path, on_progress=lambda sent, size: sent and path.write_bytes(b""))
        assert "shrinking.bin" not in [info.filename for info in await client.files()]


async def test_upload_whose_answer_was_lost_succeeds_on_retry(server, tmp_path):
    """If the name now holds exactly the content that was sent, the upload succeeded; otherwise it is an error."""
    for name, content in (("lost-end.csv", b"a\n1\n"), ("lost-end.bin", bytes(100))):
        path = tmp_path / name
        path.write_bytes(content)
        async with connect(server.url) as client:

            async def lose(self, kind, *, client=client, expect=connections.Answers.expect):
                answer = await expect(self, kind)
                if kind is messages.Uploaded and client.state.connections == 1:
                    connection = await client.session.connected()
                    await connection._socket._stream.aclose()
                    raise connections.Disconnected
                return answer

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(connections.Answers, "expect", lose)
                done = await client.upload(path)
            assert client.state.connections == 2
            assert (done.size, len(done.columns)) == (len(content), name.endswith("csv"))
            with pytest.raises(ProcessingError) as caught:
                await client.upload(path)
            assert caught.value.reason == "file_exists"


async def test_process_of_a_file_without_known_digest_is_not_uploaded(server, tmp_path):
    """Content already on the server is not sent again, even if it was not uploaded by a client."""
    server.put("digest.csv")
    path = tmp_path / "digest.csv"
    path.write_bytes(SAMPLE.read_bytes())
    async with connect(server.url) as client:
        assert [info.sha256 for info in await client.files() if info.filename == path.name] == [None]
        assert (await client.process(path, limit=1)).rows == 1
        path.write_bytes(SAMPLE.read_bytes()[::-1])
        with pytest.raises(ProcessingError) as caught:
            await client.process(path)
        assert caught.value.reason == "file_exists"
