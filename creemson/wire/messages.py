"""Every message of the wire protocol, as frozen attrs classes.

An attribute has the name that its field has on the wire, so that each name is written once; a field
without a default is required, a field that equals its default is left out when it is encoded.
:data:`CLIENT_TYPES` and :data:`SERVER_TYPES` map ``type`` to class, by direction: some names
(``columns``, ``download``, ``batch``…) mean a request one way and its answer the other.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import attrs

PROTOCOL_VERSION = 1
SUBPROTOCOL = "creemson.v1"

MAX_ID_LENGTH = 128
"""Characters of an ``id``."""
NAME_MOST = 1000
"""Characters of a new name of a column."""
MAX_ROWS = 1000
"""Rows in one answer: a ``rows`` window or a ``preview``."""

OUTPUT_FORMATS = ("parquet", "csv", "xlsx", "ndjson", "arrow")
"""Extensions in which an output can be downloaded; the first is what is stored."""
INPUT_FORMATS = ("csv", "tsv", "txt", "parquet", "ndjson", "json", "arrow", "xlsx")
"""Formats that can be read; those of text also inside gzip or zstd."""

OPERATORS = (
    "==", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "not_null", "contains", "starts_with",
)  # fmt: skip
UNARY_OPERATORS = ("is_null", "not_null")
LIST_OPERATORS = ("in", "not_in")
FUNCTIONS = ("count", "sum", "mean", "min", "max", "median", "std", "first", "last", "n_unique")

ColumnRef: TypeAlias = int | str
"""A column: its 0-based index or its name. ``"2"`` is a name."""


@attrs.frozen
class Bounds:
    """Least and greatest value of a number, or number of characters of a text; None is no bound."""

    least: float
    most: float | None = None


@attrs.frozen
class Distinct:
    """Marks a list that has at least one element and none twice."""


@attrs.frozen
class Pattern:
    """A regular expression that the whole text matches, and what that is in words."""

    regex: str
    words: str


@attrs.frozen
class OneOf:
    """The words that a text may be."""

    words: tuple[str, ...]


TYPES = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
    "boolean", "string", "date", "datetime", "time",
)  # fmt: skip
"""Types that a column can be read as, or cast to."""
ColumnType: TypeAlias = Annotated[str, OneOf(TYPES)]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
Id: TypeAlias = Annotated[str, Bounds(1, MAX_ID_LENGTH)]
Count: TypeAlias = Annotated[int, Bounds(0)]
Sha256: TypeAlias = Annotated[str, Pattern("[0-9a-fA-F]{64}", "64 hexadecimal digits")]
DistinctBy: TypeAlias = bool | tuple[int | str, ...]
"""Whether equal rows stay once, or the columns by which rows are equal."""
Header: TypeAlias = bool | int
"""Whether there is a row of names, or how many rows of them."""
HEADER_ROWS_MOST = 100
Selection: TypeAlias = Annotated[tuple[ColumnRef, ...], Distinct()]


@attrs.frozen
class Condition:
    """One ``[column, operator, value]`` of ``where``; the unary operators take no value."""

    column: ColumnRef
    operator: str
    value: Any = None


@attrs.frozen
class SortKey:
    """One ``[column, "asc" | "desc"]`` of ``sort``."""

    column: ColumnRef
    descending: bool = False


@attrs.frozen
class Aggregate:
    """One ``[column, function, name?]`` of ``aggregate``."""

    column: ColumnRef
    function: str
    name: str | None = None


@attrs.frozen(kw_only=True)
class Options:
    """How to read a file, where that is not to be found out; None is found out. Names are those of :class:`Reading`.

    Attributes:
        delimiter: between the cells of a CSV, one character or several.
        quote: around cells, one character; ``""`` if there is none.
        escape: before a quote in a quoted cell, one character; ``""`` if a quote is doubled instead.
        encoding: of text, by its IANA name, such as ``"windows-1252"``.
        header: whether there is a row of names, or how many rows of them.
        skip_rows: lines (in a workbook rows) before the header or the first row.
        null_values: words for a missing value, besides an empty cell.
        decimal: the sign before the fraction of a number.
        widths: characters of each column, of a file without delimiters.
        sheet: of a workbook, by its 0-based index or its name.
        types: of columns, by name: see :data:`TYPES`.
    """

    delimiter: Annotated[str, Bounds(1, 16)] | None = None
    quote: Annotated[str, Bounds(0, 1)] | None = None
    escape: Annotated[str, Bounds(0, 1)] | None = None
    encoding: Annotated[str, Bounds(1, 64)] | None = None
    header: Header | None = None
    skip_rows: Annotated[int, Bounds(0, 1_000_000)] | None = None
    null_values: tuple[str, ...] | None = None
    decimal: Literal[".", ","] | None = None
    widths: tuple[Annotated[int, Bounds(1, 10_000)], ...] | None = None
    sheet: ColumnRef | None = None
    types: dict[str, ColumnType] | None = None


@attrs.frozen(kw_only=True)
class Query:
    """What is to be done with a file, whoever asks and however; the order of work is that of the attributes.

    Attributes:
        filename: an uploaded file or an output.
        options: how to read it, where that is not to be found out.
        strict: whether anything that would have to be mended, or would be lost, is an error.
        selectedColumns: columns of the output, in this order; None means all.
        cast: types that columns are to have, by the names of the file; all else sees them like that.
        where: conditions that must all hold.
        group_by: columns that come first in the output of a grouping.
        aggregate: what is computed of each group.
        distinct: whether rows that are equal in the output stay once only; or the columns in which they are equal,
            of each of which the first row stays.
        sort: keys, the most significant first.
        limit: rows of the output at the most.
        rename: new names of columns of the output; all other attributes use the old ones.
        preview: rows to send within the result.
        profile: whether the result describes each column.
    """

    filename: str
    options: Options | None = None
    strict: bool = False
    selectedColumns: Selection | None = None
    cast: dict[str, ColumnType] | None = None
    where: tuple[Condition, ...] | None = None
    group_by: tuple[ColumnRef, ...] | None = None
    aggregate: tuple[Aggregate, ...] | None = None
    distinct: DistinctBy | None = None
    sort: tuple[SortKey, ...] | None = None
    limit: Count | None = None
    rename: dict[str, Annotated[str, Bounds(1, NAME_MOST)]] | None = None
    preview: Annotated[int, Bounds(0, MAX_ROWS)] | None = None
    profile: bool = False


# --- from the client ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Classic:
    """The request without ``type`` that the oldest clients send."""

    filename: str
    selectedColumns: Selection
    id: Id | None = None

    def query(self) -> Query:
        """The work that is asked for."""
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
    """For those who cannot send WebSocket pings; answered by :class:`Pong`."""

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
        """The work that is asked for, without who asks and how long they wait."""
        return Query(**{field.name: getattr(self, field.name) for field in attrs.fields(Query)})


@attrs.frozen(kw_only=True)
class Attach:
    """Follow a job from ``seq`` > ``after`` on."""

    type: ClassVar[str] = "attach"
    id: Id
    job: str
    after: Count = 0


@attrs.frozen(kw_only=True)
class Cancel:
    """Stop a job, or the request of this connection with that id: exactly one of the two."""

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
    filename: str
    options: Options | None = None


@attrs.frozen(kw_only=True)
class ListFiles:
    """Ask for the caller's files."""

    type: ClassVar[str] = "files"
    id: Id


