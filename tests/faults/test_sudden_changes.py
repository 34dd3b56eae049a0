"""Sudden changes under a running server: its files, the clock, and termination under load."""

import os
import random
import signal
import subprocess
import time

import httpx
import pytest

from tests.servers import SAMPLE, serving, wait_until

DAY = 86_400.0
CLOCKWORK = """
import sys, time
from pathlib import Path

OFFSET = Path(sys.argv.pop(1))
true = time.time

def shifted():
    return true() + float(OFFSET.read_text())

time.time = shifted  # before anything imports it

import creemson.server.server
creemson.server.housekeeping.SWEEP_INTERVAL = 0.1

from creemson.cli import main
sys.argv[0] = "creemson"
main()
"""
"""A server whose wall clock is shifted by the value in a file, and which sweeps ten times a second."""


# --- files that change -------------------------------------------------------------------------------


def by_hand(path, _):
    path.unlink()


def by_delete(path, client):
    assert client.ask({"type": "delete", "id": "d", "filename": path.name})["type"] == "deleted"


def replaced(path, _):
    other = path.with_name(".other")
    other.write_bytes(SAMPLE.read_bytes())
    other.replace(path)


def cut_short(path, _):
    os.truncate(path, path.stat().st_size // 3)


def overwritten(path, _):
    with path.open("r+b") as stream:
        stream.write(random.Random(1).randbytes(path.stat().st_size // 4))


@pytest.mark.slow
@pytest.mark.parametrize("change", [by_hand, by_delete, replaced, cut_short, overwritten])
def test_job_on_a_changing_file_ends(tmp_path, slow_csv, change):
    """With a result or an error; the server and the next job are unaffected."""
    settings = ("--set", "processing.workers=1", "--set", "retries.job=1")
    with (
        serving(tmp_path / "data", *settings) as server,
        server.connect() as client,
        server.connect() as other,
    ):
        path = server.put("slow.csv", slow_csv)
        other.upload("next.csv", SAMPLE.read_bytes())
        client.send({"type": "process", "id": "job", "filename": "slow.csv", "sort": [["text", "asc"]]})
        client.until("progress")
        change(path, other)
        end = client.until("result", "error")[-1]
        assert end["type"] == "result" or end["code"] == 1003
        if end["type"] == "error":
            assert end["reason"] in ("file_changed", "file_not_found", "unreadable_file", "worker_died"), end
            assert str(tmp_path) not in end["message"]
        assert other.run(filename="next.csv", limit=2)["type"] == "result"
        if not path.exists():
            assert other.run(filename="slow.csv")["reason"] == "file_not_found"
        assert [path for path in (server.data_dir / "outputs").iterdir() if path.name.startswith(".")] == []
        assert "unexpectedly" not in server.log.read_text()


# --- the clock ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_clock_jump_disturbs_nothing(tmp_path):
    """By days, forward and back: nothing is swept, jobs and timeouts continue, pongs have the new time."""
    script, offset = tmp_path / "clockwork.py", tmp_path / "offset"
    script.write_text(CLOCKWORK)
    offset.write_text("0")
    settings = ("--set", "processing.workers=1", "--set", "storage.keep_outputs=3600")
    program = (str(script), str(offset))
    with serving(tmp_path / "data", *settings, program=program) as server, server.connect() as client:
        data = SAMPLE.read_bytes()
        client.upload("a.csv", data)
        output = client.run(filename="a.csv", limit=3)["data"]["output_data"]["filename"]
        with server.connect() as leaves:
            leaves.ask(
                {"type": "upload", "id": "u", "filename": "half.bin", "fingerprint": "f", "size": 2**20}
            )
            leaves.send(bytes(2**19))
            [part] = (server.data_dir / "parts").iterdir()
            wait_until(lambda: part.stat().st_size == 2**19)

        def jumps():
            return server.log.read_text().count("the clock jumped")

        for number, shift in enumerate((30 * DAY, 0.0, -30 * DAY, 0.0, DAY, -DAY)):
            other = tmp_path / "next-offset"
            other.write_text(str(shift))
            other.replace(offset)  # in one step, as the server reads it all the time
            wait_until(lambda expected=number + 1: jumps() == expected)
            server_time = client.ask({"type": "ping", "id": "p"})["time"]
            assert abs(server_time - (time.time() + shift)) < DAY / 2
            end = client.run(filename="a.csv", limit=10 + number, timeout=200)
            assert end["type"] == "result", end
            name = f"{number}.csv"
            assert client.upload(name, data)["type"] == "uploaded"
            status = httpx.get(f"http://127.0.0.1:{server.port}/status").json()
            assert 0 <= status["uptime_s"] < DAY / 2
            later = time.monotonic() + 0.3
            wait_until(lambda later=later: time.monotonic() > later)  # three more sweeps
            here = {
                path.name
                for folder in ("uploads", "outputs")
                for path in (server.data_dir / folder).iterdir()
            }
            assert {"a.csv", name, output, end["data"]["output_data"]["filename"]} <= here
            assert part.exists()
        slow = client.run(filename="a.csv", sort=[["species", "asc"]], timeout=0.001)
        assert slow.get("reason") in (None, "job_timeout")
        resumed = client.ask(
            {"type": "upload", "id": "u", "filename": "half.bin", "fingerprint": "f", "size": 2**20}
        )
        assert resumed["offset"] == 2**19
        assert '"swept"' not in server.log.read_text()
        assert "Traceback" not in server.log.read_text()


# --- termination under load -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number_of_jobs", [12])
def test_terminated_busy_server_loses_nothing(tmp_path, slow_csv, number_of_jobs):
    """SIGTERM during jobs, an upload and a download: exit 0, and each can be completed after a restart."""
    data_dir = tmp_path / "data"
    settings = ("--set", "processing.workers=2", "--set", "server.drain_timeout=0.5")
    size = 64 * 2**20
    with serving(data_dir, *settings) as server:
        server.put("slow.csv", slow_csv)
        big = data_dir / "uploads" / "big.bin"
        with big.open("wb") as stream:
            stream.truncate(400 * 2**20)
        with server.connect() as jobs, server.connect() as up, server.connect() as down:
            accepted = []
            for number in range(number_of_jobs):
                query = {"filename": "slow.csv", "sort": [["text", "asc"]], "limit": number + 1}
                jobs.send({"type": "process", "id": str(number), **query})
            while len(accepted) < number_of_jobs:
                accepted += [
                    message["job"] for message in jobs.until("accepted") if message["type"] == "accepted"
                ]
            assert (
                up.ask(
                    {"type": "upload", "id": "u", "filename": "half.bin", "fingerprint": "f", "size": size}
                )["offset"]
                == 0
            )
            for _ in range(8):
                up.send(bytes(2**20))
            [part] = (data_dir / "parts").iterdir()
            wait_until(lambda: part.stat().st_size == 8 * 2**20)
            down.send({"type": "download", "id": "d", "filename": "big.bin"})
            assert down.receive()["size"] == 400 * 2**20
            assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log.read_text()
    with (
        serving(data_dir, *settings, "--set", "server.drain_timeout=60") as server,
        server.connect() as client,
    ):
        listed = {job["job"]: job["state"] for job in client.ask({"type": "jobs", "id": "j"})["jobs"]}
        assert set(accepted) <= set(listed)
        for number, job in enumerate(accepted):
            client.send({"type": "attach", "id": job, "job": job})
            end = client.until("result", "error")[-1]
            assert end["type"] == "result", end
            assert end["data"]["output_data"]["rows"] == number + 1
        offset = client.ask(
            {"type": "upload", "id": "u", "filename": "half.bin", "fingerprint": "f", "size": size}
        )["offset"]
        assert offset == 8 * 2**20
        for _ in range(offset, size, 2**20):
            client.send(bytes(2**20))
        assert client.until("uploaded", "error")[-1]["size"] == size
        with server.connect() as again:
            again.send({"type": "download", "id": "d", "filename": "big.bin", "offset": 399 * 2**20})
            assert again.until_bytes_end()["type"] == "downloaded"
        assert (
            subprocess.run(["cmp", "-s", "-n", str(size), big, data_dir / "uploads" / "half.bin"]).returncode
            == 0
        )
        assert server.process.poll() is None
