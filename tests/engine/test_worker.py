"""The worker: commands and events in this process, then as a process of its own on pipes."""

import errno
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from polars.exceptions import ComputeError, PanicException

from creemson.errors import ProcessingError
from creemson.processing import engine, worker
from creemson.processing.engine import Tick
from creemson.processing.worker import Worker


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
    """The events that a command gives."""
    events = []
    Worker(events.extend).carry_out(command)
    assert events.pop(0) == {"event": "began"}
    return events


def test_run_writes_the_target_and_tells_what_it_holds(table, tmp_path):
    """`run` ends in `done` with the outcome; the target is there and the temporary name is not."""
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
    """`render` makes another format of a stored output."""
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


def test_rows_are_told(table):
    """A window of a table."""
    events = carry_out({"op": "rows", "source": str(table), "name": "t.csv", "offset": 1, "limit": 1})
    assert events[-1]["event"] == "done"
    assert len(events[-1]["value"]["rows"]) == 1


def test_a_file_that_is_removed_meanwhile(tmp_path):
    """It is not found, which is nothing for the log."""
    [failed] = carry_out({"op": "columns", "source": str(tmp_path / "gone.csv"), "name": "gone.csv"})
    assert (failed["reason"], failed["traceback"]) == ("file_not_found", None)


def test_columns_are_told(table):
    """`columns` ends in `done` with index, name and type of each."""
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


def test_an_error_of_the_query_is_told_as_it_is(table, tmp_path):
    """A fault of the query keeps reason and details, is not transient and has no traceback; nothing is left."""
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
        (MemoryError(), "out_of_memory", False, False),
        (OSError(errno.ENOSPC, "full"), "storage_full", False, True),
        (OSError(errno.EDQUOT, "quota"), "storage_full", False, True),
        (CAUSED, "storage_full", False, True),
        (FileNotFoundError("No such file or directory (os error 2): /x"), "file_not_found", False, False),
        (OSError(errno.EIO, "bad disk"), "internal", True, True),
        (ComputeError("Input/output error (os error 5)"), "internal", True, True),
        (OSError(errno.EACCES, "no"), "internal", False, True),
        (OSError("without a number"), "internal", False, True),
        (ComputeError("could not parse `(os error 5)` as i64"), "internal", False, True),
        (PanicException("polars' bug"), "internal", False, True),
        (ProcessingError("unreadable_file", "(os error 5)"), "unreadable_file", False, False),
    ],
    ids=repr,
)
def test_every_failure_becomes_an_event(monkeypatch, tmp_path, table, error, reason, transient, logged):
    """Whatever goes wrong ends the command and not the worker; what is ours or the disk's has a traceback."""

    def fail(query, source, part, tick, **_more):
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr(engine, "run", fail)
    [failed] = carry_out(run_command(table, tmp_path / "out.parquet"))
    assert failed["event"] == "failed"
    assert (failed["reason"], failed["transient"]) == (reason, transient)
    assert (failed["traceback"] is not None) == logged
    if logged:
        assert type(error).__name__ in failed["traceback"]
        assert str(table) not in failed["message"]
    assert list(tmp_path.iterdir()) == [table]


def test_an_unknown_command_is_a_fault_of_ours(table):
    """A command of another version fails, and does not end the worker."""
    [failed] = carry_out({"op": "dance", "source": str(table)})
    assert failed["reason"] == "internal"


def test_a_real_disk_that_is_full(tmp_path, table):
    """What polars says of a full disk becomes `storage_full`."""
    part = tmp_path / "part"
    part.symlink_to("/dev/full")
    [failed] = carry_out(run_command(table, tmp_path / "out.parquet") | {"part": str(part)})[-1:]
    assert failed["reason"] == "storage_full"


def lines(*commands):
    return [json.dumps(command).encode() + b"\n" for command in commands]


def test_cancel_stops_the_command_that_runs(monkeypatch, table, tmp_path):
    """`cancel` is heard while a command runs, which ends in `stopped` and leaves nothing."""
    events = []
    worker = Worker(events.extend)

    def run(query, source, part, tick, *, rejects):
        part.write_bytes(b"half")
        tick(Tick("reading", 1, 2, 1, 0.5))
        worker.receive(lines({"op": "cancel"}))
        tick(Tick("reading", 2, 2, 2, 0.9))

    monkeypatch.setattr(engine, "run", run)
    worker.carry_out(run_command(table, tmp_path / "out.parquet"))
    assert [event["event"] for event in events] == ["began", "progress", "stopped"]
    assert list(tmp_path.iterdir()) == [table]


def test_a_cancel_that_comes_too_late_does_not_hit_the_next_command(table, tmp_path):
    """A `cancel` with nothing to stop is forgotten when the next command comes."""
    events = []
    worker = Worker(events.extend)
    worker.receive(lines({"op": "cancel"}, run_command(table, tmp_path / "out.parquet")))
    threading.Thread(target=worker.run, daemon=True).start()
    deadline = time.monotonic() + 10
    while not (events and events[-1]["event"] == "done") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [events[0]["event"], events[1]["event"], events[-1]["event"]] == ["ready", "began", "done"]


class Exited(Exception):  # noqa: N818 - what has happened
    pass


