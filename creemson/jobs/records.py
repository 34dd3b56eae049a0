"""Jobs as the catalog keeps them."""

import hashlib
from typing import Any, get_args

import attrs
import orjson

from creemson.errors import CreemsonError, error_for
from creemson.processing.jobs import Job, State
from creemson.storage.catalog import JobRow
from creemson.wire import codec
from creemson.wire.messages import OUTPUT_FORMATS, Query, ResultData

__all__ = ["Work", "job_of", "key_of", "output_name", "row_of"]


@attrs.frozen
class Work:
    """What a job has to do.

    Attributes:
        query: as it was asked.
        key: the same for the same work on the same version of the file.
        caller: whose file it is.
    """

    query: Query
    key: str
    caller: str

    def lightened(self) -> "Work":
        """What is still to be known of it when it has been done."""
        return attrs.evolve(self, query=Query(filename=self.query.filename))

    @property
    def output(self) -> str:
        """Name of the stored output."""
        return output_name(self.query.filename, self.key)


def key_of(version: str, query: Query) -> tuple[str, int]:
    """What is the same for the same work on the same version of a file, and the bytes that the query has as JSON."""
    text = orjson.dumps([version, codec.plain(query)])
    return hashlib.sha256(text).hexdigest(), len(text)


def output_name(filename: str, key: str) -> str:
    """The name of a stored output: told apart by the job's key, recognisable by the file's name.

    >>> output_name("flights.csv.gz", "0123456789abcdef")
    'flights-0123456789ab.parquet'
    """
    stem = filename.split(".", 1)[0].encode()[:200].decode(errors="ignore")
    return f"{stem}-{key[:12]}.{OUTPUT_FORMATS[0]}"


def row_of(job: Job, epoch: float) -> JobRow:
    """The row for a job as it is now.

    Args:
        job: whose ``work`` is a :class:`Work`, and whose ``value`` is a ``ResultData``.
        epoch: seconds since 1970 at time 0 of the job's clock.
    """
    outcome: dict[str, Any] | None = None
    if job.error is not None:
        fields = ("reason", "message", "details", "retry_after")
        outcome = {name: getattr(job.error, name) for name in fields}
    elif job.ended:
        outcome = codec.plain(job.value)
    return JobRow(
        id=job.id,
        key=job.work.key,
        caller=job.caller,
        query=orjson.dumps(codec.plain(job.work.query)).decode(),
        timeout=job.timeout,
        kept=job.kept,
        state=job.state if job.ended else "queued",
        created=job.created + epoch,
        finished=None if job.finished is None else job.finished + epoch,
        restarts=job.restarts,
        seq=job.seq,
        outcome=None if outcome is None else orjson.dumps(outcome).decode(),
    )


def job_of(row: JobRow, epoch: float) -> Job:
    """The job that a row tells of.

    Args:
        row: as :func:`row_of` made it, perhaps an earlier version of it.
        epoch: as for :func:`row_of`.

    Raises:
        ValueError, TypeError, KeyError, CreemsonError: it makes no sense to this version.
    """
    query = codec.structure(orjson.loads(row.query), Query)
    if row.state not in get_args(State):
        raise ValueError(f"a job in the state {row.state!r}")
    value: ResultData | None = None
    error: CreemsonError | None = None
    if row.outcome is not None:
        outcome = orjson.loads(row.outcome)
        if row.state == "done":
            value = codec.structure(outcome, ResultData)
        else:
            error = error_for(**outcome)
    work = Work(query, row.key, row.caller)
    return Job(
        id=row.id,
        key=(row.caller, row.key),
        caller=row.caller,
        work=work.lightened() if row.outcome is not None else work,
        weight=len(row.outcome or row.query),
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
