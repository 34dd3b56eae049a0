"""The work of a job, and conversions: of jobs to rows of the catalog and back, and of worker results to job results."""

import functools
import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import attrs
import orjson

from creemson._version import READING_VERSION, __version__
from creemson.catalog.catalog import JobRow
from creemson.errors import CreemsonError, InvalidFormat, error_for
from creemson.jobs.queue.job import Job, State
from creemson.model.converter import plain, structure
from creemson.model.query import Query
from creemson.model.results import OUTPUT_FORMATS, OutputData, ResultData
from creemson.storage.names import NORMALIZED

__all__ = [
    "Work",
    "job_of",
    "key_of",
    "outcome_of",
    "output_name",
    "reader",
    "result_of_worker",
    "row_of",
    "structure_trusted",
]

SUMMARY = "File processed successfully"
"""The summary of every result."""

T = TypeVar("T")


@attrs.frozen
class Work:
    """The work of a job.

    Attributes:
        query: the query, as requested.
        key: equal for the same work on the same version of the file; see :func:`key_of`.
        caller: the caller who owns the file.
        version: the version of the file; None if it was not recorded.
    """

    query: Query
    key: str
    caller: str
    version: str | None

    def lightened(self) -> "Work":
        """Return a copy with only what is needed after the job has ended."""
        return attrs.evolve(self, query=Query(filename=self.query.filename))

    @property
    def output(self) -> str:
        """The name of the stored output."""
        return output_name(self.query.filename, self.key)


def key_of(version: str, query: Query, is_hidden: Callable[[str], bool]) -> tuple[str, int]:
    """Return a key that is equal for the same work on the same version of a file, and the size of the query as JSON.

    Also the versions of what reads files and computes results belong to the key: after an upgrade, an answer that an
    earlier version made is not taken for that of the new one. The key decides about the name of the output. If an
    upload has this name, for example an output that was edited and uploaded again, another key is used: under the name
    in a result, nothing but that result is found.

    Args:
        version: the version of the file.
        query: the work.
        is_hidden: see :meth:`creemson.storage.store.Store.is_hidden`.
    """
    parts = [version, _makers(), plain(query)]
    size = 0
    for turn in itertools.count():
        text = orjson.dumps([*parts, turn] if turn else parts)
        key, size = hashlib.sha256(text).hexdigest(), size or len(text)
        if not is_hidden(output_name(query.filename, key)):
            return key, size
    raise AssertionError


@functools.cache
def _makers() -> tuple[str, str, int]:
    # The server itself does not import polars.
    return __version__, importlib.metadata.version("polars"), READING_VERSION


def reader() -> str:
    """Return the version of what reads files and computes results."""
    return " ".join(map(str, _makers()))


def output_name(filename: str, key: str) -> str:
    """Return the name of a stored output: unique by the job's key, recognisable by the file's name.

    >>> output_name("flights.csv.gz", "0123456789abcdef")
    'flights-0123456789ab.parquet'
    """
    stem = filename.split(".", 1)[0].encode()[:200].decode(errors="ignore")
    return f"{stem}-{key[:12]}.{OUTPUT_FORMATS[0]}"


def row_of(job: Job, epoch: float) -> JobRow:
    """Return the row for a job in its current state.

    Args:
        job: its ``work`` is a :class:`Work`, and its ``value`` a ``ResultData``.
        epoch: seconds since 1970 at time 0 of the job's clock.
    """
    outcome: str | None = None
    if job.error is not None:
        outcome = outcome_of(job.error)
    elif job.ended:
        outcome = orjson.dumps(plain(job.value)).decode()
    return JobRow(
        id=job.id,
        key=job.work.key,
        caller=job.caller,
        query=orjson.dumps(plain(job.work.query)).decode(),
        timeout=job.timeout,
        kept=job.kept,
        state=job.state if job.ended else "queued",
        created=job.created + epoch,
        finished=None if job.finished is None else job.finished + epoch,
        restarts=job.restarts,
        seq=job.seq,
        outcome=outcome,
        version=job.work.version,
    )


def outcome_of(error: CreemsonError) -> str:
    """Return the outcome of a job that has failed or was cancelled, as JSON."""
    fields = ("reason", "message", "details", "retry_after")
    return orjson.dumps({name: getattr(error, name) for name in fields}).decode()


def job_of(row: JobRow, epoch: float) -> Job:
    """Return the job that a row describes.

    Args:
        row: made by :func:`row_of`, perhaps by an earlier version of the server.
        epoch: see :func:`row_of`.

    Raises:
        ValueError, TypeError, KeyError, CreemsonError: this version of the server does not understand the row.
    """
    query = structure(orjson.loads(row.query), Query)
    if row.state not in get_args(State):
        raise ValueError(f"unknown state {row.state!r} of a job")
    value: ResultData | None = None
    error: CreemsonError | None = None
    if row.outcome is not None:
        outcome = orjson.loads(row.outcome)
        if row.state == "done":
            value = structure(outcome, ResultData)
        else:
            error = error_for(**outcome)
    work = Work(query, row.key, row.caller, row.version)
    return Job(
        id=row.id,
        key=(row.caller, row.key),
        caller=row.caller,
        work=work.lightened() if row.outcome is not None else work,
        size_bytes=len(row.outcome or row.query),
        timeout=row.timeout,
        created=row.created - epoch,
        state=row.state,  # type: ignore[arg-type] # checked above
        finished=None if row.finished is None else row.finished - epoch,
        seq=row.seq,
        restarts=row.restarts,
        value=value,
        error=error,
        kept=bool(row.kept),
    )


def structure_trusted(value: Any, kind: type[T]) -> T:
    """Structure a value that a worker has returned.

    Raises:
        TypeError: it does not fit; this is a bug in the worker, not a fault of the request.
    """
    try:
        return structure(value, kind)
    except InvalidFormat as error:
        raise TypeError(error.message) from error


def result_of_worker(output: str, outcome: Mapping[str, Any], *, elapsed: float) -> ResultData:
    """Return the result of a job.

    Args:
        output: name of its output.
        outcome: the value that the worker returned.
        elapsed: seconds that the attempt took.
    """
    stem = output.removesuffix(f".{OUTPUT_FORMATS[0]}")
    data = {
        **outcome,
        "filename": output,
        "final_filename_csv": f"{stem}.csv",
        "final_filename_csv_normalized": f"{stem}.{NORMALIZED}",
        "final_filename_excel": f"{stem}.xlsx",
        "elapsed_s": round(elapsed, 4),
        "cached": False,
    }
    return ResultData(summary=SUMMARY, output_data=structure_trusted(data, OutputData))
