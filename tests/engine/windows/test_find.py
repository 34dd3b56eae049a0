"""Finding a text in cells: literally, in any case."""

import datetime
import unicodedata
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.engine.export.csv import text_cells
from creemson.engine.windows.find import can_show, has_text


def folded(text):
    """The text in Unicode's simple case folding, which has one character for each."""
    return "".join(map(folded_character, text))


def folded_character(character):
    for fold in (character.casefold(), character.lower()):
        if len(fold) == 1:
            return fold
    return character


def has(cells, text):
    return (
        pl.DataFrame({"a": cells}, schema={"a": pl.String})
        .select(has_text(pl.col("a"), text))
        .to_series()
        .to_list()
    )


characters = st.sampled_from(
    "aAbBkK\u212asSſßẞiIıİéÉΣσςǅǆǄ.*[](\\^$|?+{}-#&~ \n\t\0'\"19,日\U0001f600"
) | st.characters(max_codepoint=0x2FFF, categories=["Lu", "Ll", "Lt", "N", "Po"]).filter(
    lambda character: unicodedata.normalize("NFC", character) == character
)
texts = st.text(characters, max_size=6)


@given(cells=st.lists(st.none() | texts, max_size=6), text=texts.filter(bool), in_first=st.booleans())
@example(cells=["Straße", "STRASSE", "STRAẞE"], text="straße", in_first=False)
@example(cells=["a.c", "abc"], text="A.C", in_first=False)
@example(cells=["\u212a", "K", "k", None, ""], text="k", in_first=False)
def test_text_is_found_literally_in_any_case(cells, text, in_first):
    """As by a comparison of the texts in simple case folding."""
    if in_first and cells and cells[0] is not None:
        cells = [cells[0] + text.swapcase() + cells[0], *cells[1:]]
    expected = [None if cell is None else folded(text) in folded(cell) for cell in cells]
    assert has(cells, text) == expected


VALUES = {
    "integer": pl.Series([0, -12, 7_012_345, None]),
    "boolean": pl.Series([True, False, None]),
    "date": pl.Series([datetime.date(2024, 3, 2), datetime.date(1999, 12, 31)]),
    "decimal": pl.Series([Decimal("10.50"), Decimal("-0.07")]),
    "float": pl.Series([1.5, 1e300, float("inf"), float("nan"), -1e-9]),
    "datetime": pl.Series([datetime.datetime(2024, 3, 2, 1, 2, 3, 500)]),
    "zone": pl.Series([datetime.datetime(2024, 3, 2, 1, 2, 3, 500)]).dt.replace_time_zone("America/New_York"),
    "utc": pl.Series([datetime.datetime(2024, 3, 2, 1, 2, 3, 500)]).dt.replace_time_zone("UTC"),
    "years": pl.Series([10**15, -(10**15)], dtype=pl.Int64).cast(pl.Datetime("ms")),
    "time": pl.Series([datetime.time(1, 2, 3, 500)]),
    "duration": pl.Series([datetime.timedelta(days=3, seconds=0.5), -datetime.timedelta(hours=30)]),
    "float32": pl.Series([1.5, 1e30, float("-inf"), float("nan"), -1e-9], dtype=pl.Float32),
    "text": pl.Series(["x", "Été"]),
    "bytes": pl.Series([b"abc"]),
    "list": pl.Series([[1, 2], [], None]),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("notation", [None, "%d %b %Y", "%d/%m/%Y %H:%M:%S%.3f", "%Y%m%dT%-H.%M"])
def test_column_that_cannot_show_a_text_has_no_cell_with_it(kind, notation):
    """Every part of every cell, in any case, may be shown."""
    column = VALUES[kind].alias("a")
    notations = {"a": notation} if notation and column.dtype.is_temporal() else {}
    shown = text_cells(column.to_frame().lazy(), notations).collect().to_series()
    for cell in shown.drop_nulls():
        for start in range(len(cell)):
            for end in range(start + 1, len(cell) + 1):
                for text in (cell[start:end], cell[start:end].upper(), cell[start:end].lower()):
                    assert can_show(column.dtype, notations.get("a"), text), text


def test_column_of_numbers_cannot_show_letters():
    """Most searches are for words, and need not write the numbers as text."""
    assert not can_show(pl.Int64(), None, "1a")
    assert not can_show(pl.Decimal(10, 2), None, "e")
    assert not can_show(pl.Float64(), None, "oslo")
    assert not can_show(pl.Datetime(), None, "Mar")
    assert not can_show(pl.Date(), None, "Mar")
    assert can_show(pl.Date(), "%d %b %Y", "Mar")
    assert not can_show(pl.Date(), "%d/%m/%Y", "Mar")
    assert can_show(pl.Date(), "%d/%m/%Y", "3/2")
    assert can_show(pl.Boolean(), None, "RUE")
    assert not can_show(pl.Boolean(), None, "x")
