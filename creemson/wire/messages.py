"""Every message of the wire protocol, as frozen attrs classes.

Attributes have the names of the fields on the wire. A field without a default is required; a field that equals its
default is omitted when the message is encoded. :data:`CLIENT_TYPES` and :data:`SERVER_TYPES` map ``type`` to a class,
by direction: some names (``columns``, ``download``, ``batch``…) are a request in one direction and its answer in the
other. What messages carry (queries, results, options) is in :mod:`creemson.model`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import attrs

from creemson.model.constraints import Bounds, FileName, Pattern
from creemson.model.query import MAX_ROWS, Count, Options, Query, Selection, View
from creemson.model.results import Column, FileInfo, Issues, JobInfo, LogLevel, Reading, ResultData

PROTOCOL_VERSION = 1
SUBPROTOCOL = "creemson.v1"
MAX_FINGERPRINT = 200
"""Maximum characters of a ``fingerprint``."""
MAX_ID_LENGTH = 128
"""Maximum characters of an ``id``."""

Id: TypeAlias = Annotated[str, Bounds(1, MAX_ID_LENGTH)]
Sha256: TypeAlias = Annotated[str, Pattern("[0-9a-fA-F]{64}", "64 hexadecimal digits")]


# --- from the client ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class LegacyRequest:
    """The request without ``type``, sent by the oldest clients."""

    filename: FileName
    selectedColumns: Selection
    id: Id | None = None

    def query(self) -> Query:
        """Return the query alone."""
        return Query(filename=self.filename, selectedColumns=self.selectedColumns)


@attrs.frozen(kw_only=True)
class Hello:
    """The optional first message; answered by :class:`Welcome`."""

    type: ClassVar[str] = "hello"
    version: int
    id: Id | None = None
    token: str | None = attrs.field(default=None, repr=False)
    client: str | None = None
    batch: bool = False


@attrs.frozen(kw_only=True)
class Ping:
    """For clients that cannot send WebSocket pings, such as browsers; answered by :class:`Pong`."""

    type: ClassVar[str] = "ping"
    id: Id | None = None


@attrs.frozen(kw_only=True)
class Process(Query):
    """Run a query as a job."""

    type: ClassVar[str] = "process"
    id: Id
    timeout: Annotated[float, Bounds(0.001)] | None = None
    on_disconnect: Literal["keep", "cancel"] = "keep"

    def query(self) -> Query:
        """Return the query alone, without the fields of the request."""
        return Query(**{field.name: getattr(self, field.name) for field in attrs.fields(Query)})


@attrs.frozen(kw_only=True)
class Attach:
    """Follow a job: its events with ``seq`` > ``after``."""

    type: ClassVar[str] = "attach"
    id: Id
    job: str
    after: Count = 0


@attrs.frozen(kw_only=True)
class Cancel:
    """Cancel a job, or a request of this connection by its id: exactly one of the two."""

    type: ClassVar[str] = "cancel"
    id: Id
    job: str | None = None
    request: str | None = None


@attrs.frozen(kw_only=True)
class ListJobs:
    """Ask for the caller's jobs."""

    type: ClassVar[str] = "jobs"
    id: Id


@attrs.frozen(kw_only=True)
class ListColumns:
    """Ask for the columns of a file."""

    type: ClassVar[str] = "columns"
    id: Id
    filename: FileName
    options: Options | None = None


@attrs.frozen(kw_only=True)
class ListFiles:
    """Ask for the caller's files."""

    type: ClassVar[str] = "files"
    id: Id


@attrs.frozen(kw_only=True)
class Delete:
    """Delete a file."""

    type: ClassVar[str] = "delete"
    id: Id
    filename: FileName


@attrs.frozen(kw_only=True)
class Upload:
    """Announce a file of ``size`` bytes; after :class:`UploadReady`, binary frames follow."""

    type: ClassVar[str] = "upload"
    id: Id
    filename: FileName
    size: Count
    sha256: Sha256 | None = None
    fingerprint: Annotated[str, Bounds(1, MAX_FINGERPRINT)] | None = None
    overwrite: bool = False


