"""A server inside another program."""

import os
import subprocess
import sys

import psutil
import pytest
import trio

from creemson.client import connect
from creemson.errors import CreemsonError
from creemson.logs import get_logger
from creemson.server.embedded import embedded, temporary
from creemson.server.engines import make_engine
from creemson.server.first_worker import first_worker
from creemson.settings.checks import differences
from creemson.settings.load import load
from creemson.settings.sections import Settings


async def test_embedded_server_starts_one_worker_for_a_job_and_its_look_ups():
    """A start of a worker takes half a second of CPU; an upload, its columns and a job need no second one."""
    before = set(psutil.Process(os.getpid()).children())
    async with embedded() as url, connect(url) as client:
        await client.upload(b"city,population\nOslo,709037\n", name="cities.csv")
        result = await client.process("cities.csv", columns=["city"])
        assert result.rows == 1
        started = set(psutil.Process(os.getpid()).children()) - before
        assert len(started) == 1
    assert not any(process.is_running() for process in started)


WITHOUT_EXTRAS = """
import sys
from pathlib import Path
import psutil, trio
from creemson.client import connect
from creemson.errors import CreemsonError
from creemson.server.embedded import embedded, temporary

async def main():
    async with embedded() as url, connect(url) as client:
        await client.upload(b"city,population\\nOslo,709037\\n", name="cities.csv")
        await client.process("cities.csv", columns=["city"])
        print(*sys.modules)
        (worker,) = psutil.Process().children()
        print(*{line.rpartition("/")[2] for line in Path(f"/proc/{worker.pid}/maps").read_text().split("\\n")})

trio.run(main)
"""


def test_server_on_one_machine_loads_nothing_of_clusters_and_object_stores():
    """Neither the libraries of the extras nor the modules that use them; nor does its worker."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], check=True, capture_output=True, text=True)
    modules, libraries = (set(line.split()) for line in ran.stdout.splitlines())
    assert "creemson.server.server" in modules
    assert not {name.partition(".")[0] for name in modules} & {"dask", "distributed", "obstore", "tornado"}
    own = ("creemson.executors.dask", "creemson.storage.objects")
    assert [name for name in modules if name.startswith(own)] == []
    assert any("polars" in name for name in libraries)
    assert [name for name in libraries if "obstore" in name] == []


def test_engine_of_a_few_callers_has_one_executor_with_a_spare_worker():
    """Jobs take all slots but the spare one, which is left for look-ups."""
    settings = Settings()
    engine = make_engine(settings, get_logger("test"), few_callers=True)
    assert engine.all == (engine.workers,)
    assert engine.workers.size == settings.processing.workers + 1
    assert len(make_engine(settings, get_logger("test")).all) == 2


def test_import_of_the_embedded_server_does_not_import_the_server():
    """The server is imported while its worker starts, which saves the time of the import."""
    code = "import sys, creemson.cli.processing, creemson.api; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(ran.stdout.split()) & {"creemson.server.server", "starlette", "structlog"}


async def test_embedded_server_uses_the_worker_that_was_started_before():
    """It is the only worker, and ends with the server."""
    before = set(psutil.Process().children())
    spawned = first_worker(Settings())
    async with embedded(worker=spawned) as url, connect(url) as client:
        await client.upload(b"city,population\nOslo,709037\n", name="cities.csv")
        assert (await client.process("cities.csv")).rows == 1
        assert set(psutil.Process().children()) - before == {psutil.Process(spawned.process.pid)}
    assert spawned.process.returncode is not None


async def test_worker_ends_if_the_server_does_not_start():
    """The caller is cancelled while the server is imported."""
    this = psutil.Process()
    before = this.children()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with embedded():
            pytest.fail("it has started")
    assert scope.cancelled_caught
    assert this.children() == before


OF_A_SERVER = {
    "server.host": "0.0.0.0",
    "server.tls_cert": "chain.pem",
    "server.tls_key": "key.pem",
    "auth.mode": "token",
    "storage.url": "s3://bucket/tables",
    "catalog.url": "postgresql://127.0.0.1:9/creemson",
    "processing.engine": "dask",
    "processing.dask_scheduler": "tls://10.0.0.1:8786",
}
"""Settings of a server for other machines."""


async def test_temporary_server_ignores_what_is_for_other_machines(tmp_path):
    """A command works in a folder that has the file of settings of such a server; limits apply."""
    overrides = [*(f"{key}={value}" for key, value in OF_A_SERVER.items()), "limits.upload_bytes=100"]
    settings = load(config=None, environ={}, overrides=overrides).settings
    async with embedded(settings) as url, connect(url) as client:
        await client.upload(b"city,population\nOslo,709037\n", name="cities.csv")
        assert (await client.process("cities.csv")).rows == 1
        with pytest.raises(CreemsonError) as caught:
            await client.upload(b"a" * 101, name="long.csv")
    assert caught.value.reason == "upload_too_large"


def test_settings_of_the_temporary_server_are_defaults_where_they_are_for_other_machines(tmp_path):
    """Whatever such a setting is."""
    overrides = [*(f"{key}={value}" for key, value in OF_A_SERVER.items()), "storage.tables=never"]
    found = temporary(load(config=None, environ={}, overrides=overrides).settings, tmp_path)
    changed = set(differences(Settings(), found)) - {"processing.dask_scheduler"}
    assert changed == {"server.port", "storage.data_dir", "storage.tables"}


def test_first_worker_that_cannot_be_started_is_left_to_the_server(monkeypatch):
    """The server tells why, and tries again."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert first_worker(Settings()) is None
