"""The workers of one machine."""

import psutil


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
