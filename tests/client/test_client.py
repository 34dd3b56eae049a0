"""The client against a real server, and against servers that are none."""

import hashlib

import pytest
import trio

from creemson.client import connect
from creemson.client import link as links
from creemson.errors import ConnectionLost, InvalidFormat, ProcessingError
from creemson.wire import messages
from creemson.wire.messages import Query
from tests.servers import SAMPLE


async def test_upload_process_download(server, tmp_path):
    """The whole errand, with news of the way."""
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


async def test_files_and_rows(server, tmp_path):
    """What is there, a part of it, and then it is gone."""
    (tmp_path / "listed.csv").write_text("a,b\n1,2\n3,4\n")
    async with connect(server.url) as client:
        await client.upload(tmp_path / "listed.csv")
        assert "listed.csv" in [info.filename for info in await client.files()]
        window = await client.rows("listed.csv", offset=1)
        assert (window.columns, window.rows) == (("a", "b"), ((3, 4),))
        await client.delete("listed.csv")
        with pytest.raises(ProcessingError) as caught:
            await client.rows("listed.csv")
        assert caught.value.reason == "file_not_found"


async def test_progress_and_cancel(server, slow_csv):
    """A job that runs can be stopped, and its waiter is told."""
    server.put("client-slow.csv", slow_csv)
    async with connect(server.url) as client:
        job = client.process("client-slow.csv", sort=[("text", "asc")])
        async for progress in job:
            assert progress.phase in ("reading", "sorting", "writing")
            await job.cancel()
        with pytest.raises(ProcessingError) as caught:
            await job
        assert caught.value.reason == "cancelled"


async def test_a_file_here_is_uploaded_and_processed(server, tmp_path):
    """Once: the same content is not sent again, other content of that name only where it may be."""
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


async def test_what_a_result_gives(server, tmp_path):
    """A frame, a lazy frame that outlives the client, and files of every format."""
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


async def test_columns_and_conditions_of_python(server):
    """Tuples, dates and numbers of other libraries are said as JSON says them."""
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


async def test_errors_of_the_server_are_raised(server, tmp_path):
    """With their reason; the connection goes on, and nothing is left of a failed download."""
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


async def test_an_error_in_the_block_is_not_wrapped(server):
    """What the caller raises comes out as it is, not in a group."""
    with pytest.raises(ZeroDivisionError):
        async with connect(server.url):
            raise ZeroDivisionError


async def test_nobody_there():
    """A refused connection says where nobody was found."""
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9/ws"):
        async with connect("ws://127.0.0.1:9/ws"):
            raise AssertionError


async def test_an_address_that_is_none():
    """What is no WebSocket address is told in the same way."""
    with pytest.raises(ConnectionLost):
        async with connect("http://127.0.0.1/"):
            raise AssertionError


async def test_a_path_that_is_not_served(server):
    """The refusal of the handshake is `ConnectionLost` with the status, and no group."""
    with pytest.raises(ConnectionLost, match="404"):
        async with connect(server.url.replace("/ws", "/elsewhere")):
            raise AssertionError


async def test_a_download_that_cannot_be_written(server, tmp_path, monkeypatch):
    """The disk here is full: the error comes out, nothing is left, and the connection can be used on."""
    (server.data_dir / "uploads" / "large.bin").write_bytes(bytes(8 * 2**20))

    def full(received, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("creemson.client.transfers._Received.write", full)
    async with connect(server.url) as client:
        with trio.fail_after(20), pytest.raises(OSError, match="No space"):
            await client.download("large.bin", tmp_path / "large.bin")
        with trio.fail_after(20):
            assert await client.columns("example.csv")
    assert list(tmp_path.iterdir()) == []


async def test_transfers_of_one_client_take_turns(server, tmp_path):
    """Several at once are no error; one that is given up lets the next one go on."""
    (server.data_dir / "uploads" / "turn.bin").write_bytes(bytes(range(256)) * 2**15)
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


async def test_a_file_that_shrinks_while_it_is_sent(server, tmp_path, monkeypatch):
    """The upload is given up, here and there."""
    path = tmp_path / "shrinking.bin"
    path.write_bytes(bytes(3 * 2**20))
    async with connect(server.url) as client:
        with pytest.raises(ProcessingError, match="shrank"):
            await client.upload(path, on_progress=lambda sent, size: sent and path.write_bytes(b""))
        assert "shrinking.bin" not in [info.filename for info in await client.files()]


async def test_an_upload_whose_end_was_lost(server, tmp_path):
    """The name is taken by the very same content, which was sent: that is what was to be. Otherwise it is an error."""
    for name, content in (("lost-end.csv", b"a\n1\n"), ("lost-end.bin", bytes(100))):
        path = tmp_path / name
        path.write_bytes(content)
        async with connect(server.url) as client:

            async def lose(self, kind, *, client=client, expect=links.Answers.expect):
                answer = await expect(self, kind)
                if kind is messages.Uploaded and client.state.connections == 1:
                    await client.session._link._socket._stream.aclose()
                    raise links.LinkLost
                return answer

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(links.Answers, "expect", lose)
                done = await client.upload(path)
            assert client.state.connections == 2
            assert (done.size, len(done.columns)) == (len(content), name.endswith("csv"))
            with pytest.raises(ProcessingError) as caught:
                await client.upload(path)
            assert caught.value.reason == "file_exists"


async def test_a_server_that_does_not_know_the_digest_finds_it_out(server, tmp_path):
    """Content that is there already is not sent again, also if it came there by other ways."""
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
