"""Results: what a query returns, and how its file was read."""

from typing import Any, Literal, TypeAlias

import attrs

from creemson.model.query import DateFormat

__all__ = [
    "INPUT_FORMATS",
    "OUTPUT_FORMATS",
    "SAVED_FORMATS",
    "Column",
    "ColumnProfile",
    "Described",
    "FileInfo",
    "Histogram",
    "Issue",
    "Issues",
    "JobInfo",
    "JobState",
    "LogLevel",
    "OutputData",
    "Reading",
    "ResultData",
    "Window",
]

OUTPUT_FORMATS = ("parquet", "csv", "xlsx", "ndjson", "arrow")
"""Formats (file extensions) in which an output can be downloaded; the first is stored."""
SAVED_FORMATS = (*OUTPUT_FORMATS, "tsv")
"""Formats in which clients save a result: those of the server, and TSV, which the client makes of CSV."""
INPUT_FORMATS = ("csv", "tsv", "txt", "parquet", "ndjson", "json", "arrow", "xlsx")
"""Formats that can be read; text formats also compressed with gzip or zstd."""

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]


@attrs.frozen(kw_only=True)
class Histogram:
    """Bins of equal width between the minimum and the maximum: n + 1 ``edges``, n ``counts``."""

    edges: tuple[Any, ...]
    counts: tuple[int, ...]


