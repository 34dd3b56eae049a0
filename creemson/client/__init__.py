"""Who asks: the client library. It knows the wire and nothing of the server."""

from creemson.client.connection import Client, ConnectionState, connect
from creemson.client.jobs import Job, Progress
from creemson.client.lending import PoolStatistics
from creemson.client.pool import ConnectionPool
from creemson.client.result import Result

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
