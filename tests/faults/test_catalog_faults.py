"""A catalog that is locked, damaged or missing: files, outputs and downloads are served all the same."""

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from tests.servers import PATIENCE, SAMPLE, serving, wait_until

DATA = SAMPLE.read_bytes()
QUICK = ("--set", "processing.workers=1")


@contextlib.contextmanager
def holding(data_dir, mode):
    """Lock the catalog as another program would."""
    with contextlib.closing(sqlite3.connect(data_dir / "catalog.db", isolation_level=None)) as database:
        database.execute(f"BEGIN {mode}")
        yield
        database.execute("ROLLBACK")


def log_of(server):
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def filled(data_dir):
    """Fill a data folder with a file, an output, a rendering and half an upload; return the output and its CSV."""
    with serving(data_dir, *QUICK) as server, server.connect() as client:
        client.upload("a.csv", DATA)
        output = client.run(filename="a.csv", limit=5)["data"]["output_data"]
        csv = client.download(output["final_filename_csv"])[1]
        half = {"type": "upload", "id": "half", "filename": "half.bin", "fingerprint": "f", "size": 2 * 2**20}
        assert client.ask(half)["offset"] == 0
        client.send(bytes(2**20))
        [part] = (data_dir / "parts").iterdir()
        wait_until(lambda: part.stat().st_size == 2**20)
    return output, csv


def all_well(server, output, csv):
    """Assert that existing files are served and new work is done."""
    with server.connect() as client:
        files = {
            entry["filename"]: entry["size"] for entry in client.ask({"type": "files", "id": "f"})["files"]
        }
        assert files == {"a.csv": len(DATA)}
        assert client.download("a.csv")[1] == DATA
        assert client.download(output["final_filename_csv"])[1] == csv
        assert client.download(output["filename"])[2]["type"] == "downloaded"
        assert client.run(filename="a.csv", limit=5)["data"]["output_data"]["rows"] == 5
        assert client.run(filename="a.csv", limit=6)["data"]["output_data"]["rows"] == 6
        assert client.upload("b.csv", DATA)["type"] == "uploaded"
        assert client.upload("half.bin", bytes(2**21), overwrite=True)["type"] in ("uploaded", "error")
        for name in ("b.csv", "half.bin"):
            client.ask({"type": "delete", "id": "d", "filename": name})


def test_catalog_locked_briefly_delays_only_writes(tmp_path):
    """Requests that must be recorded wait; reads continue, and the catalog is not replaced."""
    with serving(tmp_path / "data", *QUICK) as server, server.connect() as client:
        client.upload("a.csv", DATA)
        server.put("warm-up.csv")  # what follows must not take as long as the server waits for the catalog
        client.ask({"type": "columns", "id": "c", "filename": "warm-up.csv"})
        client.run(filename="warm-up.csv")
        with holding(server.data_dir, "IMMEDIATE"):
            client.send({"type": "process", "id": "job", "filename": "a.csv"})
            with server.connect() as other:
                assert other.ask({"type": "ping", "id": "p"})["type"] == "pong"
                assert other.download("a.csv")[1] == DATA
                assert other.ask({"type": "columns", "id": "c", "filename": "a.csv"})["type"] == "columns"
        assert client.until("result", "error")[-1]["type"] == "result"
        assert not list(server.data_dir.glob("*.unreadable*"))


@pytest.mark.slow
def test_catalog_locked_for_long_is_busy(tmp_path):
    """After five seconds the error is `busy` and retryable; a download is complete all the same."""
    with serving(tmp_path / "data", *QUICK) as server, server.connect() as client:
        client.upload("a.csv", DATA)
        server.put("by-hand.csv")
        with holding(server.data_dir, "EXCLUSIVE"):
            error = client.upload("b.csv", DATA)
            assert (error["type"], error["reason"], error["code"]) == ("error", "busy", 1003)
            assert error["retryable"]
            assert "another program" in error["message"]
            assert client.download("by-hand.csv")[2]["type"] == "downloaded"  # its digest is not recorded
        assert client.run(filename="a.csv")["type"] == "result"
        assert any("another program has locked it" in line.get("error", "") for line in log_of(server))
        assert not list(server.data_dir.glob("*.unreadable*"))
        assert "unexpectedly" not in server.log.read_text()