@attrs.frozen(kw_only=True)
class ColumnProfile:
    """Statistics of one column of the output; None where a statistic does not apply to the type.

    Attributes:
        column: its name.
        dtype: its polars type.
        nulls: number of rows without a value.
        min, max: of the values; dates and times as ISO 8601 text, texts cut to 200 characters. For lists and
            bytes, these and the following statistics are those of the lengths.
        mean, std: the sample standard deviation.
        quantiles: by probability, ``{"0.25": …, "0.5": …, "0.75": …}``; each is an existing value.
        distinct: number of distinct values: exact for text and booleans, otherwise an estimate (HyperLogLog); None for
            lists and structs.
        histogram: of numbers, dates and times. NaN, infinities and dates that ISO 8601 cannot express count neither
            as nulls nor in any statistic: they are the rows missing from the counts.
        top: the most frequent values with their counts, for text, categories and booleans; equal counts in the order
            of the values. Texts are cut to 200 characters.
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
    """How a file was read; None where it does not apply to the format.

    Passed as the ``options`` of a request (without ``format``, ``compression``, ``line_end``, ``trailing_delimiter``,
    ``footer_rows``, ``member`` and ``sheets``), it makes the server read the file in the same way again.

    Attributes:
        format: csv, fixed, ndjson, json, parquet, arrow or xlsx.
        compression: gzip or zstd.
        line_end: between the records of a CSV, as in the file.
        trailing_delimiter: True if a delimiter ends every row of a CSV; it makes no column.
        header: number of header rows; 0 if the columns got generated names.
        footer_rows: number of notes below the table, after an empty line or row; they are no rows.
        sheets: names of all sheets of a workbook, or of all tables of a zip archive with several.
        member: path of the table in a zip archive.
        The others: as in :class:`~creemson.model.query.Options`.
    """

    format: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    line_end: str | None = None
    trailing_delimiter: bool | None = None
    header: int | None = None
    skip_rows: int | None = None
    footer_rows: int | None = None
    null_values: tuple[str, ...] | None = None
    decimal: str | None = None
    thousands: str | None = None
    date_format: DateFormat | None = None
    comment: str | None = None
    widths: tuple[int, ...] | None = None
    sheet: str | None = None
    sheets: tuple[str, ...] | None = None
    member: str | None = None


@attrs.frozen(kw_only=True)
class Issue:
    """One repair or loss.

    Attributes:
        line: in the file, 1-based (in a workbook: the row); None if unknown.
        column: its name; None if the issue concerns the whole row.
        value: the original text, cut to 200 characters.
        why: what is wrong with it.
    """

    line: int | None
    column: str | None
    value: str | None
    why: str


@attrs.frozen(kw_only=True)
class Issues:
    """Counts of what was repaired in a file, or could not be read.

    Attributes:
        padded_rows: rows with too few cells; the missing cells are null.
        cut_rows: rows with too many cells; those after the last column are dropped.
        repaired_rows: rows with stray quotes, other delimiters, or bytes that are invalid in the encoding.
        repaired_cells: cells with control characters that are letters or signs in another encoding.
        unparsable_rows: lines that are no rows: comments, other tables, damaged lines; they are dropped, but for the
            header of another table of the same width.
        unparsable_cells: cells that do not fit their column's type; they are null.
        missing_values: formulas of a workbook whose value is not stored; they are null.
        examples: the first issues.
        rejects: name of the file with all issues, for ``download``.
    """

    padded_rows: int = 0
    cut_rows: int = 0
    repaired_rows: int = 0
    repaired_cells: int = 0
    unparsable_rows: int = 0
    unparsable_cells: int = 0
    missing_values: int = 0
    examples: tuple[Issue, ...] = ()
    rejects: str | None = None


@attrs.frozen(kw_only=True)
class OutputData:
    """The figures of an output; its rows are downloaded under one of its file names.

    Attributes:
        rows: number of rows of the output.
        columns: column names, in order.
        dtypes: polars types, in the same order.
        filename: name of the stored output, a Parquet file.
        final_filename_csv: name of a CSV with the cells as the file writes them; made on the first download, like the
            other formats.
        final_filename_csv_normalized: name of a CSV with values: ISO dates, decimal points, ``true`` and ``false``, and
            nothing for null. None in results of earlier servers.
        final_filename_excel: name of a workbook.
        elapsed_s: seconds of processing.
        cached: whether it was served from the cache.
        size: of the stored output, in bytes; None in results of earlier servers.
        texts_size: of what is stored beside it to write cells as the file does; None if that is nothing.
        reading: how the file was read.
        issues: what was repaired in the file, or could not be read.
        preview: the first rows as lists of cells, if requested.
        preview_complete: false if the preview has fewer rows than requested, because more would not fit one message.
        profile: one entry per column, if requested.
    """

    rows: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    filename: str
    final_filename_csv: str
    final_filename_excel: str
    elapsed_s: float
    cached: bool
    final_filename_csv_normalized: str | None = None
    size: int | None = None
    texts_size: int | None = None
    reading: Reading | None = None
    issues: Issues | None = None
    preview: tuple[tuple[Any, ...], ...] | None = None
    profile: tuple[ColumnProfile, ...] | None = None
    preview_complete: bool = True


@attrs.frozen(kw_only=True)
class ResultData:
    """The ``data`` of a result; the shape that the oldest clients expect."""

    summary: str
    output_data: OutputData


@attrs.frozen(kw_only=True)
class JobInfo:
    """One job in a list of jobs; times in seconds since 1970 UTC."""

    job: str
    state: JobState
    filename: str
    created: float
    finished: float | None = None
    rows: int | None = None


@attrs.frozen(kw_only=True)
class Column:
    """One column of a file."""

    index: int
    name: str
    dtype: str


@attrs.frozen(kw_only=True)
class Described:
    """Columns of a file, and how it is read; ``issues`` are those in the first 64 KiB."""

    columns: tuple[Column, ...]
    reading: Reading | None = None
    issues: Issues | None = None


@attrs.frozen(kw_only=True)
class FileInfo:
    """One file in a list of files: size in bytes, time in seconds since 1970 UTC.

    Attributes:
        filename, size, modified, sha256: of the file.
        imported: whether there is a columnar copy of it, so that jobs and windows of rows are fast; None if the server
            does not tell.
        rows: number of its rows; None while unknown.
    """

    filename: str
    size: int
    modified: float
    sha256: str | None = None
    imported: bool | None = None
    rows: int | None = None


@attrs.frozen(kw_only=True)
class Window:
    """A window of a table.

    Attributes:
        columns: column names.
        rows: as lists of cells.
        total: number of rows of the view; None while unknown.
        complete: False if only a part of the file was looked at in the time allowed: there may be more rows, and a job
            may find other types.
        more: whether there are more rows in the window than fit one message.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int | None
    complete: bool = True
    more: bool = False
