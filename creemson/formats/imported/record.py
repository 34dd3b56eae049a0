"""Remembers what is repaired or lost in a file, issue by issue."""

from typing import NamedTuple

from creemson.formats.report import MAX_VALUE, Fault, Report

__all__ = ["Record", "Told"]


class Told(NamedTuple):
    """An issue that was reported: the arguments of :meth:`Report.add`."""

    fault: Fault
    line: int | None
    column: str | None
    value: str | None
    why: str


class Record(Report):
    """A report that also remembers its issues one by one.

    Args:
        most: Maximum number of issues that are remembered.

    Attributes:
        told: The issues, in the order in which they were reported.
        is_complete: Whether all of them are remembered, as they are.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.told: list[Told] = []
        self.is_complete = True

    def add(self, fault: Fault, *, line: int | None, column: str | None, value: str | None, why: str) -> None:
        """Add an issue; see :meth:`Report.add`."""
        super().add(fault, line=line, column=column, value=value, why=why)
        if len(self.told) < self._most and len(value or "") <= MAX_VALUE:
            self.told.append(Told(fault, line, column, value, why))
        else:
            self.is_complete = False

    def absorb(self, other: Report) -> None:
        """Add the issues of another report, and clear it; only their number is known."""
        self.is_complete &= not other
        super().absorb(other)

    def clear(self) -> None:
        """Remove all issues."""
        super().clear()
        self.told.clear()
        self.is_complete = True
