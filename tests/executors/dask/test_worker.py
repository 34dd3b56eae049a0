"""The workers of one machine."""

import psutil


def test_worker_process_has_the_environment_of_one_on_the_servers_machine(cluster):
    """Dask would set how memory is returned and how many threads libraries use, which costs CPU time."""
    for process in cluster.engine_processes():
        assert not {"MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS"} & process.environ().keys()


def test_workers_of_a_scheduler_on_this_machine_cannot_be_reached_from_others(cluster):
    """All that they listen on is on the address that reaches the scheduler, or on this machine only."""
    workers = psutil.Process(cluster.workers.pid)
    listening = {
        connection.laddr.ip
        for process in (workers, *workers.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
