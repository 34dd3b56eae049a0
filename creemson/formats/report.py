"""What had to be mended in a file, or could not be read: counted, with examples, and all of it in a file."""

import csv
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias

from creemson.wire.messages import Issue, Issues

__all__ = ["REJECTS_MOST", "Fault", "Report"]

EXAMPLES_MOST = 20
"""Of issues that are told with the result."""
REJECTS_MOST = 1_000_000
"""Lines of a file of rejects: one about each row of a large table would be larger than the table."""
VALUE_MOST = 200
"""Characters of a value that are told."""

Fault: TypeAlias = Literal[
    "padded_rows", "cut_rows", "repaired_rows", "unparsable_rows", "unparsable_cells"
]  # as the attributes of Issues are named


class Report:
    """Collects the issues of one reading of a file, from any thread.

    Args:
        rejects: path of a file to write all of them to, as CSV; it appears with the first one. None for no file.
    """

    def __init__(self, rejects: Path | None = None) -> None:
        self.rejects = rejects
        self._lock = threading.Lock()
        self._counts: dict[Fault, int] = {}
        self._examples: list[Issue] = []
        self._written = 0
        self._stream: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, fault: Fault, *, line: int | None, column: str | None, value: str | None, why: str) -> None:
        """Tell of one issue; the arguments are those of :class:`~creemson.wire.messages.Issue`."""
        if value is not None and len(value) > VALUE_MOST:
            value = value[: VALUE_MOST - 1] + "…"
        with self._lock:
            self._counts[fault] = self._counts.get(fault, 0) + 1
            if len(self._examples) < EXAMPLES_MOST:
                self._examples.append(Issue(line=line, column=column, value=value, why=why))
            if self.rejects is not None and self._written < REJECTS_MOST:
                self._write(line, column, value, why)

    def count(self, fault: Fault, number: int) -> None:
        """Tell of issues of which nothing more is known."""
        if number:
            with self._lock:
                self._counts[fault] = self._counts.get(fault, 0) + number

    def clear(self) -> None:
        """Begin anew: the file is read in another way."""
        with self._lock:
            self._counts.clear()
            self._examples.clear()
            self._written = 0
        self._close()
        if self.rejects is not None:
            self.rejects.unlink(missing_ok=True)

    def issues(self) -> Issues:
        """What was told, so far; ``rejects`` is left to who knows the name under which the file will be served."""
        with self._lock:
            counts: dict[str, Any] = {str(fault): number for fault, number in self._counts.items()}
            return Issues(examples=tuple(self._examples), **counts)

    def _write(self, *row: Any) -> None:
        if self._stream is None:
            assert self.rejects is not None
            self._stream = self.rejects.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._stream)
            self._writer.writerow(("line", "column", "value", "why"))
        self._writer.writerow(row)
        self._written += 1

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
