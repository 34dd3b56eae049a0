"""Random kill -9 while copies of files are made and used, and full disks: no wrong answer, no half copy, no orphan.

The seed decides the plan (not the timing). It is always the same, unless ``CHAOS_SEED`` sets another.
"""

import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress

import polars as pl
import psutil
import pytest

from tests.faults.disks import full, small_disk
from tests.faults.test_chaos import Mortal
from tests.integration.test_background_imports import large_csv, listed, metric, process
from tests.servers import serving, wait_until

FILES = 3
ROWS = 300_000
COPY = {"rows.parquet", "table.json", "issues.json"}


def write_table(path, number):
    """Write a file with a cell that does not fit its column near its end."""
    with path.open("w") as stream:
        stream.write("n,text,size\n")
        stream.writelines(f"{n * number},x{n % 1009},{n % 7}\n" for n in range(ROWS))
        stream.write("1,x,what\n")


def check(server, number, rng):
    """Run a job that has not run before, and compare its result with what the file says."""
    least = rng.randrange(ROWS)
    answer = process(
        server,
        filename=f"{number}.csv",
        selectedColumns=["size"] if least % 2 else ["n", "size"],
        where=[["n", ">=", least * number]],
        preview=3,
    )
    assert answer["rows"] == ROWS - least
    assert answer["preview"][0][-1] == least % 7
    assert answer["issues"]["unparsable_cells"] == 1
    assert answer["issues"]["examples"][0]["line"] == ROWS + 2


def copies(server):
    """The folders of copies, which must be complete."""
    folder = server.data_dir / "tables"
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in found:
        with suppress(FileNotFoundError):  # it was removed with a version, or to make room
            names = {entry.name for entry in path.iterdir()}
            assert {"rows.parquet", "table.json"} <= names <= COPY, names
            assert (
                pl.scan_parquet(path / "rows.parquet", glob=False).select(pl.len()).collect().item()
                == ROWS + 1
            )
    return found


def strike(mortal, rng):
    """Kill the server, or a worker; it may be making a copy, reading one, or have nothing to do."""
    if rng.random() < 0.4:
        mortal.die(signal.SIGKILL)
        return
    with suppress(psutil.NoSuchProcess, IndexError):
        rng.choice(mortal.server.workers()).kill()


@pytest.mark.slow
def test_kills_during_imports_cause_no_wrong_answer_and_no_half_copy(tmp_path):
    """A killed import is lost; the next ones are complete, and all answers are those of the files."""
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    sys.stdout.write(f"{seed=}")
    rng = random.Random(seed)
    mortal, checked = Mortal(tmp_path / "data", "retries.job=50"), 0
    mortal.start()
    try:
        uploads = mortal.server.data_dir / "uploads"
        for number in range(1, FILES + 1):
            write_table(uploads / f"{number}.csv", number)
        for kill in range(50):
            number = rng.randint(1, FILES)
            if rng.random() < 0.2:  # a new version of the file; the copy of the old one must not be used
                write_table(uploads / f"{number}.csv", number)
            check(mortal.server, number, rng)
            checked += 1
            timer = None
            if rng.random() < 0.5:  # under load: the job's worker dies, too, and it is tried again
                timer = threading.Timer(rng.uniform(0, 0.3), strike_worker, (mortal, rng.randrange(4)))
                timer.start()
                check(mortal.server, number, rng)
                timer.join()
            else:
                time.sleep(rng.uniform(0, 2.5))  # an import begins 0.2 or 2 s after the last job
                strike(mortal, rng)
            if kill % 10 == 9:
                copies(mortal.server)
        server = mortal.server
        for number in range(1, FILES + 1):
            check(server, number, rng)
            check(server, number, rng)
        time.sleep(1)
        mortal.die(signal.SIGKILL)
        server = mortal.server
        wait_until(
            lambda: not any(path.name.startswith(".") for path in (server.data_dir / "tables").iterdir())
        )
        known = {info["filename"]: info for info in listing(server)}
        wait_until(lambda: len(copies(server)) == metric(server, "creemson_tables")[0])
        assert all(info.get("rows", ROWS + 1) == ROWS + 1 for info in known.values())
        for number in range(1, FILES + 1):
            check(server, number, rng)
        assert "Traceback" not in server.log.read_text()
    finally:
        mortal.close()
    sys.stdout.write(f" {checked=} {mortal.deaths=}")


def strike_worker(mortal, index):
    """Kill a worker."""
    with suppress(psutil.NoSuchProcess, IndexError):
        mortal.server.workers()[index].kill()


def listing(server):
    """The uploaded files."""
    with server.connect() as client:
        return client.ask({"type": "files", "id": "f"})["files"]


def test_full_disk_loses_only_the_import(tmp_path):
    """The file that is imported stays as it is, and no part of a copy stays; jobs work as before."""
    with small_disk(tmp_path / "disk", 30) as disk:
        data = disk / "data"
        with serving(data) as server:
            large_csv(data / "uploads" / "a.csv")
            with full(disk, leave=1_500_000):  # less than the reserve, so nothing is written
                wait_until(lambda: server.process.poll() is None)
                with server.connect() as client:
                    ask = {"type": "rows", "id": "r", "filename": "a.csv", "offset": 59_999, "limit": 5}
                    assert client.ask(ask)["total"] == 60_001
                    assert client.ask(ask)["total"] == 60_001
                wait_until(lambda: metric(server, "creemson_imports_total") == [1.0])
                assert list((data / "tables").iterdir()) == []
                assert listed(server)["imported"] is False
            assert process(server, selectedColumns=["b"])["rows"] == 60_001
