"""Collects what is repaired or lost in a file: counts, some examples, and a CSV file of all issues (the rejects)."""

import csv
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias

from creemson.model.results import Issue, Issues

__all__ = ["MAX_REJECTS", "MAX_VALUE", "Fault", "Report"]

MAX_EXAMPLES = 20
"""Maximum number of issues that are sent with the result."""
MAX_REJECTS = 1_000_000
"""Maximum number of issues in the file of rejects, and of those that are added by casts; if every row of a large table
had one, that file would be larger than the table."""
MAX_VALUE = 200
"""Maximum number of characters of a value in an issue."""

Fault: TypeAlias = Literal[
    "padded_rows",
    "cut_rows",
    "repaired_rows",
    "repaired_cells",
    "unparsable_rows",
    "unparsable_cells",
    "missing_values",
]
"""The kinds of issues, which are attributes of :class:`~creemson.model.results.Issues`."""


class Report:
    """Collects the issues of one reading of a file; thread-safe. Leaving its context closes the file of rejects.

    Args:
        rejects: Path of a CSV that receives all issues; it is created with the first one. None for no file.
    """

    def __init__(self, rejects: Path | None = None) -> None:
        self.rejects = rejects
        self._lock = threading.Lock()  # polars adds issues from several threads
        self._counts: dict[Fault, int] = {}
        self._once: set[tuple[Fault, str]] = set()
        self._examples: list[Issue] = []
        self._written = 0  # number of issues in the file of rejects
        self._stream: IO[str] | None = None
        self._writer: Any = None  # the `csv.writer` of the stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, fault: Fault, *, line: int | None, column: str | None, value: str | None, why: str) -> None:
        """Add an issue; the arguments are those of :class:`~creemson.model.results.Issue`."""
        if value is not None and len(value) > MAX_VALUE:
            value = value[: MAX_VALUE - 1] + "…"
        with self._lock:
            self._counts[fault] = self._counts.get(fault, 0) + 1
            if len(self._examples) < MAX_EXAMPLES:
                self._examples.append(Issue(line=line, column=column, value=value, why=why))
            if self.rejects is not None and self._written < MAX_REJECTS:
                self._write(line, column, value, why)

    def add_once(
        self, fault: Fault, *, line: int | None, column: str | None, value: str | None, why: str
    ) -> None:
        """Add an issue, unless one of the same kind with the same reason was added."""
        with self._lock:
            is_new = (fault, why) not in self._once
            self._once.add((fault, why))
        if is_new:
            self.add(fault, line=line, column=column, value=value, why=why)

    def clear(self) -> None:
        """Remove all issues, before the file is read in another way."""
        with self._lock:
            self._counts.clear()
            self._once.clear()
            self._examples.clear()
            self._written = 0
        self._close()
        if self.rejects is not None:
            self.rejects.unlink(missing_ok=True)

    def apart(self) -> "Report":
        """Return a report for issues that are added to this one only if a reading succeeds; see :meth:`absorb`."""
        return Report(
            None if self.rejects is None else self.rejects.with_name(f"{self.rejects.name}.apart.tmp")
        )

    def absorb(self, other: "Report") -> None:
        """Add the issues of another report, and clear it."""
        other._close()
        with self._lock:
            for fault, number in other._counts.items():
                self._counts[fault] = self._counts.get(fault, 0) + number
            self._examples += other._examples[: MAX_EXAMPLES - len(self._examples)]
            if other._written and other.rejects is not None and self.rejects is not None:
                with other.rejects.open(encoding="utf-8", newline="") as stream:
                    stream.readline()  # the header, which this file has, too
                    shutil.copyfileobj(stream, self._opened())
                self._written += other._written
        other.clear()

    def issues(self) -> Issues:
        """Return the issues so far; the caller sets ``rejects``, because it knows the final name of that file."""
        with self._lock:
            counts: dict[str, Any] = {str(fault): number for fault, number in self._counts.items()}
            return Issues(examples=tuple(self._examples), **counts)

    def _write(self, *row: Any) -> None:
        self._opened()
        self._writer.writerow(row)
        self._written += 1

    def _opened(self) -> IO[str]:
        """Return the file of rejects; the first call creates it."""
        if self._stream is None:
            assert self.rejects is not None
            self._stream = self.rejects.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._stream)
            self._writer.writerow(("line", "column", "value", "why"))
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