@attrs.frozen(kw_only=True)
class Download:
    """Ask for the bytes of a file, starting at ``offset``."""

    type: ClassVar[str] = "download"
    id: Id
    filename: FileName
    offset: Count = 0


@attrs.frozen(kw_only=True)
class ReadRows(View):
    """Ask for a window of a table, or of the rows that meet ``where`` and have the text ``find``, sorted by ``sort``.

    With ``texts``, its cells are texts, as the file writes them.
    """

    type: ClassVar[str] = "rows"
    id: Id
    filename: FileName
    offset: Count
    limit: Annotated[int, Bounds(0, MAX_ROWS)]
    options: Options | None = None
    texts: bool = False

    def view(self) -> View:
        """Return which rows are asked for, without the fields of the request."""
        return View(where=self.where, find=self.find, sort=self.sort)


@attrs.frozen(kw_only=True)
class Batch:
    """Several messages in one. Members are decoded one by one, so that an invalid one does not affect the others."""

    type: ClassVar[str] = "batch"
    messages: tuple[Any, ...]
    id: Id | None = None


ClientMessage: TypeAlias = (
    LegacyRequest
    | Hello
    | Ping
    | Process
    | Attach
    | Cancel
    | ListJobs
    | ListColumns
    | ListFiles
    | Delete
    | Upload
    | Download
    | ReadRows
    | Batch
)


# --- from the server ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class LimitsInfo:
    """Limits that a client should respect; units as in the settings."""

    message_bytes: int
    chunk_bytes: int
    upload_bytes: int
    batch_messages: int
    messages_per_s: float
    messages_burst: int


@attrs.frozen(kw_only=True)
class HeartbeatInfo:
    """Seconds between pings, and seconds without any frame after which the connection is closed."""

    interval: float
    timeout: float


@attrs.frozen(kw_only=True)
class Welcome:
    """Answer to :class:`Hello`."""

    type: ClassVar[str] = "welcome"
    id: str | None = None
    version: int
    server: str
    connection: str
    limits: LimitsInfo
    heartbeat: HeartbeatInfo
    formats: tuple[str, ...]
    outputs: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Pong:
    """Answer to :class:`Ping`; ``time`` is the server's, in seconds since 1970 UTC."""

    type: ClassVar[str] = "pong"
    id: str | None = None
    time: float


@attrs.frozen(kw_only=True)
class Accepted:
    """The job is accepted; at ``position`` 0 it starts now."""

    type: ClassVar[str] = "accepted"
    id: str
    job: str
    position: int


@attrs.frozen(kw_only=True)
class Progress:
    """Progress of a job. Bytes and rows are those of the input; None where unknown."""

    type: ClassVar[str] = "progress"
    id: str
    job: str
    seq: int
    phase: Literal["queued", "reading", "sorting", "writing"]
    bytes_read: int
    bytes_total: int
    rows: int
    fraction: float
    rows_per_s: float
    eta_s: float | None


@attrs.frozen(kw_only=True)
class Log:
    """A log message of a job."""

    type: ClassVar[str] = "log"
    id: str
    job: str
    seq: int
    level: LogLevel
    message: str


@attrs.frozen(kw_only=True)
class Result:
    """The result of a job. The answer to a legacy request has no ``job`` and ``seq``."""

    type: ClassVar[str] = "result"
    id: str | None = None
    job: str | None = None
    seq: int | None = None
    data: ResultData


@attrs.frozen(kw_only=True)
class Error:
    """An error; ``reason`` is a slug of :data:`creemson.errors.REASONS`."""

    type: ClassVar[str] = "error"
    message: str
    code: int
    reason: str
    retryable: bool
    id: str | None = None
    job: str | None = None
    seq: int | None = None
    details: tuple[str, ...] = ()
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class Cancelled:
    """Answer to :class:`Cancel`; the cancelled request itself ends in an :class:`Error`. A transfer has no ``job``."""

    type: ClassVar[str] = "cancelled"
    id: str
    job: str | None = None


