"""The worker: commands and events in this process, then as a separate process with pipes."""

import errno
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import polars as pl
import psutil
import pytest
from polars.exceptions import ComputeError, PanicException

from creemson.engine import run as engine
from creemson.engine import worker
from creemson.engine.progress import Progress
from creemson.engine.windows import filters
from creemson.engine.worker import Worker
from creemson.errors import ObjectStoreError, ProcessingError
from creemson.storage.names import temporary_name
from tests.servers import PATIENCE


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    return path


def run_command(source, target, query=None):
    query = {"filename": "t.csv"} | (query or {})
    return {
        "op": "run",
        "query": query,
        "source": str(source),
        "target": str(target),
        "part": f"{target}.part",
    }


# --- in this process ---------------------------------------------------------------------------------


def carry_out(command):
    """Return the events of a command."""
    events = []
    Worker(events.extend).carry_out(command)
    assert events.pop(0) == {"event": "began"}
    return events


def test_run_writes_target_and_reports_outcome(table, tmp_path):
    """`run` ends with `done` and the outcome; the target exists and the temporary file does not."""
    target = tmp_path / "out.parquet"
    *progress, done = carry_out(run_command(table, target, {"selectedColumns": ["b"], "preview": 1}))
    assert done["event"] == "done"
    assert done["value"]["rows"] == 2
    assert done["value"]["columns"] == ["b"]
    assert done["value"]["preview"] == [["x"]]
    assert progress[-1] == {
        "event": "progress", "phase": "writing", "bytes_read": 12, "bytes_total": 12, "rows": 2, "fraction": 1.0,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "t.csv"]


def test_render_writes_another_format(table, tmp_path):
    """`render` converts a stored output to another format."""
    stored, target = tmp_path / "out.parquet", tmp_path / "out.csv"
    carry_out(run_command(table, stored))
    command = {
        "op": "render",
        "source": str(stored),
        "target": str(target),
        "format": "csv",
        "part": f"{target}.part",
    }
    assert carry_out(command)[-1] == {"event": "done", "value": None}
    assert target.read_text() == "a,b\n1,x\n2,y\n"


def test_rows_returns_a_window_of_the_table(table):
    """`rows` ends with `done` and the rows."""
    events = carry_out({"op": "rows", "source": str(table), "name": "t.csv", "offset": 1, "limit": 1})
    assert events[-1]["event"] == "done"
    assert len(events[-1]["value"]["rows"]) == 1


VIEW = {"where": [["b", "!=", "y"]], "find": "X", "sort": [["a", "desc"]]}


def test_rows_of_a_view_are_those_that_meet_it(table):
    """`total` is their number."""
    table.write_text("a,b\n1,x\n2,y\n3,x\n4,z\n")
    command = {"op": "rows", "source": str(table), "name": "t.csv", "offset": 0, "limit": 5, "view": VIEW}
    value = carry_out(command)[-1]["value"]
    assert (value["rows"], value["total"]) == ([[3, "x"], [1, "x"]], 2)


@pytest.mark.parametrize("view", [VIEW, {"find": "x"}])
def test_search_stops_when_it_is_cancelled(table, monkeypatch, view):
    """At the next batch of rows; the next search finds all."""
    monkeypatch.setattr("creemson.engine.progress.PROGRESS_INTERVAL", 0.0)
    table.write_text("a,b\n" + "1,x\n2,y\n" * 50_000)
    events, command = [], {"op": "rows", "source": str(table), "name": "t.csv", "offset": 0, "limit": 1}
    worker = Worker(events.extend)
    worker.carry_out(command)
    look = filters._Pass._look
    cancelling = iter([b'{"op": "cancel"}\n'])
    monkeypatch.setattr(
        filters._Pass, "_look", lambda self, batch: worker.receive(cancelling) or look(self, batch)
    )
    worker.carry_out({**command, "view": view})
    assert events[-1] == {"event": "stopped"}
    worker.receive([orjson.dumps({**command, "view": view})])
    worker.carry_out(worker._commands.get())
    assert events[-1]["value"]["total"] == 50_000


def identity(path):
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def rewritten(path):
    path.write_text("a,b\n3,z\n4,y\n")


def replaced(path):
    other = path.with_name("other.csv")
    shutil.copy2(path, other)
    other.replace(path)