@attrs.frozen(kw_only=True)
class Delete:
    """Remove a file."""

    type: ClassVar[str] = "delete"
    id: Id
    filename: str


@attrs.frozen(kw_only=True)
class Upload:
    """Announce a file of ``size`` bytes; binary frames follow after :class:`UploadReady`."""

    type: ClassVar[str] = "upload"
    id: Id
    filename: str
    size: Count
    sha256: Sha256 | None = None
    overwrite: bool = False


@attrs.frozen(kw_only=True)
class Download:
    """Ask for the bytes of a file from ``offset`` on."""

    type: ClassVar[str] = "download"
    id: Id
    filename: str
    offset: Count = 0


@attrs.frozen(kw_only=True)
class ReadRows:
    """Ask for a window of a table."""

    type: ClassVar[str] = "rows"
    id: Id
    filename: str
    offset: Count
    limit: Annotated[int, Bounds(0, MAX_ROWS)]
    options: Options | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """Several messages in one; members are decoded one by one, since a bad one spoils no other."""

    type: ClassVar[str] = "batch"
    messages: tuple[Any, ...]
    id: Id | None = None


ClientMessage: TypeAlias = (
    Classic
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
    """The limits that a client should respect; units as in the settings."""

    message_bytes: int
    chunk_bytes: int
    upload_bytes: int
    batch_messages: int
    messages_per_s: float
    messages_burst: int


@attrs.frozen(kw_only=True)
class HeartbeatInfo:
    """Seconds between pings, and seconds without a sign of life after which the peer is dropped."""

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
    """The job is taken on; ``position`` 0 starts now."""

    type: ClassVar[str] = "accepted"
    id: str
    job: str
    position: int


@attrs.frozen(kw_only=True)
class Progress:
    """How far a job is. Byte and row counts are of the input; None where not known."""

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
    """Something worth telling about a job."""

    type: ClassVar[str] = "log"
    id: str
    job: str
    seq: int
    level: LogLevel
    message: str


@attrs.frozen(kw_only=True)
class Histogram:
    """Equal bins between the least and the greatest value: n + 1 ``edges``, n ``counts``."""

    edges: tuple[Any, ...]
    counts: tuple[int, ...]


@attrs.frozen(kw_only=True)
class ColumnProfile:
    """What one column of the output holds; None where a figure makes no sense for the type.

    Attributes:
        column: its name.
        dtype: its type, in polars' words.
        nulls: rows without a value.
        min, max: of the values; dates and times as ISO 8601 text. Of lists and bytes, these and the figures below are
            of their lengths.
        mean, std: the sample standard deviation.
        quantiles: by probability, ``{"0.25": …, "0.5": …, "0.75": …}``; values that are there.
        distinct: the number of distinct values, of text and booleans exactly, else an estimate (HyperLogLog); None of
            lists and structs.
        histogram: of numbers, dates and times. NaN, the infinities and days that ISO 8601 cannot say are neither nulls
            nor in any figure: the rows that its counts leave.
        top: the most frequent values with their counts, of text, categories and booleans; equals in their own order.
    """

    column: str
    dtype: str
    nulls: int
    min: Any
    max: Any
    mean: float | None
    std: float | None
    quantiles: dict[str, Any] | None
    distinct: int | None
    histogram: Histogram | None = None
    top: tuple[tuple[Any, int], ...] | None = None


@attrs.frozen(kw_only=True)
class Reading:
    """How a file was read; None or left out where it makes no sense for the format.

    Given back as the ``options`` of a request (without ``format``, ``compression``, ``line_end`` and ``sheets``),
    it is read like that again.

    Attributes:
        format: what it is: csv, fixed, ndjson, json, parquet, arrow or xlsx.
        compression: around it: gzip or zstd.
        line_end: between the records of a CSV, as it stands there.
        header: rows of names; 0 where the columns were given names.
        sheets: names of all sheets of a workbook.
        The others: as in :class:`Options`.
    """

    format: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    line_end: str | None = None
    header: int | None = None
    skip_rows: int | None = None
    null_values: tuple[str, ...] | None = None
    decimal: str | None = None
    widths: tuple[int, ...] | None = None
    sheet: str | None = None
    sheets: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class Issue:
    """One thing that was mended or lost.

    Attributes:
        line: of the file, 1-based (in a workbook the row); None where not known.
        column: its name; None if it is about a whole row.
        value: what stood there, cut to 200 characters.
        why: what is wrong with it.
    """

    line: int | None
    column: str | None
    value: str | None
    why: str


@attrs.frozen(kw_only=True)
class Issues:
    """What had to be mended in a file, or could not be read.

    Attributes:
        padded_rows: had too few cells; null stands for the missing ones.
        cut_rows: had too many cells; those beyond the last column are left out.
        repaired_rows: had stray quotes, other delimiters or characters that their encoding does not have.
        unparsable_rows: could not be read at all, and are left out.
        unparsable_cells: are not of their column's type; null stands in their place.
        examples: the first of them.
        rejects: the name of the file that has them all, which ``download`` serves.
    """

    padded_rows: int = 0
    cut_rows: int = 0
    repaired_rows: int = 0
    unparsable_rows: int = 0
    unparsable_cells: int = 0
    examples: tuple[Issue, ...] = ()
    rejects: str | None = None


@attrs.frozen(kw_only=True)
class OutputData:
    """The result of a job; the file itself is downloaded by one of its names.

    Attributes:
        rows: of the output.
        columns: names, in order.
        dtypes: types in polars' words, in the same order.
        filename: the stored output, Parquet.
        final_filename_csv, final_filename_excel: names that are rendered when first asked for.
        elapsed_s: seconds of work.
        cached: answered from store.
        reading: how the file was read.
        issues: what had to be mended in it, or could not be read, in all rows that were read.
        preview: the first rows as lists of cells, where asked for.
        profile: one entry per column, where asked for.
    """

    rows: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    filename: str
    final_filename_csv: str
    final_filename_excel: str
    elapsed_s: float
    cached: bool
    reading: Reading | None = None
    issues: Issues | None = None
    preview: tuple[tuple[Any, ...], ...] | None = None
    profile: tuple[ColumnProfile, ...] | None = None


@attrs.frozen(kw_only=True)
class ResultData:
    """The ``data`` of a result, in the shape that the oldest clients know."""

    summary: str
    output_data: OutputData


@attrs.frozen(kw_only=True)
class Result:
    """A job's end. Without ``id``, ``job`` and ``seq`` it answers a classic request."""

    type: ClassVar[str] = "result"
    id: str | None = None
    job: str | None = None
    seq: int | None = None
    data: ResultData


@attrs.frozen(kw_only=True)
class Error:
    """A fault; ``reason`` is a slug of :data:`creemson.errors.REASONS`."""

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
    """Answer to :class:`Cancel`; what was cancelled ends in an :class:`Error`. A transfer has no ``job``."""

    type: ClassVar[str] = "cancelled"
    id: str
    job: str | None = None


@attrs.frozen(kw_only=True)
class JobInfo:
    """One entry of :class:`Jobs`; times in seconds since 1970 UTC."""

    job: str
    state: JobState
    filename: str
    created: float
    finished: float | None = None
    rows: int | None = None


@attrs.frozen(kw_only=True)
class Jobs:
    """Answer to :class:`ListJobs`, the newest first."""

    type: ClassVar[str] = "jobs"
    id: str
    jobs: tuple[JobInfo, ...]


@attrs.frozen(kw_only=True)
class Column:
    """One column of a file."""

    index: int
    name: str
    dtype: str


@attrs.frozen(kw_only=True)
class Described:
    """What is known of a file before any work: ``issues`` are those of the first 64 KiB."""

    columns: tuple[Column, ...]
    reading: Reading | None = None
    issues: Issues | None = None


@attrs.frozen(kw_only=True)
class Columns:
    """Answer to :class:`ListColumns`; ``issues`` are those of the first 64 KiB."""

    type: ClassVar[str] = "columns"
    id: str
    columns: tuple[Column, ...]
    reading: Reading | None = None
    issues: Issues | None = None


@attrs.frozen(kw_only=True)
class FileInfo:
    """One entry of :class:`Files`: bytes, and seconds since 1970 UTC."""

    filename: str
    size: int
    modified: float
    sha256: str | None = None


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
    """Send from ``offset`` on."""

    type: ClassVar[str] = "upload_ready"
    id: str
    offset: int


@attrs.frozen(kw_only=True)
class UploadProgress:
    """Bytes up to ``offset`` are on the server's disk, and need not be sent again whatever happens."""

    type: ClassVar[str] = "upload_progress"
    id: str
    offset: int


@attrs.frozen(kw_only=True)
class Uploaded:
    """The file is complete; ``columns`` is empty where it cannot be read as a table."""

    type: ClassVar[str] = "uploaded"
    id: str
    filename: str
    size: int
    sha256: str
    columns: tuple[Column, ...]


@attrs.frozen(kw_only=True)
class DownloadStarted:
    """Binary frames from ``offset`` to ``size`` follow."""

    type: ClassVar[str] = "download"
    id: str
    filename: str
    size: int
    offset: int
    sha256: str | None = None


@attrs.frozen(kw_only=True)
class Downloaded:
    """All bytes were sent; ``sha256`` is of the whole file."""

    type: ClassVar[str] = "downloaded"
    id: str
    size: int
    sha256: str


@attrs.frozen(kw_only=True)
class Window:
    """Some rows of a table: ``rows`` as lists of cells, ``total`` None while it is not known."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int | None


@attrs.frozen(kw_only=True)
class Rows:
    """A window of a table; ``total`` is None while it is not known."""

    type: ClassVar[str] = "rows"
    id: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    offset: int
    total: int | None


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
