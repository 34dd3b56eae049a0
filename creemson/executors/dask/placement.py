"""Decides which commands go to the cluster.

A command on the cluster takes some 10 ms more than one on this machine, and its worker has no warm caches of the file.
So small commands stay here, unless all workers here are busy and one of the cluster is free. Large ones never run here:
this machine may have less memory than the cluster.
"""

from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qs

import attrs

from creemson.executors.commands import WorkerCommand
from creemson.storage.names import is_remote

__all__ = ["Load", "Place", "for_cluster", "place", "size_of"]

Place: TypeAlias = Literal["local", "cluster"]


@attrs.frozen
class Load:
    """How many commands run, of those that this server has started.

    Attributes:
        local: number of commands on this machine.
        local_size: number of its workers.
        cluster: number of commands on the cluster, those that wait for a worker there included.
        cluster_size: number of its workers.
    """

    local: int
    local_size: int
    cluster: int
    cluster_size: int


def place(command: WorkerCommand, least: int, load: Load) -> Place:
    """Decide where a command runs.

    Args:
        command: the command.
        least: bytes of its file from which on it runs on the cluster.
        load: what runs now.
    """
    if is_remote(command["source"]) and "target" in command and not is_remote(command["target"]):
        return "local"  # with an object store, workers need not see the folder of the server
    if size_of(command) >= least:
        return "cluster"
    is_full = load.local >= load.local_size
    return "cluster" if is_full and load.cluster < load.cluster_size else "local"


def for_cluster(command: WorkerCommand) -> WorkerCommand:
    """Return a command as the workers of the cluster get it: with the objects of a columnar copy, if it has some.

    >>> for_cluster({"op": "run", "copy": "/data/tables/1", "shared_copy": "s3://bucket/tables/1"})
    {'op': 'run', 'copy': 's3://bucket/tables/1'}
    """
    shared = command.get("shared_copy")
    if shared is None:
        return command
    return {
        **{name: value for name, value in command.items() if name != "shared_copy"},
        "copy": shared,
    }


def size_of(command: WorkerCommand) -> int:
    """Return the bytes of the file that a command reads; 0 if it does not exist.

    >>> size_of({"source": "s3://bucket/key?name=a.csv&size=17&piece=0"})
    17
    """
    source: str = command["source"]
    if is_remote(source):  # see creemson.storage.objects.address
        return int(parse_qs(source.partition("?")[2]).get("size", ["0"])[0])
    try:
        return Path(source).stat().st_size
    except OSError:
        return 0
