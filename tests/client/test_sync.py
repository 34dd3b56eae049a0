"""The synchronous client in scripts, threads and other event loops; notebooks have their own tests."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import trio

import creemson
from creemson import api
from creemson.client.sync import client as sync
from tests.servers import PATIENCE, SAMPLE, wait_until


@pytest.fixture
def client(server):
    with creemson.Client(server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def no_default_clients(monkeypatch):
    """Each test starts without default clients and closes those it created."""
    monkeypatch.delenv("CREEMSON_URL", raising=False)
    monkeypatch.setattr(api, "_default", defaults := {})
    yield
    for client in defaults.values():
        client.close()


def run_script(code, **environment):
    """Run a program in a new process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_every_method_returns_the_result_of_the_trio_client(client, tmp_path):
    """Calls each method of the trio client once, synchronously."""
    done = client.upload(SAMPLE, name="blocking.csv", overwrite=True)
    assert done.size == SAMPLE.stat().st_size
    assert [column.name for column in client.columns("blocking.csv")][:1] == ["species"]
    assert "blocking.csv" in [info.filename for info in client.files()]
    assert client.rows("blocking.csv", offset=1, limit=2).offset == 1
    assert client.rows("blocking.csv", limit=1, texts=True).rows[0][-1] == "2007"
    view = client.rows(
        "blocking.csv", limit=1, where=[("island", "==", "Dream")], sort=[("year", "desc")], find="ADELIE"
    )
    assert (view.total, view.rows[0][0], view.rows[0][-1], view.complete) == (56, "Adelie", 2009, True)
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
    result.save(tmp_path / "values.csv", normalized=True)
    assert (tmp_path / "values.csv").read_text().startswith("year\n")
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


def test_progress_callback_runs_in_callers_thread_and_may_raise(client, server):
    """An exception from the callback ends the wait and cancels the job."""
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
        wait_until(lambda: not running_jobs(client, "uploading.csv"))


def test_client_used_by_many_threads_gives_each_its_own_answer(client, server):
    """Each thread gets the answer to its own request."""
    server.put("threads.csv")
    with ThreadPoolExecutor(8) as pool:
        limits = list(range(1, 41))
        results = list(
            pool.map(lambda limit: client.process("threads.csv", limit=limit, progress=False).rows, limits)
        )
    assert results == limits


def test_process_inside_asyncio_or_trio_loop_works(server):
    """Works directly inside a running loop, and in a thread without blocking the loop."""
    server.put("loop.csv")

    async def work():
        direct = creemson.process("loop.csv", url=server.url, limit=1)
        aside = await asyncio.to_thread(creemson.process, "loop.csv", url=server.url, limit=2)
        return direct.rows, aside.rows

    async def trio_work():
        return await trio.to_thread.run_sync(
            lambda: creemson.process("loop.csv", url=server.url, limit=3).rows
        )

    with ThreadPoolExecutor(1) as pool:  # the browser tests may have left a loop in the main thread
        assert pool.submit(asyncio.run, work()).result() == (1, 2)
        assert pool.submit(trio.run, trio_work).result() == 3
    assert len(api._default) == 1


def test_closed_client_raises_connection_lost_and_leaves_no_thread(server):
    """Calls fail at once; closing is idempotent; the client's thread ends."""
    client = creemson.Client(server.url)
    client.close()
    client.close()
    assert client.closed
    with pytest.raises(creemson.ConnectionLost, match="closed"):
        client.files()
    with pytest.raises(creemson.ConnectionLost, match="closed"):
        client.process("a.csv")
    wait_until(lambda: "creemson-client" not in [thread.name for thread in threading.enumerate()])


def running_jobs(client, filename):
    return [job.job for job in client.jobs() if (job.state, job.filename) == ("running", filename)]


def test_close_while_another_thread_waits_raises_connection_lost(client, server):
    """The waiting thread gets `ConnectionLost`."""
    server.put("closing.csv")
    closing = creemson.Client(server.url)
    with ThreadPoolExecutor(1) as pool, server.frozen():
        waiting = pool.submit(closing.process, "closing.csv", progress=False)
        wait_until(lambda: running_jobs(client, "closing.csv"))
        closing.close()
        with pytest.raises(creemson.ConnectionLost):
            waiting.result(PATIENCE)


def test_unreferenced_client_ends_its_thread(server):
    """A garbage-collected client leaves no thread."""
    client = creemson.Client(server.url)
    assert client.files() is not None
    del client
    gc.collect()
    wait_until(lambda: "creemson-client" not in [thread.name for thread in threading.enumerate()])


def test_client_without_server_raises_connection_lost():
    """The plain error names the address, and no thread is left."""
    with pytest.raises(creemson.ConnectionLost, match=r"127\.0\.0\.1:9"):
        creemson.Client("ws://127.0.0.1:9/ws")
    with pytest.raises(TypeError):
        sync.Client()
    wait_until(lambda: "creemson-client" not in [thread.name for thread in threading.enumerate()])


def test_keyboard_interrupt_cancels_the_job_and_keeps_the_client(client, server):
    """Ctrl-C cancels the job, and the client stays usable."""
    server.put("interrupted.csv")
    main = threading.main_thread().ident
    handler = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # SIGINT may be ignored where the tests run

    def interrupt():
        with creemson.Client(server.url) as other:
            wait_until(lambda: running_jobs(other, "interrupted.csv"))
        signal.pthread_kill(main, signal.SIGINT)

    with server.frozen():
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.process("interrupted.csv", progress=False)
        thread.join()
        signal.signal(signal.SIGINT, handler)
        wait_until(lambda: not running_jobs(client, "interrupted.csv"))
        assert [job.state for job in client.jobs() if job.filename == "interrupted.csv"] == ["cancelled"]


def test_closed_default_client_is_replaced(server):
    """A default client that was closed is replaced by a new one."""
    server.put("default.csv")
    creemson.process("default.csv", url=server.url, limit=1)
    [client] = api._default.values()
    client.close()
    assert creemson.process("default.csv", url=server.url, limit=1).rows == 1
    assert list(api._default.values()) != [client]


def test_server_url_is_taken_from_the_environment(server, monkeypatch):
    """`CREEMSON_URL` is used if the caller gives no URL."""
    server.put("environment.csv")
    monkeypatch.setenv("CREEMSON_URL", server.url)
    assert creemson.process("environment.csv", columns=[0]).rows == 344


@pytest.mark.slow
def test_script_without_server_starts_its_own_and_stops_it_at_exit():
    """One call starts an embedded server; it ends with the program without an explicit close."""
    done = run_script(
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
    wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids.split()))


@pytest.mark.slow
def test_script_with_an_error_ends_with_the_plain_exception():
    """The program ends with the original exception and exit status 1."""
    done = run_script("import creemson; creemson.process('nowhere.csv')")
    assert done.returncode == 1
    error, note = done.stderr.splitlines()[-2:]
    assert error.startswith("creemson.errors.ProcessingError: There is no file 'nowhere.csv'")
    assert note == "There is no local file with this path, either."


@pytest.mark.slow
def test_import_loads_only_what_is_used():
    """Importing the package loads neither trio nor polars; unknown attributes raise."""
    done = run_script(
        "import sys, creemson; print([name for name in sys.modules if name in ('trio', 'polars', 'attrs')]);"
        "creemson.Client, creemson.process, creemson.Result, creemson.ConnectionLost; print('polars' in sys.modules)"
    )
    assert done.stdout.splitlines() == ["[]", "False"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = creemson.nonsense
    assert all(getattr(creemson, name) is not None for name in creemson.__all__)
