"""Schedulers that a server refuses to use: it says so at its start, with what to do."""

import socket

import pytest

from creemson.executors.dask.tls import create_certificates
from tests.executors.dask.clusters import Cluster
from tests.objectstores import free_port
from tests.servers import refused_start

pytestmark = pytest.mark.slow
OTHER_VERSION = (
    "-c",
    "import importlib.metadata as metadata\n"
    "version = metadata.version\n"
    "metadata.version = lambda name: '1999.1.0' if name == 'distributed' else version(name)\n"
    "from creemson.__main__ import run; run()",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler with TLS, and no workers."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start_scheduler()
        yield found
    finally:
        found.stop()


def test_scheduler_that_does_not_run_is_named(cluster, tmp_path):
    """With what to check."""
    address = f"tls://127.0.0.1:{free_port()}"
    words = refused_start(tmp_path / "data", *cluster.settings(dask_scheduler=address))
    assert f"{address} cannot be reached" in words
    assert "processing.dask_scheduler" in words


def test_scheduler_that_says_nothing_is_given_up(cluster, tmp_path):
    """It accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        words = refused_start(tmp_path / "data", *cluster.settings(dask_scheduler=address))
    assert "cannot be reached (no answer within 8 s)" in words


def test_scheduler_without_tls_on_another_machine_is_refused(tmp_path):
    """Without a connection to it."""
    options = ("--set", "processing.engine=dask", "--set", "processing.dask_scheduler=tcp://192.0.2.1:8786")
    words = refused_start(tmp_path / "data", *options)
    assert "not encrypted" in words
    assert "--tls-create" in words


def test_scheduler_with_tls_is_refused_by_a_server_without(cluster, tmp_path):
    """Or with the certificate of another authority."""
    plain = cluster.address.replace("tls:", "tcp:")
    options = ("--set", "processing.engine=dask", "--set", f"processing.dask_scheduler={plain}")
    foreign = create_certificates(tmp_path / "foreign")
    certificates = {"dask_ca": foreign.ca, "dask_cert": foreign.cert, "dask_key": foreign.key}
    for given in (options, cluster.settings(**certificates)):
        assert "TLS files of the same authority" in refused_start(tmp_path / "data", *given)


def test_scheduler_of_another_version_is_refused(cluster, tmp_path):
    """Both versions are named."""
    words = refused_start(tmp_path / "data", *cluster.settings(), program=OTHER_VERSION)
    assert "and this server has 1999.1.0" in words
    assert "Install the same version" in words