@pytest.mark.slow
def test_catalog_locked_at_start_is_waited_for(tmp_path):
    """If it stays locked, the server exits with a message. It is never replaced."""
    data = tmp_path / "data"
    filled(data)
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(data)]
    with contextlib.closing(sqlite3.connect(data / "catalog.db", isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "another program has locked it" in done.stderr
    assert str(data / "catalog.db") in done.stderr
    assert "Traceback" not in done.stderr
    database = sqlite3.connect(data / "catalog.db", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    letting_go = threading.Timer(2.0, database.close)
    letting_go.start()
    with serving(data, *QUICK) as server, server.connect() as client:
        letting_go.join()  # it has begun: otherwise, the server would still wait
        resumed = client.ask(
            {"type": "upload", "id": "half", "filename": "half.bin", "fingerprint": "f", "size": 2 * 2**20}
        )
        assert resumed["offset"] == 2**20
    assert not list(data.glob("*.unreadable*"))


def damage(path, kind):
    match kind:
        case "noise":
            path.write_bytes(random.Random(1).randbytes(20_000))
        case "cut off":
            path.write_bytes(path.read_bytes()[:5000])
        case "empty":
            path.write_bytes(b"")
        case "damaged inside":
            with path.open("r+b") as stream:
                stream.seek(4096 + 100)
                stream.write(random.Random(1).randbytes(3 * 4096))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "noise",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cut off", "empty", "damaged inside")),
    ],
)
def test_damaged_catalog_costs_no_file(tmp_path, kind):
    """It is renamed, which is logged; a second damaged one is kept too, and the files are there each time."""
    data = tmp_path / "data"
    output, csv = filled(data)
    kept = []
    for number in range(1 if kind == "empty" else 2):
        damage(data / "catalog.db", kind)
        kept.append((data / "catalog.db").read_bytes())
        with serving(data, *QUICK) as server:
            reports = [line for line in log_of(server) if "the catalog could not be read" in line["event"]]
            aside = data / ("catalog.unreadable" if number == 0 else "catalog.unreadable.2")
            assert [line["old"] for line in reports] == ([] if kind == "empty" else [str(aside)])
            all_well(server, output, csv)
    if kind != "empty":
        assert (data / "catalog.unreadable").read_bytes() == kept[0]
        assert (data / "catalog.unreadable.2").read_bytes() == kept[1]


def set_version(path, version):
    with contextlib.closing(sqlite3.connect(path)) as database:
        [before] = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version}")
    return before


@pytest.mark.slow
def test_catalog_of_a_newer_version_is_refused_and_serves_again_with_that_version(tmp_path):
    """An older server must not begin without the jobs that a newer one has recorded."""
    data = tmp_path / "data"
    output, csv = filled(data)
    version = set_version(data / "catalog.db", 1000)
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "was changed by a newer version of Creemson (version 1000 of its tables" in done.stderr
    assert "Traceback" not in done.stderr
    set_version(data / "catalog.db", version)
    with serving(data, *QUICK) as server:
        all_well(server, output, csv)
    assert not list(data.glob("*.unreadable*"))


@pytest.mark.slow
def test_folder_in_place_of_catalog_is_refused(tmp_path):
    """Nothing is touched: the server names the path and exits."""
    data = tmp_path / "data"
    filled(data)
    shutil.move(data / "catalog.db", data / "saved")
    (data / "catalog.db").mkdir()
    command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert str(data / "catalog.db") in done.stderr
    assert "unable to open" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_catalog_damaged_while_in_use_is_replaced(tmp_path):
    """A new one is created immediately, unnoticed by the client; the damaged one is kept."""
    with serving(tmp_path / "data", *QUICK) as server, server.connect() as client:
        client.upload("a.csv", DATA)
        for number in range(200):  # more than SQLite caches of small tables
            client.send({"type": "process", "id": str(number), "filename": "a.csv", "limit": number + 1})
        ends = 0
        while ends < 200:
            ends += client.until("result", "error")[-1]["type"] == "result"
        with contextlib.closing(sqlite3.connect(server.data_dir / "catalog.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(server.data_dir / "catalog.db", "noise")
        deadline = time.monotonic() + PATIENCE
        number = 1000
        while not list(server.data_dir.glob("catalog.unreadable")) and time.monotonic() < deadline:
            number += 1
            assert client.run(filename="a.csv", limit=number)["type"] == "result"
        assert any("starting with a new one" in line["event"] for line in log_of(server))
        assert client.download("a.csv")[1] == DATA
        assert client.upload("b.csv", DATA)["type"] == "uploaded"
        assert "unexpectedly" not in server.log.read_text()
