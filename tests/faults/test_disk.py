"""Disks that are full or read-only: clear errors, no partial files, and full recovery afterwards."""

import os
import random
import subprocess
import sys
from contextlib import contextmanager

import httpx
import polars as pl
import pytest

from tests.faults.disks import full, mounted, run, small_disk
from tests.servers import PATIENCE, serving, wait_until

MEGABYTES = 24
DATA = b"a,b\n" + b"1,2\n" * 200_000


@pytest.fixture
def server(tmp_path):
    """A server whose data folder is a small separate disk."""
    with (
        small_disk(tmp_path / "data", MEGABYTES) as disk,
        serving(disk, "--set", "processing.workers=1") as server,
    ):
        yield server
        assert "unexpectedly" not in server.log.read_text()


def url(server, path):
    return f"http://127.0.0.1:{server.port}{path}"


def leftovers(server):
    """Return partial files."""
    return [
        path
        for folder in ("uploads", "outputs", "parts")
        for path in (server.data_dir / folder).iterdir()
        if path.name.startswith(".")
    ]


def room(server):
    """Return the free bytes."""
    disk = os.statvfs(server.data_dir)
    return disk.f_bavail * disk.f_frsize


def healthy(server):
    return httpx.get(url(server, "/healthz")).status_code == 200


def test_upload_to_full_disk_is_refused(server):
    """Before any byte if the size is known, otherwise at the chunk that does not fit."""
    with server.connect() as client:
        with full(server.data_dir, leave=2**20):
            early = client.upload("big.csv", bytes(2**22))
            assert (early["reason"], early["code"], early["retryable"]) == ("storage_full", 1003, True)
        assert client.ask({"type": "upload", "id": "up", "filename": "a.csv", "size": 2**22})["offset"] == 0
        with full(server.data_dir, leave=2**20):
            for _ in range(4):
                client.send(random.Random(1).randbytes(2**20))
            late = client.until("uploaded", "error")[-1]
            assert (late["reason"], late["code"]) == ("storage_full", 1003)
            assert httpx.post(url(server, "/upload"), files={"file": ("h.csv", DATA * 3)}).status_code == 507
            assert healthy(server)
        with (
            server.connect() as again
        ):  # the first client gets an error for each chunk sent after the failure
            assert again.upload("a.csv", DATA, overwrite=True)["type"] == "uploaded"
        answer = httpx.post(url(server, "/upload"), files={"file": ("h.csv", DATA)})
        assert answer.status_code == 200
    assert leftovers(server) == []
    assert (server.data_dir / "uploads" / "a.csv").read_bytes() == DATA


def test_job_with_output_on_full_disk_fails(server):
    """The error is `storage_full`, also over HTTP; the same job succeeds once there is room."""
    numbers = pl.int_range(300_000, eager=True)
    pl.DataFrame({"n": numbers, "h": numbers.hash()}).write_parquet(server.data_dir / "uploads" / "n.parquet")
    with server.connect() as client:
        with full(server.data_dir, leave=2**20):
            error = client.run(filename="n.parquet", sort=[["h", "asc"]])
            assert (error["type"], error["reason"], error["code"]) == ("error", "storage_full", 1003)
            legacy = {"filename": "n.parquet", "selectedColumns": [0, 1]}
            answer = httpx.post(url(server, "/process"), json=legacy, timeout=PATIENCE)
            assert (answer.status_code, answer.json()["code"]) == (507, 1003)
            assert healthy(server)
            assert leftovers(server) == []
        assert client.run(filename="n.parquet", sort=[["h", "asc"]])["data"]["output_data"]["rows"] == 300_000


@pytest.mark.slow
def test_rendering_on_full_disk_fails_and_leaves_nothing(server):
    """A result of kilobytes may be a CSV of gigabytes: it stops before the disk is full."""
    with server.connect() as client:
        small = server.data_dir / "uploads" / "zeros.parquet"
        pl.select(pl.repeat(0, 200_000_000, dtype=pl.Int8).alias("zero")).write_parquet(small)
        done = client.run(filename="zeros.parquet")["data"]["output_data"]
        before = room(server)
        error = client.download(done["final_filename_csv"])[0]
        assert (error["type"], error["reason"], error["code"]) == ("error", "storage_full", 1003)
        answer = httpx.get(url(server, f"/download/{done['final_filename_csv']}"), timeout=PATIENCE)
        assert answer.status_code == 507
        assert leftovers(server) == []
        wait_until(lambda: room(server) > before - 2**20)  # a file system may free space with a delay
        assert [path.suffix for path in (server.data_dir / "outputs").iterdir()] == [".parquet"]
        answer = client.run(filename="zeros.parquet", limit=3)
        assert answer["type"] == "result", answer
        head = answer["data"]["output_data"]
        assert client.download(head["final_filename_csv"])[1].split() == [b"zero", b"0", b"0", b"0"]


