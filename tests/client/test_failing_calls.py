"""Whatever is passed to the client, it fails that call only: other calls and jobs go on, and later ones work."""

import math
import os
import re
import threading
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings

import creemson
from creemson.client import ConnectionPool, connect
from creemson.client.local.output import Output
from creemson.errors import CreemsonError, InvalidFormat, ProcessingError, error_for
from creemson.model.query import Condition, Query
from tests.client.test_arguments import ARGUMENTS, VALUES
from tests.peers import DATA, served_by
from tests.servers import PATIENCE, SAMPLE

BAD_VALUES = [b"1", "\ud800", math.nan, 10**400, object(), {1: 2}]


@pytest.fixture(scope="module")
def client(server):
    server.put("failing.csv")
    with creemson.Client(server.url) as client:
        yield client


async def test_bad_value_raises_for_its_call_and_the_jobs_of_others_go_on(server):
    """In the middle of a job that another task awaits."""
    server.put("failing.csv")
    async with connect(server.url) as client:
        with server.frozen():
            job = client.process("failing.csv", columns=["year"], limit=3)
            await job.accepted()
            for value in BAD_VALUES:
                with pytest.raises(InvalidFormat, match=r"where\[0\]\[2\]"):
                    client.process("failing.csv", where=[("year", "==", value)])
                with pytest.raises(InvalidFormat, match=r"where\[0\]\[2\]"):
                    client.submit(Query(filename="failing.csv", where=(Condition("year", "==", value),)))
                for call in (client.columns, client.delete, client.cancel, client.read):
                    with pytest.raises(CreemsonError):
                        await call(value)
                with pytest.raises(CreemsonError):
                    client.attach(value)
                with pytest.raises(CreemsonError):
                    await client.rows("failing.csv", offset=value)
        assert (await job).rows == 3
        assert client.state.connections == 1


async def test_numbers_beyond_64_bits_are_compared(server):
    """Decimals and long integers arrive as numbers; the server reads what is beyond 64 bits as a float."""
    server.put("failing.csv")
    async with connect(server.url) as client:
        for condition, rows in (
            (("year", "==", Decimal("2007.0")), 110),
            (("year", "<", 10**30), 344),
            (("year", ">", -(2**64)), 344),
            (("body_mass_g", ">", Decimal("4999.50000000000000000000000001")), 67),
        ):
            assert (await client.process("failing.csv", where=[condition])).rows == rows, condition


async def test_job_that_fails_unexpectedly_ends_alone(server, monkeypatch):
    """Any exception is the outcome of its job."""
    server.put("failing.csv")
    async with connect(server.url) as client:

        async def fail(*_, **__):
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(client._transfers, "upload", fail)
            with pytest.raises(ZeroDivisionError):
                await client.process(SAMPLE)
        assert await client.columns("failing.csv")


async def test_request_over_the_limit_is_refused_alone(nursery, autojump_clock, monkeypatch):
    """It is not sent; the error has the size and the limit. Requests that fit singly are sent in several batches."""

    async def script(peer):
        while True:
            request = await peer.hear()
            await peer.answer(request, type="result", job=request["id"], seq=1, data=DATA)

    sizes = []
    served_by(monkeypatch, nursery, script)
    async with connect("ws://fake") as client:
        connection = await client.session.connected()
        send = connection._socket.send_message

        async def measured(message):
            sizes.append(len(message.encode()))
            await send(message)

        connection._socket.send_message = measured
        jobs = [client.process("a.csv", where=[("a", "in", ["ü" * 10] * 150)]) for _ in range(12)]
        large = client.process("a.csv", where=[("a", "in", ["ü" * 10] * 1000)])
        with pytest.raises(
            InvalidFormat, match=r"'process' has 2\d,\d\d\d bytes; the server accepts 10,000"
        ) as caught:
            await large
        assert caught.value.reason == "message_too_large"
        for job in jobs:
            assert (await job).rows == 1
        assert client.state.connections == 1
    assert max(sizes) <= 10_000
    assert 6 <= len(sizes) <= 12


def test_request_over_the_limit_of_a_real_server_leaves_other_threads_alone(client):
    """200,000 values are too many; the client works on."""
    with pytest.raises(InvalidFormat, match="message_bytes"):
        client.process("failing.csv", where=[("year", "in", range(1000, 201_000))])
    assert client.process("failing.csv", where=[("year", "in", range(1000, 3000))]).rows == 344


async def test_pool_survives_a_bad_call(server):
    """The connection is used again."""
    server.put("failing.csv")
    async with ConnectionPool(server.url, max_size=1) as pool:
        for _ in range(2):
            with pytest.raises(InvalidFormat):
                async with pool.acquire() as client:
                    client.process("failing.csv", where=[("year", "==", b"x")])
        async with pool.acquire() as client:
            assert await client.columns("failing.csv")
        assert pool.statistics().opened == 1


@settings(max_examples=25)
@given(arguments=ARGUMENTS)
def test_process_with_any_arguments_works_or_raises_and_the_client_goes_on(client, arguments):
    """The next call is answered in any case."""
    try:
        client.process("failing.csv", progress=False, **arguments)
    except Exception as error:
        assert "is closed" not in str(error)
    assert client.files()