@pytest.mark.parametrize("change", [Path.unlink, rewritten, replaced])
@pytest.mark.parametrize("op", ["run", "rows", "columns"])
def test_file_changed_before_it_is_opened_is_reported(table, tmp_path, change, op):
    """The server has found another one; the error is not logged with a traceback."""
    command = run_command(table, tmp_path / "out.parquet") | {
        "op": op,
        "name": "t.csv",
        "offset": 0,
        "limit": 1,
    }
    command["identity"] = identity(table)
    assert carry_out(command)[-1]["event"] == "done"
    os.utime(table, ns=(5, 5))
    command["identity"] = identity(table)
    change(table)
    (tmp_path / "out.parquet").unlink(missing_ok=True)
    [failed] = carry_out(command)
    assert (failed["reason"], failed["transient"], failed["traceback"]) == ("file_changed", False, None)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("change", "reason"), [(Path.unlink, None), (replaced, None), (rewritten, "file_changed")]
)
@pytest.mark.parametrize("ends", [True, False])
def test_file_changed_while_it_is_read_is_one_version_or_an_error(
    table, tmp_path, monkeypatch, change, reason, ends
):
    """A worker that has a file open needs its name no more; bytes that were changed are not published."""
    run = engine.run

    def interrupted(query, source, part, on_progress, **more):
        change(table)
        if ends:
            return run(query, source, part, on_progress, **more)
        raise ProcessingError("unreadable_file", "It makes no sense.")

    monkeypatch.setattr(engine, "run", interrupted)
    os.utime(table, ns=(5, 5))
    target = tmp_path / "out.parquet"
    *_, end = carry_out(run_command(table, target) | {"identity": identity(table)})
    if reason is None and ends:
        assert end["event"] == "done"
        assert pl.read_parquet(target)["a"].to_list() == [1, 2]
    else:
        assert end["reason"] == (reason or "unreadable_file")
        assert not target.exists()


def test_open_file_is_closed_after_each_command(table, tmp_path):
    """Also after a failure."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    carry_out(run_command(table, tmp_path / "out.parquet"))
    carry_out(run_command(table, tmp_path / "out.parquet", {"selectedColumns": ["c"]}))
    carry_out({"op": "columns", "source": str(table), "name": "t.csv", "identity": [1, 2, 3]})
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


def test_columns_returns_index_name_and_type(table):
    """`columns` ends with `done` and the columns."""
    [done] = carry_out({"op": "columns", "source": str(table), "name": "t.csv"})
    assert done["value"].pop("reading")["format"] == "csv"
    assert done == {
        "event": "done",
        "value": {
            "columns": [
                {"index": 0, "name": "a", "dtype": "Int64"},
                {"index": 1, "name": "b", "dtype": "String"},
            ],
        },
    }


def test_query_error_keeps_its_reason(table, tmp_path):
    """It keeps reason and details, is not transient, has no traceback and leaves no file."""
    [failed] = carry_out(run_command(table, tmp_path / "out.parquet", {"selectedColumns": ["c"]}))
    assert (failed["event"], failed["reason"]) == ("failed", "column_not_found")
    assert "'c'" in failed["message"]
    assert failed["transient"] is False
    assert failed["traceback"] is None
    assert list(tmp_path.iterdir()) == [table]


CAUSED = ProcessingError("unreadable_file", "'t.csv' cannot be read.")
CAUSED.__cause__ = ComputeError("parquet: underlying IO error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("error", "reason", "transient", "logged"),
    [
        (MemoryError(), "out_of_memory", False, None),
        (OSError(errno.ENOSPC, "full"), "storage_full", False, "cause"),
        (OSError(errno.EDQUOT, "quota"), "storage_full", False, "cause"),
        (CAUSED, "storage_full", False, "cause"),
        (ObjectStoreError("The object store does not answer"), "busy", True, "cause"),
        (FileNotFoundError("No such file or directory (os error 2): /x"), "file_not_found", False, None),
        (OSError(errno.EIO, "bad disk"), "internal", True, "traceback"),
        (ComputeError("Input/output error (os error 5)"), "internal", True, "traceback"),
        (OSError(errno.EACCES, "no"), "internal", False, "traceback"),
        (OSError("without a number"), "internal", False, "traceback"),
        (ComputeError("could not parse `(os error 5)` as i64"), "internal", False, "traceback"),
        (PanicException("polars' bug"), "internal", False, "traceback"),
        (ProcessingError("unreadable_file", "(os error 5)"), "unreadable_file", False, None),
    ],
    ids=repr,
)
def test_every_error_becomes_a_failed_event(monkeypatch, tmp_path, table, error, reason, transient, logged):
    """Any error ends the command, not the worker; bugs and broken disks have a traceback, a full disk is told in words."""

    def fail(query, source, part, on_progress, **_more):
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr(engine, "run", fail)
    [failed] = carry_out(run_command(table, tmp_path / "out.parquet"))
    assert failed["event"] == "failed"
    assert (failed["reason"], failed["transient"]) == (reason, transient)
    assert [name for name in ("cause", "traceback") if failed[name] is not None] == [logged] * (
        logged is not None
    )
    if logged:
        assert (str(error) if logged == "cause" else type(error).__name__) in failed[logged]
        assert str(table) not in failed["message"]
    assert list(tmp_path.iterdir()) == [table]


def test_unknown_command_is_internal_error(table):
    """A command of another version fails and does not end the worker."""
    [failed] = carry_out({"op": "dance", "source": str(table)})
    assert failed["reason"] == "internal"


def test_full_disk_is_storage_full(tmp_path, table):
    """Polars' error about a full disk becomes `storage_full`."""
    part = tmp_path / "part"
    part.symlink_to("/dev/full")
    [failed] = carry_out(run_command(table, tmp_path / "out.parquet") | {"part": str(part)})[-1:]
    assert failed["reason"] == "storage_full"