def test_catalog_on_full_disk_refuses_new_work(server):
    """Without a free byte nothing new is accepted; files can be read and deleted, which frees space."""
    with server.connect() as client:
        client.upload("a.csv", DATA)
        server.put("by-hand.csv")
        with full(server.data_dir):
            refused = [client.run(filename="a.csv", limit=number + 1) for number in range(20)]
            assert {end.get("reason") for end in refused} == {"storage_full"}
            assert client.ask({"type": "upload", "id": "u", "filename": "b.csv", "size": 1})["reason"] == (
                "storage_full"
            )
            assert client.download("a.csv")[1] == DATA
            first, data, last = client.download("by-hand.csv")  # its digest cannot be recorded
            assert (first["size"], last["type"]) == (len(data), "downloaded")
            assert client.ask({"type": "columns", "id": "c", "filename": "a.csv"})["type"] == "columns"
            assert healthy(server)
            assert client.ask({"type": "delete", "id": "d", "filename": "a.csv"})["type"] == "deleted"
        assert client.run(filename="by-hand.csv", limit=1)["type"] == "result"
        names = {entry["filename"] for entry in client.ask({"type": "files", "id": "f"})["files"]}
        assert names == {"by-hand.csv"}
    assert leftovers(server) == []


# --- read-only ---------------------------------------------------------------------------------


def test_start_on_read_only_folder_is_refused(tmp_path):
    """Exit status 1 and one line that names the folder and the remedy."""
    data = tmp_path / "data"
    with mounted(data, "-t", "tmpfs", "-o", "size=1m,ro", "none"):
        command = [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", data]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert str(data) in done.stderr
    assert "--data-dir" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def unwritable(server):
    """Make the folders immutable, as on a disk remounted read-only."""
    folders = [server.data_dir / name for name in ("uploads", "outputs", "parts")]
    try:
        if not run("chattr", "+i", *folders):
            pytest.skip(
                "folders cannot be made immutable here (chattr(1)): run the test as root, on ext4 or xfs"
            )
        yield
    finally:
        run("chattr", "-i", *folders)


@pytest.mark.slow
def test_folders_that_become_read_only_fail_writes_only(tmp_path):
    """Writes fail without revealing a server path, reads continue, and everything recovers."""
    with serving(tmp_path / "data", "--set", "processing.workers=1") as server, server.connect() as client:
        client.upload("a.csv", DATA)
        with unwritable(server):
            ends = [
                client.run(filename="a.csv", limit=1),
                client.upload("b.csv", DATA),
                client.ask({"type": "delete", "id": "d", "filename": "a.csv"}),
            ]
            for end in ends:
                assert (end["type"], end["code"]) == ("error", 1003)
                assert "read-only" in end["message"]
                assert str(tmp_path) not in end["message"]
            assert httpx.post(url(server, "/upload"), files={"file": ("h.csv", DATA)}).status_code == 500
            assert client.download("a.csv")[1] == DATA
            assert client.ask({"type": "columns", "id": "c", "filename": "a.csv"})["type"] == "columns"
            assert healthy(server)
        assert client.run(filename="a.csv", limit=1)["type"] == "result"
        assert client.upload("b.csv", DATA)["type"] == "uploaded"
        assert client.ask({"type": "delete", "id": "d", "filename": "a.csv"})["type"] == "deleted"
        assert leftovers(server) == []
        assert "unexpectedly" not in server.log.read_text()


@pytest.mark.slow
def test_disk_remounted_read_only_fails_writes_only(tmp_path):
    """Linux does this to a file system with errors, with files open: no crash, and reads continue."""
    image, disk = tmp_path / "image", tmp_path / "data"
    with image.open("wb") as stream:
        stream.truncate(32 * 2**20)
    if not run("mkfs.ext4", "-q", image):
        pytest.skip("there is no mkfs.ext4(8)")
    with mounted(disk, "-o", "loop,errors=remount-ro", image):
        device = os.path.basename(  # noqa: PTH119 - no path of a file
            subprocess.run(
                ["findmnt", "-no", "SOURCE", disk], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        with serving(disk, "--set", "processing.workers=1") as server, server.connect() as client:
            client.upload("a.csv", DATA)
            server.put("by-hand.csv")
            assert client.run(filename="a.csv", limit=1)["type"] == "result"
            run("sync", "-f", disk)
            try:
                with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w") as trigger:  # noqa: PTH123
                    trigger.write("a test")
            except OSError:
                pytest.skip("this kernel cannot simulate a file system error")
            for end in (
                client.run(filename="a.csv", limit=2),
                client.upload("b.csv", DATA),
                client.ask({"type": "delete", "id": "d", "filename": "a.csv"}),
            ):
                assert (end["type"], end["code"]) == ("error", 1003)
            assert client.download("a.csv")[1] == DATA
            assert client.download("by-hand.csv")[2]["type"] == "downloaded"
            assert healthy(server)
            assert server.stop() == 0
            assert "unexpectedly" not in server.log.read_text()
    run("fsck.ext4", "-fy", image)
    with mounted(disk, "-o", "loop", image), serving(disk) as server, server.connect() as client:
        wait_until(lambda: client.run(filename="a.csv", limit=2)["type"] == "result")
        assert client.download("a.csv")[1] == DATA