@pytest.fixture
def exits(monkeypatch):
    """`os._exit` raises instead, and its statuses are listed."""
    statuses = []

    def exit_(status):
        statuses.append(status)
        raise Exited

    monkeypatch.setattr(os, "_exit", exit_)
    return statuses


@pytest.mark.parametrize(("line", "status"), [(b"", 0), (b'{"op":"ru{"op":"cancel"}\n', 1), (b'["op"]\n', 1)])
def test_a_worker_ends_with_what_it_can_hear(exits, capsys, line, status):
    """The end of the input ends the process; so does what makes no sense, as nothing after it would."""
    with pytest.raises(Exited):
        worker._listen(Worker(print), io.BytesIO(line))
    assert exits == [status]
    assert ("Traceback" in capsys.readouterr().err) == bool(status)


@pytest.fixture
def processlike(monkeypatch, exits):
    """Lets `main` run here: on pipes, without changing what this process is."""
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
    """A stream that takes three bytes at a time, until it is full."""

    def __init__(self, room):
        self.room = room
        self.data = b""

    def write(self, data):
        if len(self.data) >= self.room:
            raise BrokenPipeError
        self.data += bytes(data[:3])
        return min(3, len(data))


def test_main_sets_the_process_up(monkeypatch, exits, processlike):
    """Ctrl-C is ignored, niceness and limit are set, lines come out whole; without a reader it ends."""
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


def test_a_limit_stays_below_the_one_that_is_in_force(monkeypatch, processlike):
    """Where the system allows less than is asked for, the worker starts with that; 0 sets no limit."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 500))
    worker._limit_memory(1000)
    assert processlike["limits"] == [(500, 500)]
    monkeypatch.setattr(sys, "argv", ["worker"])
    monkeypatch.setattr(worker, "_protocol_stream", lambda: Short(0))
    with pytest.raises(Exited):
        worker.main()
    assert processlike["limits"] == [(500, 500)]


def test_what_is_printed_goes_to_standard_error(capfd):
    """The stream for events is the former standard output; what is printed goes elsewhere from then on."""
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
    """A worker process, talked to without the pool."""

    def __init__(self, *arguments, code=None):
        start = ["-c", code] if code else ["-m", "creemson.processing.worker"]
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


@pytest.mark.parametrize("working", [False, True])
def test_the_end_of_input_is_the_end(large, tmp_path, working):
    """A worker exits within 3 s of the end of its input, in the middle of a sort as well as idle."""
    with Process() as process:
        if working:
            process.send(run_command(large, tmp_path / "out.parquet", {"sort": [["t"], ["h"]]}))
            while process.receive().get("fraction", 0) < 0.5:
                pass
        process.popen.stdin.close()
        assert process.popen.wait(3) == 0
        assert process.popen.stderr.read() == b""


def test_signals(large, tmp_path):
    """Ctrl-C does nothing to a worker; SIGTERM ends it at once, even in the middle of a sort."""
    with Process() as process:
        process.popen.send_signal(signal.SIGINT)
        process.send(run_command(large, tmp_path / "out.parquet", {"sort": [["t"], ["h"]]}))
        while process.receive().get("fraction", 0) < 0.5:
            pass
        process.popen.terminate()
        assert process.popen.wait(1) == -signal.SIGTERM


PRINTS = """
import os
from creemson.processing import engine, worker
columns = engine.columns
def loud(*args):
    print("stray")
    os.system("echo stray from a child")
    return columns(*args)
engine.columns = loud
worker.main()
"""


def test_prints_do_not_get_among_the_events(table):
    """What a library prints, or a child of it, goes to standard error."""
    with Process(code=PRINTS) as process:
        process.send({"op": "columns", "source": str(table), "name": "t.csv"})
        assert process.receive() == {"event": "began"}
        assert process.receive()["event"] == "done"
        process.popen.stdin.close()
        assert process.popen.wait(3) == 0
        assert process.popen.stdout.read() == b""
        assert b"stray from a child\n" in process.popen.stderr.read()


def test_data_beyond_the_limit_abort(table, large, tmp_path):
    """A worker that needs more data than it may have aborts, and says so on standard error."""
    with Process() as process:
        process.send(
            run_command(table, tmp_path / "out.parquet")
        )  # starts polars' threads: their stacks count
        assert process.last()["event"] == "done"
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        limit = int(re.search(r"VmData:\s+(\d+) kB", status)[1]) * 1024 + (40 << 20)
        resource.prlimit(process.popen.pid, resource.RLIMIT_DATA, (limit, limit))
        process.send(run_command(large, tmp_path / "out.parquet", {"sort": [["t"], ["h"]]}))
        assert process.popen.wait(10) == -signal.SIGABRT
        assert b"memory allocation of" in process.popen.stderr.read()


def test_niceness_and_limit_are_set():
    """A worker is as nice as it is told to be, and may have as much data."""
    with Process("--nice=7", f"--data-bytes={4 << 30}") as process:
        told = psutil.Process(process.popen.pid)
        assert told.nice() == psutil.Process().nice() + 7
        assert told.rlimit(psutil.RLIMIT_DATA) == (4 << 30, 4 << 30)
