"""The messages between connections and the processor, so that neither depends on the other.

    connection ── Connect, Command(…, ask), Disconnect ──> inbox of the processor
    connection <── Port.deliver(request, reply) ───────── processor

The inbox is bounded: a connection that sends too many commands waits. Delivering a reply never waits.
"""

from pathlib import Path
from typing import Protocol, TypeAlias

import attrs

from creemson.jobs.events import Accepted, Ended, Logged, Progressed
from creemson.model.query import Options, Query, View
from creemson.model.results import Described, JobInfo, ResultData, Window

__all__ = [
    "HTTP",
    "Ask",
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
    "InboxMessage",
    "JobsListed",
    "ListJobs",
    "Port",
    "ReadColumns",
    "ReadRows",
    "Reply",
    "RowsRead",
    "StopLookUp",
    "Submit",
    "mark_cached",
    "result_of",
]


HTTP = "http-"
"""How the connection ids of HTTP requests begin; each request has its own."""


# --- what the processor can be asked for -------------------------------------------------------------


@attrs.frozen
class Submit:
    """Run a query as a job, or return the result of an equal job.

    Attributes:
        query: the work.
        timeout: maximum seconds for the job; None uses the settings.
        keep: whether the job continues when its connection ends.
    """

    query: Query
    timeout: float | None
    keep: bool

    def timeout_within(self, limit: float) -> float:
        """Return the maximum seconds for the job, which are never more than this limit."""
        return limit if self.timeout is None else min(limit, self.timeout)


@attrs.frozen
class Attach:
    """Follow a job: replay its events with a number above ``after``, then send the new ones."""

    job: str
    after: int


@attrs.frozen
class ListJobs:
    """List the caller's jobs."""


@attrs.frozen
class CancelJob:
    """Stop a job, for all requests that wait for it."""

    job: str


@attrs.frozen
class CancelRequest:
    """Stop the look-up of ``other``, the number of another request of this connection, or stop waiting for its job."""

    other: int


@attrs.frozen
class StopLookUp:
    """Stop the look-up of ``other``, a request that has been answered already; there is no reply."""

    other: int


@attrs.frozen
class ReadColumns:
    """Read the columns of a file.

    ``of_upload``: the file has just been uploaded; the request is not refused, however many wait.
    """

    filename: str
    options: Options | None = None
    of_upload: bool = False


@attrs.frozen
class ReadRows:
    """Read ``limit`` rows of a view of a table, from its row ``offset`` on; ``texts``: cells as a CSV shows them."""

    filename: str
    offset: int
    limit: int
    options: Options | None = None
    texts: bool = False
    view: View = attrs.field(factory=View)


@attrs.frozen
class FindFile:
    """Find a file for download; an output that exists only in another format is rendered first."""

    filename: str


Ask: TypeAlias = (
    Submit | Attach | ListJobs | CancelJob | CancelRequest | StopLookUp | ReadColumns | ReadRows | FindFile
)


# --- what the processor replies ----------------------------------------------------------------------


@attrs.frozen
class Cancelled:
    """The job is being stopped, or the request no longer waits for it; a look-up has no job."""

    job: str | None


@attrs.frozen
class ColumnsRead:
    """The columns of a file, and how the file is read."""

    described: Described


@attrs.frozen
class RowsRead:
    """A window of a table."""

    window: Window


@attrs.frozen
class FileReady:
    """The path of a file's bytes."""

    path: Path


@attrs.frozen
class JobsListed:
    """The caller's jobs, newest first."""

    jobs: tuple[JobInfo, ...]


Reply: TypeAlias = (
    Accepted | Progressed | Logged | Ended | Cancelled | ColumnsRead | RowsRead | FileReady | JobsListed
)
"""``Accepted``, ``Progressed`` and ``Logged`` are interim; every request ends with exactly one other reply."""


def mark_cached(data: ResultData, *, cached: bool = True) -> ResultData:
    """Return the result with ``cached`` set: whether it is served from cache."""
    if data.output_data.cached == cached:
        return data
    return attrs.evolve(data, output_data=attrs.evolve(data.output_data, cached=cached))


def result_of(ended: Ended) -> ResultData:
    """Return the result of a job that is done; it says whether it is served from cache."""
    return mark_cached(ended.value, cached=ended.cached)


# --- the envelope ------------------------------------------------------------------------------------


class Port(Protocol):
    """A connection, as the processor sees it."""

    def deliver(self, request: int, reply: Reply) -> None:
        """Handle a reply to a request, without waiting."""


@attrs.frozen
class Connect:
    """Registers a connection and its port."""

    connection: str
    port: Port


@attrs.frozen
class Disconnect:
    """Removes a connection; nothing is delivered to its port afterwards."""

    connection: str


@attrs.frozen
class Command:
    """One request to the processor.

    Attributes:
        connection: id of the connection that gets the replies.
        request: number of the request, unique within the connection.
        caller: name of the caller.
        ask: what the processor must do.
    """

    connection: str
    request: int
    caller: str
    ask: Ask


InboxMessage: TypeAlias = Connect | Disconnect | Command