def lines(*commands):
    return [json.dumps(command).encode() + b"\n" for command in commands]


def test_cancel_stops_the_running_command(monkeypatch, table, tmp_path):
    """`cancel` is received while a command runs, which ends with `stopped` and leaves nothing."""
    events = []
    worker = Worker(events.extend)

    def run(query, source, part, on_progress, **_):
        part.write_bytes(b"half")
        on_progress(Progress("reading", 1, 2, 1, 0.5))
        worker.receive(lines({"op": "cancel"}))
        on_progress(Progress("reading", 2, 2, 2, 0.9))

    monkeypatch.setattr(engine, "run", run)
    worker.carry_out(run_command(table, tmp_path / "out.parquet"))
    assert [event["event"] for event in events] == ["began", "progress", "stopped"]
    assert list(tmp_path.iterdir()) == [table]


def test_late_cancel_does_not_stop_the_next_command(table, tmp_path):
    """A `cancel` with nothing to stop is dropped when the next command starts."""
    events = []
    worker = Worker(events.extend)
    worker.receive(lines({"op": "cancel"}, run_command(table, tmp_path / "out.parquet")))
    threading.Thread(target=worker.run, daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    while not (events and events[-1]["event"] == "done") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [events[0]["event"], events[1]["event"], events[-1]["event"]] == ["ready", "began", "done"]


class Exited(Exception):  # noqa: N818 - named after the event
    pass


@pytest.fixture
def exits(monkeypatch):
    """`os._exit` raises instead; collects the exit statuses."""
    statuses = []

    def exit_(status):
        statuses.append(status)
        raise Exited

    monkeypatch.setattr(os, "_exit", exit_)
    return statuses


@pytest.mark.parametrize(("line", "status"), [(b"", 0), (b'{"op":"ru{"op":"cancel"}\n', 1), (b'["op"]\n', 1)])
def test_worker_exits_at_end_or_invalid_input(exits, capsys, line, status):
    """The end of input ends the process; so does invalid input, because all after it would be invalid too."""
    with pytest.raises(Exited):
        worker._listen(Worker(print), io.BytesIO(line))
    assert exits == [status]
    assert ("Traceback" in capsys.readouterr().err) == bool(status)


@pytest.fixture
def processlike(monkeypatch, exits):
    """Let `main` run in this process, on pipes, without changing the process."""
    done = {"limits": [], "nice": [], "signals": []}
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: done["limits"].append(limits))
    monkeypatch.setattr(os, "nice", done["nice"].append)
    monkeypatch.setattr(signal, "signal", lambda *args: done["signals"].append(args))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(
        worker, "_listen", lambda worker, stream: worker._commands.put({"op": "x", "source": ""})
    )
    return done