@attrs.frozen(kw_only=True)
class Jobs:
    """Answer to :class:`ListJobs`, newest first."""

    type: ClassVar[str] = "jobs"
    id: str
    jobs: tuple[JobInfo, ...]


@attrs.frozen(kw_only=True)
class Columns:
    """Answer to :class:`ListColumns`; ``issues`` are those in the first 64 KiB."""

    type: ClassVar[str] = "columns"
    id: str
    columns: tuple[Column, ...]
    reading: Reading | None = None
    issues: Issues | None = None


@attrs.frozen(kw_only=True)
class Files:
    """Answer to :class:`ListFiles`."""

    type: ClassVar[str] = "files"
    id: str
    files: tuple[FileInfo, ...]


@attrs.frozen(kw_only=True)
class Deleted:
    """Answer to :class:`Delete`."""

    type: ClassVar[str] = "deleted"
    id: str
    filename: str


@attrs.frozen(kw_only=True)
class UploadReady:
    """Send the bytes from ``offset``: those before it are on the server's disk."""

    type: ClassVar[str] = "upload_ready"
    id: str
    offset: int


@attrs.frozen(kw_only=True)
class UploadProgress:
    """The bytes before ``offset`` are on the server's disk and never need to be sent again."""

    type: ClassVar[str] = "upload_progress"
    id: str
    offset: int


@attrs.frozen(kw_only=True)
class Uploaded:
    """The file is complete; ``columns`` is empty if it cannot be read as a table."""

    type: ClassVar[str] = "uploaded"
    id: str
    filename: str
    size: int
    sha256: str
    columns: tuple[Column, ...]


@attrs.frozen(kw_only=True)
class DownloadStarted:
    """Binary frames with the bytes from ``offset`` to ``size`` follow."""

    type: ClassVar[str] = "download"
    id: str
    filename: str
    size: int
    offset: int
    sha256: str | None = None


@attrs.frozen(kw_only=True)
class Downloaded:
    """All bytes were sent; ``sha256`` is that of the whole file."""

    type: ClassVar[str] = "downloaded"
    id: str
    size: int
    sha256: str


@attrs.frozen(kw_only=True)
class Rows:
    """A window of a table; ``total`` is the number of rows that meet the request, None while unknown.

    ``complete`` is false if only a part of the file was looked at in the time allowed: there may be more rows, and a
    job may find other types.
    ``more``: the window has more rows than fit one message; ask for those from ``offset`` plus the number of ``rows``.
    """

    type: ClassVar[str] = "rows"
    id: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    offset: int
    total: int | None
    complete: bool = True
    more: bool = False


ServerMessage: TypeAlias = (
    Welcome
    | Pong
    | Accepted
    | Progress
    | Log
    | Result
    | Error
    | Cancelled
    | Jobs
    | Columns
    | Files
    | Deleted
    | UploadReady
    | UploadProgress
    | Uploaded
    | DownloadStarted
    | Downloaded
    | Rows
    | Batch
)


CLIENT_TYPES: Mapping[str, type[ClientMessage]] = MappingProxyType(
    {
        cls.type: cls
        for cls in (
            Hello,
            Ping,
            Process,
            Attach,
            Cancel,
            ListJobs,
            ListColumns,
            ListFiles,
            Delete,
            Upload,
            Download,
            ReadRows,
            Batch,
        )
    }
)


SERVER_TYPES: Mapping[str, type[ServerMessage]] = MappingProxyType(
    {
        cls.type: cls
        for cls in (
            Welcome,
            Pong,
            Accepted,
            Progress,
            Log,
            Result,
            Error,
            Cancelled,
            Jobs,
            Columns,
            Files,
            Deleted,
            UploadReady,
            UploadProgress,
            Uploaded,
            DownloadStarted,
            Downloaded,
            Rows,
            Batch,
        )
    }
)
