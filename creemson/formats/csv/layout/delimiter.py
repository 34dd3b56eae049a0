"""Finds the delimiter, the quote and the escape of a CSV.

The best delimiter is the one that explains most lines: they have the same number of cells, which look like values.
(van den Burg, Nazábal, Sutton: *Wrangling messy CSV files by detecting row and type patterns*, 2019, use the same two
criteria.)
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from creemson.formats.csv.layout.cells import TYPED, is_prose
from creemson.formats.csv.layout.comments import COMMENT
from creemson.formats.csv.layout.rows import DELIMITERS, records_of
from creemson.model.query import Options

__all__ = ["QUOTES", "SAMPLE_RECORDS", "delimiter_and_quote", "escape_before"]

RARE_DELIMITERS = ("||", "::", ", ", "; ", "~", "^", "\x1f", "\x01", ":", " ")
"""Delimiters that are tried only if none of the common ones splits the lines."""
SURE_SCORE = 0.9
"""Score of a delimiter above which no rare delimiter is tried."""
TEXT_DELIMITERS = (":", " ")
"""Delimiters that texts and times also contain."""
NO_DELIMITER = "\x1f"
"""The delimiter of a table of one column whose texts contain the usual one; no text contains it."""
QUOTES = ('"', "'")
"""Characters around cells that are detected."""
SAMPLE_RECORDS = 100
"""Number of records from which the delimiter and the header are detected."""


def delimiter_and_quote(
    lines: Sequence[str], options: Options, declared: str | None, *, prefers_tabs: bool
) -> tuple[str, str]:
    """The delimiter and the quote; ``declared`` is the delimiter of a "sep=" line, if the file has one."""
    reserved = {options.quote, options.escape}  # characters that are not delimiters
    quotes = QUOTES if options.quote is None else (options.quote,)
    if options.delimiter is not None:
        declared = options.delimiter
    elif declared is not None and not reserved.isdisjoint(declared):
        declared = None  # the "sep=" line contradicts the options
    sample = _below_comments(lines)[: SAMPLE_RECORDS * 2]
    order: tuple[str, ...] = (
        ("\t", *(other for other in DELIMITERS if other != "\t")) if prefers_tabs else DELIMITERS
    )
    order = tuple(delimiter for delimiter in order if delimiter not in reserved)
    if declared is not None:
        return declared, _quote(
            sample, declared, [quote for quote in quotes if not quote or quote not in declared]
        )
    scores: dict[tuple[str, str], tuple[float, bool, int]] = {}
    for candidates in (order, RARE_DELIMITERS):
        usable = [delimiter for delimiter in candidates if reserved.isdisjoint(delimiter)]
        scores |= _scores(sample, usable, quotes, order[0])
        if scores and max(scores.values())[0] > SURE_SCORE:
            break
    else:
        if not scores or max(scores.values())[0] < 0.3:  # one column
            delimiter = NO_DELIMITER if _is_text(sample, order[0]) else order[0]
            return delimiter, _quote(sample, delimiter, quotes)
    best, (score, *_) = max(scores.items(), key=lambda item: item[1])
    if score < 0.5 and _is_text(sample, best[0].strip() or best[0]) and _is_prose(sample, best[0].strip()):
        return NO_DELIMITER, _quote(sample, NO_DELIMITER, quotes)
    # The delimiter is a comma and a space, rather than a comma, if there is always a space.
    for longer in (f"{best[0]}{best[0]}", f"{best[0]} "):
        if (
            longer in RARE_DELIMITERS
            and reserved.isdisjoint(longer)
            and _is_always_longer(sample, best[0], longer, best[1])
        ):
            return longer, best[1]
    return best


def _below_comments(lines: Sequence[str]) -> Sequence[str]:
    """The lines below the comments at the beginning; all lines if there are no others.

    Many comments above few rows would show that lines have no delimiter.
    """
    if not lines or not lines[0].startswith(COMMENT):
        return lines
    first = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith(COMMENT)), 0)
    return lines[first:]


def _scores(
    lines: Sequence[str], delimiters: Sequence[str], quotes: Sequence[str], preferred: str
) -> dict[tuple[str, str], tuple[float, bool, int]]:
    """The score of each delimiter that occurs in the first lines, with its quote."""
    scores = {}
    for delimiter in delimiters:
        if any(delimiter in line for line in lines[:20]):
            quote = _quote(lines, delimiter, quotes)
            if not _is_always_quoted(lines, delimiter, quote):
                scores[delimiter, quote] = _score(
                    lines, delimiter, quote, is_preferred=delimiter == preferred
                )
    return scores


def _is_always_longer(lines: Sequence[str], delimiter: str, longer: str, quote: str) -> bool:
    """Whether the delimiter occurs only as a part of the longer one, outside of quotes."""
    if not any(longer in line for line in lines):
        return False
    outside = [part for line in lines for part in (line.split(quote)[::2] if quote else (line,))]
    shorter = sum(part.count(delimiter) for part in outside)
    # Before an empty cell or at the end of a line, the space may be missing.
    return shorter > 0 and shorter == sum(part.count(longer) for part in outside) * len(
        longer.replace(" ", "")
    )


def _is_always_quoted(lines: Sequence[str], delimiter: str, quote: str) -> bool:
    """Whether a delimiter occurs inside quotes only, which makes it no delimiter."""
    text = "\n".join(lines)
    if not quote or text.count(quote) % 2 or quote not in text:
        return False
    return not any(delimiter in outside for outside in text.split(quote)[::2])


def _is_prose(lines: Sequence[str], delimiter: str) -> bool:
    """Whether each delimiter has a blank behind it and stands between words, as in sentences."""
    divided = [line.split(delimiter) for line in lines if delimiter and delimiter in line]
    return bool(divided) and all(is_prose(cells) for cells in divided)


def _is_text(lines: Sequence[str], delimiter: str) -> bool:
    """Whether the delimiter is a part of sentences: at least half of the lines do not have it."""
    without = sum(delimiter not in line for line in lines if line.strip())
    return without > 0 and without * 2 >= sum(bool(line.strip()) for line in lines) > without


def _quote(lines: Sequence[str], delimiter: str, quotes: Sequence[str]) -> str:
    """The quote around most cells; the double quote if there are no quotes."""

    def count_quoted_cells(quote: str) -> int:
        mark, edge = re.escape(quote), re.escape(delimiter)
        # A cell that is an apostrophe opens neither the next cell nor, if all lines have as many cells, the next line.
        opening = rf"{mark}(?!{edge}|\n)" if quote == "'" else mark
        within = r"\n" if quote == "'" and is_even else ""
        inner = rf"(?:{mark}{mark}|\\{mark}|[^{mark}{within}])*+"
        space = rf"[^\S\n{re.escape(delimiter[:1])}]*+"
        quoted = re.compile(rf"(?:^|{edge}){space}{opening}{inner}{mark}{space}(?=$|{edge})", re.MULTILINE)
        return len(quoted.findall(text))

    if len(quotes) == 1:
        return quotes[0]
    if not any("'" in line for line in lines):
        return '"'
    text = "\n".join(lines)
    is_even = len({line.count(delimiter) for line in lines if line.strip()}) == 1
    double, single = count_quoted_cells('"'), count_quoted_cells("'")
    return "'" if single > double else '"'


def _score(
    lines: Sequence[str], delimiter: str, quote: str, *, is_preferred: bool
) -> tuple[float, bool, int]:
    """How well a delimiter explains the lines: a tuple, of which the greatest is the best.

    Its first item combines the share of lines that have the most frequent number of cells (if that is more than one)
    with the share of their cells that are numbers, dates and the like. If it is equal, the preferred delimiter wins,
    and then the one with more cells.
    """
    records = [cells for cells, _, _ in islice(records_of(lines, delimiter, quote, ""), SAMPLE_RECORDS)]
    if not records:
        return 0.0, is_preferred, 0
    counts = Counter(len(cells) for cells in records)
    width, equal = max(counts.items(), key=lambda item: (item[1] * (item[0] > 1), item[0]))
    if width == 1:
        return 0.0, is_preferred, 1
    share = equal / len(records)
    if delimiter in TEXT_DELIMITERS:
        # In an access log, blanks stand around texts in quotes, and colons inside of times.
        has_stray_quotes = quote and any(quote in cell for record in records for cell in record)
        share *= 0.7 if has_stray_quotes else 0.8
    if len(records[0]) == 1:  # a preamble, or prose that contains the delimiter now and then
        share *= 0.3 if delimiter in TEXT_DELIMITERS else 0.9
    cells = [cell for record in records[1:30] if len(record) == width for cell in record]
    typed = sum(1 for cell in cells if not cell or TYPED.fullmatch(cell)) / max(1, len(cells))
    return round(share * (0.85 + 0.15 * typed), 3), is_preferred, width


def escape_before(lines: Sequence[str], delimiter: str, quote: str) -> str:
    r"""A backslash, if there are backslashes before quotes that neither end their cells nor are doubled; else "".

    A backslash before a doubled quote is text, as in JSON inside a cell, unless the second quote ends the cell.
    """
    if not quote or "\\" + quote not in "\n".join(lines):
        return ""
    mark, edge = re.escape(quote), rf"$|{re.escape(delimiter)}"
    inner = re.compile(rf"\\{mark}(?:{mark}(?={edge})|(?!{mark}|{edge}))")
    pair, doubled = "\\" * 2, quote * 2  # two backslashes stand for one, and escape nothing
    escaped = sum(len(inner.findall(line.replace(pair, ""))) for line in lines)
    return "\\" if escaped > sum(line.count(doubled) for line in lines) * 0.1 else ""
