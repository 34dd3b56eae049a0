"""The client library: trio and synchronous clients, and a pool of connections. It does not use the server's code."""

from creemson.client.client import Client, connect
from creemson.client.job import Job, Progress
from creemson.client.pool import ConnectionPool
from creemson.client.pool_state import PoolStatistics
from creemson.client.result import Result
from creemson.client.session import ConnectionState

__all__ = [
    "Client",
    "ConnectionPool",
    "ConnectionState",
    "Job",
    "PoolStatistics",
    "Progress",
    "Result",
    "connect",
]
