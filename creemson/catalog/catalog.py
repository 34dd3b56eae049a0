"""The interface of catalogs, and their rows; :mod:`creemson.catalog.sqlite` implements it.

The folders show which files exist. The catalog stores what they do not show: the digest of a file's content, when the
file was last used, how much of an unfinished upload is certainly on disk, of which version a copy is, and all jobs. A
row without its file is meaningless, and a sweep removes it; a file needs no row, but a copy does.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from creemson.catalog.objects import Objects

__all__ = ["Catalog", "JobRow", "PartRow", "TableRow"]


@attrs.frozen
class PartRow:
    """An unfinished upload.

    Attributes:
        path: path of its bytes, relative to the data folder.
        caller: name of the caller who uploads it.
        name: name that the file will have.
        size, sha256: size and digest of the file, as announced.
        durable: number of bytes that survive a loss of power.
        boot: id of the boot of the machine in which bytes were last written. After a restart of only the server, all
            written bytes are still there; after another boot, only the durable bytes.
        touched: time of the last write, in seconds since 1970.
        fingerprint: what the client has given to recognise the content.
    """

    path: str
    caller: str
    name: str
    size: int
    sha256: str | None
    durable: int
    boot: str
    touched: float
    fingerprint: str | None = None


@attrs.frozen
class JobRow:
    """A job, with everything that the server needs to continue it after a restart.

    Attributes:
        id: identifies the job to clients.
        key: equal for the same work on the same version of a file, done by the same version of the server.
        caller: name of the caller who owns the job.
        query: the query as requested, as JSON.
        timeout: maximum seconds for the job.
        kept: whether the job continues when no request waits for it.
        state: ``queued`` (also for started jobs), ``done``, ``failed`` or ``cancelled``.
        created, finished: times in seconds since 1970.
        restarts: number of times that the server stopped before the job had an outcome.
        seq: number of its last event.
        outcome: the result or the error, as JSON.
        version: the version of the file for which the job was accepted; None: by a server that did not record it.
    """

    id: str
    key: str
    caller: str
    query: str
    timeout: float
    kept: bool
    state: str
    created: float
    finished: float | None
    restarts: int
    seq: int
    outcome: str | None
    version: str | None = None


@attrs.frozen
class TableRow:
    """The columnar copy of a version of a file.

    Attributes:
        path: name of its folder.
        caller: name of the caller who owns the file.
        version: version of the file.
        options: how the file is read, as JSON; empty if everything is detected.
        reader: version of what has read the file.
        bytes: size of the copy.
        rows: number of its rows.
        used: time of its last use, in seconds since 1970.
    """

    path: str
    caller: str
    version: str
    options: str
    reader: str
    bytes: int
    rows: int
    used: float


class Catalog(Protocol):
    """The interface. Every method blocks, may be called from any thread, and raises OSError if the database fails.

    Paths are relative to the data folder. A method that writes returns only when the change survives a loss of power.
    """

    @property
    def objects(self) -> Objects:
        """The rows of files that are in an object store; none if the bytes are in a folder."""

    # --- files ---------------------------------------------------------------------------------------

    def digest(self, path: str, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""

    def digests(self, folder: str | None = None) -> Mapping[tuple[str, str], str]:
        """Return the known digests of the files in a folder (None: in all), by path and version."""

    def record_digest(self, path: str, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file."""

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used, in seconds since 1970, by path."""

    def uses(self, folder: str | None = None) -> Mapping[str, float]:
        """Return when the files in a folder (None: in all) were last used, by path; 0 if unknown."""

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the rows of files."""

    # --- unfinished uploads --------------------------------------------------------------------------

    def part(self, caller: str, name: str) -> PartRow | None:
        """Return a caller's unfinished upload of this name."""

    def parts(self, caller: str | None = None) -> Sequence[PartRow]:
        """Return the unfinished uploads of a caller (None: of all)."""

    def record_part(self, row: PartRow) -> None:
        """Record an unfinished upload; it replaces an earlier one of the same caller and name."""

    def update_part(self, path: str, durable: int, boot: str, touched: float) -> None:
        """Record the progress of an unfinished upload."""

    def forget_part(self, path: str) -> None:
        """Delete the row of an unfinished upload."""

    # --- jobs ----------------------------------------------------------------------------------------

    def jobs(self) -> Sequence[JobRow]:
        """Return all jobs, oldest first."""

    def record_jobs(self, jobs: Iterable[JobRow | str]) -> None:
        """Record jobs, and delete the jobs that are given by id: in this order, and in one transaction."""

    # --- columnar copies of files --------------------------------------------------------------------

    def tables(self) -> Sequence[TableRow]:
        """Return all copies."""

    def record_table(self, row: TableRow) -> None:
        """Record a copy; it replaces one with the same path."""

    def use_tables(self, used: Mapping[str, float]) -> None:
        """Record when copies were last used, in seconds since 1970, by path."""

    def forget_tables(self, paths: Iterable[str]) -> None:
        """Delete the rows of copies."""
