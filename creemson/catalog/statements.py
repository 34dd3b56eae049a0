"""The rows of the catalog in a database; implements :class:`creemson.catalog.catalog.Catalog`."""

from collections.abc import Iterable, Mapping

import attrs

from creemson.catalog.catalog import JobRow, PartRow, TableRow
from creemson.catalog.columns import insert, record, select
from creemson.catalog.database import Database, Transaction
from creemson.catalog.object_statements import DatabaseObjects

__all__ = ["DatabaseCatalog"]


_SELECT_PARTS = select("parts")
_SELECT_JOBS = f"{select('jobs')} ORDER BY created, id"
_SELECT_TABLES = select("tables")
_INSERT_PART = insert("parts")
_RECORD_JOB = record("jobs")
_RECORD_TABLE = record("tables")


class DatabaseCatalog:
    """The tables; see :class:`creemson.catalog.catalog.Catalog` for the methods.

    Args:
        database: where they are.
        objects: the rows of files in an object store; None: those of one server.
    """

    def __init__(self, database: Database, objects: DatabaseObjects | None = None) -> None:
        self.database = database
        self.objects = objects or DatabaseObjects(database)

    # --- files ---------------------------------------------------------------------------------------

    def digest(self, path: str, version: str) -> str | None:
        """Return the SHA-256 of this version of a file, if it is known."""
        rows = self.database.read("SELECT sha256 FROM files WHERE path = ? AND version = ?", (path, version))
        return rows[0][0] if rows else None

    def digests(self, folder: str | None = None) -> Mapping[tuple[str, str], str]:
        """Return the known digests of the files in a folder (None: in all), by path and version."""
        where, bounds = _in_folder(folder)
        rows = self.database.read(
            f"SELECT path, version, sha256 FROM files WHERE {where} AND sha256 IS NOT NULL",  # noqa: S608 - of constants
            bounds,
        )
        return {(path, version): sha256 for path, version, sha256 in rows}

    def record_digest(self, path: str, version: str, sha256: str) -> None:
        """Record the SHA-256 of a version of a file."""
        self._write(
            "INSERT INTO files (path, version, sha256) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256",
            [(path, version, sha256)],
        )

    def record_use(self, used: Mapping[str, float]) -> None:
        """Record when files were last used."""
        self._write(
            "INSERT INTO files (path, used) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET used = excluded.used "
            "WHERE coalesce(files.used, 0) < excluded.used",
            used.items(),
        )

    def uses(self, folder: str | None = None) -> Mapping[str, float]:
        """Return when the files in a folder (None: in all) were last used, by path; 0 if unknown."""
        where, bounds = _in_folder(folder)
        rows = self.database.read(f"SELECT path, used FROM files WHERE {where}", bounds)  # noqa: S608 - of constants
        return {path: used or 0.0 for path, used in rows}

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the rows of files."""
        self._write("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    # --- unfinished uploads --------------------------------------------------------------------------

    def part(self, caller: str, name: str) -> PartRow | None:
        """Return a caller's unfinished upload of this name."""
        rows = self.database.read(f"{_SELECT_PARTS} WHERE caller = ? AND name = ?", (caller, name))
        return PartRow(*rows[0]) if rows else None

    def parts(self, caller: str | None = None) -> list[PartRow]:
        """Return the unfinished uploads of a caller (None: of all)."""
        # Not `?1 IS NULL OR caller = ?1`, for which SQLite reads the whole table.
        if caller is None:
            rows = self.database.read(_SELECT_PARTS)
        else:
            rows = self.database.read(f"{_SELECT_PARTS} WHERE caller = ?", (caller,))
        return [PartRow(*row) for row in rows]

    def record_part(self, row: PartRow) -> None:
        """Record an unfinished upload; it replaces an earlier one of the same caller and name."""

        def record_all(transaction: Transaction) -> None:
            transaction.execute(
                "DELETE FROM parts WHERE path = ? OR (caller = ? AND name = ?)",
                (row.path, row.caller, row.name),
            )
            transaction.execute(_INSERT_PART, attrs.astuple(row))

        self.database.change(record_all)

    def update_part(self, path: str, durable: int, boot: str, touched: float) -> None:
        """Record the progress of an unfinished upload."""
        self._write(
            "UPDATE parts SET durable = ?, boot = ?, touched = ? WHERE path = ?",
            [(durable, boot, touched, path)],
        )

    def forget_part(self, path: str) -> None:
        """Delete the row of an unfinished upload."""
        self._write("DELETE FROM parts WHERE path = ?", [(path,)])

    # --- jobs ----------------------------------------------------------------------------------------

    def jobs(self) -> list[JobRow]:
        """Return all jobs, oldest first."""
        return [JobRow(*row) for row in self.database.read(_SELECT_JOBS)]

    def record_jobs(self, jobs: Iterable[JobRow | str]) -> None:
        """Record jobs, and delete the jobs that are given by id: in this order, and in one transaction."""
        rows = list(jobs)

        def record_all(transaction: Transaction) -> None:
            for job in rows:
                if isinstance(job, str):
                    transaction.execute("DELETE FROM jobs WHERE id = ?", (job,))
                else:
                    transaction.execute(_RECORD_JOB, attrs.astuple(job))

        self.database.change(record_all)

    # --- columnar copies of files --------------------------------------------------------------------

    def tables(self) -> list[TableRow]:
        """Return all copies."""
        return [TableRow(*row) for row in self.database.read(_SELECT_TABLES)]

    def record_table(self, row: TableRow) -> None:
        """Record a copy; it replaces one with the same path."""
        self._write(_RECORD_TABLE, [attrs.astuple(row)])

    def use_tables(self, used: Mapping[str, float]) -> None:
        """Record when copies were last used, by path."""
        self._write(
            "UPDATE tables SET used = ? WHERE path = ? AND used < ?",
            [(time, path, time) for path, time in used.items()],
        )

    def forget_tables(self, paths: Iterable[str]) -> None:
        """Delete the rows of copies."""
        self._write("DELETE FROM tables WHERE path = ?", [(path,) for path in paths])

    def _write(self, statement: str, parameters: Iterable[tuple[object, ...]]) -> None:
        rows = list(parameters)
        if rows:
            self.database.change(lambda transaction: transaction.executemany(statement, rows))


def _in_folder(folder: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition for the paths in a folder, and its parameters: "0" follows "/"."""
    return ("true", ()) if folder is None else ("path >= ? AND path < ?", (f"{folder}/", f"{folder}0"))
