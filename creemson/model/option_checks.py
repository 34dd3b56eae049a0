"""Checks reading options for values that polars or a decoder would refuse."""

import codecs
from collections.abc import Iterator

from creemson.model.date_patterns import pattern_fault
from creemson.model.excerpt import excerpt
from creemson.model.query import DateFormat, Options

__all__ = ["option_faults"]

MAX_WIDTHS = 10_000
"""Maximum number of columns of a fixed-width file: polars takes 7 s of CPU to infer the types of so many."""
MAX_NULL_VALUES = 1000
"""Maximum number of words for a missing value: polars compares each cell with each of them."""
NOTATIONS = frozenset({"charmap", "idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7"})
"""Python codecs that are notations and not encodings of files; some decode to lone surrogates, which UTF-8 cannot
encode."""


def option_faults(options: Options) -> Iterator[tuple[str, str]]:
    """Check reading options.

    Yields:
        The name of each invalid option, and what is wrong with its value.
    """
    for name in ("delimiter", "quote", "escape"):
        value = getattr(options, name)
        if not value:
            continue
        if fault := _separator_fault(value, ascii_only=name != "delimiter"):
            yield name, f"{fault}, got {excerpt(value)}"
        elif name != "delimiter" and options.delimiter and value in options.delimiter:
            yield name, f"expected a character that is not in the delimiter, got {excerpt(value)}"
    yield from _sign_faults(options)
    if options.date_format is not None:
        yield from _date_format_faults(options.date_format)
    if options.null_values and len(options.null_values) > MAX_NULL_VALUES:
        yield "null_values", f"expected at most {MAX_NULL_VALUES} words, got {len(options.null_values)}"
    if options.widths and len(options.widths) > MAX_WIDTHS:
        yield "widths", f"expected at most {MAX_WIDTHS} columns, got {len(options.widths)}"
    if options.encoding is not None and not _is_encoding(options.encoding):
        yield (
            "encoding",
            f"there is no encoding {excerpt(options.encoding)}; use one such as utf-8, windows-1252 or shift_jis",
        )


def _sign_faults(options: Options) -> Iterator[tuple[str, str]]:
    """Check the signs of comments and of thousands."""
    comment, thousands = options.comment, options.thousands
    if comment:
        if fault := _separator_fault(comment, ascii_only=False):
            yield "comment", f"{fault}, got {excerpt(comment)}"
        elif comment in (options.quote, options.escape) or comment in (options.delimiter or ""):
            yield "comment", f"expected a sign that is no delimiter, quote or escape, got {excerpt(comment)}"
    if thousands is None:
        return
    if fault := _separator_fault(thousands, ascii_only=False):
        yield "thousands", f"{fault}, got {excerpt(thousands)}"
    elif thousands.isalnum() or thousands in "+-":
        yield "thousands", f"expected a sign such as , . ' or a space, got {excerpt(thousands)}"
    elif thousands == options.decimal:
        yield "thousands", f"expected another sign than the decimal separator, got {excerpt(thousands)}"
    elif thousands == options.delimiter and options.quote == "":
        # With quotes, a number that contains the delimiter can be told from two cells.
        yield (
            "thousands",
            f"expected another sign than the delimiter of cells without quotes, got {excerpt(thousands)}",
        )


def _date_format_faults(date_format: DateFormat) -> Iterator[tuple[str, str]]:
    patterns = {"": date_format} if isinstance(date_format, str) else date_format
    for column, pattern in patterns.items():
        if fault := pattern_fault(pattern):
            yield (
                "date_format",
                f"{fault}, got {excerpt(pattern)}" + (f" for {excerpt(column)}" if column else ""),
            )


def _separator_fault(value: str, *, ascii_only: bool) -> str:
    """Return what is wrong with a delimiter, quote or escape; empty if nothing is."""
    if set(value) & {"\n", "\r"}:
        return "must not contain a line break"
    if "\0" in value:
        return "must not contain NUL"
    if ascii_only and not value.isascii():
        return "expected an ASCII character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "expected Unicode without lone surrogates"
    return ""


def _is_encoding(name: str) -> bool:
    """Return whether Python can decode files in an encoding of this name."""
    try:
        found = codecs.lookup(name).name.replace("_", "-")
        return found not in NOTATIONS and "x".encode(name).decode(name) == "x"
    except (LookupError, ValueError):  # LookupError also for codecs that do not decode bytes to text
        return False
