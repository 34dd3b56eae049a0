"""The client against a real server, and against servers that are none."""

import hashlib

import pytest
import trio
from trio_websocket import serve_websocket

from creemson.client import connect
from creemson.errors import ConnectionLost, InvalidFormat, ProcessingError
from creemson.wire.messages import Query, SortKey
from tests.servers import SAMPLE


async def test_upload_process_download(server, tmp_path):
    """The whole errand, with news of the way."""
    sent, progress, jobs, received = [], [], [], []
    async with connect(server.url) as client:
        assert client.welcome.version == 1
        uploaded = await client.upload(
            SAMPLE, name="client.csv", overwrite=True, on_progress=lambda *figures: sent.append(figures)
        )
        size = SAMPLE.stat().st_size
        assert (uploaded.size, sent) == (size, [(0, size), (size, size)])
        assert [column.name for column in await client.columns("client.csv")][:2] == ["species", "island"]
        result = await client.process(
            Query(filename="client.csv", selectedColumns=("year",), preview=1),
            on_accepted=jobs.append,
            on_progress=progress.append,
        )
        assert result.output_data.rows == 344
        assert len(jobs) == 1
        target = tmp_path / "copy.csv"
        done = await client.download(
            result.output_data.final_filename_csv,
            target,
            on_progress=lambda *figures: received.append(figures),
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
    async with connect(server.url) as client, trio.open_nursery() as nursery:

        def stop(progress):
            nursery.start_soon(client.cancel, progress.job)

        with pytest.raises(ProcessingError) as caught:
            await client.process(Query(filename="client-slow.csv", sort=(SortKey("text"),)), on_progress=stop)
        assert caught.value.reason == "cancelled"
        nursery.cancel_scope.cancel()


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
            await client.process(Query(filename="nowhere.csv"))
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


async def _odd_server(nursery, handle):
    async def accept(request):
        await handle(await request.accept())

    listener = await nursery.start(serve_websocket, accept, "127.0.0.1", 0, None)
    return f"ws://127.0.0.1:{listener.port}/ws"


async def _say_nonsense(socket):
    await socket.get_message()
    await socket.send_message("nonsense")
    await trio.sleep_forever()


async def _close_at_once(socket):
    await socket.get_message()
    await socket.aclose()


@pytest.mark.parametrize("handle", [_say_nonsense, _close_at_once])
async def test_a_server_that_is_none(nursery, handle):
    """Garbage and a closed connection are `ConnectionLost`, in bounded time."""
    url = await _odd_server(nursery, handle)
    with trio.fail_after(10), pytest.raises(ConnectionLost):
        async with connect(url):
            raise AssertionError
    nursery.cancel_scope.cancel()


async def test_a_server_that_goes_away_in_the_middle(nursery, tmp_path):
    """Whatever waits is told: a job, a download, an upload."""
    from creemson.wire import codec, messages

    async def handle(socket):
        hello = codec.decode_request(await socket.get_message())
        limits = messages.LimitsInfo(
            message_bytes=10,
            chunk_bytes=10,
            upload_bytes=10,
            batch_messages=1,
            messages_per_s=1.0,
            messages_burst=1,
        )
        await socket.send_message(
            codec.encode(
                messages.Welcome(
                    id=hello.id, version=1, server="", connection="", limits=limits, formats=(), outputs=(),
                    heartbeat=messages.HeartbeatInfo(interval=1.0, timeout=1.0),
                )
            )
        )  # fmt: skip
        request = codec.decode_request(await socket.get_message())
        if isinstance(request, messages.Download):
            started = messages.DownloadStarted(id=request.id, filename="a", size=100, offset=0)
            await socket.send_message(codec.encode(started))
        if isinstance(request, messages.Upload):
            await socket.send_message(codec.encode(messages.UploadReady(id=request.id, offset=0)))
            await socket.get_message()
        await socket.aclose()

    url = await _odd_server(nursery, handle)
    with trio.fail_after(20):
        for errand in (
            lambda client: client.process(Query(filename="a")),
            lambda client: client.download("a", tmp_path / "a"),
            lambda client: client.upload(SAMPLE),
        ):
            with pytest.raises(ConnectionLost):
                async with connect(url) as client:
                    await errand(client)
    assert list(tmp_path.iterdir()) == []
    nursery.cancel_scope.cancel()


async def test_a_path_that_is_not_served(server):
    """The refusal of the handshake is `ConnectionLost` with the status, and no group."""
    with pytest.raises(ConnectionLost, match="404"):
        async with connect(server.url.replace("/ws", "/elsewhere")):
            raise AssertionError


async def test_a_download_that_cannot_be_written(server, tmp_path, monkeypatch):
    """The disk here is full: the error comes out, and the connection can be used on."""
    (server.data_dir / "uploads" / "large.bin").write_bytes(bytes(8 * 2**20))
    async with connect(server.url) as client:
        with trio.fail_after(20), pytest.raises(OSError, match="No space"):
            await client._download_to(_full, "large.bin", None)
        with trio.fail_after(20):
            assert await client.columns("example.csv")


def _full(data):
    raise OSError(28, "No space left on device")


async def test_a_download_that_fails_on_the_server(nursery, tmp_path):
    """An error in the middle ends it; messages of a newer server's are passed over."""
    from creemson.wire import codec, messages
    from tests.test_protocol import DATA

    async def handle(socket):
        hello = codec.decode_request(await socket.get_message())
        await socket.send_message('{"type": "news", "id": "1"}')
        await socket.send_message(codec.encode(messages.Result(id="nobody", data=DATA)))
        await socket.send_message(
            codec.encode(
                messages.Welcome(
                    id=hello.id, version=1, server="", connection="", formats=(), outputs=(),
                    limits=messages.LimitsInfo(
                        message_bytes=10, chunk_bytes=10, upload_bytes=10, batch_messages=1, messages_per_s=1.0,
                        messages_burst=1,
                    ),
                    heartbeat=messages.HeartbeatInfo(interval=1.0, timeout=1.0),
                )
            )
        )  # fmt: skip
        request = codec.decode_request(await socket.get_message())
        started = messages.DownloadStarted(id=request.id, filename="a", size=100, offset=0)
        await socket.send_message(b"of no download")
        await socket.send_message(codec.encode(started))
        await socket.send_message(b"some")
        await socket.send_message(
            codec.encode(codec.error_message(ProcessingError("internal", "Disk."), id=request.id))
        )
        await trio.sleep_forever()

    url = await _odd_server(nursery, handle)
    with trio.fail_after(20), pytest.raises(ProcessingError, match="Disk"):
        async with connect(url) as client:
            await client.download("a", tmp_path / "a")
    nursery.cancel_scope.cancel()