class Short:
    """A stream that accepts three bytes at a time until it is full."""

    def __init__(self, room):
        self.room = room
        self.data = b""

    def write(self, data):
        if len(self.data) >= self.room:
            raise BrokenPipeError
        self.data += bytes(data[:3])
        return min(3, len(data))


def test_main_sets_up_the_process(monkeypatch, exits, processlike):
    """Ignores Ctrl-C, sets niceness and limit, writes complete lines, and exits when nobody reads them."""
    monkeypatch.setattr(sys, "argv", ["worker", "--nice=3", "--data-bytes=1000000"])
    monkeypatch.setattr(resource, "getrlimit", lambda which: (-1, -1))
    stream = Short(40)
    monkeypatch.setattr(worker, "_protocol_stream", lambda: stream)
    with pytest.raises(Exited):
        worker.main()
    assert exits == [0]
    assert stream.data.startswith(b'{"event":"ready"}\n{"event":"began"}\n')
    assert processlike == {
        "limits": [(1_000_000, 1_000_000)], "nice": [3], "signals": [(signal.SIGINT, signal.SIG_IGN)],
    }  # fmt: skip


def test_memory_limit_respects_existing_limit(monkeypatch, processlike):
    """If the system allows less than requested, the worker uses that; 0 sets no limit."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 500))
    worker._limit_memory(1000)
    assert processlike["limits"] == [(500, 500)]
    monkeypatch.setattr(sys, "argv", ["worker"])
    monkeypatch.setattr(worker, "_protocol_stream", lambda: Short(0))
    with pytest.raises(Exited):
        worker.main()
    assert processlike["limits"] == [(500, 500)]


def test_printed_text_goes_to_standard_error(capfd):
    """Events go to the original standard output; anything printed goes to standard error."""
    out = os.dup(1)
    try:
        stream = worker._protocol_stream()
        os.write(1, b"stray")
        stream.write(b"event")
        stream.close()
    finally:
        os.dup2(out, 1)
        os.close(out)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("event", "stray")


# --- as a process ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.csv"
    number = pl.int_range(3_000_000, eager=True)
    pl.DataFrame(
        {"n": number, "t": (number * 2654435761 % 1_000_003).cast(pl.String), "h": number / 2}
    ).write_csv(path)
    return path


class Process:
    """A worker process without the pool."""

    def __init__(self, *arguments, code=None):
        start = ["-c", code] if code else ["-m", "creemson.engine.worker"]
        self.popen = subprocess.Popen(
            [sys.executable, *start, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self):
        assert self.receive() == {"event": "ready"}
        return self

    def __exit__(self, *exc_info):
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            stream.close()

    def send(self, command):
        self.popen.stdin.write(json.dumps(command).encode() + b"\n")
        self.popen.stdin.flush()

    def receive(self):
        return json.loads(self.popen.stdout.readline())

    def last(self):
        while (event := self.receive())["event"] in ("began", "progress"):
            pass
        return event


ENDLESS = """
import time
from creemson.engine import run as engine
from creemson.engine import worker
engine.run = lambda *args, **more: time.sleep(10**6)
worker.main()
"""
"""A worker whose command never ends, and does not look whether it should, like a sort in native code."""


@pytest.mark.parametrize("working", [False, True])
def test_worker_exits_at_end_of_input(table, tmp_path, working):
    """Whether idle or carrying out a command that does not end."""
    with Process(code=ENDLESS) as process:
        if working:
            process.send(run_command(table, tmp_path / "out.parquet"))
            assert process.receive() == {"event": "began"}
        process.popen.stdin.close()
        assert process.popen.wait(PATIENCE) == 0
        assert process.popen.stderr.read() == b""


def test_sigint_is_ignored_and_sigterm_ends_the_worker(table, tmp_path):
    """Ctrl-C has no effect; SIGTERM ends the worker, even if its command does not end."""
    with Process(code=ENDLESS) as process:
        process.popen.send_signal(signal.SIGINT)
        process.send(run_command(table, tmp_path / "out.parquet"))
        assert process.receive() == {"event": "began"}
        process.popen.terminate()
        assert process.popen.wait(PATIENCE) == -signal.SIGTERM


PRINTS = """
import os
from creemson.engine import run as engine
from creemson.engine import worker
columns = engine.columns
def loud(*args):
    print("stray")
    os.system("echo stray from a child")
    return columns(*args)
