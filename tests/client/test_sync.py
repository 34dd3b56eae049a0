"""The client for code that is not asynchronous: scripts, threads, other event loops; notebooks are elsewhere."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import trio

import creemson
from creemson import scripting
from creemson.client import blocking
from tests.servers import SAMPLE, wait_until


@pytest.fixture
def client(server):
    with creemson.Client(server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def no_default_clients(monkeypatch):
    """Each test begins without, and what it has begun ends with it."""
    monkeypatch.delenv("CREEMSON_URL", raising=False)
    monkeypatch.setattr(scripting, "_default", defaults := {})
    yield
    for client in defaults.values():
        client.close()


def script(code, **environment):
    """Run a program of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_every_method_waits_for_its_answer(client, tmp_path):
    """The trio client's, one by one."""
    done = client.upload(SAMPLE, name="blocking.csv", overwrite=True)
    assert done.size == SAMPLE.stat().st_size
    assert [column.name for column in client.columns("blocking.csv")][:1] == ["species"]
    assert "blocking.csv" in [info.filename for info in client.files()]
    assert client.rows("blocking.csv", offset=1, limit=2).offset == 1
    steps = []
    result = client.process(
        "blocking.csv", columns=["year"], limit=3, preview=2, profile=True, progress=steps.append
    )
    assert (result.rows, result.columns, len(result.preview), len(result.profile)) == (3, ("year",), 2, 1)
    assert (result.data.output_data, "3 rows" in repr(result)) == (result.output, True)
    assert result.frame().shape == (3, 1)
    assert result.lazy().collect().shape == (3, 1)
    result.save(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("year\n")
    client.download(result.filename, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == client.read(result.filename)
    [job] = [info.job for info in client.jobs() if info.filename == "blocking.csv"][:1]
    assert client.attach(job).rows == 3
    with pytest.raises(creemson.ProcessingError) as caught:
        client.cancel(job)
    assert caught.value.reason == "job_not_found"
    client.delete("blocking.csv")
    with pytest.raises(creemson.ProcessingError) as caught:
        client.process("blocking.csv", progress=False)
    assert caught.value.reason == "file_not_found"


def test_progress_comes_in_the_callers_thread(client, server):
    """Where a caller may touch its own things; what it raises ends the wait, and the work."""
    path = server.data_dir.parent / "uploading.csv"
    path.write_bytes(SAMPLE.read_bytes())
    threads = []

    def first(step):
        threads.append(threading.current_thread())
        raise ZeroDivisionError

    with server.frozen():
        with pytest.raises(ZeroDivisionError):
            client.process(path, overwrite=True, progress=first)
        assert threads == [threading.current_thread()]
        wait_until(lambda: all(job.state != "running" for job in client.jobs()))


def test_many_threads_at_once(client, server):
    """Each gets its own answer."""
    server.put("threads.csv")
    with ThreadPoolExecutor(8) as pool:
        limits = list(range(1, 41))
        results = list(
            pool.map(lambda limit: client.process("threads.csv", limit=limit, progress=False).rows, limits)
        )
    assert results == limits


def test_within_an_event_loop(server):
    """Of asyncio and of trio; in a thread, the loop goes on meanwhile."""
    server.put("loop.csv")

    async def work():
        direct = creemson.process("loop.csv", url=server.url, limit=1)
        aside = await asyncio.to_thread(creemson.process, "loop.csv", url=server.url, limit=2)
        return direct.rows, aside.rows

    async def trio_work():
        return await trio.to_thread.run_sync(
            lambda: creemson.process("loop.csv", url=server.url, limit=3).rows
        )

    with ThreadPoolExecutor(1) as pool:  # the main thread may have a loop already, of the browser's tests
        assert pool.submit(asyncio.run, work()).result() == (1, 2)
        assert pool.submit(trio.run, trio_work).result() == 3
    assert len(scripting._default) == 1


def test_a_client_that_is_closed(server):
    """Says so, at once; closing once more does no harm, and no thread is left."""
    client = creemson.Client(server.url)
    client.close()
    client.close()
    assert client.closed
    with pytest.raises(creemson.ConnectionLost, match="closed"):
        client.files()
    with pytest.raises(creemson.ConnectionLost, match="closed"):
        client.process("a.csv")
    wait_until(lambda: "creemson-client" not in [thread.name for thread in threading.enumerate()])


def running(client):
    return [job.job for job in client.jobs() if job.state == "running"]


def test_closing_tells_those_who_wait(client, server):
    """In another thread."""
    server.put("closing.csv")
    closing = creemson.Client(server.url)
    with ThreadPoolExecutor(1) as pool, server.frozen():
        waiting = pool.submit(closing.process, "closing.csv", progress=False)
        wait_until(lambda: running(client))
        closing.close()
        with pytest.raises(creemson.ConnectionLost):
            waiting.result(30)


def test_a_client_that_nobody_holds_ends(server):
    """Its thread, too."""
    client = creemson.Client(server.url)
    assert client.files() is not None
    del client
    gc.collect()
    wait_until(lambda: "creemson-client" not in [thread.name for thread in threading.enumerate()])


def test_nobody_there():
    """The plain error, and no thread."""
    with pytest.raises(creemson.ConnectionLost, match=r"127\.0\.0\.1:9"):
        creemson.Client("ws://127.0.0.1:9/ws")
    with pytest.raises(TypeError):
        blocking.Client()
    assert "creemson-client" not in [thread.name for thread in threading.enumerate()]


def test_interrupting_the_wait(client, server):
    """Ctrl-C ends the work, and the client can be used on."""
    server.put("interrupted.csv")
    main = threading.main_thread().ident
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore it

    def interrupt():
        with creemson.Client(server.url) as other:
            wait_until(lambda: running(other))
        time.sleep(0.2)  # until the first client has heard of it, too
        signal.pthread_kill(main, signal.SIGINT)

    with server.frozen():
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.process("interrupted.csv", progress=False)
        thread.join()
        signal.signal(signal.SIGINT, handler)
        wait_until(lambda: client.jobs()[0].state == "cancelled")


def test_a_default_client_that_has_gone_is_replaced(server):
    """It was closed, or has given up."""
    server.put("default.csv")
    creemson.process("default.csv", url=server.url, limit=1)
    [client] = scripting._default.values()
    client.close()
    assert creemson.process("default.csv", url=server.url, limit=1).rows == 1
    assert list(scripting._default.values()) != [client]


def test_the_environment_names_the_server(server, monkeypatch):
    """Where the caller does not."""
    server.put("environment.csv")
    monkeypatch.setenv("CREEMSON_URL", server.url)
    assert creemson.process("environment.csv", columns=[0]).rows == 344


def test_a_plain_script():
    """One line, with a server of its own; it ends with the program, which does not have to close anything."""
    began = time.monotonic()
    done = script(
        f"""if True:
        import creemson, psutil, os
        result = creemson.process({str(SAMPLE)!r}, columns=["species", 5], where=[("year", "==", 2007)])
        print(result.frame().shape, len(psutil.Process().children(recursive=True)))
        print(*[child.pid for child in psutil.Process().children(recursive=True)])
        """
    )
    assert done.stderr == ""
    shape, pids = done.stdout.splitlines()
    assert shape.startswith("(110, 2)")
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.split())
    assert time.monotonic() - began < 30


def test_an_error_in_a_plain_script():
    """Is the plain exception, and the program ends."""
    done = script("import creemson; creemson.process('nowhere.csv')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "creemson.errors.ProcessingError: There is no file 'nowhere.csv'"
    )


def test_the_package_loads_what_is_asked_for():
    """The server does without the client, and nobody without need loads polars."""
    done = script(
        "import sys, creemson; print([name for name in sys.modules if name in ('trio', 'polars', 'attrs')]);"
        "creemson.Client, creemson.process, creemson.Result, creemson.ConnectionLost; print('polars' in sys.modules)"
    )
    assert done.stdout.splitlines() == ["[]", "False"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = creemson.nonsense
    assert all(getattr(creemson, name) is not None for name in creemson.__all__)
