"""What connections and the processor say to each other, so that neither needs to know the other.

A connection sends commands to the processor's inbox; the processor answers through the connection's
:class:`Port`, which never makes it wait.
"""

from pathlib import Path
from typing import Protocol, TypeAlias

import attrs

from creemson.processing.jobs import Accepted, Ended, Logged, Progressed
from creemson.wire.messages import Described, JobInfo, Options, Query, ResultData, Window

__all__ = [
    "Attach",
    "CancelJob",
    "CancelRequest",
    "Cancelled",
    "ColumnsRead",
    "Command",
    "Connect",
    "Disconnect",
    "FileReady",
    "FindFile",
    "JobsListed",
    "ListJobs",
    "Port",
    "ReadColumns",
    "ReadRows",
    "Reply",
    "RowsRead",
    "Submit",
    "from_store",
    "result_of",
]


@attrs.frozen
class Cancelled:
    """The job is being stopped, or no longer waited for."""

    job: str


@attrs.frozen
class ColumnsRead:
    """The columns of a file, and how it is read."""

    described: Described


@attrs.frozen
class RowsRead:
    """A window of a table."""

    window: Window


@attrs.frozen
class FileReady:
    """Where the bytes of a file are."""

    path: Path


@attrs.frozen
class JobsListed:
    """The caller's jobs, the newest first."""

    jobs: tuple[JobInfo, ...]


Reply: TypeAlias = (
    Accepted | Progressed | Logged | Ended | Cancelled | ColumnsRead | RowsRead | FileReady | JobsListed
)
"""Every request ends in exactly one of these; ``Accepted``, ``Progressed`` and ``Logged`` come before."""


def from_store(data: ResultData, *, cached: bool = True) -> ResultData:
    """The same result, saying that it was answered from store."""
    if data.output_data.cached == cached:
        return data
    return attrs.evolve(data, output_data=attrs.evolve(data.output_data, cached=cached))


def result_of(ended: Ended) -> ResultData:
    """The result of a job that is done, which says whether it was answered from store."""
    return from_store(ended.value, cached=ended.cached)


class Port(Protocol):
    """A connection, as the processor sees it."""

    def deliver(self, request: int, reply: Reply) -> None:
        """Take a reply to a request, at once and without waiting."""


@attrs.frozen
class Connect:
    """A connection is there, and its port."""

    connection: str
    port: Port


@attrs.frozen
class Disconnect:
    """The connection is gone. Nothing is delivered to its port any more."""

    connection: str


@attrs.frozen
class Submit:
    """Have a job done, or told what it made."""

    connection: str
    request: int
    caller: str
    query: Query
    timeout: float | None
    keep: bool


@attrs.frozen
class Attach:
    """Follow a job from the events after ``after`` on."""

    connection: str
    request: int
    caller: str
    job: str
    after: int


@attrs.frozen
class ListJobs:
    """Find out the caller's jobs."""

    connection: str
    request: int
    caller: str


@attrs.frozen
class CancelJob:
    """Stop a job for everyone who waits for it."""

    connection: str
    request: int
    caller: str
    job: str


@attrs.frozen
class CancelRequest:
    """Stop waiting for the job of the request ``other``."""

    connection: str
    request: int
    other: int


@attrs.frozen
class ReadColumns:
    """Find out the columns of a file."""

    connection: str
    request: int
    caller: str
    filename: str
    options: Options | None = None


@attrs.frozen
class ReadRows:
    """Find out a window of a table."""

    connection: str
    request: int
    caller: str
    filename: str
    offset: int
    limit: int
    options: Options | None = None


@attrs.frozen
class FindFile:
    """Find a file for download; an output is rendered first where the name asks for another format."""

    connection: str
    request: int
    caller: str
    filename: str


Command: TypeAlias = (
    Connect
    | Disconnect
    | Submit
    | Attach
    | ListJobs
    | CancelJob
    | CancelRequest
    | ReadColumns
    | ReadRows
    | FindFile
)
