"""Describes how a file was read, and the issues that were found in it."""

from creemson.display.text import counted, visible
from creemson.model.query import DateFormat
from creemson.model.results import Issues, Reading

__all__ = ["describe_issues", "describe_reading"]

SHOWN_EXAMPLES = 3
SHOWN_CHARACTERS = 80
"""Maximum number of characters of a value in an example."""
FORMATS = {
    "csv": "CSV",
    "fixed": "fixed-width text",
    "ndjson": "NDJSON",
    "json": "JSON",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "xlsx": "Excel",
}
"""Names of the formats, as on the web page."""
ISSUES = {
    "padded_rows": ("row", "padded"),
    "cut_rows": ("row", "cut"),
    "repaired_rows": ("row", "repaired"),
    "repaired_cells": ("cell", "repaired"),
    "unparsable_rows": ("row", "dropped"),
    "unparsable_cells": ("cell", "set to null"),
    "missing_values": ("formula", "without a stored value"),
}
"""What is counted for each kind of issue, and what has been done with it."""


def describe_reading(reading: Reading) -> str:
    """Describe how a file was read, in one line."""
    parts = (
        FORMATS.get(reading.format, reading.format),
        reading.compression and f"compressed with {reading.compression}",
        reading.encoding,
        _shown("delimiter", reading.delimiter),
        reading.trailing_delimiter and "a delimiter ends every row",
        reading.quote != '"' and _shown("quote", reading.quote),
        reading.escape and _shown("escape", reading.escape),
        reading.member is None and _describe_place(reading),
        _shown("from the archive:", reading.member),
        reading.header is not None
        and (counted(reading.header, "header row") if reading.header else "no header"),
        reading.skip_rows and f"{counted(reading.skip_rows, 'row')} skipped",
        reading.footer_rows and f"{counted(reading.footer_rows, 'row')} below the table left out",
        reading.decimal == "," and "decimal comma",
        _shown("thousands", reading.thousands),
        _describe_dates(reading.date_format),
        reading.comment and _shown("comments after", reading.comment),
    )
    return ", ".join(part for part in parts if part)


def _shown(noun: str, value: str | None) -> str:
    return "" if value is None else f"{noun} {value!r}"


def _describe_place(reading: Reading) -> str:
    """The table that was chosen from several in a file: a sheet, or an array of a JSON."""
    noun = "array" if reading.format == "json" else "sheet"
    others = len(reading.sheets or ()) - 1
    return _shown(noun, reading.sheet) + (f" (one of {others + 1:,})" if others > 0 and reading.sheet else "")


def _describe_dates(date_format: DateFormat | None) -> str:
    if date_format is None or isinstance(date_format, str):
        return _shown("dates", date_format)
    return ", ".join(f"dates of {column!r} {pattern!r}" for column, pattern in date_format.items())


def describe_issues(issues: Issues, *, rejects: str | None = None) -> list[str]:
    """Describe the issues in lines: the counts, the first examples, and the name of the file with all issues.

    Args:
        issues: the issues.
        rejects: name or path of the file with all issues; None if it cannot be had.
    """
    counts = ((getattr(issues, name), noun, verb) for name, (noun, verb) in ISSUES.items())
    lines = [", ".join(f"{counted(count, noun)} {verb}" for count, noun, verb in counts if count)]
    for issue in issues.examples[:SHOWN_EXAMPLES]:
        place = [] if issue.line is None else [f"line {issue.line:,}"]
        place += [] if issue.column is None else [f"column {issue.column!r}"]
        lines.append(
            f"  {', '.join(place)}: {(issue.value or '')[:SHOWN_CHARACTERS]!r}: {visible(issue.why)}"
        )
    if issues.rejects is not None and rejects is not None:
        lines.append(f"  all issues: {visible(rejects)}")
    return lines
