"""Keeps the texts of cells beside their values, for output that has every cell as the file writes it.

Texts cost hardly more than values, while comparing a text with its value costs a tenth of reading the file for each
column. So a column has its texts beside its values, unless a cheap test shows in each batch that the values tell them.
"""

import re
from collections.abc import Mapping

import polars as pl
import polars.selectors as cs

from creemson.formats.csv.values.kinds import TEXT, Kind
from creemson.formats.table import text_of

__all__ = ["exceptional", "has_test", "hidden_texts", "texts_of"]

_DIRECTIVE = re.compile("%.")
_LOSSY_INTEGER = r"^(\+|-?0\d|-0$)"
"""Pattern of an integer that has more characters than its value needs."""


def has_test(kind: Kind) -> bool:
    """Whether a cheap test can show that texts are those of values of a kind."""
    return kind is TEXT or kind.is_integer or kind.dtype == pl.Boolean or _is_plain_date(kind)


def _is_plain_date(kind: Kind) -> bool:
    """Whether the values are dates that are written as years, months and days in a single notation."""
    return kind.dtype == pl.Date and set(_DIRECTIVE.findall(kind.notation)) == {"%Y", "%m", "%d"}


def texts_of(texts: pl.Series, values: pl.Series, kind: Kind) -> pl.Series | None:
    """Return the texts of one column that are needed beside its values; None if there are none.

    Args:
        texts: The cells as the file writes them.
        values: Their values.
        kind: The kind of the column.
    """
    return None if _are_same(texts.alias(""), values.alias(""), kind) else texts


def _are_same(texts: pl.Series, values: pl.Series, kind: Kind) -> bool:
    """Whether a cheap test shows that all texts are those of their values."""
    if values.null_count() != texts.null_count():
        return False
    if kind is TEXT:
        return True
    if kind.is_integer:
        small = texts < "1"  # a plus, a minus and a zero are less than "1"; this rules out most batches
        return not small.any() or not texts.filter(small).str.contains(_LOSSY_INTEGER).any()
    if kind.dtype == pl.Boolean:
        true, false = (texts == "true").sum(), (texts == "false").sum()
        return bool(true == values.sum() and false == (~values).sum())
    if _is_plain_date(kind):
        different = texts.unique()  # many rows have the same date
        return kind.converted(different).dt.to_string(kind.notation).equals(different, null_equal=True)
    return False


def _plain_integers(texts: pl.DataFrame, values: pl.DataFrame, kinds: Mapping[str, Kind]) -> set[str]:
    """Return the columns of integers whose texts are those of their values.

    One query looks at all of them: 100,000 queries would take 40 s.
    """
    names = [name for name, kind in kinds.items() if kind.is_integer]
    if not names:
        return set()
    lossy = texts.select(cs.by_name(names).str.contains(_LOSSY_INTEGER).any()).row(0, named=True)
    missing, lost = (frame.null_count().row(0, named=True) for frame in (texts, values))
    return {name for name in names if not lossy[name] and missing[name] == lost[name]}


def exceptional(texts: pl.DataFrame, values: pl.DataFrame, kinds: Mapping[str, Kind]) -> set[str]:
    """Return the columns of which a cheap test could show that the values tell the texts, but shows that they do not.

    Args:
        texts: The cells as the file writes them.
        values: Their values.
        kinds: The kinds of the columns.
    """
    plain = _plain_integers(texts, values, kinds)
    return {
        name
        for name, kind in kinds.items()
        if kind is not TEXT
        and name not in plain
        and has_test(kind)
        and texts_of(texts.get_column(name), values.get_column(name), kind) is not None
    }


def hidden_texts(texts: pl.DataFrame, values: pl.DataFrame, kinds: Mapping[str, Kind]) -> pl.DataFrame | None:
    """Return the hidden columns of a table in memory, see :func:`~creemson.formats.table.text_of`.

    Args:
        texts: The cells as the file writes them.
        values: Their values.
        kinds: The kinds of the columns.

    Returns:
        Those that are needed; None if there are none.
    """
    plain = _plain_integers(texts, values, kinds)
    hidden = [
        needed.alias(text_of(name))
        for name, kind in kinds.items()
        if name not in plain
        and (needed := texts_of(texts.get_column(name), values.get_column(name), kind)) is not None
    ]
    return pl.DataFrame(hidden) if hidden else None