engine.columns = loud
worker.main()
"""


def test_prints_of_libraries_do_not_mix_with_events(table):
    """Output of a library or a child process goes to standard error."""
    with Process(code=PRINTS) as process:
        process.send({"op": "columns", "source": str(table), "name": "t.csv"})
        assert process.receive() == {"event": "began"}
        assert process.receive()["event"] == "done"
        process.popen.stdin.close()
        assert process.popen.wait(PATIENCE) == 0
        assert process.popen.stdout.read() == b""
        assert b"stray from a child\n" in process.popen.stderr.read()


def test_worker_beyond_data_limit_aborts(table, large, tmp_path):
    """A worker that needs more data than allowed aborts with a message on standard error."""
    with Process() as process:
        process.send(
            run_command(table, tmp_path / "out.parquet")
        )  # starts polars' threads, whose stacks count
        assert process.last()["event"] == "done"
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        limit = int(re.search(r"VmData:\s+(\d+) kB", status)[1]) * 1024 + (40 << 20)
        resource.prlimit(process.popen.pid, resource.RLIMIT_DATA, (limit, limit))
        process.send(run_command(large, tmp_path / "out.parquet", {"sort": [["t"], ["h"]]}))
        assert process.popen.wait(PATIENCE) == -signal.SIGABRT
        assert b"memory allocation of" in process.popen.stderr.read()


def test_niceness_and_limit_are_set():
    """The process has the requested niceness and data limit."""
    with Process("--nice=7", f"--data-bytes={4 << 30}") as process:
        worker = psutil.Process(process.popen.pid)
        assert worker.nice() == psutil.Process().nice() + 7
        assert worker.rlimit(psutil.RLIMIT_DATA) == (4 << 30, 4 << 30)


def large_csv(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("a,b\n" + "".join(f"{n},x{n % 7}\n" for n in range(60_000)))
    return path


def import_command(path, folder):
    part = folder / temporary_name("copy", "1")
    return {
        "op": "import",
        "source": str(path),
        "name": path.name,
        "target": str(folder / "copy"),
        "part": str(part),
    }


def test_import_makes_a_copy_that_jobs_and_windows_read(tmp_path):
    """The file could be empty then: only its identity is compared."""
    path, folder = large_csv(tmp_path), tmp_path / "tables"
    folder.mkdir()
    [done] = carry_out(import_command(path, folder))[-1:]
    assert done["value"]["rows"] == 60_000
    assert [entry.name for entry in folder.iterdir()] == ["copy"]
    run = run_command(path, tmp_path / "out.parquet") | {
        "query": {"filename": "l.csv", "selectedColumns": [1]}
    }
    rows = {"op": "rows", "source": str(path), "name": "l.csv", "offset": 59_998, "limit": 5}
    path.write_bytes(b"")
    copy = {"copy": str(folder / "copy")}
    assert carry_out(run | copy)[-1]["value"]["rows"] == 60_000
    assert carry_out(rows | copy)[-1]["value"]["rows"] == [[59_998, "x1"], [59_999, "x2"]]


def test_import_of_small_file_leaves_nothing(table, tmp_path):
    """It needs no copy."""
    folder = tmp_path / "tables"
    folder.mkdir()
    assert carry_out(import_command(table, folder))[-1] == {"event": "done", "value": None}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ProcessingError("unreadable_file", "bad")])
def test_failed_import_leaves_nothing(monkeypatch, tmp_path, error):
    """Neither the copy nor a part of it."""
    path, folder = large_csv(tmp_path), tmp_path / "tables"
    folder.mkdir()

    def fail(source, name, part, *_):
        (part / "rows.parquet").write_bytes(b"half")
        raise error

    monkeypatch.setattr(worker, "copy_table", fail)
    assert carry_out(import_command(path, folder))[-1]["event"] == "failed"
    assert list(folder.iterdir()) == []


def test_import_of_the_worker_does_not_import_what_few_files_need():
    """They would make the start of each worker a fifth longer."""
    code = (
        "import sys, creemson.engine.worker\n"
        "print([name for name in ('chardet', 'fastexcel', 'creemson.engine.export.xlsx.sheet') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
