"""The work of a job, and conversions of jobs to rows of the catalog and back."""

import functools
import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable
from typing import get_args

import attrs
import orjson
from structlog.typing import FilteringBoundLogger

from creemson._version import READING_VERSION, __version__
from creemson.catalog.catalog import JobRow
from creemson.errors import CreemsonError, error_for
from creemson.jobs.queue.job import Job
from creemson.jobs.queue.states import State
from creemson.model.converter import plain, structure
from creemson.model.query import Query
from creemson.model.results import OUTPUT_FORMATS, JobInfo, JobState, ResultData

__all__ = [
    "Records",
    "Work",
    "job_of",
    "key_of",
    "outcome_of",
    "output_name",
    "reader",
    "row_of",
]


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
        is_hidden: see :meth:`creemson.storage.outputs.Outputs.is_hidden`.
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


class Records:
    """Converts jobs, whose times are of the queue's clock, to rows with times since 1970, and back.

    Args:
        clock: the queue's clock.
        wall_clock: returns seconds since 1970.
        logger: Logger.
    """

    def __init__(
        self, clock: Callable[[], float], wall_clock: Callable[[], float], *, logger: FilteringBoundLogger
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._log = logger
        self._epoch = 0.0  # seconds since 1970 at time 0 of the queue's clock

    def begin(self) -> None:
        """Compare the clocks; before anything is converted."""
        self._epoch = self._wall_clock() - self._clock()

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self._clock() + self._epoch

    def row(self, job: Job) -> JobRow:
        """Return the row that describes a job."""
        return row_of(job, self._epoch)

    def restored(self, row: JobRow, warning: str = "a job cannot be restored") -> Job | None:
        """Return the job that a row describes; None if this version of the server does not understand it."""
        try:
            return job_of(row, self._epoch)
        except (ValueError, TypeError, KeyError, CreemsonError) as error:
            self._log.warning(warning, job=row.id, error=str(error))
            return None

    def info(self, job: Job) -> JobInfo:
        """Return what clients are told about a job."""
        state: JobState = "queued" if job.is_waiting else job.state  # type: ignore[assignment]
        return JobInfo(
            job=job.id,
            state=state,
            filename=job.work.query.filename,
            created=round(job.created + self._epoch, 3),
            finished=None if job.finished is None else round(job.finished + self._epoch, 3),
            rows=job.value.output_data.rows if job.state == "done" else None,
        )