@settings(max_examples=25)
@given(value=VALUES, other=VALUES)
def test_other_methods_with_any_arguments_work_or_raise_and_the_client_goes_on(client, value, other):
    """The next call is answered in any case."""
    for call in (
        lambda: client.columns(value),
        lambda: client.rows(value, offset=other, limit=other),
        lambda: client.rows("failing.csv", offset=other, limit=value),
        lambda: client.describe("failing.csv", options=value),
        lambda: client.upload(value, name=other),
        lambda: client.upload(SAMPLE, name=value, overwrite=other),
        lambda: client.attach(value, after=other),
        lambda: client.cancel(value),
        lambda: client.download(value, other),
    ):
        try:
            call()
        except Exception as error:
            assert "is closed" not in str(error)
    assert client.files()


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), error_for("rate_limited", "Not me."), error_for("shutting_down", "Nor me.")],
)
async def test_callback_that_raises_ends_its_transfer_only(server, tmp_path, error):
    """Its exception comes out as it is, whatever it is, and the next transfer works."""

    def fail(done, size):
        raise error

    server.put("failing.csv")
    async with connect(server.url) as client:
        with trio.fail_after(PATIENCE):
            for _ in range(2):
                with pytest.raises(type(error)) as caught:
                    await client.upload(SAMPLE, name="callback.csv", overwrite=True, on_progress=fail)
                assert caught.value is error
                with pytest.raises(type(error)):
                    await client.download("failing.csv", tmp_path / "x.csv", on_progress=fail)
            assert list(tmp_path.iterdir()) == []
            await client.upload(SAMPLE, name="callback.csv", overwrite=True)
            await client.download("callback.csv", tmp_path / "x.csv")
        assert client.state.connections == 1
    assert (tmp_path / "x.csv").read_bytes() == SAMPLE.read_bytes()


def open_files():
    """The paths that this process has open, folders as well."""
    return [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]


async def test_source_that_is_no_ordinary_file_is_refused(server, tmp_path):
    """A folder, a pipe that nobody writes to, a name with a NUL: an error of the call, at once."""
    os.mkfifo(tmp_path / "pipe.csv")
    async with connect(server.url) as client:
        with trio.fail_after(PATIENCE):
            for source, error, text in (
                (tmp_path, IsADirectoryError, re.escape(str(tmp_path))),
                (tmp_path / "pipe.csv", ProcessingError, "is a pipe"),
                (tmp_path / "a\0b.csv", (ValueError, CreemsonError), "null|NUL|control"),
            ):
                with pytest.raises(error, match=text):
                    await client.upload(source)
                with pytest.raises(error, match=text):
                    await client.process(source)
        assert client.state.connections == 1
    assert not [file for file in open_files() if file.startswith(str(tmp_path))]


async def test_file_that_grows_during_its_upload_is_uploaded_as_it_was(server, tmp_path):
    """What is appended in the meantime is left out; the digest is that of what is sent."""
    path = tmp_path / "growing.csv"
    content = b"a\n" + b"1\n" * 2**20
    path.write_bytes(content)

    def grow(sent, size):
        with path.open("ab") as stream:
            stream.write(b"2\n")

    async with connect(server.url) as client:
        done = await client.upload(path, on_progress=grow)
    assert done.size == len(content)
    assert (server.data_dir / "uploads" / "growing.csv").read_bytes() == content


async def test_download_into_a_pipe_can_be_cancelled(server, tmp_path, monkeypatch):
    """Nobody reads from it: the other calls of the client are answered, and it is no reason to wait at the end."""
    server.put("failing.csv")
    os.mkfifo(tmp_path / "pipe")
    publishing = threading.Event()
    publisher = Output.publisher

    def noted(output):
        publish = publisher(output)
        return lambda: (publishing.set(), publish())

    monkeypatch.setattr(Output, "publisher", noted)
    with trio.fail_after(PATIENCE):
        async with connect(server.url) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.download, "failing.csv", tmp_path / "pipe")
            while not publishing.is_set():  # noqa: ASYNC110 - a thread sets it
                await trio.sleep(0.01)
            assert await client.columns("failing.csv")
            nursery.cancel_scope.cancel()
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()  # the abandoned thread writes to whoever comes
    reader.join(PATIENCE)
    assert received == [SAMPLE.read_bytes()]


@pytest.mark.parametrize("token", ["\ud800", 5, lambda: b"x"])
async def test_token_that_cannot_be_sent_is_refused_without_showing_it(server, token):
    """The error is about the token, not about the server."""
    with pytest.raises(InvalidFormat, match="The token is not text, or not valid Unicode"):
        async with connect(server.url, token=token):
            raise AssertionError


async def test_duration_that_is_none_is_refused_before_connecting():
    """The error names the argument."""
    with pytest.raises(ValueError, match="answer_timeout is nan"):
        async with connect("ws://127.0.0.1:9/ws", answer_timeout=math.nan):
            raise AssertionError


async def test_keyboard_interrupt_in_the_connect_block_is_not_wrapped(server):
    """A program ends as it does without a client."""
    with pytest.raises(KeyboardInterrupt):
        async with connect(server.url):
            raise KeyboardInterrupt
