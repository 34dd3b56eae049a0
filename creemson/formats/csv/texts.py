"""Keeps the texts of cells beside their values, for output that has every cell as the file writes it.

A column has its texts beside its values, unless a test shows in each batch that a CSV shows all values as the file
writes them: then every cell matches a pattern (:mod:`creemson.formats.csv.values.shown`).
"""

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from creemson.formats.csv.values.kinds import TEXT, Kind, with_decimals
from creemson.formats.csv.values.shown import decimals_of
from creemson.formats.csv.values.types import column_groups
from creemson.formats.table import text_of

__all__ = ["exceptional", "fixed_decimals", "hidden_texts", "shown_as_written"]


def fixed_decimals(kinds: Mapping[str, Kind], samples: Mapping[str, Sequence[str]]) -> dict[str, Kind]:
    """Return other kinds for the doubles that are written with a fixed number of decimals.

    Args:
        kinds: The kinds of the columns.
        samples: Some cells of columns.
    """
    return {
        name: with_decimals(kinds[name], decimals)
        for name, cells in samples.items()
        if kinds[name].dtype == pl.Float64 and kinds[name].shown and (decimals := decimals_of(cells))
    }


def shown_as_written(texts: pl.DataFrame, values: pl.DataFrame, kinds: Mapping[str, Kind]) -> set[str]:
    """Return the columns of values that a CSV shows as the file writes them; none of their cells has lost anything.

    Args:
        texts: The cells as the file writes them.
        values: Their values.
        kinds: The kinds of the columns.
    """
    names = [
        name
        for name in values.columns
        if kinds[name].shown and values.get_column(name).null_count() == texts.get_column(name).null_count()
    ]
    # Only digits and a sign: a plus, a minus and a zero in front are less than "1", and few columns have them.
    shown = {
        name for name in names if kinds[name].is_integer and str(texts.get_column(name).min() or "") >= "1"
    }
    names = [name for name in names if name not in shown]
    for group, part in column_groups(texts, names):
        part.columns = list(map(str, range(len(group))))
        tests = (
            _matches(kinds[name], pl.col(column)) for name, column in zip(group, part.columns, strict=True)
        )
        row = part.select(tests).row(0)
        shown.update(name for name, is_shown in zip(group, row, strict=True) if is_shown)
    return shown


def _matches(kind: Kind, texts: pl.Expr) -> pl.Expr:
    """Whether all cells match the pattern of their kind, given that they have values."""
    if kind.is_integer:
        texts = texts.filter(texts < "1")
    elif kind.dtype == pl.Date:  # many rows have the same date
        texts = texts.unique()
    return texts.str.contains(f"^(?:{kind.shown})$").all()


def exceptional(kinds: Mapping[str, Kind], shown: Collection[str]) -> set[str]:
    """Return the columns of values of which some cell is written in another way than a CSV shows its value.

    Args:
        kinds: The kinds of the columns.
        shown: The columns that :func:`shown_as_written` returns.
    """
    return {name for name, kind in kinds.items() if kind is not TEXT and name not in shown}


def hidden_texts(
    texts: pl.DataFrame,
    values: pl.DataFrame,
    kinds: Mapping[str, Kind],
    shown: Collection[str],
    *,
    have_words: bool,
) -> pl.DataFrame | None:
    """Return the hidden columns of a table in memory, see :func:`~creemson.formats.table.text_of`.

    Args:
        texts: The cells as the file writes them.
        values: Their values.
        kinds: The kinds of the columns.
        shown: The columns that :func:`shown_as_written` returns.
        have_words: Whether texts may be words for a missing value, whose values are null.

    Returns:
        Those that are needed; None if there are none.
    """
    needed = exceptional(kinds, shown)
    if have_words:
        needed |= {
            name
            for name, kind in kinds.items()
            if kind is TEXT and texts.get_column(name).null_count() < values.get_column(name).null_count()
        }
    hidden = [texts.get_column(name).alias(text_of(name)) for name in kinds if name in needed]
    return pl.DataFrame(hidden) if hidden else None
